"""What is still open on an invoice: transfers that came in, and reminders for what did not.

Reminders are off until a seller turns them on. A scheduled task looks once a day; each step is one
row an invoice, so running it twice reminds once. A fee is posted with its reminder.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from typing import Any
from zoneinfo import ZoneInfo

from babel.dates import format_date
from django.db import transaction
from django.utils import timezone

from stations import journal

from . import ledger, mail
from .corrections import receivable_of
from .documents import Words, due_date
from .models import BankReceipt, Invoice, Reminder, Seller, Series
from .models.dunning import DunningLevel
from .models.ledger import AccountKind
from .money import to_minor

DEFAULT_STEPS = ((DunningLevel.FIRST, 7), (DunningLevel.SECOND, 14), (DunningLevel.FINAL, 14))
GRACE = dt.timedelta(days=7)  # to pay after a reminder
LOOK_BACK = dt.timedelta(days=400)

type Step = tuple[int, int, Any]  # level, days, fee as Money or None


class TooMuch(ValueError):
    """More than is open; the text says what is."""


def open_minor(invoice: Invoice) -> int:
    """What the customer still owes for `invoice`: less credit notes and transfers, plus fees."""
    if invoice.kind != Invoice.Kind.INVOICE or invoice.snapshot["payment"] is not None:
        return 0
    credited = sum(note.gross_minor for note in invoice.corrections.all())
    received = sum(receipt.amount_minor for receipt in invoice.receipts.all())
    fees = sum(reminder.fee_minor for reminder in invoice.reminders.all())
    return max(invoice.gross_minor + credited, 0) + fees - received


def receive(
    invoice: Invoice,
    amount_minor: int,
    on: dt.date,
    *,
    key: str,
    reference: str = "",
    by: Any = None,
) -> BankReceipt:
    """Book a transfer for `invoice`; the same `key` again is the same one. Raises TooMuch."""
    with transaction.atomic():
        Series.objects.select_for_update().get(pk=invoice.series_id)
        known = BankReceipt.objects.filter(key=key).first()
        if known is not None:
            return known
        left = open_minor(invoice)
        if not 0 < amount_minor <= left:
            said = Words("en", invoice.currency).money(left)
            raise TooMuch(f"{said} is open on {invoice.number}; book what is more elsewhere.")
        receipt = BankReceipt.objects.create(
            invoice=invoice,
            amount_minor=amount_minor,
            received_on=on,
            reference=reference[:140],
            key=key,
            by=by,
        )
        ledger.post(
            f"transfer:{receipt.pk}",
            "transfer.received",
            [
                (AccountKind.BANK, "", amount_minor),
                (AccountKind.RECEIVABLE, receivable_of(invoice), -amount_minor),
            ],
            invoice.currency,
            receipt,
        )
        journal.record("invoice.paid_by_transfer", invoice, amount_minor=amount_minor)
    return receipt


def run(today: dt.date | None = None) -> list[Reminder]:
    """Write every reminder that is due and queue its mail. `today` is the seller's date."""
    found: list[Reminder] = []
    for seller in Seller.objects.filter(reminders=True).prefetch_related("dunning_steps"):
        day = today or timezone.now().astimezone(ZoneInfo(seller.time_zone)).date()
        steps = steps_of(seller)
        for invoice in _candidates(seller):
            reminder = _remind(invoice, steps, day)
            if reminder is not None:
                found.append(reminder)
    return found


def steps_of(seller: Seller) -> list[Step]:
    """The seller's steps, or three without a fee."""
    own: list[Step] = [(s.level, s.days, s.fee) for s in seller.dunning_steps.all()]
    return sorted(own) if own else [(int(level), days, None) for level, days in DEFAULT_STEPS]


def _candidates(seller: Seller) -> Iterable[Invoice]:
    rows = Invoice.objects.filter(
        seller=seller,
        kind=Invoice.Kind.INVOICE,
        gross_minor__gt=0,
        snapshot__payment=None,
        issued_at__gt=timezone.now() - LOOK_BACK,
    ).exclude(reminders__level=DunningLevel.FINAL)
    return rows.prefetch_related("corrections", "receipts", "reminders").iterator(chunk_size=200)


def _remind(invoice: Invoice, steps: list[Step], today: dt.date) -> Reminder | None:
    """The invoice's next reminder, if it is due today."""
    owed = open_minor(invoice)
    last = max(invoice.reminders.all(), key=lambda row: row.level, default=None)
    following = next((s for s in steps if s[0] > (0 if last is None else last.level)), None)
    if owed <= 0 or following is None:
        return None
    level, days, fee = following
    zone = ZoneInfo(invoice.snapshot["seller"]["time_zone"])
    since = due_date(invoice) if last is None else last.issued_at.astimezone(zone).date()
    if today < since + dt.timedelta(days=days):
        return None
    same = fee is not None and str(fee.currency) == invoice.currency
    fee_minor = to_minor(fee.amount, invoice.currency) if same else 0
    with transaction.atomic():
        reminder, new = Reminder.objects.get_or_create(
            invoice=invoice,
            level=level,
            defaults={
                "open_minor": owed + fee_minor,
                "fee_minor": fee_minor,
                "due_on": today + GRACE,
            },
        )
        if new:
            _tell(reminder)
    return reminder if new else None


def _tell(reminder: Reminder) -> None:
    """Post the fee, queue the mail, say so."""
    invoice = reminder.invoice
    if reminder.fee_minor:
        ledger.post(
            f"reminder:{reminder.pk}",
            "reminder.fee",
            [
                (AccountKind.RECEIVABLE, receivable_of(invoice), reminder.fee_minor),
                (AccountKind.REVENUE, "reminders", -reminder.fee_minor),
            ],
            invoice.currency,
            reminder,
        )
    words = Words(invoice.language, invoice.currency)
    context = {
        "level": reminder.level,
        "open": words.money(reminder.open_minor),
        "fee": words.money(reminder.fee_minor) if reminder.fee_minor else "",
        "until": format_date(reminder.due_on, "long", locale=words.locale),
    }
    mail.queue(
        f"reminder:{invoice.number}:{reminder.level}",
        "reminder",
        str(invoice.snapshot["customer"].get("email") or ""),
        invoice.language,
        invoice=invoice,
        context={"reminder": context},
    )
    journal.record("invoice.reminded", invoice, level=reminder.level, open=reminder.open_minor)
