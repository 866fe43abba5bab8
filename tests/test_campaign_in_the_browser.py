"""Staff steer a firmware campaign in real Chromium: every button asks, every effect is seen live.

Real stations take the update over real websockets; nothing on the page is ever reloaded by hand.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.running import ADMIN, ROOT, Running

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(240)]

WAIT_MS = 60_000
VENDOR, MODEL = "Demo Works", "Pillar 22"  # what the simulator says of itself


@pytest.fixture
def fleet(start: Any, tmp_path: Path) -> Iterator[Running]:
    """An installation, three stations of three dialects, and a release that they do not run yet."""
    server = start(OCPP_UNKNOWN_STATIONS="accept")
    stations = subprocess.Popen(
        [
            sys.executable, "manage.py", "simulate", "--url", server.ocpp_url, "--count", "3",
            "--version", "mixed", "--prefix", "UPD", "--scenario", "quiet",
        ],
        cwd=ROOT, env=server.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    release = tmp_path / "pillar-2.0.0.bin"
    release.write_bytes(b"version=2.0.0\n" + bytes(50_000))
    server.manage(
        "firmware", "add", str(release), "--vendor", VENDOR, "--model", MODEL, "--version", "2.0.0"
    )
    yield server
    stations.terminate()
    stations.wait(10)


def sign_in(page: Any, running: Running) -> None:
    page.set_default_timeout(WAIT_MS)
    page.goto(f"{running.url}/admin/")
    page.get_by_label("E-mail").fill(ADMIN[0])
    page.get_by_label("Password").fill(ADMIN[1])
    page.get_by_role("button", name="Log in").click()
    page.wait_for_url("**/admin/")


def press(page: Any, button: str, reason: str = "") -> None:
    """Press a button of the cockpit and confirm it in its dialog, which closes by itself."""
    page.locator("#campaign-buttons a", has_text=re.compile(rf"{button}\s*$")).click()
    dialog = page.locator("#dialog")
    if reason:
        dialog.get_by_label("Reason").fill(reason)
    dialog.get_by_role("button", name=button).click()
    dialog.wait_for(state="hidden")


def shown(page: Any, state: str) -> None:
    page.locator("#cockpit > .card > header .chip", has_text=re.compile(f"^{state}$")).wait_for()


def offered(page: Any) -> list[str]:
    """Return the buttons the cockpit offers, without their icons' names."""
    links = page.locator("#campaign-buttons a")
    return [str(text).split()[-1] for text in links.all_inner_texts()]


def test_a_campaign_is_started_held_resumed_braked_and_stopped_before_our_eyes(
    fleet: Running, page: Any
) -> None:
    sign_in(page, fleet)
    page.get_by_text(f"3 stations are behind {VENDOR} {MODEL} 2.0.0.").click()
    page.get_by_label("Name").fill("Summer")
    page.get_by_label("Waves").fill("1, 100%")
    page.get_by_label("Watch a finished wave (s)").fill("600")
    page.get_by_label("Watch an updated station (s)").fill("600")
    page.get_by_label("Start now").uncheck()
    page.get_by_role("button", name="Save", exact=True).click()
    page.get_by_role("link", name="Summer").first.click()

    shown(page, "Draft, waits for approval")
    assert offered(page) == ["Start", "Stop"]
    page.evaluate("window.untouched = true")  # gone after any reload
    press(page, "Start")
    shown(page, "Running")
    page.locator("#cockpit .chip", has_text="Installing").wait_for()  # the station's own word
    assert offered(page) == ["Hold", "Brake", "Stop"]

    press(page, "Hold", "The hotline is busy.")
    shown(page, "Paused")
    page.locator("#cockpit").get_by_text("The hotline is busy.").wait_for()
    assert offered(page) == ["Resume", "Stop", "Reverse"]

    press(page, "Resume", "It is quiet again.")
    shown(page, "Running")
    page.locator("#cockpit").get_by_text("It is quiet again.").wait_for()

    press(page, "Brake", "A customer complains.")
    shown(page, "Paused")
    page.locator("#cockpit").get_by_text("A customer complains.").wait_for()

    press(page, "Stop", "Enough for this summer.")
    shown(page, "Stopped")
    page.locator("#cockpit").get_by_text("Enough for this summer.").wait_for()
    assert page.locator("#cockpit .chip", has_text="Called off").count() == 2
    assert offered(page) == ["Reverse"]
    assert page.evaluate("window.untouched") is True

    campaign = fleet.manage("campaigns", "show", "Summer")
    assert (campaign["state"], campaign["reason"]) == ("stopped", "Enough for this summer.")
