"""Corrections: credit notes for issued invoices, and what a refund means for the books.

An issued document never changes. A credit note of its own series takes back part or all of it.
"""

from __future__ import annotations

import datetime as dt
from fractions import Fraction
from typing import Any

from django.db import transaction
from django.db.models import F, Q, QuerySet
from django.utils import timezone

from stations import journal

from . import fairness, invoicing, ledger, refunds, wallet
from .invoicing import issue, sums_of
from .models import Charge, Entry, Invoice, Refund, Series
from .models.invoices import DocumentKind
from .money import from_minor, net_of, spread, step_minor
from .totals import rates_of

FINAL_AFTER = dt.timedelta(days=30)  # a provisional bill may rise no longer than that


def credit(invoice: Invoice, amount_minor: int, reason: str, *, key: str) -> Invoice:
    """Issue a credit note over `amount_minor` gross of `invoice`, shared over its VAT rates.

    Raises ValueError for more than is left of the invoice.
    """
    with transaction.atomic():
        # Serialise corrections of one invoice on its series' row, which `issue` locks as well.
        Series.objects.select_for_update().get(pk=invoice.series_id)
        existing = Invoice.objects.filter(idempotency_key=key).first()
        if existing is not None:
            return existing
        credited = sum(note.gross_minor for note in invoice.corrections.all())
        if not 0 < amount_minor <= invoice.gross_minor + credited:
            left = from_minor(invoice.gross_minor + credited, invoice.currency)
            raise ValueError(f"At most {left} {invoice.currency} of this invoice can be credited.")
        lines = credited_lines(invoice, amount_minor)
        content = {
            "lines": lines,
            "rates": rates_of(lines),
            "sessions": invoice.snapshot["sessions"],
            "customer": invoice.snapshot["customer"],
            "language": invoice.language,
            "currency": invoice.currency,
            "supply_country": invoice.snapshot["supply_country"],
            "payment": invoice.snapshot["payment"],
            "rounding": invoice.snapshot.get("rounding", "gross"),
            "reason": reason,
            **sums_of(lines),
        }
        return issue(
            DocumentKind.CREDIT_NOTE,
            content,
            key=key,
            seller=invoice.seller,
            customer=receivable_of(invoice),
            house_account=invoice.house_account,
            corrects=invoice,
        )


def documents_of(charge: Charge) -> QuerySet[Invoice]:
    """Every document of one session's bill, oldest first: invoices, and credit notes for them."""
    own = Q(idempotency_key=f"charge:{charge.pk}")
    own |= Q(idempotency_key__startswith=f"charge:{charge.pk}:") | Q(pk=charge.invoice_id)
    mine = Invoice.objects.filter(own)
    # A collective invoice is a document of this bill as long as it, or a note for it, is about it.
    taken_back = Invoice.objects.filter(idempotency_key__startswith=f"taken-back:{charge.pk}:")
    corrected = Q(pk__in=taken_back) | Q(pk__in=taken_back.values("corrects"))
    return Invoice.objects.filter(Q(pk__in=mine) | Q(corrects__in=mine) | corrected).order_by("pk")


def rebill(charge: Charge, priced: dict[str, Any], reason: str) -> bool:
    """Take back what the session was billed and bill it as `priced`; whether documents were issued.

    `priced` are the charge's new columns (`settlement`). The credit note is over exactly the lines
    of this session; the new document follows unless nothing is left to bill. What was credited
    before by hand stays given: then only the rest of a surplus is credited.
    """
    right_minor = int(priced["gross_minor"])
    with transaction.atomic():
        charge = Charge.objects.select_for_update().get(pk=charge.pk)
        old = charge.invoice
        if old is None or charge.gross_minor == right_minor:
            return False
        more = right_minor > (charge.gross_minor or 0)
        if more and not _may_rise(charge, old):
            journal.record(
                "charge.differs",
                charge,
                station_id=charge.session.station_id,
                billed_minor=charge.gross_minor,
                right_minor=right_minor,
            )
            return False
        Series.objects.select_for_update().get(pk=old.series_id)
        credited = -sum(old.corrections.values_list("gross_minor", flat=True))
        if credited and len(old.snapshot["sessions"]) == 1:
            surplus = (charge.gross_minor or 0) - credited - right_minor
            if surplus > 0:
                credit(old, surplus, reason, key=f"correction:{charge.pk}:{right_minor}")
            return surplus > 0
        _take_back(charge, old, reason)
        again = None if not right_minor else invoicing.bill_again(charge, priced, old)
        Charge.objects.filter(pk=charge.pk).update(
            version=F("version") + 1, **priced, **({"invoice": again} if again else {})
        )
        journal.record(
            "charge.rebilled",
            charge,
            station_id=charge.session.station_id,
            billed_minor=charge.gross_minor,
            right_minor=right_minor,
        )
    return True


def _may_rise(charge: Charge, old: Invoice) -> bool:
    """Whether the driver was told that the bill is provisional, lately, and was not charged yet."""
    if charge.paid_minor or (charge.payment_id is not None):
        return False
    told: dict[str, Any] = next(
        (s for s in old.snapshot["sessions"] if s["id"] == charge.session_id), {}
    )
    provisional = fairness.PROVISIONAL in told.get("doubts", ())
    return provisional and old.issued_at > timezone.now() - FINAL_AFTER


def _take_back(charge: Charge, old: Invoice, reason: str) -> Invoice:
    """The credit note over every line of this session on `old`."""
    sid = charge.session_id
    sessions = [s for s in old.snapshot["sessions"] if s["id"] == sid]
    lines = taken_back_lines(old, sid)
    content = {
        "lines": lines,
        "rates": rates_of(lines),
        "sessions": sessions,
        **{
            name: old.snapshot[name]
            for name in ("customer", "language", "currency", "supply_country", "payment")
        },
        "reason": reason,
        **sums_of(lines),
    }
    return issue(
        DocumentKind.CREDIT_NOTE,
        content,
        key=f"taken-back:{charge.pk}:{old.number}",
        seller=old.seller,
        customer=ledger.customer_of(charge),
        house_account=old.house_account,
        corrects=old,
    )


def taken_back_lines(old: Invoice, session_id: int) -> list[dict[str, Any]]:
    """Every line of one session on `old`, negative."""
    return [
        line | {name: -line[name] for name in ("net_minor", "vat_minor", "gross_minor")}
        for line in old.snapshot["lines"]
        if line.get("session", session_id) == session_id
    ]


def give_back(charge: Charge, reason: str) -> None:
    """Refund what the books say was paid too much by card; the credit note is out already.

    The receivable of a card payment is its own account: below zero, we owe that much. Refunds under
    way count as given. Called again it finds nothing to do.
    """
    charge.refresh_from_db()
    payment = charge.payment
    if payment is None:
        wallet.put_back(charge)
    if payment is None or not charge.paid_minor:
        return
    given = payment.refunds.filter(state__in=refunds.GIVEN)
    booked = Entry.objects.filter(idempotency_key__in=[f"refund:{one.pk}" for one in given])
    known = set(booked.values_list("object_id", flat=True))
    under_way = sum(one.amount_minor for one in given if str(one.pk) not in known)
    balance = ledger.balance(kind=ledger.Kind.RECEIVABLE, owner=ledger.customer_of(charge))
    owed = -balance.get(charge.currency, 0) - under_way
    amount = min(owed, refunds.remaining_minor(payment))
    # Each refund stands on a credit note of its own: two at once cannot take the same one.
    notes = documents_of(charge).filter(kind=DocumentKind.CREDIT_NOTE, refund__isnull=True)
    note = notes.last()
    if amount > 0 and note is not None:
        refunds.request(payment, amount, reason, documented_by=note)


def credited_lines(invoice: Invoice, amount_minor: int) -> list[dict[str, Any]]:
    """The invoice's lines in proportion to the credited amount, negative; all of it: exactly."""
    lines = [line for line in invoice.snapshot["lines"] if line["gross_minor"]]
    if amount_minor == invoice.gross_minor:
        parts = [(line["gross_minor"], line["net_minor"]) for line in lines]
    else:
        parts = _parts(invoice, lines, amount_minor)
        shown = ("dimension", "vat", "category", "session")
        lines = [{name: line[name] for name in shown if name in line} for line in lines]
    return [
        line | {"gross_minor": -gross, "net_minor": -net, "vat_minor": net - gross}
        for line, (gross, net) in zip(lines, parts, strict=True)
        if gross
    ]


def _parts(
    invoice: Invoice, lines: list[dict[str, Any]], amount_minor: int
) -> list[tuple[int, int]]:
    """Gross and net of each line's part; the net of a rate is what its gross implies."""
    step = step_minor(invoice.currency)
    part = Fraction(amount_minor, invoice.gross_minor)
    grosses = spread(amount_minor, [line["gross_minor"] * part for line in lines], step)
    nets = [0] * len(lines)
    for vat in {line["vat"] for line in lines}:
        rate = Fraction(vat or 0) / 100
        mine = [i for i, line in enumerate(lines) if line["vat"] == vat]
        net = net_of(sum(grosses[i] for i in mine), rate, invoice.currency)
        shares = spread(net, [grosses[i] / (1 + rate) for i in mine], step)
        for i, value in zip(mine, shares, strict=True):
            nets[i] = value
    return list(zip(grosses, nets, strict=True))


def receivable_of(invoice: Invoice) -> str:
    """The owner of the receivable account that `invoice` was posted to."""
    if invoice.house_account_id is not None:
        return f"house:{invoice.house_account_id}"
    charge = Charge.objects.filter(invoice=invoice).first()
    return ledger.customer_of(charge) if charge is not None else f"invoice:{invoice.number}"


def refund_succeeded(refund: Refund) -> Invoice | None:
    """Book money that went back and issue its credit note; once per refund.

    None when the payment's session has no invoice (yet): the sweep tries again.
    """
    charge = Charge.objects.filter(payment=refund.payment).select_related("invoice").first()
    if charge is None or charge.invoice is None:
        return None
    with transaction.atomic():
        ledger.payment_refunded(refund, ledger.customer_of(charge))
        if refund.credit_note is not None:  # a correction's: the document came first
            return refund.credit_note
        note = credit(charge.invoice, refund.amount_minor, refund.reason, key=f"refund:{refund.pk}")
        Refund.objects.filter(pk=refund.pk, credit_note__isnull=True).update(credit_note=note)
    return note


def refund_failed(refund: Refund) -> None:
    """A refund that had succeeded came back: undo the posting; people see to the rest."""
    charge = Charge.objects.filter(payment=refund.payment).first()
    if charge is not None:
        with transaction.atomic():
            ledger.refund_failed(refund, ledger.customer_of(charge))
