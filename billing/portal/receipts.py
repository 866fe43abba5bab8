"""Receipts behind their links, and a driver's account."""

from __future__ import annotations

from typing import cast

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.cache import cache
from django.db.models import Q, QuerySet
from django.http import (
    Http404,
    HttpRequest,
    HttpResponse,
)
from django.shortcuts import redirect, render
from django.utils.formats import date_format, number_format
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST, require_safe

from billing import corrections, documents, files, wallet
from billing.models import Charge, Invoice, Payment, Wallet
from billing.portal import links
from billing.portal.guard import portal_page
from billing.portal.prices import duration_text, money_text
from billing.portal.stages import stage_of
from monitoring.models import Session
from stations.models import User

TRIES = 10  # wrong codes an hour


def paid_by(token: str) -> Payment:
    """The payment a receipt's link is about; 404 when it has expired."""
    payment = links.by_receipt_token(token)
    if payment is None:
        raise Http404(_("This receipt link has expired. Ask us to send the receipt again."))
    return payment


@require_safe
@never_cache
@portal_page()
def receipt(request: HttpRequest, token: str) -> HttpResponse:
    """What was charged and why, with the invoice."""
    payment = paid_by(token)
    charge: Charge | None = getattr(payment, "charge", None)
    invoice = charge.invoice if charge else None
    stage = stage_of(payment)
    return render(
        request,
        "portal/receipt.html",
        {
            "payment": payment,
            "charge": charge,
            "invoice": invoice,
            "document": documents.present(invoice) if invoice else None,
            "others": _others(charge),
            "stage": stage,
            "seen": _session_facts(payment) if invoice is None and stage.final else None,
            "token": token,
            "station": payment.connector.station,
            "connector": payment.connector,
        },
    )


def _session_facts(payment: Payment) -> dict[str, str] | None:
    """Return when a session was (in the station's time) and what flowed; no invoice says so."""
    session = payment.session
    if session is None:
        return None
    zone = payment.connector.station.zone
    ended = session.stopped_at or session.closed_at
    return {
        "kwh": number_format(round(session.energy_wh / 1000, 2), 2),
        "start": date_format(session.started_at.astimezone(zone), "DATETIME_FORMAT"),
        "end": date_format(ended.astimezone(zone), "DATETIME_FORMAT") if ended else "",
        "time": duration_text(int((ended - session.started_at).total_seconds())) if ended else "",
    }


def _others(charge: Charge | None) -> list[Invoice]:
    """The bill's other documents: credit notes, and invoices that were replaced."""
    if charge is None or charge.invoice_id is None:
        return []
    return list(corrections.documents_of(charge).exclude(pk=charge.invoice_id))


@require_safe
@never_cache
@portal_page()
def receipt_pdf(request: HttpRequest, token: str, number: str) -> HttpResponse:
    """The invoice, or a credit note for it, as PDF."""
    return _pdf(_documents(paid_by(token)).filter(number=number).first())


@require_safe
@never_cache
@portal_page()
def receipt_xml(request: HttpRequest, token: str, number: str, form: str) -> HttpResponse:
    """The same as a structured invoice: `cii` (Factur-X) or `ubl`."""
    invoice = _documents(paid_by(token)).filter(number=number).first()
    if invoice is None or form not in files.XML:
        raise Http404(_("There is no such document."))
    return files.download(invoice, form)


def _documents(payment: Payment) -> QuerySet[Invoice]:
    """The invoice of what was paid, and the credit notes for it."""
    charge: Charge | None = getattr(payment, "charge", None)
    return corrections.documents_of(charge) if charge else Invoice.objects.none()


def _pdf(invoice: Invoice | None) -> HttpResponse:
    if invoice is None:
        raise Http404(_("There is no such document."))
    answer = HttpResponse(files.pdf_of(invoice), content_type="application/pdf")
    answer["Content-Disposition"] = f'inline; filename="{invoice.number}.pdf"'
    return answer


# --- the account ----------------------------------------------------------------------------------


@login_required
@require_safe
@never_cache
@portal_page()
def account(request: HttpRequest) -> HttpResponse:
    """A driver's sessions, invoices and cards."""
    user = request.user
    mine = Q(token__user=user.pk) | Q(payments__driver=user.pk) | Q(charge__driver=user.pk)
    sessions = (
        Session.objects.filter(mine)
        .select_related("station__site", "charge__invoice")
        .distinct()
        .order_by("-started_at")[:100]
    )
    for session in sessions:
        session.kwh = number_format(round(session.energy_wh / 1000, 2), 2)  # type: ignore[attr-defined]
    return render(
        request,
        "portal/account.html",
        {
            "sessions": sessions,
            "tokens": user.tokens.exclude(type="Central"),  # type: ignore[union-attr]
            "balances": [
                money_text(one.balance_minor, one.currency)
                for one in Wallet.objects.filter(driver=user.pk)
            ],
        },
    )


@login_required
@require_POST
@portal_page()
def redeem(request: HttpRequest) -> HttpResponse:
    """Add a voucher to the driver's balance; a few tries an hour, codes are not for guessing."""
    key = f"redeem:{request.user.pk}"
    cache.add(key, 0, 3600)
    if cache.incr(key) > TRIES:
        messages.error(request, _("Too many tries. Try again in an hour."))
        return redirect("portal-account")
    try:
        voucher = wallet.redeem(cast("User", request.user), request.POST.get("code", ""))
    except wallet.NotPossible as error:
        messages.error(request, str(error))
    else:
        added = money_text(voucher.amount_minor, voucher.currency)
        messages.success(request, _("%(amount)s added to your balance.") % {"amount": added})
    return redirect("portal-account")


@login_required
@require_safe
@never_cache
@portal_page()
def account_pdf(request: HttpRequest, number: str) -> HttpResponse:
    """One of the driver's own invoices."""
    mine = Q(charges__driver=request.user.pk) | Q(charges__payment__driver=request.user.pk)
    return _pdf(Invoice.objects.filter(mine, number=number).distinct().first())
