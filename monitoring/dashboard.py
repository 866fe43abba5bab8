"""The fleet's numbers, counted from rows: what the start page, the map and the metrics show."""

from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from django.db.models import Case, CharField, Count, F, OuterRef, Q, QuerySet, Subquery, Sum, When
from django.db.models.functions import Coalesce
from django.utils import timezone

from monitoring.models import Incident, Session
from stations.models import Connector, Site, Station

S = Connector.Status

# Status → what it means to somebody who looks for a place to charge.
BUCKETS: dict[str, str] = {
    S.AVAILABLE: "available",
    S.CHARGING: "charging",
    S.PREPARING: "busy",
    S.SUSPENDED_EV: "busy",
    S.SUSPENDED_EVSE: "busy",
    S.FINISHING: "busy",
    S.OCCUPIED: "busy",
    S.RESERVED: "busy",
    S.FAULTED: "faulted",
    S.UNAVAILABLE: "out",
    S.UNKNOWN: "out",
}

# What 2.x says of the session (chargingState), as words of a connector's status.
_FINER = (S.CHARGING, S.SUSPENDED_EV, S.SUSPENDED_EVSE)

Scope = frozenset[int] | None  # ids of the sites to count; None: all


@dataclass(slots=True)
class SiteState:
    """One site on the map: its connectors by bucket."""

    pk: int
    name: str
    latitude: Decimal | None
    longitude: Decimal | None
    counts: Counter[str] = field(default_factory=Counter)


@dataclass(slots=True)
class Fleet:
    """The fleet now and today. Connectors of offline stations count as offline only."""

    stations: int
    connected: int
    pending: int
    connectors: Counter[str]
    sites: list[SiteState]
    power_w: float
    charging_sessions: int
    sessions_today: int
    energy_today_wh: int
    since: datetime

    @property
    def offline(self) -> int:
        """Stations in service without a connection."""
        return self.stations - self.connected


def fleet(scope: Scope = None) -> Fleet:
    """Return the fleet's numbers in five queries, whatever its size."""
    stations = _at(Station.objects.all(), "site", scope).aggregate(
        accepted=Count("pk", filter=Q(state=Station.State.ACCEPTED)),
        connected=Count("pk", filter=Q(state=Station.State.ACCEPTED, connected=True)),
        pending=Count("pk", filter=Q(state=Station.State.PENDING)),
    )
    sites = {
        site.pk: SiteState(site.pk, site.name, site.latitude, site.longitude)
        for site in _at(Site.objects.all(), "pk", scope)
    }
    total: Counter[str] = Counter()
    for site_id, online, status, n in _connectors(scope):
        bucket = BUCKETS.get(status, "out") if online else "offline"
        total[bucket] += n
        if site_id in sites:
            sites[site_id].counts[bucket] += n
    since = midnight(scope)
    sessions = _at(Session.objects.all(), "station__site", scope)
    running = sessions.filter(closed_at=None, stopped_at=None).aggregate(
        power=Sum("power_w"), n=Count("pk")
    )
    today = sessions.filter(started_at__gte=since).aggregate(n=Count("pk"), wh=Sum("energy_wh"))
    return Fleet(
        stations=stations["accepted"],
        connected=stations["connected"],
        pending=stations["pending"],
        connectors=total,
        sites=list(sites.values()),
        power_w=running["power"] or 0.0,
        charging_sessions=running["n"],
        sessions_today=today["n"],
        energy_today_wh=today["wh"] or 0,
        since=since,
    )


def doing(connectors: "QuerySet[Connector]") -> "QuerySet[Connector]":
    """Annotate `now`: the status, and where 2.x says no more than Occupied, its session's state."""
    running = Session.objects.filter(
        connector=OuterRef("pk"), closed_at=None, stopped_at=None, charging_state__in=_FINER
    ).order_by("-started_at")
    finer = Coalesce(Subquery(running.values("charging_state")[:1]), F("status"))
    return connectors.annotate(
        now=Case(When(status=S.OCCUPIED, then=finer), default=F("status"), output_field=CharField())
    )


def open_incidents(scope: Scope = None, limit: int = 8) -> list[Incident]:
    """Return the open incidents that matter most, the worst first, then the oldest."""
    rows = Incident.objects.exclude(state=Incident.State.RESOLVED).select_related(
        "station", "site", "connector__evse", "assigned_to"
    )
    if scope is not None:
        rows = rows.filter(Q(site__in=scope) | Q(station__site__in=scope))
    return list(rows.order_by("-severity", "opened_at")[:limit])


def midnight(scope: Scope = None) -> datetime:
    """Return when today began, in the time zone that most sites are in."""
    zones = (
        _at(Site.objects.all(), "pk", scope)
        .order_by()
        .values("time_zone")
        .annotate(n=Count("pk"))
        .order_by("-n", "time_zone")
    )
    first = zones.first()
    zone = ZoneInfo(first["time_zone"]) if first else UTC
    return timezone.now().astimezone(zone).replace(hour=0, minute=0, second=0, microsecond=0)


def _connectors(scope: Scope) -> list[tuple[int | None, bool, str, int]]:
    rows = doing(_at(Connector.objects.all(), "station__site", scope))
    return list(
        rows.filter(station__state=Station.State.ACCEPTED)
        .order_by()
        .values_list(F("station__site"), F("station__connected"), "now")
        .annotate(n=Count("pk"))
    )


def _at(rows: Any, path: str, scope: Scope) -> Any:
    return rows if scope is None else rows.filter(**{f"{path}__in": scope})
