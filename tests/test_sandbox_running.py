"""The sandbox inside the running product: its replies can be lost, and kill -9 loses nothing."""

from __future__ import annotations

import hmac
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
import stripe

from tests.running import Running

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]


def secret(running: Running) -> str:
    """The sandbox's secret key: made of the installation's own SECRET_KEY."""
    own = Path(running.environment["VAR_DIR"], "secret_key").read_bytes()
    return f"sk_test_{hmac.new(own, b'payment sandbox', 'sha256').hexdigest()[:24]}"


def api(running: Running) -> Any:
    base = f"{running.url}/sandbox/stripe"
    return stripe.StripeClient(
        secret(running), base_addresses={"api": base}, max_network_retries=0
    ).v1


def door(running: Running, action: str, key: str, **arguments: Any) -> httpx.Response:
    return httpx.post(
        f"{running.url}/sandbox/stripe/_control/{action}/",
        json=arguments, headers={"Authorization": f"Bearer {key}"}, timeout=20,
    )  # fmt: skip


def hold(running: Running, name: str) -> Any:
    return api(running).payment_intents.create(
        {
            "amount": 3000, "currency": "eur", "capture_method": "manual", "confirm": True,
            "payment_method": "pm_card_visa",
            "automatic_payment_methods": {"enabled": True, "allow_redirects": "never"},
        },
        {"idempotency_key": f"csms:running:{name}"},
    )  # fmt: skip


def test_a_lost_reply_breaks_the_connection_and_the_key_finds_what_was_done(
    running: Running,
) -> None:
    assert door(running, "fault", "sk_test_guessed", operation="*", kind="lose_reply").is_error
    made = door(
        running, "fault", secret(running), operation="payment_intents.create", kind="lose_reply"
    )
    assert made.status_code == 200
    with pytest.raises(stripe.APIConnectionError):
        hold(running, "lost")
    assert hold(running, "lost").status == "requires_capture"
    assert len(api(running).payment_intents.list().data) == 1


def test_webhooks_reach_our_own_door_signed(running: Running) -> None:
    hold(running, "webhook")
    for _ in range(60):
        waiting = api(running).events.list({"delivery_success": False, "limit": 100}).data
        if not waiting:
            break
        time.sleep(0.5)
    assert [event.type for event in waiting] == [], "undelivered"


def test_killed_it_remembers(running: Running) -> None:
    intent = hold(running, "killed")
    running.kill()
    running.start()
    assert api(running).payment_intents.retrieve(intent.id).status == "requires_capture"
    assert hold(running, "killed").id == intent.id
