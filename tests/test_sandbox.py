"""The sandbox answers as Stripe does; every claim is made through the official SDK."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests
import stripe

from billing.providers.stripe import client as stripe_client
from billing.providers.stripe import required
from billing.sandbox import SandboxRefused, control, events, validation
from billing.sandbox.engine import FOR_BROWSERS, OPERATIONS, Sandbox
from billing.sandbox.errors import Malformed

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def api(box: Sandbox) -> Any:
    return stripe_client().v1


def key(name: str) -> Any:
    return {"idempotency_key": f"csms:test:{name}"}


def hold(api: Any, name: str = "a", amount: int = 3000, **more: Any) -> Any:
    params = {
        "amount": amount, "currency": "eur", "capture_method": "manual",
        "payment_method": "pm_card_visa", "confirm": True,
        "automatic_payment_methods": {"enabled": True, "allow_redirects": "never"},
    } | more  # fmt: skip
    return api.payment_intents.create(params, key(name))


# --- holds --------------------------------------------------------------------------------------


def test_a_hold_is_captured_once_and_partly_without_a_refund(api: Any) -> None:
    intent = hold(api)
    assert (intent.status, intent.amount_capturable) == ("requires_capture", 3000)
    intent = api.payment_intents.capture(
        intent.id, {"amount_to_capture": 1234, "expand": ["latest_charge"]}, key("c")
    )
    assert (intent.status, intent.amount_received, intent.amount_capturable) == (
        "succeeded", 1234, 0,
    )  # fmt: skip
    assert intent.latest_charge.amount_captured == 1234
    assert intent.latest_charge.amount_refunded == 0
    assert api.refunds.list({"payment_intent": intent.id}).data == []
    with pytest.raises(stripe.InvalidRequestError) as error:
        api.payment_intents.capture(intent.id, {"amount_to_capture": 1}, key("c2"))
    assert error.value.code == "payment_intent_unexpected_state"


@pytest.mark.parametrize(("amount", "code"), [(3001, "amount_too_large"), (20, "amount_too_small")])
def test_a_wrong_capture_takes_nothing(api: Any, amount: int, code: str) -> None:
    intent = hold(api)
    with pytest.raises(stripe.InvalidRequestError) as error:
        api.payment_intents.capture(intent.id, {"amount_to_capture": amount}, key("c"))
    assert error.value.code == code
    assert api.payment_intents.retrieve(intent.id).status == "requires_capture"


def test_a_hold_expires_with_its_window(box: Sandbox, api: Any) -> None:
    intent = hold(api, expand=["latest_charge"])
    window = intent.latest_charge.payment_method_details.card.capture_before - intent.created
    assert window == 7 * 86400
    control.advance(box, window + 1)
    intent = api.payment_intents.retrieve(intent.id)
    assert (intent.status, intent.cancellation_reason) == ("canceled", "expired")
    kinds = [e.type for e in api.events.list({"limit": 2}).data]
    assert kinds == ["charge.expired", "payment_intent.canceled"]


def test_visa_off_session_holds_for_four_days_and_eighteen_hours(api: Any) -> None:
    intent = hold(api, off_session=True, expand=["latest_charge"])
    before = intent.latest_charge.payment_method_details.card.capture_before
    assert before - intent.created == 4 * 86400 + 18 * 3600


def test_a_hold_can_be_raised_only_where_the_account_and_card_allow(box: Sandbox, api: Any) -> None:
    asked = {"card": {"request_incremental_authorization": "if_available"}}
    plain = hold(api, "a", payment_method_options=asked)
    with pytest.raises(stripe.InvalidRequestError, match="does not support"):
        api.payment_intents.increment_authorization(plain.id, {"amount": 4000}, key("i"))
    control.incremental(box, "available")
    raised = hold(api, "b", payment_method_options=asked)
    raised = api.payment_intents.increment_authorization(raised.id, {"amount": 4000}, key("i2"))
    assert raised.amount_capturable == 4000


@pytest.mark.parametrize(
    ("card", "code", "decline"),
    [
        ("pm_card_visa_chargeDeclined", "card_declined", "generic_decline"),
        ("pm_card_visa_chargeDeclinedInsufficientFunds", "card_declined", "insufficient_funds"),
        ("pm_card_chargeDeclinedProcessingError", "processing_error", None),
        ("pm_card_chargeDeclinedExpiredCard", "expired_card", None),
    ],
)
def test_declines_come_with_stripes_codes(api: Any, card: str, code: str, decline: str) -> None:
    with pytest.raises(stripe.CardError) as error:
        hold(api, payment_method=card)
    assert error.value.code == code
    assert error.value.error is not None
    assert getattr(error.value.error, "decline_code", None) == decline
    intent = api.payment_intents.list().data[0]
    assert intent.status == "requires_payment_method"
    assert intent.last_payment_error.code == code


def test_three_d_secure_asks_and_off_session_it_declines(box: Sandbox, api: Any) -> None:
    intent = hold(api, payment_method="pm_card_authenticationRequired")
    assert intent.status == "requires_action"
    assert control.authenticate(box, intent.id)["status"] == "requires_capture"
    with pytest.raises(stripe.CardError) as error:
        hold(api, "b", payment_method="pm_card_authenticationRequired", off_session=True)
    assert error.value.code == "authentication_required"


# --- idempotency --------------------------------------------------------------------------------


def test_the_same_key_replays_the_answer_and_other_parameters_are_refused(
    box: Sandbox, api: Any
) -> None:
    first, again = hold(api), hold(api)
    assert first.id == again.id
    assert [c["replayed"] for c in box.store.calls()] == [0, 1]
    with pytest.raises(stripe.IdempotencyError):
        hold(api, amount=4000)


def test_errors_are_replayed_too(box: Sandbox, api: Any) -> None:
    control.fault(box, "payment_intents.create", "error_500")
    for _ in range(2):
        with pytest.raises(stripe.APIError):
            hold(api)
    assert api.payment_intents.list().data == []
    with pytest.raises(stripe.CardError):
        hold(api, "b", payment_method="pm_card_visa_chargeDeclined")
    with pytest.raises(stripe.CardError):
        hold(api, "b", payment_method="pm_card_visa_chargeDeclined")
    assert len(api.payment_intents.list().data) == 1


def test_a_refused_request_spends_no_key(api: Any) -> None:
    with pytest.raises(stripe.InvalidRequestError):
        api.payment_intents.create({"amount": 3000}, key("a"))
    assert hold(api).status == "requires_capture"


def test_a_key_is_forgotten_after_a_day(box: Sandbox, api: Any) -> None:
    first = hold(api)
    control.advance(box, 86401)
    assert hold(api).id != first.id


@pytest.mark.parametrize("fault", ["lose_reply", "error_500_after"])
def test_what_was_done_before_the_answer_was_lost_stays_done(
    box: Sandbox, api: Any, fault: str
) -> None:
    control.fault(box, "payment_intents.create", fault)
    with pytest.raises(stripe.StripeError):
        hold(api)
    assert [i.status for i in api.payment_intents.list().data] == ["requires_capture"]


@pytest.mark.parametrize("fault", ["lose_request", "rate_limit"])
def test_what_was_not_done_can_be_asked_again(box: Sandbox, api: Any, fault: str) -> None:
    control.fault(box, "payment_intents.create", fault)
    with pytest.raises(stripe.StripeError):
        hold(api)
    assert hold(api).status == "requires_capture"
    assert len(api.payment_intents.list().data) == 1


# --- money back ---------------------------------------------------------------------------------


def test_never_more_is_paid_back_than_was_captured(api: Any) -> None:
    intent = hold(api)
    with pytest.raises(stripe.InvalidRequestError):
        api.refunds.create({"payment_intent": intent.id}, key("r0"))
    api.payment_intents.capture(intent.id, {"amount_to_capture": 1000}, key("c"))
    assert api.refunds.create(
        {"payment_intent": intent.id, "amount": 400}, key("r1")
    ).status == "succeeded"  # fmt: skip
    with pytest.raises(stripe.InvalidRequestError, match="greater than unrefunded"):
        api.refunds.create({"payment_intent": intent.id, "amount": 601}, key("r2"))
    assert api.refunds.create({"payment_intent": intent.id}, key("r3")).amount == 600
    with pytest.raises(stripe.InvalidRequestError) as error:
        api.refunds.create({"payment_intent": intent.id}, key("r4"))
    assert error.value.code == "charge_already_refunded"


def test_a_refund_can_fail_days_later(box: Sandbox, api: Any) -> None:
    intent = hold(api, payment_method="pm_card_refundFail")
    api.payment_intents.capture(intent.id, None, key("c"))
    refund = api.refunds.create({"payment_intent": intent.id}, key("r"))
    assert refund.status == "succeeded"
    control.advance(box, 10)
    assert api.refunds.retrieve(refund.id).status == "failed"
    charge = api.charges.retrieve(intent.latest_charge)
    assert (charge.amount_refunded, charge.refunded) == (0, False)


def test_a_disputing_card_disputes_after_the_capture(api: Any) -> None:
    intent = hold(api, payment_method="pm_card_createDispute")
    api.payment_intents.capture(intent.id, None, key("c"))
    assert api.disputes.list({"payment_intent": intent.id}).data[0].status == "needs_response"


# --- saved cards --------------------------------------------------------------------------------


def test_a_card_is_saved_for_a_customer(api: Any) -> None:
    customer = api.customers.create({"email": "a@example.com"}, key("cu"))
    setup = api.setup_intents.create(
        {
            "customer": customer.id, "payment_method": "pm_card_visa", "confirm": True,
            "usage": "off_session",
            "automatic_payment_methods": {"enabled": True, "allow_redirects": "never"},
        },
        key("s"),
    )  # fmt: skip
    assert setup.status == "succeeded"
    saved = api.customers.payment_methods.list(customer.id).data
    assert [m.card.last4 for m in saved] == ["4242"]
    intent = hold(api, customer=customer.id, payment_method=saved[0].id, off_session=True)
    assert intent.status == "requires_capture"


# --- requests -----------------------------------------------------------------------------------

BROKEN = {
    "a removed parameter": {"amount": 1, "currency": "eur", "payment_method_types[]": "card"},
    "a misspelt parameter": {"amount": 1, "currency": "eur", "capture_metod": "manual"},
    "a missing parameter": {"amount": 1},
    "a float": {"amount": "12.5", "currency": "eur"},
    "an unknown word": {"amount": 1, "currency": "eur", "capture_method": "later"},
    "a wrong boolean": {"amount": 1, "currency": "eur", "confirm": "yes"},
    "a nested unknown": {
        "amount": 1, "currency": "eur", "payment_method_options[card][capture_late]": "1",
    },
    "text for an object": {"amount": 1, "currency": "eur", "automatic_payment_methods": "true"},
    "text for a list": {"amount": 1, "currency": "eur", "expand": "latest_charge"},
}  # fmt: skip


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_request_is_refused_by_the_sdks_own_types(what: str) -> None:
    operation, _ids = validation.find("POST", "/v1/payment_intents")
    form = requests.models.RequestEncodingMixin._encode_params(BROKEN[what])
    with pytest.raises(Malformed):
        validation.check(operation, validation.parse_form(form))


def test_a_status_filter_on_the_list_does_not_exist() -> None:
    operation, _ids = validation.find("GET", "/v1/payment_intents")
    with pytest.raises(Malformed, match="status"):
        validation.check(operation, validation.parse_form("status=requires_capture"))


def test_every_operation_served_is_one_of_the_sdk() -> None:
    known = {operation.name for operation in validation.operations()}
    assert set(OPERATIONS) <= known
    assert set(OPERATIONS) >= FOR_BROWSERS


def test_money_moves_only_with_a_key_of_our_own(api: Any) -> None:
    intent = hold(api)
    for call in (
        lambda: api.payment_intents.capture(intent.id),  # the SDK's own random key
        lambda: api.payment_intents.cancel(intent.id, None, {"idempotency_key": "random"}),
    ):
        with pytest.raises(stripe.InvalidRequestError) as error:
            call()
        assert error.value.code == "idempotency_key_missing"


def test_a_browser_sees_only_what_it_has_the_secret_of(box: Sandbox, api: Any) -> None:
    base, public = required().api_base, required().publishable_key
    intent = api.payment_intents.create({"amount": 3000, "currency": "eur"}, key("a"))
    url = f"{base}/v1/payment_intents/{intent.id}"
    with requests.Session() as browser:
        browser.trust_env = False
        assert browser.get(url, params={"key": public}).status_code == 404
        seen = browser.get(url, params={"key": public, "client_secret": intent.client_secret})
        assert seen.json()["id"] == intent.id
        listed = browser.get(f"{base}/v1/payment_intents", params={"key": public})
        assert listed.status_code == 401
        assert browser.get(url, params={"key": "sk_live_x"}).status_code == 401
    assert "_capture_before" not in seen.text


def test_accounts_do_not_see_each_other(api: Any) -> None:
    intent = hold(api)
    with pytest.raises(stripe.InvalidRequestError) as error:
        api.payment_intents.retrieve(intent.id, None, {"stripe_account": "acct_other"})
    assert error.value.code == "resource_missing"


# --- events -------------------------------------------------------------------------------------


def deliver(box: Sandbox, post: Callable[[bytes, str], int]) -> int:
    return events.deliver_due(box.store, box.webhook_secret, post, everything=True)


def test_webhooks_are_signed_and_a_delivered_event_is_no_longer_pending(
    box: Sandbox, api: Any
) -> None:
    hold(api)
    bodies: list[tuple[bytes, str]] = []

    def post(body: bytes, signature: str) -> int:
        bodies.append((body, signature))
        return 204

    assert deliver(box, post) == 3
    event = stripe.Webhook.construct_event(*bodies[-1], box.webhook_secret)
    assert event.type == "payment_intent.amount_capturable_updated"
    assert api.events.list({"delivery_success": False}).data == []


def test_lost_webhooks_are_found_among_the_undelivered_events(box: Sandbox, api: Any) -> None:
    control.webhooks(box, drop=1)
    hold(api)
    assert deliver(box, lambda _body, _signature: 204) == 0
    assert len(api.events.list({"delivery_success": False}).data) == 3


def test_webhooks_can_come_twice_each(box: Sandbox, api: Any) -> None:
    control.webhooks(box, duplicate=1, shuffle=True)
    hold(api)
    seen: list[str] = []

    def post(body: bytes, _signature: str) -> int:
        seen.append(json.loads(body)["id"])
        return 204

    assert deliver(box, post) == 6
    assert len(set(seen)) == 3


# --- where it may serve -------------------------------------------------------------------------


def test_a_killed_process_forgets_nothing(box: Sandbox, api: Any) -> None:
    intent = hold(api)
    reopened = Sandbox(box.store.path)
    found = reopened.store.get(intent.id)
    reopened.close()
    assert found is not None
    assert found["status"] == "requires_capture"


def test_it_refuses_to_start_without_the_setting(tmp_path: Path, settings: Any) -> None:
    settings.PAYMENT_SANDBOX = False
    with pytest.raises(SandboxRefused, match="STRIPE_API_KEY"):
        Sandbox(tmp_path / "sandbox.sqlite3")


PRODUCTION = {
    "DEBUG": "false", "SECRET_KEY": "x" * 60, "PUBLIC_URL": "https://charge.example",
    "METRICS_TOKEN": "m" * 40, "ALLOWED_HOSTS": "charge.example",
}  # fmt: skip
PROBE = """
import django; django.setup()
from django.conf import settings
from django.urls import Resolver404, resolve
from billing import sandbox
from billing.providers.stripe import configuration
print(settings.PAYMENT_SANDBOX, configuration())
try:
    print(resolve("/sandbox/stripe/v1/events"))
except Resolver404:
    print("404")
try:
    from billing.sandbox.engine import Sandbox
    Sandbox("sandbox.sqlite3")
except sandbox.SandboxRefused:
    print("refused")
"""


def probe(tmp_path: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", PROBE],
        env={
            "PATH": "", "PYTHONPATH": str(ROOT), "DJANGO_SETTINGS_MODULE": "config.settings",
            "VAR_DIR": str(tmp_path), "ENV_FILE": "", **environment,
        },
        cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip


def test_it_does_not_exist_in_production(tmp_path: Path) -> None:
    result = probe(tmp_path, **PRODUCTION)
    assert result.stdout.split("\n")[:3] == ["False None", "404", "refused"], result.stderr


def test_nor_with_debug_on_a_public_address(tmp_path: Path) -> None:
    public = {"DEBUG": "true", "PUBLIC_URL": "https://charge.example"}
    result = probe(tmp_path, **public, ALLOWED_HOSTS="charge.example")
    assert result.stdout.split("\n")[:3] == ["False None", "404", "refused"], result.stderr


def test_production_refuses_an_address_that_would_get_the_key(tmp_path: Path) -> None:
    result = probe(tmp_path, **PRODUCTION, STRIPE_API_BASE="http://127.0.0.1:9")
    assert result.returncode != 0
    assert "STRIPE_API_BASE" in result.stderr.strip().split("\n")[-1]


@pytest.mark.parametrize(
    ("settings_in_force", "says"),
    [
        ({"STRIPE_API_KEY": "sk_live_x", "DEBUG": True}, "live key and DEBUG"),
        ({"STRIPE_API_KEY": "sk_test_x", "STRIPE_API_BASE": "http://evil"}, "another server"),
        ({"STRIPE_API_KEY": "hello"}, "must begin"),
        ({"STRIPE_API_KEY": "sk_test_x", "STRIPE_PUBLISHABLE_KEY": "pk_live_x"}, "other mode"),
        (
            {"STRIPE_API_KEY": "sk_test_x", "STRIPE_PUBLISHABLE_KEY": "pk_test_x"},
            "STRIPE_WEBHOOK_SECRET",
        ),
    ],
)
def test_settings_that_would_lose_money_or_keys_are_refused_in_a_sentence(
    settings: Any, settings_in_force: dict[str, Any], says: str
) -> None:
    from django.core.exceptions import ImproperlyConfigured

    from billing.providers.stripe import configuration

    for name in ("STRIPE_API_BASE", "STRIPE_PUBLISHABLE_KEY", "STRIPE_WEBHOOK_SECRET"):
        setattr(settings, name, "")
    for name, value in settings_in_force.items():
        setattr(settings, name, value)
    with pytest.raises(ImproperlyConfigured, match=says):
        configuration()
