"""The next step of each state: the call it intends, its retries, its deadlines.

`advance` does what is due, whoever asks and however often: after a move, on reconciliation, after
a crash. Every call carries a key made of the row, so that doing it again does nothing twice.
"""

from __future__ import annotations

import datetime as dt
import logging
import uuid
from collections.abc import Callable

from django.utils import timezone

from billing import refunds, start
from billing.models import Payment
from billing.models.payments import PaymentState as State
from billing.providers.base import (
    Broken,
    Declined,
    Locked,
    Missing,
    Outcome,
    ProviderError,
    Refused,
    Status,
    Unreachable,
)
from billing.snapshots import DECLINES, apply, provider_of, row, stray
from billing.transitions import COLLECTED, FINAL, Stale, alert, move, note, outside_transaction
from monitoring.models import Session

log = logging.getLogger(__name__)

BACKOFF_S = (60, 300, 1800, 7200, 3600)  # pauses between retries; the last one repeats
LAST_CAPTURE = dt.timedelta(hours=1)  # before the hold expires


def refresh(payment_id: uuid.UUID, event: str) -> Payment:
    """Read the payment at its provider, apply what is read, and do what is next."""
    payment = row(payment_id)
    if payment.provider_ref is not None:
        outside_transaction()
        try:
            outcome = provider_of(payment).read(payment)
        except Missing:
            alert(payment, "unknown_at_provider", ref=payment.provider_ref)
            return payment
        except ProviderError as error:
            log.warning("Reading %s failed: %s", payment, error)
            return payment
        return take(payment_id, outcome, event)
    return advance(payment_id)


def take(payment_id: uuid.UUID, outcome: Outcome, event: str) -> Payment:
    """Apply a fresh snapshot, also one out of a list, and do what is next."""
    payment = apply(payment_id, outcome, event)
    if payment.state in COLLECTED and refunds.differ(payment, outcome):
        refunds.sync(payment)
    if payment.state in FINAL and outcome.status in (Status.HELD, Status.PAID):
        stray(payment, outcome)
    return advance(payment_id)


def advance(payment_id: uuid.UUID) -> Payment:
    """Do what the payment's state asks for, until it has to wait. Safe to run twice at once."""
    for _attempt in range(8):
        payment = row(payment_id)
        step = STEPS.get(payment.state)
        if step is None:
            return payment
        outside_transaction()
        try:
            if not step(payment):
                return row(payment_id)
        except Stale:
            continue
    return row(payment_id)


def keep_ref(payment: Payment, outcome: Outcome) -> None:
    """Remember the provider's reference whatever became of the state meanwhile."""
    if outcome.ref is not None:
        Payment.objects.filter(pk=payment.pk, provider_ref__isnull=True).update(
            provider_ref=outcome.ref
        )


def _step_unpaid(payment: Payment) -> bool:
    """created, authorizing, requires_action, failed: the driver's turn, until the deadline."""
    if payment.provider == "account" and payment.state == State.AUTHORIZING:
        return (
            apply(payment.pk, provider_of(payment).read(payment), "account").state != payment.state
        )
    late = payment.deadline_at is not None and payment.deadline_at <= timezone.now()
    nothing_there = payment.provider_ref is None and payment.state != State.CREATED
    declined_out = (
        payment.state == State.FAILED
        and payment.transitions.filter(to_state=State.FAILED).count() >= DECLINES
    )
    if not late and not declined_out:
        return False
    if payment.state == State.CREATED:
        move(payment, State.CANCELED, "never asked for", next_try_at=None, deadline_at=None)
        return True
    move(
        payment, State.CANCELING, "not paid in time" if late else "declined too often",
        detail={"no_reference": nothing_there}, next_try_at=timezone.now(),
    )  # fmt: skip
    return True


def _step_authorized(payment: Payment) -> bool:
    """Held: the session must begin before the deadline."""
    if payment.session_id is not None:
        _watch_expiry(payment)
        return False
    if payment.deadline_at is None or payment.deadline_at > timezone.now():
        return False
    move(payment, State.CANCELING, "no session before the deadline", next_try_at=timezone.now())
    start.withdraw(payment)
    return True


def _watch_expiry(payment: Payment) -> None:
    """A day before the hold expires the session has to end, so that it can be collected."""
    if payment.capture_before is None or payment.session is None:
        return
    if payment.capture_before - dt.timedelta(hours=24) <= timezone.now():
        alert(payment, "hold_expires", capture_before=payment.capture_before.isoformat())
        if payment.session.state == Session.State.ACTIVE:
            start.stop(payment, payment.session, "the reservation expires")


def _step_canceling(payment: Payment) -> bool:
    provider = provider_of(payment)
    if payment.provider_ref is None and payment.provider != "account":
        try:
            found = provider.find(payment)
        except ProviderError as error:
            return _retry(payment, error)
        if found is None:
            move(payment, State.CANCELED, "nothing was made", next_try_at=None, deadline_at=None)
            return True
        keep_ref(payment, found)
        payment = row(payment.pk)
    return _call(payment, "cancel", lambda: provider.cancel(payment))


def _step_capturing(payment: Payment) -> bool:
    amount = min(payment.due_minor or 0, payment.hold_minor)
    return _call(payment, "capture", lambda: provider_of(payment).capture(payment, amount))


def _step_capture_failed(payment: Payment) -> bool:
    now = timezone.now()
    if payment.next_try_at is None or payment.next_try_at > now:
        return False
    if payment.capture_before and payment.capture_before - LAST_CAPTURE <= now:
        note(payment, "too late to try again", next_try_at=payment.capture_before)
        return False
    # A read proved that it is still held, or we would not be in this state: a new round.
    move(payment, State.CAPTURING, "tries again", round=payment.round + 1, next_try_at=now)
    return True


def _call(payment: Payment, name: str, call: Callable[[], Outcome]) -> bool:
    """Make the call the state asks for; whether anything moved."""
    if payment.next_try_at is not None and payment.next_try_at > timezone.now():
        return False
    before = payment.state
    try:
        outcome = call()
    except Unreachable as error:
        return _retry(payment, error)
    except Locked as error:
        alert(payment, "key_refused", code_at_provider=error.code)
        return _retry(payment, error)
    except (Broken, Refused, Declined) as error:
        return _read_after(payment, name, error)
    return apply(payment.pk, outcome, name).state != before


def _read_after(payment: Payment, name: str, error: ProviderError) -> bool:
    """The provider failed or refused: what it says now decides; still held means a new round."""
    try:
        outcome = provider_of(payment).read(payment)
    except ProviderError as unread:
        return _retry(payment, unread)
    if apply(payment.pk, outcome, f"{name} refused, read").state != payment.state:
        return True
    if isinstance(error, Broken):
        tries = _tries(payment)
        note(
            payment, f"new round: {error.code}", round=payment.round + 1,
            next_try_at=timezone.now() + _pause(tries) if tries else timezone.now(),
        )  # fmt: skip
        return tries == 0
    if payment.state == State.CAPTURING and error.code == "amount_too_small":
        move(payment, State.CANCELING, "below the provider's minimum", next_try_at=timezone.now())
        return True
    if payment.state == State.CAPTURING:
        move(
            payment, State.CAPTURE_FAILED, f"refused: {error.code}",
            last_error_code=error.code[:80], next_try_at=timezone.now() + _pause(_tries(payment)),
        )  # fmt: skip
        alert(payment, "capture_refused", code_at_provider=error.code)
        return False
    if isinstance(error, Missing):
        alert(payment, "unknown_at_provider", ref=payment.provider_ref)
    return _retry(payment, error)


def _retry(payment: Payment, error: ProviderError) -> bool:
    """Try again later, with the same key: the call may have been carried out."""
    tries = _tries(payment)
    note(
        payment, f"retry: {error.code}", last_error_code=error.code[:80],
        next_try_at=timezone.now() + _pause(tries),
    )  # fmt: skip
    if tries >= 3:
        alert(payment, f"{payment.state}_stuck", code_at_provider=error.code)
    return False


def _tries(payment: Payment) -> int:
    return payment.transitions.filter(
        from_state=payment.state, to_state=payment.state
    ).exclude(event__startswith="alert:").count()  # fmt: skip


def _pause(tries: int) -> dt.timedelta:
    return dt.timedelta(seconds=BACKOFF_S[min(tries, len(BACKOFF_S) - 1)])


STEPS: dict[str, Callable[[Payment], bool]] = {
    State.CREATED: _step_unpaid,
    State.AUTHORIZING: _step_unpaid,
    State.REQUIRES_ACTION: _step_unpaid,
    State.FAILED: _step_unpaid,
    State.AUTHORIZED: _step_authorized,
    State.CANCELING: _step_canceling,
    State.CAPTURING: _step_capturing,
    State.CAPTURE_FAILED: _step_capture_failed,
}
