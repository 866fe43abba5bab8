"""A stranger at a charger pays and charges: the real runner, a simulated station, real Chromium.

The card field is the sandbox's stand-in for Stripe.js; `pay.js`, the pages, the API calls, the
webhooks and the charger's messages are what runs in life.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.running import ROOT, Running

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(240)]

TARIFF = {
    "country_code": "DE", "party_id": "ABC", "id": "yard", "currency": "EUR",
    "tax_included": "YES", "last_updated": "2026-01-01T00:00:00Z",
    "elements": [
        {
            "price_components": [
                {"type": "ENERGY", "price": 0.50, "vat": 19, "step_size": 1},
                {"type": "FLAT", "price": 1.00, "vat": 19, "step_size": 1},
            ]
        }
    ],
}  # fmt: skip
WAIT_MS = 60_000


@pytest.fixture(scope="module")
def yard(running: Running, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Three public stations that do what they are told, at a price."""
    file = Path(tmp_path_factory.mktemp("tariff")) / "tariff.json"
    file.write_text(json.dumps(TARIFF))
    running.manage("tariffs", "load", str(file), "--default")
    for number in (1, 2, 3):
        running.manage("stations", "add", f"PAY-{number:03}", "--site", "Yard", "--public")
    fleet = subprocess.Popen(
        [
            sys.executable, "manage.py", "simulate", "--url", running.ocpp_url, "--count", "3",
            "--prefix", "PAY", "--connectors", "1", "--scenario", "quiet", "--speed", "20",
        ],
        cwd=ROOT, env=running.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    yield running
    fleet.terminate()
    fleet.wait(10)


@pytest.fixture
def driver(page: Any) -> Iterator[Any]:
    """A browser page that must not break its own content security policy."""
    broken: list[str] = []
    page.on(
        "console",
        lambda said: broken.append(said.text) if "Content Security Policy" in said.text else None,
    )
    yield page
    assert not broken, broken


def open_page(yard: Running, driver: Any, identity: str) -> None:
    """Scan the code of a station, once it is there."""
    for _ in range(60):
        found = next(s for s in yard.manage("stations", "list") if s["identity"] == identity)
        driver.goto(f"{yard.url}/c/{found['connectors'][0]['code']}")
        if driver.locator("#sandbox-number").count():
            return
        driver.wait_for_timeout(1000)
    raise AssertionError(driver.content())


def wait_for_session(yard: Running, driver: Any, identity: str, done: bool) -> dict[str, Any]:
    """The station's newest session, started or ended and paid."""
    for _ in range(60):
        rows = yard.manage("sessions", "list", "--station", identity)
        if rows and (not done or rows[0]["cost"] not in (None, "")):
            return dict(rows[0])
        driver.wait_for_timeout(1000)
    text = driver.content()
    raise AssertionError((rows, text[text.find("<main") :][:1500], yard.output[-3000:]))


def test_a_stranger_pays_charges_stops_and_gets_a_receipt(yard: Running, driver: Any) -> None:
    open_page(yard, driver, "PAY-001")
    assert driver.locator(".sandbox-card .sandbox-badge").inner_text() == "SANDBOX"
    driver.get_by_role("button", name="Pay and start charging").click()
    driver.wait_for_url("**/s/*", timeout=WAIT_MS)
    session = wait_for_session(yard, driver, "PAY-001", done=False)
    assert session["token"].startswith("PAY")
    stop = driver.get_by_text("Stop charging", exact=True)
    stop.wait_for(timeout=WAIT_MS)
    driver.wait_for_timeout(4000)  # some energy
    stop.click()
    driver.get_by_role("button", name="Yes, stop now").click()
    session = wait_for_session(yard, driver, "PAY-001", done=True)
    assert float(session["cost"]) > 1
    assert session["currency"] == "EUR"


def test_a_declined_card_is_said_and_another_one_pays(yard: Running, driver: Any) -> None:
    open_page(yard, driver, "PAY-002")
    driver.fill("#sandbox-number", "4000 0000 0000 0002")
    button = driver.get_by_role("button", name="Pay and start charging")
    button.click()
    said = driver.locator("[data-error]")
    said.wait_for(state="visible", timeout=WAIT_MS)
    assert said.inner_text() == "Your card was declined."
    assert button.is_enabled()
    driver.fill("#sandbox-number", "4242 4242 4242 4242")
    button.click()
    driver.wait_for_url("**/s/*", timeout=WAIT_MS)
    assert wait_for_session(yard, driver, "PAY-002", done=False)["token"].startswith("PAY")


def test_the_banks_page_is_passed_before_the_start(yard: Running, driver: Any) -> None:
    open_page(yard, driver, "PAY-003")
    driver.fill("#sandbox-number", "4000 0025 0000 3155")
    driver.get_by_role("button", name="Pay and start charging").click()
    bank = driver.get_by_role("dialog", name="Your bank asks")
    bank.wait_for(timeout=WAIT_MS)
    bank.get_by_role("button", name="Confirm the payment").click()
    driver.wait_for_url("**/s/*", timeout=WAIT_MS)
    assert wait_for_session(yard, driver, "PAY-003", done=False)["token"].startswith("PAY")
