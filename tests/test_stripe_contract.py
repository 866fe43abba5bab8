"""The same conversation with the sandbox and, where a test key is given, with Stripe itself.

    STRIPE_API_KEY=sk_test_… pytest -m stripe tests/test_stripe_contract.py

What holds here for the sandbox and fails for Stripe is a mistake in the sandbox.
"""

from __future__ import annotations

import os
import uuid
from typing import Any

import pytest
import stripe

from billing.providers.stripe import API_VERSION, Stripe, outcome, required
from billing.providers.stripe import client as sandbox_client

REAL_KEY = os.environ.get("STRIPE_API_KEY", "")
WAYS = ["sandbox"] + (
    [pytest.param("stripe", marks=pytest.mark.stripe)] if "_test_" in REAL_KEY else []
)


@pytest.fixture(params=WAYS)
def api(request: pytest.FixtureRequest, box: Any) -> Any:
    """The v1 services of the one or the other."""
    if request.param == "sandbox":
        return sandbox_client().v1
    return stripe.StripeClient(REAL_KEY, stripe_version=API_VERSION).v1


@pytest.fixture
def key() -> Any:
    """Idempotency keys of this test's own."""
    run = uuid.uuid4()
    return lambda name: {"idempotency_key": f"csms:contract:{run}:{name}"}


def hold(api: Any, options: Any, card: str = "pm_card_visa") -> Any:
    return api.payment_intents.create(
        {
            "amount": 3000, "currency": "eur", "capture_method": "manual", "confirm": True,
            "payment_method": card, "expand": ["latest_charge"],
            "automatic_payment_methods": {"enabled": True, "allow_redirects": "never"},
            "metadata": {"payment": "contract"},
        },
        options,
    )  # fmt: skip


def test_the_versions_agree() -> None:
    assert stripe.api_version == API_VERSION


def test_hold_and_partial_capture(api: Any, key: Any) -> None:
    held = outcome(hold(api, key("hold")))
    assert (held.status, held.held_minor, held.captured_minor) == ("held", 3000, 0)
    assert held.capture_before is not None
    again = outcome(hold(api, key("hold")))
    assert again.ref == held.ref
    taken = outcome(
        api.payment_intents.capture(
            held.ref, {"amount_to_capture": 1234, "expand": ["latest_charge"]}, key("capture")
        )
    )
    assert (taken.status, taken.held_minor, taken.captured_minor, taken.refunded_minor) == (
        "paid", 0, 1234, 0,
    )  # fmt: skip
    with pytest.raises(stripe.InvalidRequestError) as error:
        api.payment_intents.cancel(held.ref, None, key("cancel"))
    assert error.value.code == "payment_intent_unexpected_state"


def test_release(api: Any, key: Any) -> None:
    held = hold(api, key("hold"))
    released = outcome(api.payment_intents.cancel(held.id, {"expand": ["latest_charge"]}, key("c")))
    assert (released.status, released.refunded_minor) == ("canceled", 0)


def test_too_much_and_too_little(api: Any, key: Any) -> None:
    held = hold(api, key("hold"))
    for amount, code in ((3001, "amount_too_large"), (20, "amount_too_small")):
        with pytest.raises(stripe.InvalidRequestError) as error:
            api.payment_intents.capture(held.id, {"amount_to_capture": amount}, key(str(amount)))
        assert error.value.code == code
    api.payment_intents.cancel(held.id, None, key("c"))


def test_a_key_with_other_parameters(api: Any, key: Any) -> None:
    held = hold(api, key("hold"))
    with pytest.raises(stripe.IdempotencyError):
        hold(api, key("hold"), "pm_card_mastercard")
    api.payment_intents.cancel(held.id, None, key("c"))


def test_a_decline(api: Any, key: Any) -> None:
    with pytest.raises(stripe.CardError) as error:
        hold(api, key("hold"), "pm_card_visa_chargeDeclinedInsufficientFunds")
    assert error.value.code == "card_declined"
    assert error.value.error is not None
    assert getattr(error.value.error, "decline_code", "") == "insufficient_funds"


def test_a_refund_and_one_too_many(api: Any, key: Any) -> None:
    held = hold(api, key("hold"))
    api.payment_intents.capture(held.id, {"amount_to_capture": 1000}, key("capture"))
    refund = api.refunds.create({"payment_intent": held.id, "amount": 400}, key("r1"))
    assert refund.status in ("succeeded", "pending")
    with pytest.raises(stripe.InvalidRequestError):
        api.refunds.create({"payment_intent": held.id, "amount": 601}, key("r2"))
    listed = api.refunds.list({"payment_intent": held.id, "limit": 100}).data
    assert [r.amount for r in listed] == [400]


def test_our_own_request_for_a_hold_is_accepted(box: Any) -> None:
    from billing.models import Payment

    payment = Payment(provider="stripe", currency="EUR", hold_minor=2500)
    made = Stripe().authorize(payment)
    assert (made.status, made.payment_id) == ("needs_method", str(payment.pk))
    assert made.client_secret.startswith(str(made.ref))
    assert required().sandbox
