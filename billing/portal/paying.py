"""The page behind the QR code: how the charging point stands, its price, the reservation."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from django.conf import settings
from django.http import (
    Http404,
    HttpRequest,
    HttpResponse,
    JsonResponse,
)
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import get_language
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_POST, require_safe

from billing import money, payments, tariffs
from billing.models import Payment, Tariff
from billing.models.payments import PaymentState as State
from billing.ocpi import OcpiError, read_tariff
from billing.portal import condition, limits, links
from billing.portal.forms import PayForm, caps_for, country_names
from billing.portal.guard import portal_page
from billing.portal.places import kw_text
from billing.portal.prices import Example, PriceTable, example_of, money_text, price_table
from billing.providers import PROVIDERS
from billing.transitions import Busy, PaymentError
from stations.models import Connector, Station

RESUMED = (State.REQUIRES_ACTION, State.AUTHORIZED, State.CAPTURING, State.CAPTURE_FAILED)
UNPAID = (State.CREATED, State.AUTHORIZING, State.FAILED)


def language() -> str:
    """Return the language of this request."""
    return get_language() or settings.LANGUAGE_CODE


@require_GET
@portal_page()
def by_code(request: HttpRequest) -> HttpResponse:
    """Lead to the charging point whose code was typed."""
    code = request.GET.get("code", "").strip().upper()
    if not code:
        return redirect("portal-home")
    if links.connector_of(code) is None:
        raise Http404(_("There is no charging point with this code."))
    return redirect("portal-connector", code=code)


@require_safe
@never_cache
@portal_page(stripe=True)
def connector(request: HttpRequest, code: str) -> HttpResponse:
    """The page behind the QR code: price, cap, card field, start."""
    row = _connector(code)
    mine = _own_payment(request, row)
    if mine and mine[0].state in RESUMED and "X-Refresh" not in request.headers:
        return redirect("portal-live", token=mine[1])
    return render(request, "portal/connector.html", _connector_page(row, request.user.pk))


def _connector(code: str) -> Connector:
    row = links.connector_of(code)
    if row is None or row.station.state != Station.State.ACCEPTED:
        raise Http404(_("There is no charging point with this code."))
    return row


def _own_payment(request: HttpRequest, row: Connector) -> tuple[Payment, str] | None:
    """Return this browser's last payment at the connector, with its live token."""
    token, _dot, key = request.COOKIES.get(f"session-{row.code}", "").partition(".")
    payment = payments.by_live_token(token) if token else None
    if payment is None or payment.connector_id != row.pk or not links.opens(payment, key):
        return None
    return payment, token


def _connector_page(row: Connector, driver_id: int | None) -> dict[str, Any]:
    """Return what the page shows; `why_not` says why nobody can start here now."""
    tariff, block, example = _price_of(row, driver_id)
    state = condition.before_you(row)
    why_not = "" if state.ready else state.text
    if not row.station.public:
        why_not = _("This station is not open to everybody. Use the card you were given.")
    elif tariff is None or block is None:
        why_not = _("This station has no price yet, so nobody can pay here.")
    elif not PROVIDERS["stripe"].enabled():
        why_not = _("Paying by card is not set up here yet.")
    caps = caps_for(row.max_power_w, money.factor(tariff.currency)) if tariff else []
    return {
        "connector": row,
        "station": row.station,
        "state": state,
        "kw": kw_text(row),
        "tariff": tariff,
        "prices": block,
        "example": example,
        "caps": [
            {
                "minor": cap,
                "text": money_text(cap, tariff.currency) if tariff else "",
                "chosen": place == 1,
            }
            for place, cap in enumerate(caps)
        ],
        "chosen_cap": caps[1] if caps else 0,
        "why_not": why_not,
        "countries": country_names(language()),
        "stripe_key": settings.STRIPE_PUBLISHABLE_KEY or "pk_test_sandbox",
    }


def _price_of(
    row: Connector, driver_id: int | None
) -> tuple[Tariff | None, PriceTable | None, Example | None]:
    """Return the tariff in force, its words, and what an example at this connector costs."""
    now = timezone.now()
    tariff = Tariff.objects.all().in_force(row.station, now, driver_id)
    if tariff is None:
        return None, None, None
    try:
        plan = read_tariff(tariff.ocpi, strict=False)
    except OcpiError:
        return None, None, None
    example = example_of(plan, row.station.zone, now, row.max_power_w)
    return tariff, price_table(tariff.ocpi), example


@require_POST
@never_cache
@portal_page()
def pay(request: HttpRequest, code: str) -> HttpResponse:
    """Make the reservation; answers {client_secret, return_url} or {error} with its status."""
    row = _connector(code)
    page = _connector_page(row, request.user.pk)
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
    if limits.exhausted(request):
        return _refuse(_("Too many attempts. Please wait ten minutes."), 429)
    limits.count(request)
    snapshot = tariffs.snapshot_for(row.station, timezone.now(), request.user.pk)
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
            billing_details=form.billing_details(),
        )
    except Busy as error:
        return _refuse(str(error), 409)
    except PaymentError as error:
        return _refuse(str(error), 503)
    answer = _begun(begun.payment, begun.client_secret, begun.live_token)
    keep(answer, begun.payment, begun.live_token)
    return answer


def keep(answer: HttpResponse, payment: Payment, live_token: str) -> None:
    """Let this browser come back to the payment's session, and stop it."""
    answer.set_cookie(
        links.cookie_name(payment),
        links.cookie_value(payment, live_token),
        max_age=2 * 86_400,
        httponly=True,
        secure=settings.SECURE,
        samesite="Lax",
    )


def _begun(payment: Payment, client_secret: str, live_token: str) -> JsonResponse:
    """Answer the secret, and the way back: with the key, as banks may open another browser."""
    live = reverse("portal-live", args=[live_token])
    url = f"{settings.PUBLIC_URL}{live}?key={links.stop_key(payment)}"
    return JsonResponse({"client_secret": client_secret, "return_url": url})


def _begun_before(payment: Payment, token: str, cap: int) -> JsonResponse | None:
    """Go on with this browser's unpaid attempt; give it up where another amount is wanted."""
    if payment.state not in UNPAID:
        return None
    with suppress(PaymentError):
        if payment.hold_minor == cap:
            return _begun(payment, payments.resume(payment), token)
        payments.cancel(payment, "another amount")
    return None


def _refuse(text: str, status: int) -> JsonResponse:
    return JsonResponse({"error": text}, status=status)
