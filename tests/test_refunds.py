"""Money back: never twice, never more than was collected, and known when it fails."""

from __future__ import annotations

import datetime as dt

import pytest
from django.utils import timezone

from billing import payments, reconciliation, refunds
from billing.models import Payment, Refund
from billing.models.payments import RefundState
from billing.sandbox import control
from billing.sandbox.engine import Sandbox
from billing.transitions import BadAmount, NotAllowed
from stations.models import Entry
from tests import make, paying

pytestmark = pytest.mark.django_db
State = Payment.State


def collected(box: Sandbox, amount: int = 2000, card: str = "pm_card_visa") -> Payment:
    """A payment of which `amount` was collected."""
    begun = paying.begin()
    control.pay(box, paying.intent_of(begun.payment), card)
    payment = payments.returned(begun.payment)
    paying.session_of(payment)
    return payments.capture(payment, amount)


def test_part_of_the_money_is_given_back_and_then_the_rest(box: Sandbox) -> None:
    payment = collected(box)
    staff = make.staff()
    first = refunds.request(payment, 500, "Charger broke off", staff)
    payment.refresh_from_db()
    assert (first.state, first.requested_by) == (RefundState.SUCCEEDED, staff)
    assert (payment.state, payment.refunded_minor) == (State.PARTIALLY_REFUNDED, 500)
    assert refunds.remaining_minor(payment) == 1500
    refunds.request(payment, 1500, "Goodwill")
    payment.refresh_from_db()
    assert (payment.state, payment.refunded_minor) == (State.REFUNDED, 2000)
    assert sum(r["amount"] for r in box.store.all("refund")) == 2000
    assert Entry.objects.filter(kind="refund.succeeded").count() == 2


@pytest.mark.parametrize("amount", [0, -1, 2001])
def test_nothing_or_more_than_is_left_is_refused(box: Sandbox, amount: int) -> None:
    payment = collected(box)
    with pytest.raises(BadAmount):
        refunds.request(payment, amount, "no")
    assert Refund.objects.count() == 0


def test_a_refund_needs_collected_money_and_a_reason(box: Sandbox) -> None:
    with pytest.raises(NotAllowed, match="collected"):
        refunds.request(paying.held(box), 100, "too early")
    with pytest.raises(NotAllowed, match="why"):
        refunds.request(collected(box), 100, "  ")


@pytest.mark.parametrize(
    "fault", ["lose_request", "lose_reply", "rate_limit", "error_500", "error_500_after"]
)
def test_a_refund_that_failed_on_the_way_is_made_exactly_once(box: Sandbox, fault: str) -> None:
    payment = collected(box)
    control.fault(box, "refunds.create", fault)
    refunds.request(payment, 500, "fault")
    for _ in range(2):
        Refund.objects.filter(next_try_at__isnull=False).update(
            next_try_at=timezone.now() - dt.timedelta(seconds=1)
        )
        reconciliation.tick()
    payment.refresh_from_db()
    assert (payment.state, payment.refunded_minor) == (State.PARTIALLY_REFUNDED, 500)
    assert [r["amount"] for r in box.store.all("refund")] == [500]


def test_a_refund_whose_key_was_forgotten_is_not_made_again(box: Sandbox) -> None:
    payment = collected(box)
    control.fault(box, "refunds.create", "lose_reply")
    refund = refunds.request(payment, 500, "a long night")
    assert refund.state == RefundState.REQUESTED
    control.advance(box, 2 * 86400)
    refund = refunds.advance(refund)
    assert refund.state == RefundState.SUCCEEDED
    assert [r["amount"] for r in box.store.all("refund")] == [500]


def test_a_refund_that_fails_later_reopens_and_is_told(box: Sandbox) -> None:
    payment = collected(box, card="pm_card_refundFail")
    refund = refunds.request(payment, 2000, "all of it")
    payment.refresh_from_db()
    assert payment.state == State.REFUNDED
    control.advance(box, 10)
    paying.deliver(box)
    payment.refresh_from_db()
    refund.refresh_from_db()
    assert (refund.state, refund.last_error_code) == (RefundState.FAILED, "lost_or_stolen_card")
    assert (payment.state, payment.refunded_minor) == (State.CAPTURED, 0)
    assert Entry.objects.get(kind="payment.alerted").data["code"].startswith("refund_failed")
    refunds.request(payment, 2000, "another way")
    payment.refresh_from_db()
    assert payment.state in (State.REFUNDED, State.REFUNDING)


def test_a_slow_refund_waits_and_arrives(box: Sandbox) -> None:
    payment = collected(box, card="pm_card_pendingRefund")
    refund = refunds.request(payment, 700, "slow bank")
    payment.refresh_from_db()
    assert (refund.state, payment.state) == (RefundState.PENDING, State.REFUNDING)
    assert payment.refunded_minor == 0
    control.advance(box, 10)
    paying.deliver(box)
    payment.refresh_from_db()
    assert (payment.state, payment.refunded_minor) == (State.PARTIALLY_REFUNDED, 700)


def test_a_refund_made_in_the_dashboard_becomes_a_row(box: Sandbox) -> None:
    payment = collected(box)
    control.refund_in_dashboard(box, paying.intent_of(payment), 300)
    paying.deliver(box)
    payment.refresh_from_db()
    refund = Refund.objects.get()
    assert (refund.amount_minor, refund.state) == (300, RefundState.SUCCEEDED)
    assert (payment.state, payment.refunded_minor) == (State.PARTIALLY_REFUNDED, 300)


def test_a_refund_the_dashboard_left_nothing_for_fails_and_is_told(box: Sandbox) -> None:
    payment = collected(box)
    control.refund_in_dashboard(box, paying.intent_of(payment))
    refund = refunds.request(payment, 500, "we did not know")
    refunds.sync(payment)
    payment.refresh_from_db()
    assert (refund.state, refund.last_error_code) == (
        RefundState.FAILED, "charge_already_refunded",
    )  # fmt: skip
    assert (payment.state, payment.refunded_minor) == (State.REFUNDED, 2000)


def test_disputes_are_seen_and_their_end_too(box: Sandbox) -> None:
    payment = collected(box)
    dispute = control.dispute(box, paying.intent_of(payment))
    paying.deliver(box)
    payment.refresh_from_db()
    assert payment.state == State.DISPUTED
    with pytest.raises(NotAllowed):
        refunds.request(payment, 100, "while disputed")
    control.close_dispute(box, dispute["id"], won=True)
    paying.deliver(box)
    payment.refresh_from_db()
    assert payment.state == State.CAPTURED
    second = control.dispute(box, paying.intent_of(payment))
    paying.deliver(box)
    control.close_dispute(box, second["id"], won=False)
    paying.deliver(box)
    payment.refresh_from_db()
    assert payment.state == State.WRITTEN_OFF
