"""The main road of staff, in real Chromium, with the real runner and a simulated station.

A station nobody knows connects; staff sign in, approve it with one click, open its page, send a
command and see the charger's answer without a reload.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from tests.running import ADMIN, ROOT, Running

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(240)]

WAIT_MS = 60_000


@pytest.fixture(scope="module")
def stranger(running: Running) -> Iterator[Running]:
    """An installation, and a station it does not know that keeps knocking."""
    station = subprocess.Popen(
        [
            sys.executable, "manage.py", "simulate", "--url", running.ocpp_url, "--count", "1",
            "--prefix", "NEW", "--connectors", "2", "--scenario", "quiet", "--speed", "20",
        ],
        cwd=ROOT, env=running.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    yield running
    station.terminate()
    station.wait(10)


def sign_in(page: Any, running: Running) -> None:
    page.set_default_timeout(WAIT_MS)
    page.goto(f"{running.url}/admin/")
    page.get_by_label("E-mail").fill(ADMIN[0])
    page.get_by_label("Password").fill(ADMIN[1])
    page.get_by_role("button", name="Log in").click()
    page.wait_for_url("**/admin/")


def test_a_stranger_is_approved_ordered_and_answers_before_our_eyes(
    stranger: Running, page: Any
) -> None:
    sign_in(page, stranger)
    page.get_by_text("1 station waits for approval.").click()  # appears by itself
    page.get_by_role("button", name="Approve").click()
    page.get_by_text("NEW-001 is in service.").wait_for()

    page.get_by_role("link", name="NEW-001").first.click()
    # Its status comes after it has booted again.
    page.locator(".chip", has_text="Available").first.wait_for()
    page.get_by_role("button", name="Actions").click()
    page.get_by_role("menuitem", name="Ask for a message").click()
    page.get_by_label("Message").select_option("Heartbeat")
    page.locator("#dialog").get_by_role("button", name="Ask for a message").click()
    page.locator("#dialog").get_by_text("Queued").wait_for()
    page.locator("#dialog .chip.green", has_text="Accepted").wait_for()  # live, no reload
    page.locator("#dialog").get_by_role("button", name="Close").click()
    page.get_by_text("Ask for a message: Accepted").nth(1).wait_for()  # the approval sent one, too

    orders = stranger.manage("messages", "list", "--station", "NEW-001")
    assert "TriggerMessage" in {frame["action"] for frame in orders}


def test_a_hard_restart_asks_for_the_name_before_its_button_wakes(
    stranger: Running, page: Any
) -> None:
    sign_in(page, stranger)
    page.goto(f"{stranger.url}/admin/stations/station/")
    page.get_by_role("link", name="NEW-001").first.click()
    page.get_by_role("button", name="Actions").click()
    page.get_by_role("menuitem", name="Restart").click()
    dialog = page.locator("#dialog")
    button = dialog.get_by_role("button", name="Restart")
    dialog.get_by_label("At once, ending running sessions").check()
    assert button.is_disabled()
    dialog.get_by_label("Type NEW-001 to confirm").fill("NEW-001")
    assert button.is_enabled()
    page.keyboard.press("Escape")
    dialog.wait_for(state="hidden")
    assert stranger.manage("stations", "list")[0]["identity"] == "NEW-001"


@pytest.mark.parametrize(
    "path", ["", "stations/station/", "monitoring/session/", "stations/message/", "health/"]
)
def test_pages_fit_a_phone(stranger: Running, browser: Any, path: str) -> None:
    context = browser.new_context(viewport={"width": 420, "height": 860})
    page = context.new_page()
    sign_in(page, stranger)
    page.goto(f"{stranger.url}/admin/{path}")
    page.wait_for_load_state("load")
    assert page.evaluate("document.documentElement.scrollWidth") <= 420
    context.close()


PAGES = (
    "", "health/", "stations/station/", "stations/station/add/", "stations/site/",
    "stations/command/", "stations/message/", "stations/variable/", "stations/entry/",
    "stations/token/", "stations/user/", "stations/user/add/", "monitoring/session/",
    "monitoring/incident/", "monitoring/alert/", "monitoring/rulesetting/", "firmware/campaign/",
    "firmware/firmwareimage/", "firmware/updatejob/", "billing/tariff/", "billing/charge/",
    "billing/payment/", "billing/invoice/", "billing/mail/", "billing/seller/add/",
)  # fmt: skip
STATION_TABS = ("now", "timeline", "sessions", "configuration", "frames", "commands")


def test_every_page_keeps_its_content_policy_and_fits_a_desktop(
    stranger: Running, browser: Any
) -> None:
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    page = context.new_page()
    refused: list[str] = []
    page.on(
        "console",
        lambda line: (
            refused.append(f"{page.url}: {line.text}")
            if "Content Security Policy" in line.text
            else None
        ),
    )
    sign_in(page, stranger)
    page.goto(f"{stranger.url}/admin/stations/station/")
    station = page.get_by_role("link", name="NEW-001").first.get_attribute("href") or ""
    tabs = [f"{station.split('?')[0].removeprefix('/admin/')}?tab={tab}" for tab in STATION_TABS]
    wide = []
    for path in (*PAGES, *tabs):
        answer = page.goto(f"{stranger.url}/admin/{path}")
        policy = answer.headers["content-security-policy"]
        for rule in ("object-src 'none'", "base-uri 'self'", "frame-ancestors 'none'"):
            assert rule in policy, path
        assert "script-src 'self' 'unsafe-eval';" in f"{policy};", path
        page.wait_for_function("window.Alpine !== undefined")
        page.wait_for_timeout(150)
        if page.evaluate(WIDER):
            wide.append(path)
    context.close()
    assert refused == []
    assert wide == []


# Whether the page, or a table in it, must be scrolled sideways.
WIDER = """() => [document.documentElement, ...document.querySelectorAll('#result_list, table')]
    .some((el) => { const box = el.closest('.overflow-x-auto, .scroll') || el;
                    return box.scrollWidth > box.clientWidth + 1; })"""
