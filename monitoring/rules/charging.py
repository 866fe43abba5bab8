"""Rules about sessions, meters, refused starts and security."""

from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from django.db.models import Count, F, Q
from django.utils.translation import gettext as _

from monitoring.models import Session, Severity
from monitoring.rules.registry import JOURNAL_LIMIT, Context, Finding, rule
from stations.models import Connector, Station

# OCPP 2.0.1 appendix 1, the critical security events that our own orders do not cause.
SECURITY_EVENTS = {
    "SecurityLogWasCleared",
    "ReconfigurationOfSecurityParameters",
    "MemoryExhaustion",
    "InvalidMessages",
    "AttemptedReplayAttacks",
    "TamperDetectionActivated",
    "InvalidFirmwareSignature",
    "InvalidFirmwareSigningCertificate",
    "InvalidCsmsCertificate",
    "InvalidChargingStationCertificate",
    "InvalidTLSVersion",
    "InvalidTLSCipherSuite",
}


@rule("zombie-tx", family="metering", scope="evse", for_s=600, every_s=30, playbook="P5")
def zombie_tx(context: Context) -> Iterator[Finding]:
    """A session is open, nothing was measured for 15 minutes, and the connector is Available."""
    silent = Q(last_reading_at__lte=context.ago(minutes=15)) | Q(
        last_reading_at__isnull=True, started_received_at__lte=context.ago(minutes=15)
    )
    rows = Session.objects.filter(
        silent,
        state=Session.State.ACTIVE,
        closed_at__isnull=True,
        connector__status=Connector.Status.AVAILABLE,
        station__connected=True,
    ).select_related("connector__station", "connector__evse")
    for session in rows:
        connector = session.connector
        if connector is not None:
            yield Finding(
                _("%(connector)s: transaction %(ref)s is open, but the bay is free")
                % {"connector": connector, "ref": session.ref},
                site_id=connector.station.site_id,
                station_id=connector.station_id,
                connector_id=connector.pk,
                key=f"session-{session.pk}",
                since=max(
                    connector.status_received_at or session.started_received_at,
                    session.started_received_at,
                ),
                evidence={"session": session.pk},
            )


@rule(
    "zero-energy",
    family="delivery",
    scope="evse",
    severity=Severity.PAGE,
    every_s=60,
    playbook="P6",
)
def zero_energy(context: Context) -> Iterator[Finding]:
    """Three sessions running, of different drivers, three minutes or longer, without energy."""
    open_now = {alert.connector_id for alert in context.watched.get("zero-energy", ())}
    recent = Session.objects.filter(
        started_at__gte=context.ago(hours=12),
        stopped_at__isnull=False,
        energy_wh__lt=100,
        connector__isnull=False,
    )
    suspects = {
        row["connector"]
        for row in recent.values("connector").annotate(n=Count("pk")).filter(n__gte=1)
    } | {pk for pk in open_now if pk is not None}
    last: dict[int, list[Session]] = defaultdict(list)
    ended = Session.objects.filter(
        connector__in=suspects, started_at__gte=context.ago(days=30), stopped_at__isnull=False
    ).exclude(stopped_at__lt=F("started_at") + timedelta(minutes=3), energy_wh__lt=100)
    for session in ended.order_by("-started_at")[:JOURNAL_LIMIT]:
        if session.connector_id is not None and len(last[session.connector_id]) < 3:
            last[session.connector_id].append(session)
    found = {
        pk: rows
        for pk, rows in last.items()
        if len(rows) == 3
        and all(session.energy_wh < 100 for session in rows)
        and len({session.token_uid for session in rows}) == 3
    }
    connectors = Connector.objects.filter(pk__in=found).select_related("station", "evse")
    for connector in connectors:
        yield Finding(
            _("%(connector)s: three drivers in a row got no energy") % {"connector": connector},
            site_id=connector.station.site_id,
            station_id=connector.station_id,
            connector_id=connector.pk,
            since=found[connector.pk][0].stopped_at,
            evidence={"sessions": [session.pk for session in found[connector.pk]]},
        )


@rule("meter-backwards", family="metering", scope="evse", every_s=60)
def meter_backwards(context: Context) -> Iterator[Finding]:
    """A session's register fell: its bill needs a person."""
    rows = (
        Session.objects.filter(started_at__gte=context.ago(days=1))
        .exclude(flags=[])
        .select_related("station", "connector")
        .only("flags", "station__identity", "station__site", "connector", "ref", "started_at")
    )
    for session in rows.order_by("-started_at")[:JOURNAL_LIMIT]:
        if "falling" in session.flags:
            yield Finding(
                _("%(station)s: the meter ran backwards in transaction %(ref)s")
                % {"station": session.station.identity, "ref": session.ref},
                site_id=session.station.site_id,
                station_id=session.station_id,
                connector_id=session.connector_id,
                key=f"session-{session.pk}",
                evidence={"session": session.pk},
            )


@rule(
    "reject-burst",
    family="access",
    scope="station",
    severity=Severity.PAGE,
    clear_for_s=300,
    every_s=30,
    playbook="P1",
)
def reject_burst(context: Context) -> Iterator[Finding]:
    """More than half of at least six starts within 15 minutes were refused."""
    tried: Counter[int] = Counter()
    refused: Counter[int] = Counter()
    since = context.ago(minutes=15)
    for row in context.journal("command.finished", since):
        if row["data"].get("name") == "remote_start" and row["station_id"] is not None:
            tried[row["station_id"]] += 1
            refused[row["station_id"]] += row["data"].get("status") in ("rejected", "failed")
    started = Session.objects.filter(
        started_at__gte=since - timedelta(minutes=5), started_received_at__gte=since
    ).exclude(authorization="")
    for station_id, answer in started.values_list("station", "authorization"):
        tried[station_id] += 1
        refused[station_id] += answer != "Accepted"
    suspects = [pk for pk, n in tried.items() if n >= 6 and refused[pk] * 2 > n]
    for station in Station.objects.filter(pk__in=suspects):
        yield Finding(
            _("%(station)s: %(refused)d of the last %(tried)d starts were refused")
            % {
                "station": station.identity,
                "refused": refused[station.pk],
                "tried": tried[station.pk],
            },
            site_id=station.site_id,
            station_id=station.pk,
            evidence={"refused": refused[station.pk], "tried": tried[station.pk]},
        )


@rule("security-event", family="security", scope="station", severity=Severity.PAGE)
def security_event(context: Context) -> Iterator[Finding]:
    """A station reported a critical security event within the last day."""
    seen: dict[tuple[int, str], list[dict[str, Any]]] = defaultdict(list)
    for row in context.journal("security.event_reported", context.ago(days=1)):
        kind = row["data"].get("type", "")
        if kind in SECURITY_EVENTS and row["station_id"]:
            seen[row["station_id"], kind].append(row)
    stations = Station.objects.in_bulk({station_id for station_id, _kind in seen})
    for (station_id, kind), rows in seen.items():
        station = stations.get(station_id)
        if station is not None:
            yield Finding(
                _("%(station)s reports %(event)s") % {"station": station.identity, "event": kind},
                site_id=station.site_id,
                station_id=station_id,
                key=kind,
                since=rows[-1]["at"],
                evidence={"count": len(rows), "info": rows[0]["data"].get("info") or ""},
            )
