"""The demo's twelve stations, charging, faulting, rebooting and updating without end."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Iterable

from django.db.models import Max

from config.demo.places import BLOCKED_TAG, DRIVERS, PILLAR, POSTS, RAPID, WALL, Post
from monitoring.models import Session
from stations.models import Station as Row
from stations.simulator import fleet
from stations.simulator.model import Fate, Reason, Transaction
from stations.simulator.scenarios import SCENARIOS, Pace
from stations.simulator.station import Station

# Cars stay for minutes, not hours, so that a visitor sees them come and go.
# The pillars are updated meanwhile, which waits for a quiet moment: they have some.
PACES = {
    RAPID: Pace(stay_s=(90, 300), free_s=(5, 40)),
    PILLAR: Pace(stay_s=(60, 150), free_s=(60, 180)),
    WALL: Pace(stay_s=(180, 600), free_s=(20, 120)),
}
SAMPLE_S = 10
BOOT_S, INSTALL_S = 4.0, 8.0  # quick, so that a visitor sees a whole update


def members(url: str, seed: int) -> list[fleet.Member]:
    """The twelve stations as the server at `url` knows them: firmware, and where meters stand."""
    firmware = dict(Row.objects.values_list("identity", "firmware"))
    meters = list(
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


def cut_short() -> list[Session]:
    """Sessions that still ran when the demo was stopped the last time."""
    running = Session.objects.filter(
        stopped_at=None, station__identity__in=[p.identity for p in POSTS]
    )
    return list(running.select_related("station", "connector__evse"))


def end_cut_short(members: Iterable[fleet.Member], sessions: Iterable[Session]) -> None:
    """Queue what a charger says after a power cut: each of them stopped at its last reading."""
    stations = {one.station.identity: one.station for one in members}
    for session in sessions:
        station = stations[session.station.identity]
        number = session.connector.evse.number if session.connector is not None else 1
        tx = Transaction(
            station.connectors[number],
            session.token_uid,
            session.started_at,
            (session.meter_start_mwh or 0) // 1000,
            ref=session.ref,
            token_type=session.token_type,
            transaction_id=session.number,
            seq=(session.seq_no or 0) + 1,
        )
        tx.reason = Reason.POWER_LOSS
        tx.stopped_at = session.last_reading_at or session.started_at
        tx.stop_wh = (session.last_register_mwh or session.meter_start_mwh or 0) // 1000
        reading = tx.connector.read(tx.stopped_at)
        reading.register_wh = tx.stop_wh
        station.say(station.dialect.stopped(tx, reading), keep=True)


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
        boot_s=BOOT_S,
        install_s=INSTALL_S,
    )
    station.configuration.set("MeterValueSampleInterval", str(SAMPLE_S))
    scenario = SCENARIOS[post.life]
    station.quirks = scenario.quirks
    tags = [driver.tag for driver in DRIVERS] * 2 + [BLOCKED_TAG]
    return fleet.Member(station, scenario, tags, PACES[post.make])


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
