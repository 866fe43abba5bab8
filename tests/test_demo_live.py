"""The demo's living half, for real: what a visitor sees in the first minute, and its end."""

from __future__ import annotations

import signal
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.running import Running, installation

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

SEEN_WITHIN_S = 75  # a minute of the visitor's, and room for a busy machine

# What there is to see → the rows that prove it; each must answer with the number beside it.
SIGHTS = {
    "twelve stations in three dialects are connected": (
        "SELECT count(*) * (count(DISTINCT version) = 3) FROM stations_station WHERE connected",
        12,
    ),
    "every station has told its configuration": (
        "SELECT count(DISTINCT station_id) FROM stations_variable WHERE value IS NOT NULL",
        12,
    ),
    "a session runs and is measured": (
        "SELECT EXISTS (SELECT 1 FROM monitoring_reading AS r JOIN monitoring_session AS s"
        " ON s.id = r.session_id WHERE s.stopped_at IS NULL AND r.power_w > 0)",
        1,
    ),
    "a wave of the campaign has failed and holds it": (
        "SELECT EXISTS (SELECT 1 FROM firmware_campaign AS c JOIN firmware_updatejob AS j"
        " ON j.campaign_id = c.id AND j.wave = c.wave"
        " WHERE c.state = 'paused' AND c.wave = 1 AND j.failure = 'installation-failed')",
        1,
    ),
    "the wave before it has succeeded": (
        "SELECT count(*) FROM firmware_updatejob WHERE wave = 0 AND state = 'succeeded'",
        1,
    ),
    "a fault opened an incident that has healed": (
        "SELECT EXISTS (SELECT 1 FROM monitoring_incident WHERE rule = 'safety-fault'"
        " AND state = 'resolved' AND opened_at > :began)",
        1,
    ),
    "a station was ordered to restart and did": (
        "SELECT EXISTS (SELECT 1 FROM stations_command AS c JOIN stations_station AS s"
        " ON s.id = c.station_id WHERE c.name = 'reset' AND c.status = 'accepted'"
        " AND s.booted_at > c.sent_at)",
        1,
    ),
    "a guest has paid at a charger": (
        "SELECT EXISTS (SELECT 1 FROM billing_payment WHERE created_at > :began"
        " AND state = 'authorized')",
        1,
    ),
}


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Running]:
    """An installation with a day of past, so that it starts soon; started by the test."""
    server = installation(tmp_path / "var", "all", {"DEBUG": "true"}, "--demo", "--days", "1")
    yield server
    if server.process is not None:
        server.kill()


def missing(server: Running, began: str) -> list[str]:
    """Return what is not to be seen yet."""
    path = Path(server.environment["VAR_DIR"]) / "csms.sqlite3"
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=10)) as database:
        return [
            sight
            for sight, (query, expected) in SIGHTS.items()
            if database.execute(query, {"began": began}).fetchone()[0] != expected
        ]


def descendants(server: Running) -> list[Any]:
    """Return all processes below the runner; the demo's is among them."""
    assert server.process is not None
    found = psutil.Process(server.process.pid).children(recursive=True)
    assert any("demo" in child.cmdline() for child in found), "the demo's process is gone"
    return list(found)


def test_the_first_minute_shows_everything_and_its_end_leaves_nothing(demo: Running) -> None:
    demo.start()
    began = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime())
    deadline = time.monotonic() + SEEN_WITHIN_S
    unseen = dict.fromkeys(SIGHTS)
    while unseen and time.monotonic() < deadline:
        time.sleep(1)
        # some sights pass, such as a held campaign: what was seen once was seen
        unseen = {sight: None for sight in missing(demo, began) if sight in unseen}
    assert not unseen, demo.output[-3000:]

    children = descendants(demo)
    assert demo.stop(signal.SIGINT) == 0
    _gone, alive = psutil.wait_procs(children, timeout=5)
    assert alive == []
    assert "Traceback" not in demo.output

    demo.start()  # again, on what was cut short; and this time the parent cannot say good-bye
    children = descendants(demo)
    demo.kill()
    _gone, alive = psutil.wait_procs(children, timeout=20)  # it may just be starting
    assert alive == []
