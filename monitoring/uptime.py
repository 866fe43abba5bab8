"""Uptime: one ledger, many policies. Pure; `monitoring/reports.py` loads the evidence and asks.

A policy says which evidence is an outage and what excuses it. Everything is interval arithmetic
(`monitoring/spans.py`), never a subtraction of totals: an excuse counts only where there was an
outage, and what overlaps counts once. A port is an EVSE; it is down while all its connectors are,
or while the station as a whole says so (EVSE 0, in 1.6 connector 0).
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django.utils.translation import gettext_lazy as _

from monitoring.spans import Span, difference, first, intersection, length, union

VERSION = 2  # of the formulas; part of the hash
YEAR_MINUTES = 525_600  # 23 CFR 680.116(b), leap years included
DOWN = {"Faulted": "fault", "Unavailable": "unavailable"}
SUSPICIOUS = ("zero-energy", "stuck-preparing", "stuck-finishing", "reject-burst")
RAPID_W = 50_000


@dataclass(frozen=True, slots=True)
class Stretch:
    """One ledger interval, with an end."""

    start: datetime
    end: datetime
    state: str


@dataclass(frozen=True, slots=True)
class Excuse:
    """One exclusion or maintenance window."""

    start: datetime
    end: datetime
    reason: str
    evidence: str


@dataclass(frozen=True, slots=True)
class Port:
    """What is known of one EVSE."""

    site: str
    station: str
    evse: int
    zone: str = "UTC"
    rapid: bool = False
    since: datetime | None = None  # the first evidence: it is not counted before
    link: Sequence[Stretch] = ()
    whole: Sequence[Stretch] = ()  # the station's own status: down, all its ports are
    connectors: Sequence[Sequence[Stretch]] = ()
    charging: Sequence[Span] = ()  # energy flowed
    excuses: Sequence[Excuse] = ()
    suspicion: Sequence[Span] = ()  # it looks available and does not work


@dataclass(frozen=True, slots=True)
class Policy:
    """What one reader of the number counts."""

    key: str
    name: Any
    offline_counts: bool = True
    suspicion_counts: bool = False
    reasons: frozenset[str] = frozenset()
    per_excuse: dict[str, timedelta] = field(default_factory=dict)  # longest, for each event
    per_year: dict[str, timedelta] = field(default_factory=dict)  # longest, in a calendar year
    rapid_only: bool = False
    target_percent: float | None = None


_BEYOND_CONTROL = frozenset({"utility", "vehicle", "maintenance", "vandalism", "disaster", "hours"})
POLICIES = {
    policy.key: policy
    for policy in (
        Policy("nevi", _("NEVI, 23 CFR 680.116(b)"), reasons=_BEYOND_CONTROL, target_percent=97.0),
        Policy(
            "cec",
            _("California Energy Commission"),
            reasons=frozenset({"utility", "vandalism", "disaster", "maintenance"}),
            per_excuse={"vandalism": timedelta(days=10)},
            per_year={"maintenance": timedelta(hours=72)},
            target_percent=97.0,
        ),
        Policy(
            "uk",
            _("UK Public Charge Point Regulations 2023, rapid"),
            offline_counts=False,
            reasons=frozenset({"hours"}),
            rapid_only=True,
            target_percent=99.0,
        ),
        Policy("sla", _("Contract"), reasons=_BEYOND_CONTROL | {"telecom"}),
        Policy("driver_truth", _("What drivers meet"), suspicion_counts=True),
    )
}


@dataclass(frozen=True, slots=True)
class Assessment:
    """One port under one policy in one period."""

    start: datetime  # of what is counted: the period's, or the port's first evidence
    end: datetime
    outage: list[Span]
    excluded: list[Span]
    causes: dict[str, list[Span]]

    @property
    def counted(self) -> list[Span]:
        """The outage that nothing excuses."""
        return difference(self.outage, self.excluded)

    @property
    def period_minutes(self) -> float:
        """Minutes that could have been up; a whole year always has 525,600."""
        if self.start.replace(tzinfo=None) == _year_before(self.end.replace(tzinfo=None)):
            return YEAR_MINUTES
        return minutes([(self.start, self.end)])

    @property
    def percent(self) -> float | None:
        """μ = (period − (outage − excluded)) / period × 100; None where nothing was observed."""
        period = self.period_minutes
        if period <= 0:
            return None
        return max(0.0, (period - minutes(self.counted)) / period * 100)


def _year_before(at: datetime) -> datetime | None:
    try:
        return at.replace(year=at.year - 1)
    except ValueError:  # 29 February
        return None


def minutes(spans: Iterable[Span]) -> float:
    """Return the length of these spans in minutes."""
    return length(spans) / timedelta(minutes=1)


def assess(policy: Policy, port: Port, start: datetime, end: datetime) -> Assessment:
    """Return the outage of a port in [start, end), and what of it the policy excuses. Pure."""
    begin = min(max(start, port.since), end) if port.since else end
    window = [(begin, end)]
    down: dict[str, list[Span]] = {
        cause: union(_all_down(port.connectors, state), _all_down([port.whole], state))
        for state, cause in DOWN.items()
    }
    anything = union(_all_down(port.connectors, *DOWN), _all_down([port.whole], *DOWN))
    offline = [(row.start, row.end) for row in port.link if row.state == "disconnected"]
    if policy.offline_counts:
        down["offline"] = offline
        outage = union(anything, offline)
    else:  # ineligible for measurement: counts as reliable
        outage = difference(anything, offline)
    if policy.suspicion_counts:
        down["suspicion"] = list(port.suspicion)
        outage = union(outage, difference(port.suspicion, port.charging))
    outage = intersection(difference(outage, port.charging), window)
    causes = {cause: intersection(spans, outage) for cause, spans in down.items()}
    return Assessment(
        begin,
        end,
        outage,
        _excused(policy, port.excuses, outage),
        {cause: spans for cause, spans in causes.items() if spans},
    )


def _all_down(connectors: Sequence[Sequence[Stretch]], *states: str) -> list[Span]:
    """Return when every connector was in one of these states."""
    common: list[Span] | None = None
    for stretches in connectors:
        spans = [(row.start, row.end) for row in stretches if row.state in states]
        common = union(spans) if common is None else intersection(common, spans)
    return common or []


def _excused(policy: Policy, excuses: Sequence[Excuse], outage: list[Span]) -> list[Span]:
    """Return the outage that is excused, caps consumed in the order of time."""
    allowed: list[Span] = []
    by_year: dict[tuple[str, int], list[Span]] = defaultdict(list)
    for excuse in sorted(excuses, key=lambda one: (one.start, one.end)):
        if excuse.reason not in policy.reasons:
            continue
        spans = intersection([(excuse.start, excuse.end)], outage)
        cap = policy.per_excuse.get(excuse.reason)
        if cap is not None:
            spans = first(spans, cap)
        if excuse.reason in policy.per_year:
            for year, part in _by_year(spans):
                by_year[excuse.reason, year].append(part)
        else:
            allowed.extend(spans)
    for (reason, _year), spans in by_year.items():
        allowed.extend(first(spans, policy.per_year[reason]))
    return union(allowed)


def _by_year(spans: Iterable[Span]) -> Iterable[tuple[int, Span]]:
    for start, end in spans:
        at = start
        while at < end:
            turn = at.replace(
                year=at.year + 1, month=1, day=1, hour=0, minute=0, second=0, microsecond=0
            )
            yield at.year, (at, min(turn, end))
            at = turn
