"""The start page: the fleet's numbers, what needs somebody, the map, what is happening."""

from datetime import UTC, datetime
from typing import Any

from django.conf import settings
from django.db.models import Sum
from django.http import HttpRequest
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from billing.models import Charge
from billing.money import from_minor
from firmware import images
from firmware.models import Campaign
from monitoring import dashboard
from stations.admin import timeline
from stations.admin.base import chosen_sites
from stations.models import Entry

TICKER = (
    "session.started", "session.stopped", "session.closed", "station.connected",
    "station.disconnected", "station.booted", "station.appeared", "station.approved",
    "connector.status_changed", "station.status_changed", "incident.opened", "incident.resolved",
    "command.finished",
    "firmware.status_reported", "payment.captured", "invoice.issued", "campaign.started",
    "campaign.paused", "campaign.completed",
)  # fmt: skip
TICKER_LINES = 14
BUCKET_WORDS = (
    ("available", gettext_lazy("available")),
    ("charging", gettext_lazy("charging")),
    ("busy", gettext_lazy("busy")),
    ("faulted", gettext_lazy("faulted")),
    ("out", gettext_lazy("out of service")),
    ("offline", gettext_lazy("offline")),
)


def callback(request: HttpRequest, context: dict[str, Any]) -> dict[str, Any]:
    """Fill the start page with what this person may see."""
    user: Any = request.user
    scope = chosen_sites(request)
    may = {
        "fleet": user.has_perm("stations.view_station"),
        "sessions": user.has_perm("monitoring.view_session"),
        "money": user.has_perm("billing.view_charge"),
        "incidents": user.has_perm("monitoring.view_incident"),
        "firmware": user.has_perm("firmware.view_campaign"),
        "journal": user.has_perm("stations.view_entry"),
    }
    context |= {"may": may, "title": _("Start"), "bare": "X-Live" in request.headers,
                "socket_url": settings.PUBLIC_URL.replace("http", "ws", 1) + "/ocpp/"}  # fmt: skip
    if not may["fleet"]:
        return context
    fleet = dashboard.fleet(scope)
    tiles = _tiles(fleet, may, scope)
    context |= {
        "fleet": fleet,
        "rows": [tiles[:5], tiles[5:]],
        "sites": [_pin(site) for site in fleet.sites if site.latitude is not None],
        "unplaced": sum(site.latitude is None for site in fleet.sites),
        "tiles_url": settings.MAP_TILES_URL,
        "tiles_attribution": settings.MAP_ATTRIBUTION,
    }
    if may["incidents"]:
        context["incidents"] = dashboard.open_incidents(scope)
    if may["firmware"]:
        context["behind"] = _behind(scope)
    if may["journal"]:
        context["lines"] = _ticker(scope)
    return context


def _tiles(fleet: dashboard.Fleet, may: dict[str, bool], scope: dashboard.Scope) -> list[Any]:
    stations = reverse("admin:stations_station_changelist")
    sessions = reverse("admin:monitoring_session_changelist")
    plugs = fleet.connectors
    since = f"{fleet.since.astimezone(UTC):started_at_from_0=%Y-%m-%d&started_at_from_1=%H:%M:%S}"
    tiles = [
        _tile(_("Stations online"), fleet.connected, "green", f"{stations}?online=1",
              small=f"/ {fleet.stations}"),
        _tile(_("Available"), plugs["available"], "green", f"{stations}?connector=Available",
              note=_("connectors")),
        _tile(_("Charging"), plugs["charging"], "blue", f"{stations}?connector=Charging",
              note=_("connectors")),
        _tile(_("Faulted"), plugs["faulted"], "red", f"{stations}?connector=Faulted",
              note=_("connectors")),
        _tile(_("Stations offline"), fleet.offline, "hollow", f"{stations}?online=0"),
    ]  # fmt: skip
    if may["sessions"]:
        power, energy = _short(fleet.power_w / 1000), _short(fleet.energy_today_wh / 1000)
        tiles += [
            _tile(_("Power now"), power, "", f"{sessions}?state__exact=active", small="kW",
                  note=_("in %(n)d sessions") % {"n": fleet.charging_sessions}),
            _tile(_("Sessions today"), fleet.sessions_today, "",
                  f"{sessions}?{since}"),
            _tile(_("Energy today"), energy, "", f"{sessions}?{since}",
                  small="kWh"),
        ]  # fmt: skip
    if may["money"]:
        amount, currency = revenue(fleet.since, scope)
        tiles.append(
            _tile(_("Revenue today"), amount, "", _changelist("billing", "charge"), small=currency)
        )
    return tiles


def _tile(
    label: str, value: Any, tone: str, url: str, *, small: str = "", note: str = ""
) -> dict[str, Any]:
    return {
        "label": label, "value": value, "tone": tone, "url": url, "small": small, "note": note,
    }  # fmt: skip


def _short(number: float) -> str:
    """Return a number with a decimal where it is small, without where it is large."""
    return f"{number:,.1f}" if number < 100 else f"{number:,.0f}"


def revenue(since: datetime, scope: dashboard.Scope) -> tuple[str, str]:
    """Return the gross of the sessions priced since then, in the currency with the most."""
    rows = Charge.objects.filter(priced_at__gte=since, gross_minor__isnull=False)
    if scope is not None:
        rows = rows.filter(session__station__site__in=scope)
    sums = rows.order_by().values("currency").annotate(minor=Sum("gross_minor"))
    best = max(sums, key=lambda row: row["minor"], default=None)
    if best is None:
        return "0.00", settings.DEFAULT_CURRENCY
    return f"{from_minor(best['minor'], best['currency']):,}", best["currency"]


def _pin(site: dashboard.SiteState) -> dict[str, Any]:
    counts = dict(site.counts)
    shown = {key: counts[key] for key in counts if key != "out"}
    if counts.get("out"):
        shown["offline"] = shown.get("offline", 0) + counts["out"]
    return {
        "name": site.name,
        "at": [float(site.latitude or 0), float(site.longitude or 0)],
        "counts": shown or {"offline": 0},
        "words": [(str(word), counts[key]) for key, word in BUCKET_WORDS if counts.get(key)],
        "url": f"{reverse('admin:stations_station_changelist')}?site={site.pk}",
    }


def _behind(scope: dashboard.Scope) -> list[dict[str, Any]]:
    add = _changelist("firmware", "campaign") + "add/"
    found = []
    behind = images.behind()
    alive = Campaign.objects.filter(image__in=behind).exclude(state__in=Campaign.State.terminal())
    campaigns = {one.image_id: one for one in alive.order_by("-pk")} if behind else {}
    for image, stations in behind.items():
        seen = [one for one in stations if scope is None or one.site_id in scope]
        if seen:
            campaign = campaigns.get(image.pk)
            url = f"{add}?image={image.pk}&target=behind"
            if campaign is not None:
                url = reverse("admin:firmware_campaign_change", args=[campaign.pk])
            found.append({"image": image, "count": len(seen), "url": url, "campaign": campaign})
    return sorted(found, key=lambda row: -int(row["count"]))


def _ticker(scope: dashboard.Scope) -> list[timeline.Told]:
    rows = Entry.objects.filter(kind__in=TICKER).select_related("station", "actor")
    if scope is not None:
        rows = rows.filter(station__site__in=scope)
    return [timeline.told(one) for one in rows.order_by("-id")[:TICKER_LINES]]


def _changelist(app: str, model: str) -> str:
    return f"{reverse('admin:index')}{app}/{model}/"
