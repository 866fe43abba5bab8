"""Incidents: what people are told, own and close, and what other apps say is wrong.

Rules open and close them through `monitoring/alerts.py`; other apps say it with

    incidents.raise_("payment-failing", "Stripe refuses our key", severity=Severity.PAGE)
    incidents.clear("payment-failing", healed_by="A payment went through.")

The timeline is the journal's entries about `incident-7`; who is told is decided by
`monitoring/notices.py` from `notify_at`.
"""

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from monitoring import grouping
from monitoring.grouping import OPEN_ALERTS, UNRESOLVED
from monitoring.models import Alert, Incident, MaintenanceWindow, Severity
from stations import journal
from stations.models import Connector, Site, Station
from stations.state import NotAllowed, advance, try_advance

if TYPE_CHECKING:
    from stations.models import User

MUTED_FOR = timedelta(days=1)  # what a person closed is not opened again by the same words


class IncidentError(Exception):
    """Something cannot be done to this incident; the text says what to do instead."""


# --- what other apps say --------------------------------------------------------------------------


@transaction.atomic
def raise_(
    rule: str,
    summary: str,
    *,
    severity: Severity = Severity.TICKET,
    family: str = "business",
    key: str = "",
    site: Site | None = None,
    station: Station | None = None,
    connector: Connector | None = None,
    evidence: dict[str, Any] | None = None,
) -> Incident:
    """Say that something is wrong, once: while it is open, saying it again only updates it.

    For what no rule of ours can see: a payment provider that refuses us, a failing campaign. It is
    open until `clear` is called with the same rule, key and place, or a person resolves it.
    """
    now = timezone.now()
    if station is None and connector is not None:
        station = connector.station
    place: dict[str, int | None] = {
        "site_id": site.pk if site else station.site_id if station else None,
        "station_id": station.pk if station else None,
        "connector_id": connector.pk if connector else None,
    }
    mark = grouping.fingerprint(rule, key=key, **place)
    muted = Alert.objects.filter(  # a person closed it and it was never over since
        fingerprint=mark, state=Alert.State.RESOLVED, holds=True, resolved_at__gte=now - MUTED_FOR
    ).first()
    if muted is not None and muted.incident is not None:
        return muted.incident
    alert, created = Alert.objects.filter(state__in=OPEN_ALERTS).get_or_create(
        fingerprint=mark,
        defaults={
            "rule": rule,
            "family": family,
            "key": key[:80],
            "severity": severity,
            "summary": summary[:300],
            "evidence": evidence or {},
            "since": now,
            **place,
        },
    )
    if created:
        grouping.fire([alert], now)
    else:
        Alert.objects.filter(pk=alert.pk).update(
            severity=severity, summary=summary[:300], evidence=evidence or {}
        )
        if alert.incident_id is not None:
            grouping.refresh([alert.incident_id], now)
    alert.refresh_from_db()
    incident = alert.incident
    if incident is None:
        raise IncidentError(f"Alert {alert.pk} fired without an incident.")
    return incident


def clear(
    rule: str,
    *,
    key: str = "",
    site: Site | None = None,
    station: Station | None = None,
    connector: Connector | None = None,
    healed_by: str = "",
) -> bool:
    """Say that what `raise_` told of is over; False when nothing of that kind was open."""
    if station is None and connector is not None:
        station = connector.station
    mark = grouping.fingerprint(
        rule,
        key=key,
        site_id=site.pk if site else station.site_id if station else None,
        station_id=station.pk if station else None,
        connector_id=connector.pk if connector else None,
    )
    alerts = list(Alert.objects.filter(fingerprint=mark, state__in=OPEN_ALERTS))
    Alert.objects.filter(fingerprint=mark, holds=True).update(holds=False)
    if alerts:
        grouping.settle(alerts, timezone.now(), healed_by)
    return bool(alerts)


def announce_maintenance(
    *,
    reason: str,
    starts_at: datetime,
    ends_at: datetime,
    source: str = "",
    station: Station | None = None,
    site: Site | None = None,
) -> MaintenanceWindow:
    """Say that an outage is planned. The same `source` for a station again moves its end."""
    times = {"starts_at": starts_at, "ends_at": ends_at, "reason": reason[:200]}
    if source and station is not None:
        window, _created = MaintenanceWindow.objects.update_or_create(
            source=source,
            station=station,
            defaults={"ends_at": ends_at, "reason": reason[:200]},
            create_defaults=times,
        )
        return window
    return MaintenanceWindow.objects.create(source=source, station=station, site=site, **times)


def end_maintenance(source: str, station: Station | None = None) -> int:
    """End the windows this source announced now; return how many. Rules look again at once."""
    now = timezone.now()
    rows = MaintenanceWindow.objects.filter(source=source, starts_at__lte=now, ends_at__gt=now)
    if station is not None:
        rows = rows.filter(station=station)
    return rows.update(ends_at=now)


# --- what people do -------------------------------------------------------------------------------


@transaction.atomic
def acknowledge(incident: Incident, by: "User") -> None:
    """Take an incident on: escalation ends. Raises NotAllowed when it is not open."""
    now = timezone.now()
    advance(
        Incident.objects.filter(pk=incident.pk),
        Incident.State.ACKNOWLEDGED,
        acknowledged_at=now,
        acknowledged_by=by,
        escalate_at=None,
    )
    Incident.objects.filter(pk=incident.pk, assigned_to__isnull=True).update(assigned_to=by)
    try_advance(Alert.objects.filter(incident=incident), Alert.State.ACKED)
    _tell(incident, by, "incident.acknowledged")


@transaction.atomic
def assign(incident: Incident, to: "User | None", by: "User") -> None:
    """Give an incident to somebody, or to nobody."""
    Incident.objects.filter(pk=incident.pk).update(assigned_to=to)
    _tell(incident, by, "incident.assigned", to=str(to) if to else "")


@transaction.atomic
def note(incident: Incident, text: str, by: "User") -> None:
    """Write a note on the timeline."""
    if not text.strip():
        raise IncidentError(_("Write something."))
    _tell(incident, by, "incident.noted", text=text.strip()[:4000])


@transaction.atomic
def snooze(incident: Incident, until: datetime, by: "User") -> None:
    """Keep quiet about an incident until then: no reminders, not in the queue."""
    if until <= timezone.now():
        raise IncidentError(_("Choose a time that is still to come."))
    Incident.objects.filter(pk=incident.pk, state__in=UNRESOLVED).update(snoozed_until=until)
    _tell(incident, by, "incident.snoozed", until=until.isoformat())


@transaction.atomic
def resolve(incident: Incident, by: "User", text: str = "") -> None:
    """Close an incident by hand. Its rules stay quiet until their condition has been false.

    Raises NotAllowed when it is resolved already.
    """
    current = Incident.objects.get(pk=incident.pk)
    if current.state not in UNRESOLVED:
        raise NotAllowed(f"Incident {incident.pk} is resolved already.")
    now = timezone.now()
    with journal.acting_as(by):
        Alert.objects.filter(incident=incident, state__in=OPEN_ALERTS).update(
            state=Alert.State.RESOLVED, resolved_at=now, flapping=False
        )
        grouping.close(current, now, Incident.Resolver.PERSON, text or _("Resolved by hand."))


def _tell(incident: Incident, by: "User", kind: str, **data: Any) -> None:
    with journal.acting_as(by):
        journal.record(kind, incident, **data)
    grouping.touch([incident])
