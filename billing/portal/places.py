"""The public stations: list and map, filtered, and sorted by distance where a position is given."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from django.db.models import Exists, OuterRef, Prefetch, Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.utils.formats import number_format
from django.utils.translation import gettext as _
from django.views.decorators.http import require_safe

from billing import tariffs
from billing.portal import condition, links
from billing.portal.guard import portal_page
from billing.portal.prices import price_in_short
from stations.models import Connector, Site, Station

SHOWN = 500  # stations on one page
NEAREST = 100  # sites, where a position is given
POWERS_KW = (11, 22, 50, 150)
EARTH_KM = 6371.0


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a driver looks for: words, a kind of connector, at least so many kW, free now, where."""

    words: str = ""
    type: str = ""
    kw: int = 0
    free: bool = False
    at: tuple[float, float] | None = None  # latitude, longitude in degrees

    @property
    def filtered(self) -> bool:
        """Whether anything but the order is asked for."""
        return bool(self.words or self.type or self.kw or self.free)


def wanted(request: HttpRequest) -> Wanted:
    """Read the form's GET parameters; what makes no sense is left out."""
    given = request.GET
    kind = given.get("type", "")
    kw = given.get("kw", "")
    return Wanted(
        words=given.get("q", "").strip()[:80],
        type=kind if kind in Connector.Type.values else "",
        kw=int(kw) if kw in map(str, POWERS_KW) else 0,
        free=given.get("free") == "1",
        at=_position(given.get("at", "")),
    )


def _position(text: str) -> tuple[float, float] | None:
    try:
        latitude, longitude = (float(part) for part in text.split(","))
    except ValueError:
        return None
    inside = abs(latitude) <= 90 and abs(longitude) <= 180  # also refuses "nan"
    return (latitude, longitude) if inside else None


@require_safe
@portal_page(map=True)
def home(request: HttpRequest) -> HttpResponse:
    """Map and list of the public stations with what is free now and what it costs."""
    want = wanted(request)
    if want.words and (found := links.connector_of(want.words)):
        return redirect("portal-connector", code=found.code)
    sites = found_sites(want)
    points = [
        {
            "name": place["site"].name,
            "lat": float(place["site"].latitude),
            "lon": float(place["site"].longitude),
            "free": place["free"],
            "all": place["all"],
            "anchor": f"site-{place['site'].pk}",
        }
        for place in sites
        if place["site"].latitude is not None and place["site"].longitude is not None
    ]
    seen = {"sites": sites, "points": points, "want": want}
    seen["at"] = f"{want.at[0]:g},{want.at[1]:g}" if want.at else ""
    seen["types"] = [(kind.value, kind.label) for kind in Connector.Type]
    seen["powers"] = POWERS_KW
    return render(request, "portal/home.html", seen)


def found_sites(want: Wanted) -> list[dict[str, Any]]:
    """Return the sites that have what is wanted, nearest first where a position is given."""
    connectors = Connector.objects.select_related("evse")
    matching = Connector.objects.filter(station=OuterRef("pk"))
    if want.type:
        connectors, matching = (rows.filter(type=want.type) for rows in (connectors, matching))
    if want.kw:
        at_least = {"max_power_w__gte": want.kw * 1000}
        connectors, matching = (rows.filter(**at_least) for rows in (connectors, matching))
    stations = _public(want).select_related("site").order_by("site__city", "site__name", "identity")
    if want.type or want.kw:
        stations = stations.filter(Exists(matching))
    if want.at:
        stations = stations.filter(site__in=_nearest(want.at, stations))
    listed = list(stations.prefetch_related(Prefetch("connectors", connectors))[:SHOWN])
    prices = _prices(listed)
    sites: dict[int, dict[str, Any]] = {}
    for station in listed:
        rows = [shown(one, station) for one in station.connectors.all()]
        if want.free:
            rows = [one for one in rows if one["tone"] == "free"]
            if not rows:
                continue
        assert station.site is not None  # noqa: S101  filtered in _public
        place = sites.setdefault(station.site.pk, _place(station.site, want))
        price = prices.get(station.pk, "")
        place["stations"].append({"station": station, "connectors": rows, "price": price})
        place["free"] += sum(one["tone"] == "free" for one in rows)
        place["all"] += len(rows)
    if want.at:
        return sorted(sites.values(), key=lambda place: place["km"])
    return list(sites.values())


def _public(want: Wanted) -> QuerySet[Station]:
    stations = Station.objects.filter(public=True, state=Station.State.ACCEPTED, site__isnull=False)
    if not want.words:
        return stations
    return stations.filter(
        Q(site__name__icontains=want.words)
        | Q(site__city__icontains=want.words)
        | Q(site__address__icontains=want.words)
        | Q(name__icontains=want.words)
        | Q(identity__iexact=want.words)
    )


def _nearest(at: tuple[float, float], stations: QuerySet[Station]) -> list[int]:
    sites = Site.objects.filter(stations__in=stations, latitude__isnull=False).distinct()
    return [site.pk for site in sorted(sites, key=lambda site: km_to(site, at))[:NEAREST]]


def _place(site: Site, want: Wanted) -> dict[str, Any]:
    km = km_to(site, want.at) if want.at else 0.0
    far = _distance(km) if want.at and km < math.inf else ""
    return {"site": site, "stations": [], "free": 0, "all": 0, "km": km, "far": far}


def km_to(site: Site, at: tuple[float, float]) -> float:
    """Return the great-circle distance in km; infinite where the site has no position."""
    if site.latitude is None or site.longitude is None:
        return math.inf
    lat, lon, here, there = map(
        math.radians, (float(site.latitude), float(site.longitude), at[0], at[1])
    )
    half = (
        math.sin((lat - here) / 2) ** 2
        + math.cos(lat) * math.cos(here) * math.sin((lon - there) / 2) ** 2
    )
    return 2 * EARTH_KM * math.asin(math.sqrt(half))


def _distance(km: float) -> str:
    if km < 1:
        return _("%(n)d m away") % {"n": round(km * 1000, -2) or 100}
    return _("%(n)s km away") % {"n": number_format(round(km, 1) if km < 10 else round(km))}


def _prices(stations: list[Station]) -> dict[int, str]:
    """Return the short price of each station that has one; two queries however many there are."""
    in_force = tariffs.in_force_at(stations, timezone.now())
    texts = {tariff.pk: price_in_short(tariff.ocpi) for tariff in set(in_force.values())}
    return {pk: texts[tariff.pk] for pk, tariff in in_force.items()}


def shown(connector: Connector, station: Station) -> dict[str, Any]:
    """Return a connector as the list shows it: tone, word, kind, power."""
    state = condition.at_a_glance(connector, station)
    return {
        "connector": connector,
        "tone": state.tone,
        "word": state.word,
        "kw": kw_text(connector),
        "type": connector.get_type_display(),
    }


def kw_text(connector: Connector) -> str:
    """Return a connector's power in kW, as the current language writes it."""
    return str(number_format(f"{connector.max_power_w / 1000:g}"))
