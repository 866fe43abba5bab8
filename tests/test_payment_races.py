"""Once means once: two connections at the same moment."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection

from billing import payments, refunds
from billing.models import Payment, Refund
from billing.sandbox import control
from billing.sandbox.engine import Sandbox
from billing.transitions import Busy
from tests import paying

pytestmark = pytest.mark.django_db(transaction=True)
State = Payment.State


def at_once(*jobs: Callable[[], Any]) -> list[Any]:
    """Run the jobs in threads with connections of their own, started together."""
    gate = threading.Barrier(len(jobs))
    results: list[Any] = [None] * len(jobs)

    def run(n: int, job: Callable[[], Any]) -> None:
        try:
            gate.wait(10)
            results[n] = job()
        except Exception as error:  # noqa: BLE001  the test looks at it
            results[n] = error
        finally:
            connection.close()

    threads = [threading.Thread(target=run, args=(n, job)) for n, job in enumerate(jobs)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return results


def test_of_two_drivers_who_pay_for_one_connector_one_wins(box: Sandbox) -> None:
    for _ in range(5):
        connector = paying.connector()
        results = at_once(*[lambda at=connector: paying.begin(at)] * 2)
        won = [r for r in results if isinstance(r, payments.Begun)]
        assert len(won) == 1, results
        assert [type(r) for r in results if r not in won] == [Busy]
    assert len(paying.calls(box, "payment_intents.create")) == 5


def test_webhook_and_return_page_together_start_once(box: Sandbox) -> None:
    begun = paying.begin()
    control.pay(box, paying.intent_of(begun.payment))
    results = at_once(*[lambda: payments.returned(begun.payment)] * 4)
    assert {r.state for r in results} == {State.AUTHORIZED}
    assert begun.payment.connector.station.commands.filter(name="remote_start").count() == 1
    assert begun.payment.transitions.filter(to_state=State.AUTHORIZED).count() == 1


def test_capturing_from_two_workers_collects_once(box: Sandbox) -> None:
    payment = paying.held(box)
    paying.session_of(payment)
    at_once(*[lambda: payments.capture(payment, 1234)] * 3)
    payment.refresh_from_db()
    assert (payment.state, payment.captured_minor) == (State.CAPTURED, 1234)
    assert len(paying.calls(box, "payment_intents.capture")) == 1


def test_a_session_and_a_cancellation_at_once_end_in_one_of_the_two(box: Sandbox) -> None:
    for _ in range(4):
        payment = paying.held(box)
        at_once(lambda p=payment: paying.session_of(p), lambda p=payment: payments.cancel(p))
        payment.refresh_from_db()
        if payment.session_id is None:
            assert payment.state == State.CANCELED
            assert paying.intent(box, payment)["status"] == "canceled"
        else:
            assert payment.state == State.AUTHORIZED
            assert paying.intent(box, payment)["status"] == "requires_capture"


def test_two_refunds_at_once_never_exceed_what_was_collected(box: Sandbox) -> None:
    payment = paying.held(box)
    paying.session_of(payment)
    payments.capture(payment, 1000)
    results = at_once(*[lambda: refunds.request(payment, 700, "twice")] * 2)
    assert sorted(type(r).__name__ for r in results) == ["BadAmount", "Refund"], results
    assert Refund.objects.count() == 1
    assert sum(r["amount"] for r in box.store.all("refund")) == 700
