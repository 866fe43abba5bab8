"""kill -9 of the server, and an immediate stop of its database, in the middle of sessions.

Chargers in three versions keep what was not acknowledged and send it again; afterwards the database
is compared with what they told: nothing missing, nothing doubled, energy exact to the Wh.
"""

from __future__ import annotations

import pytest

from bench.chaos import Chargers, Verdict, rampage
from bench.installation import installed

CHARGERS = 200


async def verdict_of(database: str, *, kills: int, database_stops: int) -> Verdict:
    with installed(database) as server:
        chargers = Chargers(server.url, CHARGERS, seed=4, readings=4)
        return await rampage(server, chargers, kills=kills, database_stops=database_stops, calm_s=4)


def assert_nothing_lost(verdict: Verdict) -> None:
    assert verdict.sessions >= CHARGERS
    assert verdict.sent_again > 0
    assert verdict.exact, verdict


@pytest.mark.slow
@pytest.mark.timeout(420)
async def test_two_hundred_sessions_survive_kill_9_on_sqlite() -> None:
    assert_nothing_lost(await verdict_of("sqlite", kills=3, database_stops=0))


@pytest.mark.services
@pytest.mark.slow
@pytest.mark.timeout(420)
async def test_two_hundred_sessions_survive_kill_9_and_a_database_stop_on_postgresql() -> None:
    assert_nothing_lost(await verdict_of("postgresql", kills=2, database_stops=1))
