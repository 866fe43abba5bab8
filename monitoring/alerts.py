"""The alert engine: compares what the rules find with the open alerts and moves them.

    OK ─found→ pending ─for→ verifying ─probe failed→ firing → acknowledged ─clear_for→ resolved
    pending, verifying ─over→ OK                       resolved ─soon again→ pending, same incident

A tick reads each rule's findings and writes only what changed, in bulk. Topology holds narrower
alerts back (fleet > site > station > EVSE), maintenance windows hold everything at their place
back except what may hurt somebody, and a station that is not connected freezes what is known of
its connectors. Restart-safe: all state is in rows, times come from the rows' own evidence.
"""

import logging
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from monitoring import grouping, ticks
from monitoring.grouping import LIT, OPEN_ALERTS
from monitoring.models import Alert, MaintenanceWindow, RuleSetting, Severity
from monitoring.rules import RULES, Context, Finding, Rule
from stations import commands, journal, live
from stations.models import Command, Station

log = logging.getLogger(__name__)

TICK = "monitoring.tasks.evaluate_rules"
REOPEN_WINDOW = timedelta(minutes=30)
VERIFY_S = 45  # how long a probe may take before its silence is the answer
FIRE_LIMIT = 2_000  # alerts of one rule that fire in one tick; the next tick goes on
FLAP_START, FLAP_STOP = 50.0, 25.0  # percent of weighted changes
FLAP_STATES, FLAP_STEP_S = 21, 60
PLANNED = {"connectivity", "restarts", "fault", "stuck", "delivery", "access", "clock"}


@dataclass
class Moves:
    """What one rule's evaluation decided; written together."""

    create: list[Alert] = field(default_factory=list)
    save: list[Alert] = field(default_factory=list)
    drop: list[Alert] = field(default_factory=list)
    verify: list[Alert] = field(default_factory=list)
    fire: list[Alert] = field(default_factory=list)
    settle: list[Alert] = field(default_factory=list)
    flapped: list[Alert] = field(default_factory=list)
    parents: dict[str, int] = field(default_factory=dict)  # fingerprint → the parent's incident


def tick(now: datetime | None = None) -> None:
    """Evaluate the rules that are due. Does nothing while another process is at it."""
    now = now or timezone.now()
    with ticks.exclusive(TICK, ttl_s=120) as row:
        if row is None:
            return
        ran = dict(row.data)
        at = now.timestamp()
        due = [rule for rule in RULES.values() if at - ran.get(rule.key, 0) >= rule.every_s - 1]
        evaluate(now, due)
        row.data = ran | {rule.key: at for rule in due}


def evaluate(now: datetime | None = None, due: Iterable[Rule] | None = None) -> None:
    """Run these rules (all by default) at `now` and move their alerts.

    A rule that raises is logged and leaves its alerts as they are; the others go on.
    """
    now = now or timezone.now()
    changed = {row.rule: row for row in RuleSetting.objects.all()}
    context = Context(now, _watched())
    planned = _Planned(now)
    for rule in RULES.values() if due is None else due:
        own = changed.get(rule.key)
        try:
            findings = [] if own is not None and not own.enabled else list(rule.find(context))
        except Exception:  # one broken rule must not silence the others
            log.exception("The rule %s failed.", rule.key)
            continue
        _Evaluation(rule, own, context, planned).apply(findings)


def _watched() -> dict[str, list[Alert]]:
    watched: dict[str, list[Alert]] = defaultdict(list)
    for alert in Alert.objects.filter(Q(state__in=OPEN_ALERTS) | Q(holds=True), rule__in=RULES):
        watched[alert.rule].append(alert)
    return watched


class _Planned:
    """The maintenance windows that are open now."""

    def __init__(self, now: datetime) -> None:
        rows = MaintenanceWindow.objects.filter(starts_at__lte=now, ends_at__gt=now)
        self.stations: dict[int, int] = {}
        self.sites: dict[int, int] = {}
        for window in rows:
            if window.station_id is not None:
                self.stations[window.station_id] = window.pk
            if window.site_id is not None:
                self.sites[window.site_id] = window.pk

    def window(self, alert: Alert) -> int | None:
        """Return the window that covers this alert's place."""
        return self.stations.get(alert.station_id or 0) or self.sites.get(alert.site_id or 0)


class _Evaluation:
    """One rule, once."""

    def __init__(
        self, rule: Rule, own: RuleSetting | None, context: Context, planned: _Planned
    ) -> None:
        self.rule, self.context, self.planned = rule, context, planned
        self.now = context.now
        self.severity = (own and own.severity) or None
        self.for_s = rule.for_s if own is None or own.for_s is None else own.for_s
        self.clear_for_s = (
            rule.clear_for_s if own is None or own.clear_for_s is None else own.clear_for_s
        )
        self.moves = Moves()
        watched = context.watched
        self.mass = _widest(watched.get("mass-disconnect", ()))
        self.sites = {a.site_id: a for a in watched.get("site-offline", ()) if _wide(a)}
        self.offline = {a.station_id for a in watched.get("offline", ()) if a.state in LIT}

    def apply(self, findings: Sequence[Finding]) -> None:
        """Compare findings with alerts and write the difference."""
        watched = self.context.watched.get(self.rule.key, ())
        existing = {alert.fingerprint: alert for alert in watched}
        found: dict[str, Finding] = {}
        for finding in findings:
            found.setdefault(_mark(self.rule, finding), finding)
        again = self._recent([mark for mark in found if mark not in existing])
        answers = self._probe_answers(existing.values())
        for mark, finding in found.items():
            alert = existing.get(mark) or again.get(mark) or self._new(mark, finding)
            self._true(alert, finding, answers)
        over = [alert for mark, alert in existing.items() if mark not in found]
        frozen = self._disconnected(over)
        for alert in over:
            if alert.station_id not in frozen:
                self._false(alert)
        self._write()
        gone = {id(alert) for alert in self.moves.drop}
        self.context.watched[self.rule.key] = [
            alert
            for alert in [*existing.values(), *again.values(), *self.moves.create]
            if id(alert) not in gone and (alert.state in OPEN_ALERTS or alert.holds)
        ]

    def _recent(self, marks: list[str]) -> dict[str, Alert]:
        """Return alerts of these fingerprints that were resolved a moment ago."""
        since = self.now - REOPEN_WINDOW
        rows: dict[str, Alert] = {}
        for start in range(0, len(marks), 500):
            for alert in Alert.objects.filter(
                fingerprint__in=marks[start : start + 500], resolved_at__gte=since
            ).order_by("resolved_at"):
                rows[alert.fingerprint] = alert
        return rows

    def _new(self, mark: str, finding: Finding) -> Alert:
        alert = Alert(
            fingerprint=mark,
            rule=self.rule.key,
            family=self.rule.family,
            site_id=finding.site_id,
            station_id=finding.station_id,
            connector_id=finding.connector_id,
            key=finding.key[:80],
            severity=finding.severity or self.rule.severity,
            since=finding.since or self.now,
            changes=[self.now.timestamp()],
        )
        self.moves.create.append(alert)
        return alert

    def _true(self, alert: Alert, finding: Finding, answers: dict[int, bool]) -> None:
        """The condition holds."""
        severity = self.severity or finding.severity or self.rule.severity
        known = _shown(alert)
        if not alert.holds:
            self._flip(alert, holds=True)
            if alert.state == Alert.State.RESOLVED:  # over and back soon: the same incident
                alert.state, alert.since = Alert.State.PENDING, finding.since or self.now
            alert.clear_since = None
        alert.severity, alert.summary = severity, finding.summary[:300]
        alert.evidence = finding.evidence
        if alert.state == Alert.State.PENDING:
            alert.suppressed = self._held_back(alert)
            ripe = self.now >= alert.since + timedelta(seconds=self.for_s)
            if ripe and not alert.suppressed:
                if self.rule.probe and finding.evidence.get("socket") == "open":
                    self.moves.verify.append(alert)
                else:
                    self.moves.fire.append(alert)
        elif alert.state == Alert.State.VERIFYING and (
            answers.get(alert.pk, False) or (alert.verify_until or self.now) <= self.now
        ):
            self.moves.fire.append(alert)
        if not alert._state.adding and known != _shown(alert):
            self.moves.save.append(alert)

    def _false(self, alert: Alert) -> None:
        """The condition is over."""
        if alert.state in (Alert.State.PENDING, Alert.State.VERIFYING):
            if alert.incident_id is None:
                self.moves.drop.append(alert)
            else:  # it had come back for a moment, within the reopen window
                alert.state, alert.holds = Alert.State.RESOLVED, False
                alert.clear_since = self.now
                self.moves.save.append(alert)
            return
        if alert.holds:
            self._flip(alert, holds=False)
            alert.clear_since = self.now
            self.moves.save.append(alert)
        if alert.state not in LIT:
            return
        waited = self.now - (alert.clear_since or self.now)
        if waited >= timedelta(seconds=self.clear_for_s):
            if alert.flapping and flap_percent(alert.changes, self.now) >= FLAP_STOP:
                return
            self.moves.settle.append(alert)

    def _flip(self, alert: Alert, *, holds: bool) -> None:
        alert.holds = holds
        alert.changes = [*alert.changes, self.now.timestamp()][-FLAP_STATES:]
        if not alert.flapping and flap_percent(alert.changes, self.now) > FLAP_START:
            alert.flapping = alert.incident_id is not None
            if alert.flapping:
                self.moves.flapped.append(alert)

    def _held_back(self, alert: Alert) -> str:
        """Return what keeps this alert from firing now; empty: nothing.

        A wider alert that is not decided yet holds it back; one that has fired takes it under its
        own incident.
        """
        window = self.planned.window(alert)
        if window and self.rule.family in PLANNED and alert.severity < Severity.CRITICAL:
            return f"maintenance-{window}"
        if self.rule.scope == "evse" and alert.severity < Severity.CRITICAL:
            return "offline" if alert.station_id in self.offline else ""
        if self.rule.family != "connectivity" or self.rule.scope == "fleet":
            return ""
        wider = self.mass
        if self.rule.scope == "station":
            wider = self.sites.get(alert.site_id) or self.mass
        if wider is None:
            return ""
        if wider.state in LIT and wider.incident_id is not None:
            self.moves.parents[alert.fingerprint] = wider.incident_id
            return ""
        return wider.rule

    def _disconnected(self, alerts: Sequence[Alert]) -> set[int | None]:
        """Return stations whose silence must not be taken for healing."""
        if self.rule.family == "connectivity":
            return set()
        ids = {alert.station_id for alert in alerts if alert.station_id is not None}
        rows = Station.objects.filter(pk__in=ids, connected=False, state=Station.State.ACCEPTED)
        return set(rows.values_list("pk", flat=True))

    def _probe_answers(self, alerts: Iterable[Alert]) -> dict[int, bool]:
        """Return, for alerts being verified, True where the probe failed."""
        waiting = [alert.pk for alert in alerts if alert.state == Alert.State.VERIFYING]
        rows = Command.objects.filter(subject__in=[f"alert-{pk}" for pk in waiting])
        bad = {Command.Status.TIMED_OUT, Command.Status.FAILED, Command.Status.EXPIRED}
        return {
            int(subject.removeprefix("alert-")): status in bad
            for subject, status in rows.order_by("pk").values_list("subject", "status")
        }

    @transaction.atomic
    def _write(self) -> None:
        moves, now = self.moves, self.now
        Alert.objects.bulk_create(moves.create, batch_size=500)
        fields = ["holds", "severity", "summary", "evidence", "suppressed", "since"]
        Alert.objects.bulk_update(
            moves.save, [*fields, "clear_since", "changes", "flapping"], batch_size=200
        )
        for state in (Alert.State.PENDING, Alert.State.RESOLVED):  # back and over again
            ids = [one.pk for one in moves.save if one.state == state and one.incident_id]
            rows = Alert.objects.filter(pk__in=ids, state__in=Alert.State.before(state))
            rows.exclude(state__in=LIT).update(state=state)
        dropped = [alert.pk for alert in moves.drop]
        Alert.objects.filter(pk__in=dropped, state__in=OPEN_ALERTS).delete()
        if moves.settle:
            grouping.settle(moves.settle, now)
            for alert in moves.settle:
                alert.state = Alert.State.RESOLVED
        for alert in moves.verify:
            self._probe(alert)
        if moves.fire:
            self._fire(moves.fire[:FIRE_LIMIT])
        self._news_of_flapping()

    def _fire(self, alerts: list[Alert]) -> None:
        parents = {
            alert.pk: self.moves.parents[alert.fingerprint]
            for alert in alerts
            if alert.fingerprint in self.moves.parents
        }
        grouping.fire(alerts, self.now, parents)
        fired = Alert.objects.filter(pk__in=[alert.pk for alert in alerts])
        rows = dict(fired.values_list("pk", "incident"))
        for alert in alerts:
            alert.state, alert.incident_id = Alert.State.FIRING, rows.get(alert.pk)
        if self.rule.scope in ("fleet", "site") and self.rule.family == "connectivity":
            grouping.absorb(alerts, self.now)

    def _probe(self, alert: Alert) -> None:
        """Ask the station for a sign of life before anybody is told that there is none."""
        alert.state = Alert.State.VERIFYING
        alert.verify_until = self.now + timedelta(seconds=VERIFY_S)
        Alert.objects.filter(pk=alert.pk, state=Alert.State.PENDING).update(
            state=alert.state, verify_until=alert.verify_until
        )
        station = Station.objects.get(alerts=alert)
        commands.send(
            station,
            "trigger_message",
            subject=f"alert-{alert.pk}",
            expires_in_s=VERIFY_S - 5,
            message=self.rule.probe,
        )

    def _news_of_flapping(self) -> None:
        journal.record_many(
            [
                journal.entry(
                    "incident.flapping",
                    f"incident-{alert.incident_id}",
                    station_id=alert.station_id,
                    alert=alert.pk,
                )
                for alert in self.moves.flapped
            ]
        )
        live.touch(*(f"incident-{alert.incident_id}" for alert in self.moves.flapped))


def _mark(rule: Rule, finding: Finding) -> str:
    return grouping.fingerprint(
        rule.key,
        site_id=finding.site_id,
        station_id=finding.station_id,
        connector_id=finding.connector_id,
        key=finding.key,
    )


def _shown(alert: Alert) -> tuple[object, ...]:
    """Return what is worth writing when it changes; evidence is written along with it."""
    return (alert.holds, alert.state, alert.severity, alert.summary, alert.suppressed)


def _wide(alert: Alert) -> bool:
    return alert.holds and alert.state in OPEN_ALERTS


def _widest(alerts: Iterable[Alert]) -> Alert | None:
    return next((alert for alert in alerts if _wide(alert)), None)


def flap_percent(changes: Sequence[float], now: datetime) -> float:
    """Return how much a condition flaps, 0–100: Nagios' weighted share of changed states.

    `changes` are the moments (seconds since 1970) at which it flipped; the last 21 states are taken
    one a minute. A recent change weighs 1.2, the oldest 0.8: one old change is 4 %.
    """
    end = now.astimezone(UTC).timestamp()
    edges = [end - FLAP_STEP_S * n for n in range(FLAP_STATES - 1, -1, -1)]
    flips = [sum(1 for at in changes if at <= edge) % 2 for edge in edges]
    steps = FLAP_STATES - 1
    weights = [0.8 + 0.4 * n / (steps - 1) for n in range(steps)]
    changed = [
        weight
        for weight, before, after in zip(weights, flips, flips[1:], strict=False)
        if before != after
    ]
    return 100.0 * sum(changed) / steps
