"""The door for Stripe's events: signed, once each, believed only as hints."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
import stripe
from django.core.cache import cache
from django.test import Client

from billing import payments, reconciliation, webhooks
from billing.models import Payment, ProviderEvent
from billing.providers.stripe import required
from billing.sandbox import control
from billing.sandbox.engine import Sandbox
from monitoring.models import Incident
from stations import journal
from stations.models import Entry
from tests import paying

pytestmark = pytest.mark.django_db
State = Payment.State


def event(**changes: Any) -> dict[str, Any]:
    """An event's body."""
    return {
        "id": "evt_1", "object": "event", "type": "payment_intent.succeeded", "livemode": False,
        "created": int(time.time()),
        "data": {"object": {"id": "pi_1", "object": "payment_intent", "client_secret": "x"}},
    } | changes  # fmt: skip


def post(client: Client, body: Any, *, secret: str = "", at: int | None = None) -> int:
    """Send a body, signed with `secret` (default: the right one)."""
    text = body if isinstance(body, str) else json.dumps(body)
    signature = stripe.WebhookSignature.generate_signature_header(
        text, secret or required().webhook_secrets[0], at
    )
    return client.post(
        "/webhooks/stripe/", data=text, content_type="application/json",
        headers={"Stripe-Signature": signature},
    ).status_code  # fmt: skip


def test_a_signed_event_is_kept_once_without_secrets(box: Sandbox, client: Client) -> None:
    assert post(client, event()) == 204
    assert post(client, event()) == 204
    row = ProviderEvent.objects.get()
    assert "client_secret" not in row.payload
    assert Entry.objects.filter(kind="payment.event_received").count() == 1


@pytest.mark.parametrize("change", ["secret", "old", "future", "body", "none"])
def test_what_is_not_stripes_is_answered_with_400(
    box: Sandbox, client: Client, change: str
) -> None:
    now = int(time.time())
    if change == "secret":
        assert post(client, event(), secret="whsec_wrong") == 400
    elif change == "old":
        assert post(client, event(), at=now - 301) == 400
    elif change == "future":
        assert post(client, event(), at=now + 3600) == 400
    elif change == "body":
        assert post(client, "no json") == 400
    else:
        answer = client.post("/webhooks/stripe/", data=b"{}", content_type="application/json")
        assert answer.status_code == 400
    assert ProviderEvent.objects.count() == 0


def test_the_fifth_wrong_signature_is_an_incident(box: Sandbox, client: Client) -> None:
    cache.clear()
    for n in range(6):
        assert Incident.objects.count() == (1 if n >= 5 else 0)
        post(client, event(), secret="whsec_old")
    assert "secret changed" in Incident.objects.get().summary
    cache.clear()


def test_an_event_of_the_other_mode_is_refused(box: Sandbox, client: Client) -> None:
    assert post(client, event(livemode=True)) == 400


def test_two_secrets_work_while_they_are_rotated(client: Client, settings: Any) -> None:
    settings.STRIPE_API_KEY, settings.STRIPE_API_BASE = "sk_test_x", ""
    settings.STRIPE_PUBLISHABLE_KEY = "pk_test_x"
    settings.STRIPE_WEBHOOK_SECRET = "whsec_old, whsec_new"
    assert post(client, event(id="evt_a"), secret="whsec_old") == 204
    assert post(client, event(id="evt_b"), secret="whsec_new") == 204


def test_events_that_say_nothing_of_payments_are_not_kept(box: Sandbox, client: Client) -> None:
    assert post(client, event(type="product.created")) == 204
    assert ProviderEvent.objects.count() == 0


def test_without_a_provider_nothing_is_taken(client: Client, settings: Any) -> None:
    settings.STRIPE_API_KEY, settings.PAYMENT_SANDBOX = "", False
    answer = client.post("/webhooks/stripe/", data=b"{}", content_type="application/json")
    assert answer.status_code == 400


def test_a_webhook_alone_brings_the_payment_on(box: Sandbox) -> None:
    begun = paying.begin()
    control.pay(box, paying.intent_of(begun.payment))
    assert paying.deliver(box) == 3
    begun.payment.refresh_from_db()
    assert begun.payment.state == State.AUTHORIZED
    assert ProviderEvent.objects.filter(applied_at__isnull=True).count() == 0


def test_the_body_of_an_event_is_not_believed(box: Sandbox, client: Client) -> None:
    payment = paying.begin().payment
    body = {"id": paying.intent_of(payment), "object": "payment_intent", "status": "succeeded"}
    assert post(client, event(data={"object": body})) == 204
    journal.catch_up()
    payment.refresh_from_db()
    assert payment.state == State.AUTHORIZING


def test_an_event_of_another_account_does_not_touch_the_payment(
    box: Sandbox, client: Client
) -> None:
    begun = paying.begin()
    control.pay(box, paying.intent_of(begun.payment))
    body = {"id": paying.intent_of(begun.payment), "object": "payment_intent"}
    post(client, event(account="acct_other", data={"object": body}))
    journal.catch_up()
    begun.payment.refresh_from_db()
    assert begun.payment.state == State.AUTHORIZING


def test_lost_webhooks_are_fetched_by_the_sweep(box: Sandbox) -> None:
    control.webhooks(box, drop=1)
    payment = paying.held(box)
    paying.session_of(payment)
    payments.capture(payment, 1234)
    control.refund_in_dashboard(box, paying.intent_of(payment), 234)
    reconciliation.sweep()
    journal.catch_up()
    payment.refresh_from_db()
    assert (payment.state, payment.refunded_minor) == (State.PARTIALLY_REFUNDED, 234)
    assert ProviderEvent.objects.filter(type="charge.refunded").count() == 1


def test_an_event_whose_application_failed_is_applied_later(
    box: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = paying.begin()
    control.pay(box, paying.intent_of(begun.payment))

    def fail(_event_id: str) -> None:
        raise ConnectionError

    with monkeypatch.context() as patch:
        patch.setattr(webhooks, "apply", fail)
        paying.deliver(box)
    begun.payment.refresh_from_db()
    assert begun.payment.state == State.AUTHORIZING
    journal.catch_up()
    begun.payment.refresh_from_db()
    assert begun.payment.state == State.AUTHORIZED
