"""Money back: one row for each refund, its amount fixed for ever, and the sums on the payment.

A refund's row is written before the provider is asked, so that a crash repeats the same refund and
never makes a second. Refunds made in the provider's own dashboard become rows too.
"""

from __future__ import annotations

import datetime as dt
import logging

from django.db import transaction
from django.db.models import F
from django.utils import timezone
from django.utils.translation import gettext as _

from billing.models import Invoice, Payment, Refund
from billing.models.payments import PaymentState as State
from billing.models.payments import RefundState
from billing.providers import PROVIDERS
from billing.providers.base import (
    Broken,
    Outcome,
    ProviderError,
    RefundOutcome,
    Refused,
)
from billing.transitions import (
    COLLECTED,
    BadAmount,
    NotAllowed,
    Stale,
    alert,
    move,
    note,
    outside_transaction,
)
from stations import journal
from stations.models import User
from stations.state import try_advance

log = logging.getLogger(__name__)

OPEN = (RefundState.REQUESTED, RefundState.PENDING)
GIVEN = (*OPEN, RefundState.SUCCEEDED)
TRY_AGAIN = dt.timedelta(minutes=5)


def remaining_minor(payment: Payment) -> int:
    """What can still be given back, in minor units."""
    given = payment.refunds.filter(state__in=GIVEN).values_list("amount_minor", flat=True)
    return payment.captured_minor - sum(given)


def request(
    payment: Payment,
    amount_minor: int,
    reason: str,
    by: User | None = None,
    documented_by: Invoice | None = None,
) -> Refund:
    """Give `amount_minor` back for `reason`; the row as it is after the provider was asked.

    `documented_by`: the credit note that says so already; without one it is issued afterwards.
    Raises NotAllowed before money was collected, BadAmount for more than is left.
    """
    outside_transaction()
    if not reason.strip():
        raise NotAllowed(_("Say why the money is given back."))
    for _attempt in range(5):
        try:
            refund = _write(payment, amount_minor, reason, by, documented_by)
        except Stale:
            continue
        return advance(refund, first=True)
    raise NotAllowed(_("The payment is changing right now. Try again."))


def _write(
    payment: Payment, amount_minor: int, reason: str, by: User | None, credit_note: Invoice | None
) -> Refund:
    with transaction.atomic():
        payment = Payment.objects.select_for_update().get(pk=payment.pk)
        if payment.state not in COLLECTED or payment.state == State.DISPUTED:
            raise NotAllowed(_("Only money that was collected can be given back."))
        left = remaining_minor(payment)
        if not 0 < amount_minor <= left:
            raise BadAmount(_("The amount must be more than nothing and at most what is left."))
        refund = Refund.objects.create(
            payment=payment,
            amount_minor=amount_minor,
            reason=reason[:200],
            requested_by=by,
            credit_note=credit_note,
            next_try_at=timezone.now(),
        )
        detail = {"refund": str(refund.pk), "amount_minor": amount_minor, "reason": reason[:200]}
        move(payment, State.REFUNDING, "refund requested", detail=detail)
        journal.record(
            "refund.requested",
            refund,
            station_id=payment.connector.station_id,
            payment=str(payment.pk),
            amount_minor=amount_minor,
        )
    return refund


def advance(refund: Refund, *, first: bool = False) -> Refund:
    """Ask the provider, or look what came of asking, and apply what it says.

    After the `first` time the provider's list is read before the same key is sent again: a key is
    forgotten after a day, and a forgotten key would pay back twice.
    """
    outside_transaction()
    refund = Refund.objects.select_related("payment__connector").get(pk=refund.pk)
    if refund.state not in OPEN:
        return refund
    provider = PROVIDERS[refund.payment.provider]
    try:
        known = None if first else _known(refund)
        if known is not None:
            apply(refund, known)
        elif refund.state == RefundState.REQUESTED:
            apply(refund, provider.refund(refund))
    except (Broken, Refused) as error:
        _read_after(refund, error)
    except ProviderError as error:
        _later(refund, error)
    refund.refresh_from_db()
    return refund


def _read_after(refund: Refund, error: ProviderError) -> None:
    """Refused or failed: if the provider has it after all, fine; else a new round or the end."""
    try:
        known = _known(refund)
    except ProviderError as unread:
        _later(refund, unread)
        return
    if known is not None:
        apply(refund, known)
    elif isinstance(error, Broken):
        # A read proved that it was not made: from now on the key carries the row's version.
        Refund.objects.filter(pk=refund.pk, version=refund.version).update(
            version=F("version") + 1,
            last_error_code=error.code[:80],
            next_try_at=timezone.now(),
        )
    else:
        _set(refund, RefundState.FAILED, error.code)
        settle(refund.payment)


def _known(refund: Refund) -> RefundOutcome | None:
    """The refund as the provider has it, or None. Raises ProviderError."""
    for one in PROVIDERS[refund.payment.provider].refunds(refund.payment):
        if one.refund_id == str(refund.pk) or one.ref == refund.provider_ref:
            return one
    return None


def _later(refund: Refund, error: ProviderError) -> None:
    Refund.objects.filter(pk=refund.pk).update(
        last_error_code=error.code[:80], next_try_at=timezone.now() + TRY_AGAIN
    )


def apply(refund: Refund, outcome: RefundOutcome) -> None:
    """Bring the row to what the provider says; monotone, so late and twice is fine."""
    Refund.objects.filter(pk=refund.pk, provider_ref__isnull=True).update(provider_ref=outcome.ref)
    _set(refund, outcome.state, outcome.error_code)
    settle(refund.payment)


def _set(refund: Refund, target: RefundState, code: str) -> None:
    """Move a refund's row; news only when it moved."""
    again = timezone.now() + TRY_AGAIN if target == RefundState.PENDING else None
    with transaction.atomic():
        moved = try_advance(
            Refund.objects.filter(pk=refund.pk),
            target,
            last_error_code=code[:80],
            next_try_at=again,
        )
        if moved:
            journal.record(
                f"refund.{target}",
                refund,
                station_id=refund.payment.connector.station_id,
                payment=str(refund.payment_id),
                amount_minor=refund.amount_minor,
                code=code,
            )
    if moved and target == RefundState.FAILED:
        alert(refund.payment, f"refund_failed:{str(refund.pk)[:8]}", code_at_provider=code)


def state_of(payment: Payment) -> State:
    """The state that follows from the payment's refunds."""
    states = list(payment.refunds.values_list("state", "amount_minor"))
    back = sum(amount for state, amount in states if state == RefundState.SUCCEEDED)
    if any(state in OPEN for state, _amount in states):
        return State.REFUNDING
    if back == 0:
        return State.CAPTURED
    return State.REFUNDED if back >= payment.captured_minor else State.PARTIALLY_REFUNDED


def settle(payment: Payment) -> None:
    """Set the payment's sum and state from its refunds."""
    for _attempt in range(5):
        payment = Payment.objects.select_related("connector").get(pk=payment.pk)
        if payment.state not in COLLECTED:
            return
        back = sum(
            payment.refunds.filter(state=RefundState.SUCCEEDED).values_list(
                "amount_minor", flat=True
            )
        )
        target = State.DISPUTED if payment.state == State.DISPUTED else state_of(payment)
        if (target, back) == (payment.state, payment.refunded_minor):
            return
        try:
            if target == payment.state:
                note(payment, "refunds settled", refunded_minor=back)
            else:
                move(payment, target, "refunds settled", refunded_minor=back)
        except Stale:
            continue
        return


def differ(payment: Payment, outcome: Outcome) -> bool:
    """Whether the provider knows of refunds that we don't, or of other ends."""
    if payment.refunds.filter(state__in=OPEN).exists():
        return True
    return outcome.refunded_minor != payment.refunded_minor


def sync(payment: Payment) -> None:
    """Read every refund of a payment and bring our rows in line; unknown ones become rows."""
    outside_transaction()
    try:
        known = PROVIDERS[payment.provider].refunds(payment)
    except ProviderError as error:
        log.warning("Reading the refunds of %s failed: %s", payment, error)
        return
    for outcome in known:
        apply(_row_of(payment, outcome), outcome)


def _row_of(payment: Payment, outcome: RefundOutcome) -> Refund:
    rows = Refund.objects.select_related("payment__connector").filter(payment=payment)
    row = rows.filter(provider_ref=outcome.ref).first()
    if row is None and outcome.refund_id:
        row = rows.filter(pk=outcome.refund_id).first()
    if row is not None:
        return row
    with transaction.atomic():
        row, created = Refund.objects.select_related("payment__connector").get_or_create(
            provider_ref=outcome.ref,
            defaults={
                "payment": payment,
                "amount_minor": outcome.amount_minor,
                "reason": "Made at the provider",
            },
        )
        if created:
            journal.record(
                "refund.requested",
                row,
                station_id=payment.connector.station_id,
                payment=str(payment.pk),
                amount_minor=outcome.amount_minor,
                elsewhere=True,
            )
    return row
