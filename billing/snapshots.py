"""Snapshots in: what the provider says, applied to our row, move by move.

From the call's own answer, a webhook, the driver's return, reconciliation: all go through `apply`.
"""

from __future__ import annotations

import datetime as dt
import logging
import uuid
from typing import Any

from django.db import IntegrityError, transaction
from django.utils import timezone

from billing import refunds, start
from billing.models import Payment
from billing.models.payments import PaymentState as State
from billing.providers import PROVIDERS
from billing.providers.base import Outcome, Provider, ProviderError, Status
from billing.transitions import COLLECTED, NotAllowed, Stale, alert, move

log = logging.getLogger(__name__)

DECLINES = 3  # then the intent is closed: a new one has to pass the portal's limits
POLL = dt.timedelta(minutes=10)  # a quiet reservation is read again this often

type Step = tuple[State, str, dict[str, Any]]


def apply(payment_id: uuid.UUID, outcome: Outcome, event: str) -> Payment:
    """Bring our row to what the snapshot says, move by move; the only way states follow it.

    Monotone: a snapshot that tells nothing new changes nothing, so it may come late and twice.
    """
    for _attempt in range(12):
        payment = row(payment_id)
        step = _following(payment, outcome)
        if step is None:
            return payment
        target, what, changes = step
        try:
            with transaction.atomic():
                if target == State.AUTHORIZED:
                    changes = {**changes, **start.order(payment)}
                move(payment, target, f"{event}: {what}", **changes)
        except Stale:
            continue
        except IntegrityError:
            # Somebody else has the connector now: this late reservation is given back.
            if outcome.status != Status.HELD:
                return row(payment_id)
            try:
                move(row(payment_id), State.CANCELING, "connector taken meanwhile",
                     next_try_at=timezone.now())  # fmt: skip
            except (Stale, NotAllowed):
                continue
        _after(row(payment_id), outcome)
    return row(payment_id)


def _following(payment: Payment, o: Outcome) -> Step | None:
    """The next move from this state towards this snapshot, or None."""
    unpaid = (State.AUTHORIZING, State.REQUIRES_ACTION)
    state = payment.state
    if o.status == Status.HELD:
        if state in unpaid:
            return State.AUTHORIZED, "held", _held(o)
        if state in (State.CREATED, State.FAILED):
            found = {"provider_ref": o.ref, "last_error_code": ""}
            return State.AUTHORIZING, "paid after all", found
    elif o.status == Status.NEEDS_ACTION:
        if state == State.AUTHORIZING:
            return State.REQUIRES_ACTION, "bank asks", {}
        if state == State.FAILED:
            return State.AUTHORIZING, "tries again", {"last_error_code": ""}
    elif o.status == Status.NEEDS_METHOD:
        again = state == State.FAILED and not _known_decline(payment, o)
        if o.error_code and (state in unpaid or again):
            declined = {"last_error_code": o.error_code[:80], "detail": {"charge": o.charge_ref}}
            return State.FAILED, "declined", declined
    elif o.status == Status.CANCELED:
        return _following_canceled(payment, o)
    elif o.status == Status.PAID:
        return _following_paid(payment, o)
    return None


def _known_decline(payment: Payment, o: Outcome) -> bool:
    return payment.transitions.filter(to_state=State.FAILED, detail__charge=o.charge_ref).exists()


def _held(o: Outcome) -> dict[str, Any]:
    return {
        "capture_before": o.capture_before,
        "last_error_code": "",
        "next_try_at": timezone.now() + POLL,
    }


def _following_canceled(payment: Payment, o: Outcome) -> Step | None:
    why = o.cancel_reason or "canceled"
    done = {"next_try_at": None, "deadline_at": None}
    if payment.state in (State.CAPTURING, State.CAPTURE_FAILED):
        return State.CAPTURE_EXPIRED, why, done
    if payment.state == State.AUTHORIZED and payment.session_id is not None:
        return State.CAPTURE_EXPIRED, why, done
    if may_become(payment, State.CANCELED):
        return State.CANCELED, why, done
    return None


def _following_paid(payment: Payment, o: Outcome) -> Step | None:
    captured = {
        "captured_minor": min(o.captured_minor, payment.hold_minor),
        "last_error_code": "",
        "next_try_at": None,
        "deadline_at": None,
    }
    state = payment.state
    if state in (State.CAPTURING, State.CAPTURE_FAILED, State.CANCELING):
        return State.CAPTURED, "collected", captured
    if state == State.AUTHORIZED:
        return State.CAPTURING, "collected elsewhere", {"due_minor": o.captured_minor}
    if state in COLLECTED:
        target = refunds.state_of(payment)
        if o.dispute == "open" and state != State.DISPUTED:
            return State.DISPUTED, "dispute", {}
        if o.dispute == "won" and state == State.DISPUTED:
            return target, "dispute won", {}
        if o.dispute == "lost" and state == State.DISPUTED:
            return State.WRITTEN_OFF, "dispute lost", {}
    return None


def _after(payment: Payment, o: Outcome) -> None:
    """What a move brings with it, outside the transaction of the move."""
    if payment.state == State.FAILED:
        declines = payment.transitions.filter(to_state=State.FAILED).count()
        if declines >= DECLINES:
            give_up(payment, "declined too often")
    elif payment.state == State.CAPTURE_EXPIRED:
        alert(payment, "capture_expired", due_minor=payment.due_minor)
    elif payment.state == State.DISPUTED:
        alert(payment, "disputed", captured_minor=payment.captured_minor)
    elif payment.state == State.CAPTURED:
        due = payment.due_minor
        if due is None or payment.captured_minor > due or payment.session_id is None:
            alert(payment, "money_without_session", captured_minor=payment.captured_minor)


def give_up(payment: Payment, why: str) -> None:
    try:
        payment = row(payment.pk)
        move(payment, State.CANCELING, why, next_try_at=timezone.now())
    except (Stale, NotAllowed) as error:
        log.info("%s not given up: %s", payment, error)
        return
    start.withdraw(payment)


def stray(payment: Payment, outcome: Outcome) -> None:
    """Money at the provider that belongs to a payment we have closed: say so; release a hold.

    Collected money is never touched by a machine: finance decides.
    """
    alert(payment, "money_without_session", ref=outcome.ref, status=outcome.status)
    if outcome.status == Status.HELD and outcome.ref is not None:
        try:
            provider_of(payment).release(outcome.ref, payment.provider_account)
        except ProviderError as error:
            log.warning("Releasing the stray hold %s failed: %s", outcome.ref, error)


def row(payment_id: uuid.UUID) -> Payment:
    return Payment.objects.select_related(
        "connector__station", "connector__evse", "session"
    ).get(pk=payment_id)  # fmt: skip


def provider_of(payment: Payment) -> Provider:
    return PROVIDERS[payment.provider]


def may_become(payment: Payment, target: State) -> bool:
    return State(payment.state).may_become(target)
