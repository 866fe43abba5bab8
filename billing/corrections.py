"""Corrections: credit notes for issued invoices, and what a refund means for the books.

An issued document never changes. A credit note of its own series takes back part or all of it.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from django.db import transaction

from . import ledger
from .invoicing import issue, sums_of
from .models import Charge, Invoice, Refund, Series
from .models.invoices import DocumentKind
from .money import from_minor, net_of, spread, step_minor
from .totals import rates_of


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
        lines = _credit_lines(invoice, amount_minor)
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
            customer=_receivable_of(invoice),
            house_account=invoice.house_account,
            corrects=invoice,
        )


def _credit_lines(invoice: Invoice, amount_minor: int) -> list[dict[str, Any]]:
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


def _receivable_of(invoice: Invoice) -> str:
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
        note = credit(charge.invoice, refund.amount_minor, refund.reason, key=f"refund:{refund.pk}")
        Refund.objects.filter(pk=refund.pk, credit_note__isnull=True).update(credit_note=note)
    return note


def refund_failed(refund: Refund) -> None:
    """A refund that had succeeded came back: undo the posting; people see to the rest."""
    charge = Charge.objects.filter(payment=refund.payment).first()
    if charge is not None:
        with transaction.atomic():
            ledger.refund_failed(refund, ledger.customer_of(charge))
