"""The demo's twelve stations, charging, faulting, rebooting and updating without end."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Iterable

from django.db.models import Max

from config.demo.places import BLOCKED_TAG, DRIVERS, POSTS, Post
from monitoring.models import Session
from stations.models import Station as Row
from stations.simulator import fleet
from stations.simulator.model import Fate
from stations.simulator.scenarios import SCENARIOS, Pace
from stations.simulator.station import Station

# Cars stay for minutes, not hours, so that a visitor sees them come and go.
PACES = {
    "busy": Pace(stay_s=(90, 240), free_s=(5, 20)),
    "charging": Pace(stay_s=(180, 600), free_s=(20, 120)),
}
SAMPLE_S = 10


def members(url: str, seed: int) -> list[fleet.Member]:
    """The twelve stations as the server at `url` knows them: firmware, and where meters stand."""
    firmware = dict(Row.objects.values_list("identity", "firmware"))
    meters = (
        Session.objects.order_by()
        .values_list("station__identity", "connector__evse__number")
        .annotate(Max("last_register_mwh"))
    )
    found = []
    for post in POSTS:
        one = member(post, url, seed, firmware.get(post.identity))
        for identity, number, mwh in meters:
            if identity == post.identity and number in one.station.connectors and mwh:
                one.station.connectors[number].register_wh = mwh / 1000
        found.append(one)
    return found


def member(post: Post, url: str, seed: int, firmware: str | None = None) -> fleet.Member:
    """The simulated station of a post."""
    make = post.make
    station = Station(
        f"{url.replace('http', 'ws', 1)}/ocpp",
        post.identity,
        post.version,
        connectors=dict.fromkeys(range(1, make.connectors + 1), float(make.power_w)),
        dc=make.dc,
        vendor=make.vendor,
        model=make.model,
        firmware=firmware or make.firmware,
        seed=seed,
        fate=Fate(post.fate),
        reconnect_s=0.5,
    )
    station.configuration.set("MeterValueSampleInterval", str(SAMPLE_S))
    scenario = SCENARIOS[post.life]
    station.quirks = scenario.quirks
    tags = [driver.tag for driver in DRIVERS] * 2 + [BLOCKED_TAG]
    return fleet.Member(station, scenario, tags, PACES.get(post.life, PACES["charging"]))


async def run(members: Iterable[fleet.Member], *, while_pid: int | None = None) -> None:
    """Run the stations until cancelled, or until `while_pid` is no longer our parent."""
    work = asyncio.ensure_future(fleet.run(list(members), spread_s=3))
    try:
        while not work.done():
            await asyncio.sleep(0.5)
            if while_pid is not None and os.getppid() != while_pid:
                break
    finally:
        work.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await work
