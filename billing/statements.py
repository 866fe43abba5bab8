"""The provider's statement against our books: every movement booked once, and matched.

Collected and refunded money is in the books already (`ledger`); a statement adds the fees, the
disputes and the payouts, and shows what the other side has and we have not.
"""

from __future__ import annotations

import datetime as dt
import logging

from django.db import transaction

from stations import journal

from . import ledger
from .models import Charge, Entry, Movement, Payment, Refund
from .models.payments import RefundState
from .providers import PROVIDERS
from .providers.base import MovementOutcome, ProviderError

log = logging.getLogger(__name__)

Kind = ledger.Kind
LOOK_BACK = dt.timedelta(days=9)


def take(now: dt.datetime) -> int:
    """Read the statements of every account that was used lately; how many movements were new."""
    since = now - LOOK_BACK
    used = Payment.objects.filter(created_at__gte=since - LOOK_BACK * 4)
    accounts = {*used.values_list("provider", "provider_account"), *((n, "") for n in PROVIDERS)}
    new = 0
    for name, account in sorted(accounts):
        if not PROVIDERS[name].enabled():
            continue
        try:
            for outcome in PROVIDERS[name].movements(since, account):
                new += book(name, account, outcome)
        except ProviderError as error:
            log.warning("The statement of %s could not be read: %s", name, error)
    recheck()
    return new


def book(provider: str, account: str, outcome: MovementOutcome) -> bool:
    """Keep one movement and post what it adds to the books; False when it was there."""
    if Movement.objects.filter(ref=outcome.ref).exists():
        return False
    payment = None
    if outcome.payment_ref:
        payment = Payment.objects.filter(provider_ref=outcome.payment_ref).first()
    with transaction.atomic():
        row, new = Movement.objects.get_or_create(
            ref=outcome.ref,
            defaults={
                "provider": provider,
                "provider_account": account,
                "kind": str(outcome.kind),
                "at": outcome.at,
                "currency": outcome.currency,
                "amount_minor": outcome.amount_minor,
                "fee_minor": outcome.fee_minor,
                "payment": payment,
            },
        )
        if new:
            _post(row)
            Movement.objects.filter(pk=row.pk).update(problem=problem_of(row))
    return new


def _post(row: Movement) -> None:
    """Fee, dispute, payout: what only the statement tells. The rest was booked when it happened."""
    psp = row.provider
    if row.fee_minor:
        _entry(row, "fee", [(Kind.PSP_FEES, psp, row.fee_minor)], row.fee_minor)
    if row.kind == Movement.Kind.PAYOUT:
        _entry(row, "payout", [(Kind.BANK, psp, -row.amount_minor)], -row.amount_minor)
    elif row.kind == Movement.Kind.DISPUTE:
        owner = customer_of(row.payment)
        account = (Kind.RECEIVABLE, owner) if owner else (Kind.SUSPENSE, psp)
        _entry(row, "dispute", [(*account, -row.amount_minor)], -row.amount_minor)
    elif row.kind == Movement.Kind.OTHER:
        _entry(row, "other", [(Kind.SUSPENSE, psp, -row.amount_minor)], -row.amount_minor)


def _entry(row: Movement, what: str, rows: list[ledger.Row], out_minor: int) -> None:
    """Post `rows` against what leaves the provider's balance."""
    ledger.post(
        f"{what}:{row.ref}",
        f"provider.{what}",
        [*rows, (Kind.PSP_CLEARING, row.provider, -out_minor)],
        row.currency,
        row,
        occurred_at=row.at,
    )


def customer_of(payment: Payment | None) -> str:
    """Whose receivable a payment settles; empty for one that is not ours."""
    charge = None if payment is None else Charge.objects.filter(payment=payment).first()
    return "" if charge is None else ledger.customer_of(charge)


def problem_of(row: Movement) -> str:
    """What does not match our books, in a sentence; empty when all is as booked."""
    if row.kind in (Movement.Kind.PAYOUT, Movement.Kind.DISPUTE) and (
        row.payment_id is not None or row.kind == Movement.Kind.PAYOUT
    ):
        return ""
    if row.kind == Movement.Kind.OTHER:
        return "Neither a payment, a refund, a dispute nor a payout: book it by hand."
    if row.payment is None:
        return "No payment of ours."
    if row.kind == Movement.Kind.CHARGE:
        booked = Entry.objects.filter(idempotency_key=f"capture:{row.payment_id}").first()
        if booked is None:
            return "Collected, but not in our books."
        amount = booked.postings.filter(account__kind=Kind.PSP_CLEARING).first()
        said = 0 if amount is None else amount.amount_minor
        return "" if said == row.amount_minor else f"We booked {said}, they say {row.amount_minor}."
    given = Refund.objects.filter(payment=row.payment, amount_minor=abs(row.amount_minor))
    wanted = [RefundState.SUCCEEDED, RefundState.PENDING, RefundState.FAILED, RefundState.CANCELED]
    return "" if given.filter(state__in=wanted).exists() else "A refund that we do not know."


def recheck() -> int:
    """Look again at what did not match; how many still do not."""
    left = 0
    for row in Movement.objects.exclude(problem="").select_related("payment"):
        problem = problem_of(row)
        left += bool(problem)
        if problem != row.problem:
            Movement.objects.filter(pk=row.pk).update(problem=problem)
    return left


def write_off_lost_disputes() -> int:
    """A lost dispute's money will not come back: off the receivable, once."""
    done = 0
    for payment in Payment.objects.filter(
        state=Payment.State.WRITTEN_OFF, movements__kind=Movement.Kind.DISPUTE
    ).distinct():
        owner = customer_of(payment)
        owed = ledger.balance(kind=Kind.RECEIVABLE, owner=owner).get(payment.currency, 0)
        if owner and owed > 0:
            with transaction.atomic():
                ledger.post(
                    f"write-off:{payment.pk}",
                    "dispute.lost",
                    [(Kind.WRITE_OFF, "disputes", owed), (Kind.RECEIVABLE, owner, -owed)],
                    payment.currency,
                    payment,
                )
                journal.record(
                    "payment.written_off_in_books",
                    payment,
                    station_id=payment.connector.station_id,
                    amount_minor=owed,
                )
            done += 1
    return done
