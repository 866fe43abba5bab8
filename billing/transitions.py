"""How a payment's state changes: one function, by compare-and-set, with its trace.

PaymentError                 a sentence for whoever asked
├── Busy                     somebody else has paid, or is paying, for this connector
├── NotReady                 the station is offline, out of service, or charging
├── PaymentsOff              no provider is set up
├── ProviderDown             the provider does not answer
├── BadAmount                too little, too much, or more than is left
└── NotAllowed               the payment's state does not allow it
Stale                        somebody moved the row first: read it again
"""

from __future__ import annotations

from typing import Any

from django.db import connection, transaction
from django.db.models import F
from django.utils import timezone

from billing import alarms
from billing.models import Payment, PaymentTransition
from billing.models.payments import PaymentState as State
from stations import journal, live

# From here on there is, or may be, money of the driver's that we hold or have.
FINAL = (State.CANCELED, State.WRITTEN_OFF)
COLLECTED = (
    State.CAPTURED, State.REFUNDING, State.PARTIALLY_REFUNDED, State.REFUNDED, State.DISPUTED,
)  # fmt: skip


class PaymentError(Exception):
    """Base of what can go wrong with a payment; the text is for people."""


class Busy(PaymentError):
    """The connector is taken."""


class NotReady(PaymentError):
    """The station cannot start a session now."""


class PaymentsOff(PaymentError):
    """No payment provider is configured."""


class ProviderDown(PaymentError):
    """The payment provider does not answer."""


class BadAmount(PaymentError):
    """The amount cannot be reserved or paid back."""


class NotAllowed(PaymentError):
    """The payment's state does not allow this."""


class Stale(Exception):
    """The row was moved by somebody else since it was read."""


def move(
    payment: Payment,
    target: str,
    event: str,
    *,
    detail: dict[str, Any] | None = None,
    **changes: Any,
) -> None:
    """Move `payment`, as it was read, to `target` and set `changes`; all or nothing.

    Writes the transition and the news `payment.<target>` in the same transaction. Raises
    NotAllowed for a move outside the table, Stale when the row has changed meanwhile, and
    IntegrityError when the move would give a connector to two payments.
    """
    if target != payment.state and not State(payment.state).may_become(State(target)):
        raise NotAllowed(f"A payment that is {payment.state} cannot become {target}.")
    before = payment.state
    with transaction.atomic():
        changed = Payment.objects.filter(
            pk=payment.pk, state=before, version=payment.version
        ).update(state=target, version=F("version") + 1, updated_at=timezone.now(), **changes)
        if not changed:
            raise Stale(f"{payment} is no longer {before}")
        PaymentTransition.objects.create(
            payment=payment,
            from_state=before,
            to_state=target,
            event=event[:80],
            detail=detail or {},
        )
        if target != before:
            journal.record(
                f"payment.{target}",
                payment,
                station_id=payment.connector.station_id,
                event=event,
                **(detail or {}),
            )
            alarms.heal(payment, target)
        touch(payment)
    payment.refresh_from_db()


def note(
    payment: Payment, event: str, *, detail: dict[str, Any] | None = None, **changes: Any
) -> None:
    """Set `changes` and leave a trace without a change of state. Raises Stale."""
    move(payment, payment.state, event, detail=detail, **changes)


def alert(payment: Payment, code: str, **data: Any) -> None:
    """Tell people that this payment needs them, once for each code: news and an incident."""
    with transaction.atomic():
        if payment.transitions.filter(event=f"alert:{code}").exists():
            return
        PaymentTransition.objects.create(
            payment=payment,
            from_state=payment.state,
            to_state=payment.state,
            event=f"alert:{code}",
            detail=data,
        )
        journal.record(
            "payment.alerted",
            payment,
            station_id=payment.connector.station_id,
            code=code,
            **data,
        )
        alarms.sound(payment, code, data)
        touch(payment)


def touch(payment: Payment) -> None:
    """Tell the pages that show this payment or its connector."""
    topics = [f"payment-{payment.pk}", f"connector-{payment.connector_id}"]
    if payment.session_id:
        topics.append(f"session-{payment.session_id}")
    live.touch(*topics)


def outside_transaction() -> None:
    """Raise RuntimeError inside a database transaction: no provider is called from there."""
    blocks = getattr(connection, "atomic_blocks", [])
    if any(not getattr(block, "_from_testcase", False) for block in blocks):
        raise RuntimeError("A payment provider must not be called inside a transaction.")
