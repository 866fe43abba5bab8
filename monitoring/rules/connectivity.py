"""Rules about the connection of stations, the widest first."""

from collections import Counter
from collections.abc import Iterator

from django.db.models import Count, Exists, OuterRef, Q
from django.utils.translation import gettext as _

from monitoring.models import Severity
from monitoring.rules.registry import Context, Finding, in_service, overdue_candidates, rule
from stations.models import Command, Connector, Site, Station

DC_TYPES = ["IEC_62196_T1_COMBO", "IEC_62196_T2_COMBO", "CHADEMO", "SAE_J3400"]
OBEYED = (Command.Status.ACCEPTED, Command.Status.SCHEDULED)


@rule(
    "mass-disconnect",
    family="connectivity",
    scope="fleet",
    severity=Severity.PAGE,
    for_s=180,
    clear_for_s=60,
)
def mass_disconnect(context: Context) -> Iterator[Finding]:
    """More than a tenth of the fleet (and at least five stations) lost within ten minutes."""
    lost = in_service().filter(connected=False, disconnected_at__gte=context.ago(minutes=10))
    held = any(alert.holds for alert in context.watched.get("mass-disconnect", ()))
    if held:  # true until most are back, not only for the ten minutes
        lost = in_service().filter(connected=False, disconnected_at__gte=context.ago(hours=24))
    count = lost.count()
    if count >= 5 and count * 10 > context.fleet_size:
        yield Finding(
            _("%(count)d of %(all)d stations lost their connection")
            % {"count": count, "all": context.fleet_size},
            evidence={"lost": count, "fleet": context.fleet_size},
        )


@rule(
    "site-offline",
    family="connectivity",
    scope="site",
    severity=Severity.PAGE,
    for_s=180,
    clear_for_s=60,
)
def site_offline(context: Context) -> Iterator[Finding]:
    """At least two stations and four fifths of a site are not connected or overdue."""
    gone = in_service().filter(connected=False, last_seen_at__isnull=False, site__isnull=False)
    silent = {pk: site_id for pk, site_id, _deadline in context.late if site_id is not None}
    down = Counter((silent | dict(gone.values_list("pk", "site_id"))).values())
    suspects = [site_id for site_id, count in down.items() if site_id and count >= 2]
    sites = (
        Site.objects.filter(pk__in=suspects)
        .annotate(
            seen=Count(
                "stations",
                filter=Q(
                    stations__state=Station.State.ACCEPTED, stations__last_seen_at__isnull=False
                ),
            )
        )
        .values_list("pk", "name", "seen")
    )
    for site_id, name, seen in sites:
        if down[site_id] * 5 >= seen * 4:
            yield Finding(
                _("%(site)s: %(down)d of %(all)d stations are offline")
                % {"site": name, "down": down[site_id], "all": seen},
                site_id=site_id,
                evidence={"down": down[site_id], "stations": seen},
            )


@rule("offline", family="connectivity", scope="station", probe="Heartbeat", playbook="P1")
def offline(context: Context) -> Iterator[Finding]:
    """No frame for two heartbeats and a minute, and no answer when asked for one."""
    stations = (
        overdue_candidates(context.now)
        .annotate(
            dc=Exists(Connector.objects.filter(station=OuterRef("pk"), type__in=DC_TYPES)),
            others=Exists(
                in_service()
                .filter(site=OuterRef("site"), connected=True)
                .exclude(pk=OuterRef("pk"))
            ),
        )
        .values("pk", "identity", "site_id", "last_seen_at", "connected", "dc", "others")
    )
    rebooting = _rebooting(context)
    for row in stations:
        if row["pk"] not in context.overdue or row["pk"] in rebooting:
            continue
        yield Finding(
            _("%(station)s is offline") % {"station": row["identity"]},
            site_id=row["site_id"],
            station_id=row["pk"],
            severity=Severity.PAGE if row["dc"] or (row["site_id"] and not row["others"]) else None,
            since=context.overdue[row["pk"]],
            evidence={
                "last_seen": row["last_seen_at"] and row["last_seen_at"].isoformat(),
                "socket": "open" if row["connected"] else "closed",
            },
        )


def _rebooting(context: Context) -> set[int]:
    """Return stations that we told to restart or update in the last ten minutes."""
    return {
        row["station_id"]
        for row in context.journal("command.finished", context.ago(minutes=10))
        if row["data"].get("name") in ("reset", "update_firmware")
        and row["data"].get("status") in OBEYED
    }


@rule("reboot-loop", family="restarts", scope="station", clear_for_s=600, every_s=60)
def reboot_loop(context: Context) -> Iterator[Finding]:
    """Three boots in an hour that nobody asked for."""
    boots = Counter(
        row["station_id"]
        for row in context.journal("station.booted", context.ago(hours=1))
        if row["data"].get("reason", "")
        not in ("RemoteReset", "ScheduledReset", "FirmwareUpdate", "Triggered")
    )
    suspects = [pk for pk, count in boots.items() if count >= 3]
    asked = Counter(
        Command.objects.filter(
            station__in=suspects,
            name__in=["reset", "update_firmware"],
            answered_at__gte=context.ago(hours=1),
            status__in=OBEYED,
        ).values_list("station", flat=True)
    )
    for station in Station.objects.filter(pk__in=suspects):
        count = boots[station.pk] - asked[station.pk]
        if count >= 3:
            yield Finding(
                _("%(station)s restarted %(count)d times within an hour")
                % {"station": station.identity, "count": count},
                site_id=station.site_id,
                station_id=station.pk,
                evidence={"boots": count},
            )


@rule("deaf", family="connectivity", scope="station", clear_for_s=600, every_s=30)
def deaf(context: Context) -> Iterator[Finding]:
    """Within an hour a station answered no orders while it sent, though its socket was renewed."""
    seen = Counter(
        row["station_id"]
        for row in context.journal("station.deaf", context.ago(hours=1))
        if row["station_id"]
    )
    suspects = [pk for pk, count in seen.items() if count >= 2]  # once, a new socket may cure it
    answered = Command.objects.filter(
        station__in=suspects, answered_at__gte=context.ago(minutes=10), status__in=OBEYED
    ).values_list("station", flat=True)
    for station in Station.objects.filter(pk__in=set(suspects) - set(answered)):
        yield Finding(
            _("%(station)s sends, but answers no orders") % {"station": station.identity},
            site_id=station.site_id,
            station_id=station.pk,
            evidence={"sockets_closed": seen[station.pk]},
        )


@rule(
    "reconnect-storm",
    family="restarts",
    scope="station",
    severity=Severity.WARN,
    clear_for_s=600,
    every_s=60,
)
def reconnect_storm(context: Context) -> Iterator[Finding]:
    """More than twenty connections in an hour."""
    opened = Counter(
        row["station_id"] for row in context.journal("station.connected", context.ago(hours=1))
    )
    suspects = [pk for pk, count in opened.items() if count > 20]
    for station in Station.objects.filter(pk__in=suspects):
        yield Finding(
            _("%(station)s connected %(count)d times within an hour")
            % {"station": station.identity, "count": opened[station.pk]},
            site_id=station.site_id,
            station_id=station.pk,
            evidence={"connections": opened[station.pk]},
        )


@rule(
    "clock-drift",
    family="clock",
    scope="station",
    severity=Severity.WARN,
    for_s=1800,
    clear_for_s=300,
    every_s=60,
)
def clock_drift(context: Context) -> Iterator[Finding]:
    """A connected station's clock is more than a minute off for half an hour."""
    rows = in_service().filter(connected=True).exclude(clock_offset_s__range=(-60, 60))
    for station in rows.filter(clock_offset_s__isnull=False):
        offset_s = station.clock_offset_s or 0.0
        yield Finding(
            _("%(station)s: the clock is %(offset)d s %(way)s")
            % {
                "station": station.identity,
                "offset": abs(offset_s),
                "way": _("fast") if offset_s > 0 else _("slow"),
            },
            site_id=station.site_id,
            station_id=station.pk,
            severity=Severity.TICKET if abs(offset_s) > 300 else None,
            evidence={"offset_s": round(offset_s, 1)},
        )
