"""The books: every document and every movement of money as balanced, append-only postings.

A debit is positive, a credit negative; the postings of an entry sum to zero per currency (checked
here, and by a deferred trigger on PostgreSQL). A correction is a new entry.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from typing import Any

from django.db import models, transaction
from django.db.models import Sum
from django.utils import timezone

from stations import journal

from .models import Account, Charge, Entry, Invoice, Payment, Posting, Refund
from .models.ledger import AccountKind

Kind = AccountKind
type Row = tuple[AccountKind, str, int]  # account kind, its owner, amount in minor units

REVENUE_OF = {
    "ENERGY": "energy",
    "TIME": "time",
    "PARKING_TIME": "parking",
    "FLAT": "fees",
    "RESERVATION": "reservation",
}


class Unbalanced(ValueError):
    """The postings of an entry do not sum to zero: a mistake of ours, nothing is written."""


def post(
    key: str,
    reason: str,
    rows: Iterable[Row],
    currency: str,
    about: models.Model,
    *,
    occurred_at: dt.datetime | None = None,
    reverses: Entry | None = None,
) -> Entry:
    """Write one entry and its postings; the same `key` again returns the entry there is.

    Must run in the transaction of what it records. Raises `Unbalanced`.
    """
    wanted = [row for row in rows if row[2]]
    if sum(amount for _, _, amount in wanted):
        raise Unbalanced(f"{key}: {wanted}")
    with transaction.atomic():
        entry, new = Entry.objects.get_or_create(
            idempotency_key=key,
            defaults={
                "reason": reason,
                "occurred_at": occurred_at or timezone.now(),
                "object_type": str(about._meta.model_name),
                "object_id": str(about.pk),
                "reverses": reverses,
            },
        )
        if new:
            Posting.objects.bulk_create(
                Posting(entry=entry, account=_account(kind, owner, currency), amount_minor=amount)
                for kind, owner, amount in wanted
            )
            journal.record("ledger.posted", entry, reason=reason, key=key)
    return entry


def reverse(entry: Entry, reason: str) -> Entry:
    """Undo an entry by a new one with every posting the other way round; once per entry."""
    rows = [
        (Kind(posting.account.kind), posting.account.owner, -posting.amount_minor)
        for posting in entry.postings.select_related("account")
    ]
    first = entry.postings.select_related("account").first()
    if first is None:
        raise Unbalanced(f"{entry.idempotency_key}: nothing to reverse")
    return post(f"reversal:{entry.pk}", reason, rows, first.account.currency, entry, reverses=entry)


def trial_balance(at: dt.datetime | None = None) -> list[dict[str, Any]]:
    """Every account's balance in minor units, of what had occurred before `at`; sums to zero."""
    rows = (
        Posting.objects.all() if at is None else Posting.objects.filter(entry__occurred_at__lt=at)
    )
    return [
        {
            "account": row["account__kind"],
            "owner": row["account__owner"],
            "currency": row["account__currency"],
            "balance_minor": row["sum"],
        }
        for row in rows.values("account__kind", "account__owner", "account__currency")
        .annotate(sum=Sum("amount_minor"))
        .order_by("account__kind", "account__owner", "account__currency")
    ]


def _account(kind: AccountKind, owner: str, currency: str) -> Account:
    account, _ = Account.objects.get_or_create(kind=kind, owner=owner, currency=currency)
    return account


def balance(**accounts: Any) -> dict[str, int]:
    """Balances in minor units by currency of the accounts with these fields (kind=, owner=)."""
    rows = (
        Posting.objects.filter(**{f"account__{name}": value for name, value in accounts.items()})
        .values("account__currency")
        .annotate(sum=Sum("amount_minor"))
    )
    return {row["account__currency"]: row["sum"] for row in rows}


def customer_of(charge: Charge) -> str:
    """The owner of the receivable account a charge is booked on."""
    if charge.house_account_id is not None:
        return f"house:{charge.house_account_id}"
    if charge.payment_id is not None:
        return f"payment:{charge.payment_id}"
    return f"driver:{charge.driver_id}"


def document_issued(invoice: Invoice, customer: str) -> Entry:
    """Book a document: the customer owes the gross; revenue and VAT are credited. Negative for a
    credit note, whose snapshot's amounts are negative."""
    snapshot = invoice.snapshot
    rows: list[Row] = [(Kind.RECEIVABLE, customer, invoice.gross_minor)]
    revenue: dict[str, int] = {}
    for line in snapshot["lines"]:
        name = REVENUE_OF.get(line["dimension"], "fees")
        revenue[name] = revenue.get(name, 0) + line["net_minor"]
    rows += [(Kind.REVENUE, name, -amount) for name, amount in revenue.items()]
    country = snapshot["supply_country"]
    rows += [
        (Kind.VAT, f"{country} {row['vat'] or 0}", -row["vat_minor"]) for row in snapshot["rates"]
    ]
    return post(
        f"invoice:{invoice.number}",
        f"{invoice.kind}.issued",
        rows,
        invoice.currency,
        invoice,
        occurred_at=invoice.issued_at,
    )


def payment_captured(payment: Payment, customer: str) -> Entry:
    """Book money collected by a provider: it owes us, the customer does not."""
    amount = payment.captured_minor
    return post(
        f"capture:{payment.pk}",
        "payment.captured",
        [(Kind.PSP_CLEARING, payment.provider, amount), (Kind.RECEIVABLE, customer, -amount)],
        payment.currency,
        payment,
    )


def payment_refunded(refund: Refund, customer: str) -> Entry:
    """Book money given back through the provider."""
    payment = refund.payment
    return post(
        f"refund:{refund.pk}",
        "payment.refunded",
        [
            (Kind.PSP_CLEARING, payment.provider, -refund.amount_minor),
            (Kind.RECEIVABLE, customer, refund.amount_minor),
        ],
        payment.currency,
        refund,
    )


def refund_failed(refund: Refund, customer: str) -> Entry | None:
    """Undo the booking of a refund that came back."""
    booked = Entry.objects.filter(idempotency_key=f"refund:{refund.pk}").first()
    if booked is None:
        return None
    payment = refund.payment
    return post(
        f"refund-failed:{refund.pk}",
        "refund.failed",
        [
            (Kind.PSP_CLEARING, payment.provider, refund.amount_minor),
            (Kind.RECEIVABLE, customer, -refund.amount_minor),
        ],
        payment.currency,
        refund,
        reverses=booked,
    )
