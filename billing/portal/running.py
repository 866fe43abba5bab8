"""The running session behind its link: whoever has the link watches; who paid may stop.

The browser that paid holds a cookie with a second key (see `links`); a driver who paid while signed
in may stop from any browser of that account. A link that was passed on shows, and does no more.
"""

from __future__ import annotations

from contextlib import suppress

from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST, require_safe

from billing import payments, start
from billing.models import Payment
from billing.models.payments import PaymentState as State
from billing.portal import links
from billing.portal.guard import portal_page
from billing.portal.paying import keep
from billing.portal.prices import price_table
from billing.portal.stages import stage_of
from billing.transitions import NotAllowed

# Another card may have been tried since.
UNSURE = (State.AUTHORIZING, State.REQUIRES_ACTION, State.FAILED)


def _payment(token: str) -> Payment:
    payment = payments.by_live_token(token)
    if payment is None:
        raise Http404(_("This link has expired or never existed."))
    return payment


def may_stop(request: HttpRequest, payment: Payment) -> bool:
    """Whether this is the browser that paid, or the account."""
    _token, _dot, key = request.COOKIES.get(links.cookie_name(payment), "").partition(".")
    if links.opens(payment, key):
        return True
    return payment.driver_id is not None and payment.driver_id == request.user.pk


def _own(request: HttpRequest, token: str) -> Payment:
    payment = _payment(token)
    if not may_stop(request, payment):
        raise PermissionDenied(
            _("Only the phone that paid can do this. At the station, unplugging your car ends it.")
        )
    return payment


@require_safe
@never_cache
@portal_page(stripe=True)
def live(request: HttpRequest, token: str) -> HttpResponse:
    """A payment from reservation to receipt. Anyone with the link sees; who paid may stop."""
    payment = _payment(token)
    if "payment_intent" in request.GET or payment.state in UNSURE:
        payments.returned(payment)
    if "payment_intent" in request.GET or "key" in request.GET:
        # neither the provider's parameters nor the key stay in the address, which people share
        answer = redirect("portal-live", token=token)
        if links.opens(payment, request.GET.get("key", "")):
            keep(answer, payment, token)
        return answer
    payment = _payment(token)
    stage = stage_of(payment)
    mine = may_stop(request, payment)
    seen = {"payment": payment, "stage": stage, "token": token, "connector": payment.connector}
    seen["station"] = payment.connector.station
    seen["prices"] = price_table(payment.tariff_snapshot["ocpi"])
    seen["mine"] = mine
    if stage.name == "done" and mine:
        seen["receipt"] = reverse("portal-receipt", args=[links.receipt_token(payment)])
    seen["topics"] = f"s:{token}" + (f",ss:{token}" if payment.session_id else "")
    return render(request, "portal/live.html", seen)


@require_POST
@never_cache
@portal_page()
def stop(request: HttpRequest, token: str) -> HttpResponse:
    """Stop charging: orders the station to; pressing twice orders once."""
    payment = _own(request, token)
    if payment.session is not None and payment.session.stopped_at is None:
        start.stop(payment, payment.session, "driver")
    return redirect("portal-live", token=token)


@require_POST
@never_cache
@portal_page()
def cancel(request: HttpRequest, token: str) -> HttpResponse:
    """Give up before the session began: the reservation is released."""
    payment = _own(request, token)
    # Where the session has just begun it is too late: the page shows it, with its Stop button.
    with suppress(NotAllowed):
        payments.cancel(payment)
    return redirect("portal-live", token=token)
