"""The hourly comparison with the provider's list, and what is thrown away at night."""

import datetime as dt
from typing import Any

import pytest
from django.utils import timezone

from billing import payments, reconciliation, start, tasks
from billing.models import Payment
from billing.models.payments import PaymentState as State
from billing.sandbox import control
from billing.sandbox.engine import Sandbox
from config.celery import app
from monitoring.models import Session
from stations.models import Token
from tests import make, paying

pytestmark = pytest.mark.django_db(transaction=True)


def asked(box: Sandbox) -> dict[str, int]:
    """How often each call was made."""
    counts: dict[str, int] = {}
    for call in box.store.calls():
        counts[call["operation"]] = counts.get(call["operation"], 0) + 1
    return counts


def test_the_sweep_applies_the_list_and_reads_no_payment_singly(box: Sandbox) -> None:
    waiting = [paying.begin().payment for _ in range(3)]
    for payment in waiting:
        control.pay(box, paying.intent_of(payment))
    before = asked(box)
    reconciliation.sweep()
    after = asked(box)
    new = {name: n - before.get(name, 0) for name, n in after.items() if n != before.get(name, 0)}
    assert set(Payment.objects.values_list("state", flat=True)) == {State.AUTHORIZED}
    assert new == {"payment_intents.list": 1, "events.list": 1}


def test_what_the_list_does_not_name_is_read(box: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    payment = paying.begin().payment
    control.pay(box, paying.intent_of(payment))
    monkeypatch.setattr("billing.providers.stripe.Stripe.recent", lambda *args: [])
    reconciliation.sweep()
    payment.refresh_from_db()
    assert payment.state == State.AUTHORIZED


def test_one_payment_that_breaks_does_not_hide_the_others(
    box: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = paying.begin().payment, paying.begin().payment
    for payment in (first, second):
        control.pay(box, paying.intent_of(payment))
    honest = reconciliation.steps.take

    def breaking(pk: Any, *args: Any) -> Payment:
        if pk == second.pk:
            raise RuntimeError("a broken row")
        return honest(pk, *args)

    monkeypatch.setattr(reconciliation.steps, "take", breaking)
    reconciliation.sweep()
    first.refresh_from_db()
    assert first.state == State.AUTHORIZED


# --- one-time tokens ------------------------------------------------------------------------------


def test_a_payments_token_goes_a_month_after_it_expired(box: Sandbox) -> None:
    payment = paying.held(box)
    session = paying.session_of(payment, state=Session.State.CLOSED)
    token = Token.objects.get(uid=start.token_uid(payment.pk))
    Session.objects.filter(pk=session.pk).update(token=token)
    card = make.token(expires_at=timezone.now() - dt.timedelta(days=90))
    assert token.expires_at is not None
    soon = token.expires_at + dt.timedelta(days=29)
    late = token.expires_at + dt.timedelta(days=31)
    assert start.prune_tokens(late) == 0  # money is still reserved on it
    payments.capture(Payment.objects.get(), 1000)
    assert start.prune_tokens(soon) == 0
    assert start.prune_tokens(late) == 1
    assert list(Token.objects.all()) == [card]
    session.refresh_from_db()
    assert (session.token, session.token_uid) == (None, start.token_uid(payment.pk))


def test_the_token_of_a_session_that_still_runs_is_kept(box: Sandbox) -> None:
    payment = paying.held(box)
    session = paying.session_of(payment)
    token = Token.objects.get(uid=start.token_uid(payment.pk))
    Session.objects.filter(pk=session.pk).update(token=token)
    Payment.objects.update(state=State.CANCELED)
    late = timezone.now() + dt.timedelta(days=60)
    assert start.prune_tokens(late) == 0
    Session.objects.update(state=Session.State.CLOSED)
    assert start.prune_tokens(late) == 1


def test_tokens_are_pruned_every_night() -> None:
    schedule = {entry["task"] for entry in app.conf.beat_schedule.values()}
    assert tasks.prune_tokens.name in schedule
