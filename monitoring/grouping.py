"""Grouping: alerts that fire join incidents, alerts that end resolve them. Set-based.

An incident is a group of alerts of one family of causes at one place: the same station at any time,
the same site within a minute. Its summary and severity are those of its widest, gravest lit alert.
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import Q
from django.utils.translation import gettext as _

from monitoring.models import Alert, Incident, PlaybookStep, Severity
from stations import journal, live
from stations.models import Connector
from stations.state import try_advance

GROUP_WAIT = timedelta(seconds=60)  # alerts this close together are one incident; then people hear
OPEN_ALERTS = [Alert.State.PENDING, Alert.State.VERIFYING, Alert.State.FIRING, Alert.State.ACKED]
LIT = [Alert.State.FIRING, Alert.State.ACKED]
UNRESOLVED = [Incident.State.OPEN, Incident.State.ACKNOWLEDGED]


def fingerprint(
    rule: str,
    *,
    site_id: int | None = None,
    station_id: int | None = None,
    connector_id: int | None = None,
    key: str = "",
) -> str:
    """Return what makes two alerts the same. The narrowest scope counts: sites may change."""
    scope = (
        f"connector-{connector_id}"
        if connector_id
        else f"station-{station_id}"
        if station_id
        else f"site-{site_id}"
        if site_id
        else "fleet"
    )
    return hashlib.sha256(f"{rule}|{scope}|{key}".encode()).hexdigest()[:40]


@transaction.atomic
def fire(
    alerts: Sequence[Alert], now: datetime, parents: dict[int, int] | None = None
) -> list[Incident]:
    """Let these alerts fire: each joins an incident or opens one; return the incidents.

    `parents` (alert → incident) are those that a wider alert has taken under it. A fixed number of
    queries, however many alerts. An alert that has resolved meanwhile is left alone.
    """
    ids = [alert.pk for alert in alerts]
    try_advance(
        Alert.objects.filter(pk__in=ids), Alert.State.FIRING, fired_at=now, clear_since=None
    )
    alerts = list(Alert.objects.filter(pk__in=ids, state=Alert.State.FIRING).order_by("pk"))
    places = _Places(alerts, now)
    joined: dict[int, list[Alert]] = defaultdict(list)
    fresh: dict[int, tuple[Incident, list[Alert]]] = {}
    for alert in alerts:
        incident = places.find(alert, (parents or {}).get(alert.pk))
        if incident is None:
            incident = _draft(alert, now)
            fresh[id(incident)] = (incident, [alert])
            places.add(incident)
        elif id(incident) in fresh:  # not saved yet
            fresh[id(incident)][1].append(alert)
        else:
            joined[incident.pk].append(alert)
    Incident.objects.bulk_create([incident for incident, _members in fresh.values()])
    for incident, members in fresh.values():
        joined[incident.pk] = members
    for pk, members in joined.items():
        for alert in members:
            alert.incident_id = pk
    Alert.objects.bulk_update(alerts, ["incident"], batch_size=500)
    opened = {incident.pk for incident, _members in fresh.values()}
    incidents = refresh(joined, now)
    _tell_of_joining(incidents, joined, opened, now)
    return incidents


class _Places:
    """The unresolved incidents that alerts of one batch may join."""

    def __init__(self, alerts: Sequence[Alert], now: datetime) -> None:
        self.since = now - GROUP_WAIT
        self.known = {
            incident.pk: incident
            for incident in Incident.objects.filter(
                Q(state__in=UNRESOLVED, family__in={alert.family for alert in alerts})
                | Q(pk__in={alert.incident_id for alert in alerts if alert.incident_id})
            ).order_by("pk")
        }
        self.at_station: dict[tuple[str, int], Incident] = {}
        self.at_site: dict[tuple[str, int], Incident] = {}
        self.fleet: dict[str, Incident] = {}
        for incident in self.known.values():
            if incident.state in UNRESOLVED:
                self.add(incident)
        lit = Alert.objects.filter(
            incident__state__in=UNRESOLVED,
            state__in=LIT,
            station__in={alert.station_id for alert in alerts if alert.station_id},
        )
        for pk, family, station_id in lit.values_list("incident_id", "family", "station_id"):
            if pk in self.known and station_id is not None:
                self.at_station.setdefault((family, station_id), self.known[pk])

    def add(self, incident: Incident) -> None:
        """Offer this incident to the alerts that follow."""
        if incident.station_id is not None:
            self.at_station.setdefault((incident.family, incident.station_id), incident)
        if incident.site_id is not None and incident.opened_at >= self.since:
            self.at_site.setdefault((incident.family, incident.site_id), incident)
        if incident.station_id is None and incident.site_id is None:
            self.fleet.setdefault(incident.rule, incident)

    def find(self, alert: Alert, parent: int | None) -> Incident | None:
        """Return the incident this alert belongs to: its own before, its parent's, its place's."""
        if parent in self.known:
            return self.known[parent]
        if alert.incident_id in self.known:
            return self.known[alert.incident_id]
        found = None
        if alert.station_id is not None:
            found = self.at_station.get((alert.family, alert.station_id))
        if found is None and alert.site_id is not None:
            found = self.at_site.get((alert.family, alert.site_id))
        if alert.station_id is None and alert.site_id is None:
            found = self.fleet.get(alert.rule)
        return found


def _draft(alert: Alert, now: datetime) -> Incident:
    return Incident(
        site_id=alert.site_id,
        station_id=alert.station_id,
        connector_id=alert.connector_id,
        family=alert.family,
        rule=alert.rule,
        severity=alert.severity,
        summary=alert.summary,
        opened_at=now,
        notify_at=now + (timedelta() if alert.severity >= Severity.CRITICAL else GROUP_WAIT),
    )


def refresh(ids: Iterable[int], now: datetime) -> list[Incident]:
    """Let each incident say what its lit alerts say: the gravest severity, the widest summary."""
    members: dict[int, list[Alert]] = defaultdict(list)
    for alert in Alert.objects.filter(incident__in=list(ids), state__in=LIT).order_by("pk"):
        members[alert.incident_id or 0].append(alert)
    incidents = list(Incident.objects.filter(pk__in=list(members)))
    for incident in incidents:
        lit = members[incident.pk]
        lead = min(lit, key=_width)
        incident.rule, incident.severity = lead.rule, max(alert.severity for alert in lit)
        stations = {alert.station_id for alert in lit if alert.station_id}
        incident.summary = lead.summary
        if lead.station_id is not None and len(stations) > 1:
            more = len(stations) - 1
            incident.summary = _("%(first)s, and %(more)d more stations") % {
                "first": lead.summary[:240],
                "more": more,
            }
        if lead.station_id is None:
            incident.site_id, incident.station_id = lead.site_id, None
        if 0 < incident.told_severity < incident.severity and incident.notify_at is None:
            incident.notify_at = now
    Incident.objects.bulk_update(
        incidents, ["rule", "severity", "summary", "site", "station", "notify_at"], batch_size=200
    )
    return incidents


def _width(alert: Alert) -> tuple[int, int, int]:
    """Sort the widest alert first, then the gravest, then the oldest."""
    scope = 2 if alert.station_id else 1 if alert.site_id else 0
    return scope, -alert.severity, alert.pk


def _tell_of_joining(
    incidents: Sequence[Incident],
    joined: dict[int, list[Alert]],
    opened: set[int],
    now: datetime,
) -> None:
    """Write the news of a batch that fired, and reopen incidents that were resolved."""
    news = []
    for incident in incidents:
        kind = "incident.opened" if incident.pk in opened else "incident.grew"
        if incident.state == Incident.State.RESOLVED:
            kind = "incident.reopened"
            try_advance(
                Incident.objects.filter(pk=incident.pk),
                Incident.State.OPEN,
                resolved_at=None,
                resolver="",
                resolution="",
                acknowledged_at=None,
                reopened=incident.reopened + 1,
                notify_at=now + GROUP_WAIT,
            )
        news.append(
            journal.entry(
                kind,
                incident,
                rule=incident.rule,
                severity=Severity(incident.severity).word,
                summary=incident.summary,
                alerts=[alert.pk for alert in joined[incident.pk]][:100],
                count=len(joined[incident.pk]),
            )
        )
    journal.record_many(news)
    touch(incidents)


@transaction.atomic
def absorb(alerts: Sequence[Alert], now: datetime) -> None:
    """Bring what narrower alerts of the family opened at these places under their incidents.

    A site that is offline explains its stations; a fleet that is gone explains its sites.
    """
    if not alerts:
        return
    smaller = Incident.objects.filter(
        state__in=UNRESOLVED,
        family=alerts[0].family,
        opened_at__gte=min(alert.since for alert in alerts) - timedelta(minutes=15),
    ).exclude(pk__in=[alert.incident_id for alert in alerts if alert.incident_id])
    if alerts[0].site_id is not None:
        sites = [alert.site_id for alert in alerts]
        smaller = smaller.filter(site__in=sites, station__isnull=False)
    below = list(smaller)
    for alert in alerts:
        here = [one for one in below if alert.site_id in (None, one.site_id)]
        _take_over(alert, here, now)


def _take_over(alert: Alert, merged: list[Incident], now: datetime) -> None:
    if not merged or alert.incident_id is None:
        return
    Alert.objects.filter(incident__in=merged, state__in=OPEN_ALERTS).update(
        incident=alert.incident_id
    )
    for incident in merged:
        close(
            incident,
            now,
            Incident.Resolver.AUTO,
            _("Part of incident #%(number)d.") % {"number": alert.incident_id},
            quietly=True,
        )
    refresh([alert.incident_id], now)


@transaction.atomic
def settle(alerts: Sequence[Alert], now: datetime, healed_by: str = "") -> None:
    """Resolve these alerts: their condition is over. An incident without lit alerts ends."""
    ids = [alert.pk for alert in alerts]
    try_advance(
        Alert.objects.filter(pk__in=ids),
        Alert.State.RESOLVED,
        resolved_at=now,
        flapping=False,
        suppressed="",
    )
    touched = {alert.incident_id for alert in alerts if alert.incident_id}
    still_lit = set(
        Alert.objects.filter(incident__in=touched, state__in=LIT).values_list("incident", flat=True)
    )
    refresh(still_lit, now)
    last = {alert.incident_id: alert for alert in alerts}
    ending = Incident.objects.filter(pk__in=touched - still_lit, state__in=UNRESOLVED)
    mended = _mending_steps(list(ending))
    connectors = Connector.objects.in_bulk(
        [alert.connector_id for alert in alerts if alert.connector_id]
    )
    for incident in ending:
        step = mended.get(incident.pk)
        if step is not None:
            resolver = Incident.Resolver.PLAYBOOK
            text = _("%(playbook)s: after “%(command)s” the condition was over.") % {
                "playbook": step.run.playbook,
                "command": step.command_name,
            }
        else:
            resolver = Incident.Resolver.AUTO
            text = healed_by or _cause_of_healing(last[incident.pk], connectors)
        close(incident, now, resolver, text)


def _mending_steps(incidents: Sequence[Incident]) -> dict[int, PlaybookStep]:
    """Return, by incident, the last order that a playbook really gave for it."""
    steps = PlaybookStep.objects.filter(
        run__incident__in=incidents, dry=False, harmful=True, command__isnull=False
    ).select_related("run")
    return {step.run.incident_id: step for step in steps.order_by("at")}


def _cause_of_healing(alert: Alert, connectors: dict[int, Connector]) -> str:
    if alert.family == "connectivity":
        return _("Heard from again.")
    connector = connectors.get(alert.connector_id or 0)
    if connector is not None:
        return _("The connector reports %(status)s.") % {"status": connector.get_status_display()}
    return _("The condition is over.")


def close(
    incident: Incident, now: datetime, resolver: str, text: str, *, quietly: bool = False
) -> None:
    """Resolve an incident; people who were told of it will hear (unless `quietly`)."""
    told = incident.told_severity > 0 and not quietly
    moved = try_advance(
        Incident.objects.filter(pk=incident.pk),
        Incident.State.RESOLVED,
        resolved_at=now,
        resolver=resolver,
        resolution=text[:300],
        escalate_at=None,
        snoozed_until=None,
        notify_at=now if told else None,
    )
    if moved:
        journal.record(
            "incident.resolved",
            incident,
            resolver=str(resolver),
            resolution=text[:300],
            seconds=round((now - incident.opened_at).total_seconds()),
        )
        touch([incident])


def touch(incidents: Iterable[Incident]) -> None:
    topics = {"incidents", "fleet"}
    for incident in incidents:
        topics.add(f"incident-{incident.pk}")
        if incident.station_id:
            topics.add(f"station-{incident.station_id}")
    live.touch(*topics)
