"""The portal's pages. Server-rendered; JavaScript adds the card field, freshness and the map."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from typing import Any

from django.conf import settings
from django.core.cache import cache
from django.db.models import Prefetch, Q
from django.http import (
    Http404,
    HttpRequest,
    HttpResponse,
    HttpResponseRedirect,
    JsonResponse,
)
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.utils.formats import number_format
from django.utils.translation import get_language
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_POST, require_safe

from billing import money, payments, start, tariffs
from billing.models import Payment, Seller, Tariff
from billing.models.payments import PaymentState as State
from billing.ocpi import OcpiError, read_tariff
from billing.portal import links
from billing.portal.context import brand_facts
from billing.portal.forms import PayForm, caps_for, cookie_of
from billing.portal.guard import portal_page
from billing.portal.prices import PriceTable, example_minor, money_text, price_table
from billing.portal.stages import stage_of
from billing.providers import PROVIDERS
from billing.transitions import Busy, NotAllowed, PaymentError
from stations.models import Connector, Station

RESUMED = (State.REQUIRES_ACTION, State.AUTHORIZED, State.CAPTURING, State.CAPTURE_FAILED)
UNPAID = (State.CREATED, State.AUTHORIZING, State.FAILED)
BEGINS_PER_10_MIN = 10  # attempts to pay from one address, then a pause
EXAMPLE_KWH, EXAMPLE_MIN = 20, 30


def language() -> str:
    """Return the language of this request."""
    return get_language() or settings.LANGUAGE_CODE


# --- map and list ---------------------------------------------------------------------------------


@require_safe
@portal_page(map=True)
def home(request: HttpRequest) -> HttpResponse:
    """Map and list of the public stations with what is free now."""
    query = request.GET.get("q", "").strip()
    stations = (
        Station.objects.filter(public=True, state=Station.State.ACCEPTED, site__isnull=False)
        .select_related("site")
        .prefetch_related(Prefetch("connectors", Connector.objects.select_related("evse")))
        .order_by("site__city", "site__name", "identity")
    )
    if query:
        stations = stations.filter(
            Q(site__name__icontains=query)
            | Q(site__city__icontains=query)
            | Q(site__address__icontains=query)
            | Q(name__icontains=query)
            | Q(identity__iexact=query)
        )
    sites: dict[int, dict[str, Any]] = {}
    for station in stations[:500]:
        assert station.site is not None  # noqa: S101  filtered above
        place = sites.setdefault(
            station.site.pk, {"site": station.site, "stations": [], "free": 0, "all": 0}
        )
        connectors = [_shown(connector, station) for connector in station.connectors.all()]
        place["stations"].append({"station": station, "connectors": connectors})
        place["free"] += sum(one["tone"] == "free" for one in connectors)
        place["all"] += len(connectors)
    points = [
        {
            "name": place["site"].name,
            "lat": float(place["site"].latitude),
            "lon": float(place["site"].longitude),
            "free": place["free"],
            "all": place["all"],
            "anchor": f"site-{pk}",
        }
        for pk, place in sites.items()
        if place["site"].latitude is not None and place["site"].longitude is not None
    ]
    return render(
        request,
        "portal/home.html",
        {"sites": list(sites.values()), "points": points, "query": query},
    )


def _shown(connector: Connector, station: Station) -> dict[str, Any]:
    """Return a connector as the list shows it: tone, word, kind, power."""
    status = Connector.Status(connector.status)
    if not station.connected or status in (Connector.Status.UNAVAILABLE, Connector.Status.FAULTED):
        tone, word = "off", _("Out of service") if station.connected else _("Offline")
    elif status in (Connector.Status.AVAILABLE, Connector.Status.PREPARING):
        tone, word = "free", _("Free")
    elif status == Connector.Status.UNKNOWN:
        tone, word = "off", _("Unknown")
    else:
        tone, word = "busy", _("In use")
    return {
        "connector": connector,
        "tone": tone,
        "word": word,
        "kw": number_format(f"{connector.max_power_w / 1000:g}"),
        "type": connector.get_type_display(),
    }


# --- pay and charge -------------------------------------------------------------------------------


@require_safe
@never_cache
@portal_page(stripe=True)
def connector(request: HttpRequest, code: str) -> HttpResponse:
    """The page behind the QR code: price, cap, card field, start."""
    row = _connector(code)
    mine = _own_payment(request, row)
    if mine and mine[0].state in RESUMED and "X-Refresh" not in request.headers:
        return redirect("portal-live", token=mine[1])
    return render(request, "portal/connector.html", _connector_page(row))


def _connector(code: str) -> Connector:
    row = links.connector_of(code)
    if row is None or row.station.state != Station.State.ACCEPTED:
        raise Http404(_("There is no charging point with this code."))
    return row


def _own_payment(request: HttpRequest, row: Connector) -> tuple[Payment, str] | None:
    """Return this browser's last payment at the connector, with its live token."""
    token = request.COOKIES.get(f"session-{row.code}", "")
    payment = payments.by_live_token(token) if token else None
    if payment is None or payment.connector_id != row.pk:
        return None
    return payment, token


def _connector_page(row: Connector) -> dict[str, Any]:
    """Return what the page shows; `why_not` says why nobody can start here now."""
    tariff, block, example = _price_of(row)
    why_not = ""
    if not row.station.public:
        why_not = _("This station is not open to everybody. Use the card you were given.")
    elif tariff is None or block is None:
        why_not = _("This station has no price yet, so nobody can pay here.")
    elif not PROVIDERS["stripe"].enabled():
        why_not = _("Paying by card is not set up here yet.")
    else:
        try:
            payments.check_startable(row)
        except PaymentError as error:
            why_not = str(error)
    shown = _shown(row, row.station)
    caps = caps_for(row.max_power_w, money.factor(tariff.currency)) if tariff else []
    return {
        "connector": row,
        "station": row.station,
        "shown": shown,
        "tariff": tariff,
        "prices": block,
        "example": example,
        "example_kwh": EXAMPLE_KWH,
        "example_min": EXAMPLE_MIN,
        "caps": [
            {
                "minor": cap,
                "text": money_text(cap, tariff.currency) if tariff else "",
                "chosen": place == 1,
            }
            for place, cap in enumerate(caps)
        ],
        "chosen_cap": caps[1] if caps else 0,
        "plug_first": row.status == Connector.Status.AVAILABLE,
        "why_not": why_not,
        "stripe_key": settings.STRIPE_PUBLISHABLE_KEY or "pk_test_sandbox",
    }


def _price_of(row: Connector) -> tuple[Tariff | None, PriceTable | None, str]:
    """Return the tariff in force, its words, and the example's cost."""
    now = timezone.now()
    tariff = Tariff.objects.all().in_force(row.station, now)
    if tariff is None:
        return None, None, ""
    try:
        plan = read_tariff(tariff.ocpi, strict=False)
    except OcpiError:
        return None, None, ""
    cost = example_minor(plan, row.station.zone, now, EXAMPLE_KWH, EXAMPLE_MIN)
    return tariff, price_table(tariff.ocpi), money_text(cost, tariff.currency)


@require_POST
@never_cache
@portal_page()
def pay(request: HttpRequest, code: str) -> HttpResponse:
    """Make the reservation; answers {client_secret, return_url} or {error} with its status."""
    row = _connector(code)
    if _too_many(request):
        return _refuse(_("Too many attempts. Please wait ten minutes."), 429)
    page = _connector_page(row)
    tariff: Tariff | None = page["tariff"]
    if page["why_not"] or tariff is None:
        return _refuse(page["why_not"], 409)
    form = PayForm(request.POST, caps=[cap["minor"] for cap in page["caps"]])
    if not form.is_valid():
        return _refuse(" ".join(str(text) for texts in form.errors.values() for text in texts), 400)
    shown = request.POST.get("tariff", "")
    if shown and shown != tariff.sha256:
        return _refuse(_("The price has just changed. Reload the page and look again."), 409)
    mine = _own_payment(request, row)
    if mine and (again := _begun_before(*mine, form.cleaned_data["cap"])):
        return again
    snapshot = tariffs.snapshot_for(row.station, timezone.now())
    driver = request.user if request.user.is_authenticated else None
    try:
        begun = payments.begin(
            row,
            hold_minor=form.cleaned_data["cap"],
            currency=tariff.currency,
            tariff_snapshot=snapshot[1] if snapshot else None,
            email=form.cleaned_data["email"] or (driver.email if driver else ""),
            language=language(),
            driver=driver,
        )
    except Busy as error:
        return _refuse(str(error), 409)
    except PaymentError as error:
        return _refuse(str(error), 503)
    answer = _begun(begun.client_secret, begun.live_token)
    answer.set_cookie(
        cookie_of(begun.payment),
        begun.live_token,
        max_age=2 * 86_400,
        httponly=True,
        secure=settings.SECURE,
        samesite="Lax",
    )
    return answer


def _begun(client_secret: str, live_token: str) -> JsonResponse:
    live = reverse("portal-live", args=[live_token])
    return JsonResponse({"client_secret": client_secret, "return_url": settings.PUBLIC_URL + live})


def _begun_before(payment: Payment, token: str, cap: int) -> JsonResponse | None:
    """Go on with this browser's unpaid attempt; give it up where another amount is wanted."""
    if payment.state not in UNPAID:
        return None
    with suppress(PaymentError):
        if payment.hold_minor == cap:
            return _begun(payments.resume(payment), token)
        payments.cancel(payment, "another amount")
    return None


def _refuse(text: str, status: int) -> JsonResponse:
    return JsonResponse({"error": text}, status=status)


def _too_many(request: HttpRequest) -> bool:
    """Count attempts from one address in ten minutes (card testing)."""
    key = f"pay-{request.META.get('REMOTE_ADDR', '')}"
    cache.add(key, 0, 600)
    try:
        return cache.incr(key) > BEGINS_PER_10_MIN
    except ValueError:  # expired in between
        return False


# --- the running session --------------------------------------------------------------------------


def _payment(token: str) -> Payment:
    payment = payments.by_live_token(token)
    if payment is None:
        raise Http404(_("This link has expired or never existed."))
    return payment


@require_safe
@never_cache
@portal_page(stripe=True)
def live(request: HttpRequest, token: str) -> HttpResponse:
    """A payment from reservation to receipt. Anyone with the link sees and may stop it."""
    payment = _payment(token)
    if "payment_intent" in request.GET or payment.state in (
        State.AUTHORIZING,
        State.REQUIRES_ACTION,
        State.FAILED,  # another card may have been tried since
    ):
        payments.returned(payment)
        if "payment_intent" in request.GET:  # the provider's parameters do not stay in the address
            return redirect("portal-live", token=token)
        payment = _payment(token)
    stage = stage_of(payment)
    seen = {"payment": payment, "stage": stage, "token": token, "connector": payment.connector}
    seen["station"] = payment.connector.station
    seen["prices"] = price_table(payment.tariff_snapshot["ocpi"])
    if stage.name == "done":
        seen["receipt"] = reverse("portal-receipt", args=[links.receipt_token(payment)])
    seen["topics"] = f"s:{token}" + (f",ss:{token}" if payment.session_id else "")
    return render(request, "portal/live.html", seen)


@require_POST
@never_cache
@portal_page()
def stop(request: HttpRequest, token: str) -> HttpResponse:
    """Stop charging: orders the station to; pressing twice orders once."""
    payment = _payment(token)
    if payment.session is not None and payment.session.stopped_at is None:
        start.stop(payment, payment.session, "driver")
    return redirect("portal-live", token=token)


@require_POST
@never_cache
@portal_page()
def cancel(request: HttpRequest, token: str) -> HttpResponse:
    """Give up before the session began: the reservation is released."""
    payment = _payment(token)
    # Where the session has just begun it is too late: the page shows it, with its Stop button.
    with suppress(NotAllowed):
        payments.cancel(payment)
    return redirect("portal-live", token=token)


# --- small things ---------------------------------------------------------------------------------


@require_GET
def manifest(request: HttpRequest) -> HttpResponse:
    """The web app manifest: the portal can be put on a phone's home screen."""
    seller = Seller.objects.first()
    name = seller.name if seller else _("Charging")
    body = {
        "name": name,
        "short_name": name[:12],
        "start_url": "/",
        "display": "standalone",
        "background_color": "#ffffff",
        "theme_color": "#0b7a6f",
        "icons": [
            {"src": "/static/portal/icon.svg", "sizes": "any", "type": "image/svg+xml"},
        ],
    }
    return HttpResponse(json.dumps(body), content_type="application/manifest+json")


@require_GET
def brand_css(request: HttpRequest) -> HttpResponse:
    """The operator's colour as a style sheet: the content policy allows no style in the page."""
    colour = brand_facts()["colour"]
    ok = bool(re.fullmatch(r"#[0-9a-fA-F]{6}", colour))
    answer = HttpResponse(f":root{{--brand:{colour}}}" if ok else "", content_type="text/css")
    answer["Cache-Control"] = "max-age=300"
    return answer


@require_GET
def favicon(request: HttpRequest) -> HttpResponse:
    """Browsers ask for it whatever the page says."""
    return HttpResponseRedirect("/static/portal/icon.svg")
