"""The registry of alert rules: what a rule is, what it finds, what an evaluation shares."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any

from django.db.models import Q, QuerySet

from monitoring import faults
from monitoring.models import Alert, Severity
from stations.models import Entry, Station

OFFLINE_MIN_S, OFFLINE_MAX_S = 150, 900
JOURNAL_LIMIT = 5_000  # a rule reads at most this many entries of a kind, newest first


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong now. `since`: when it began, where the rows say so."""

    summary: str
    site_id: int | None = None
    station_id: int | None = None
    connector_id: int | None = None
    key: str = ""  # tells two findings about one thing apart
    severity: Severity | None = None  # None: the rule's
    since: datetime | None = None
    evidence: dict[str, Any] = field(default_factory=dict)


@dataclass
class Context:
    """What every rule of one evaluation shares."""

    now: datetime
    watched: dict[str, list[Alert]] = field(default_factory=dict)  # open or still true, by rule

    def ago(self, **delta: float) -> datetime:
        """Return the moment that long ago."""
        return self.now - timedelta(**delta)

    @cached_property
    def late(self) -> list[tuple[int, int | None, datetime]]:
        """Stations that should have been heard from: id, site, when their deadline passed."""
        rows = overdue_candidates(self.now).values_list(
            "pk", "site_id", "last_seen_at", "heartbeat_interval_s"
        )
        return [
            (pk, site_id, deadline)
            for pk, site_id, seen, beat in rows
            if seen is not None and (deadline := alert_after(seen, beat)) <= self.now
        ]

    @cached_property
    def overdue(self) -> dict[int, datetime]:
        """The same by id."""
        return {pk: deadline for pk, _site_id, deadline in self.late}

    @cached_property
    def fleet_size(self) -> int:
        """Stations in service that were seen before."""
        return in_service().filter(last_seen_at__isnull=False).count()

    @cached_property
    def codes(self) -> dict[tuple[str, str], faults.Fault]:
        """Every known error code."""
        return faults.table()

    def journal(self, kind: str, since: datetime) -> Iterator[dict[str, Any]]:
        """Return the entries of a kind since then, newest first (at most JOURNAL_LIMIT)."""
        rows = Entry.objects.filter(kind=kind).order_by("-id")
        for row in rows.values("id", "at", "station_id", "subject", "data")[:JOURNAL_LIMIT]:
            if row["at"] < since:
                return
            yield dict(row)


@dataclass(frozen=True, slots=True)
class Rule:
    """One entry of the registry."""

    key: str
    find: Callable[[Context], Iterable[Finding]]
    family: str  # of causes: alerts of one family at one place are one incident
    scope: str  # fleet, site, station, evse: what it is about
    severity: Severity
    for_s: int
    clear_for_s: int
    every_s: int
    probe: str  # the message asked for before it fires; empty: none
    playbook: str
    description: str


RULES: dict[str, Rule] = {}


def rule(
    key: str,
    *,
    family: str,
    scope: str,
    severity: Severity = Severity.TICKET,
    for_s: int = 0,
    clear_for_s: int = 0,
    every_s: int = 10,
    probe: str = "",
    playbook: str = "",
) -> Callable[[Callable[[Context], Iterable[Finding]]], Callable[[Context], Iterable[Finding]]]:
    """Register a rule. Wider scopes come first in the file: they hold narrower ones back."""

    def register(
        find: Callable[[Context], Iterable[Finding]],
    ) -> Callable[[Context], Iterable[Finding]]:
        text = (find.__doc__ or "").strip()
        RULES[key] = Rule(
            key,
            find,
            family,
            scope,
            severity,
            for_s,
            clear_for_s,
            every_s,
            probe,
            playbook,
            text,
        )
        return find

    return register


def in_service() -> QuerySet[Station]:
    """Return the stations that are in service."""
    return Station.objects.filter(state=Station.State.ACCEPTED)


def alert_after(last_seen: datetime, heartbeat_s: int) -> datetime:
    """Return the moment a station counts as offline: two heartbeats and a minute of silence.

    At least 150 s, at most 15 minutes. Any frame counts as a sign of life.
    """
    silence_s = min(max(2 * heartbeat_s + 60, OFFLINE_MIN_S), OFFLINE_MAX_S)
    return last_seen + timedelta(seconds=silence_s)


def overdue_candidates(now: datetime) -> QuerySet[Station]:
    """Return every overdue station and a few that nearly are, by the index on `last_seen_at`.

    The allowed silence depends on the heartbeat interval: in steps of 50 s, so that the database
    need not compute with it row by row; `alert_after` then decides exactly.
    """
    late = Q(last_seen_at__lte=now - timedelta(seconds=OFFLINE_MAX_S))
    for age in range(OFFLINE_MIN_S, OFFLINE_MAX_S, 50):
        late |= Q(
            last_seen_at__lte=now - timedelta(seconds=age),
            last_seen_at__gt=now - timedelta(seconds=age + 50),
            heartbeat_interval_s__lte=(age + 50 - 60) // 2,
        )
    return in_service().filter(
        late,
        last_seen_at__lte=now - timedelta(seconds=OFFLINE_MIN_S),
        connected__in=[True, False],  # always so: it lets the index (connected, last_seen_at) serve
    )
