"""Daily lives of charge points: what happens to a station beside what the server orders.

Each is a coroutine function that takes a station and lives for ever; `SCENARIOS` names them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from stations.simulator.model import Fate, Fault, Quirks, Reason, Status, Vehicle
from stations.simulator.station import Station

FAULTS = [
    Fault("GroundFailure", "E104", "residual current above 30 mA"),
    Fault("OverVoltage", "E201", "L2 at 271 V"),
    Fault("HighTemperature", "E310", "contactor at 92 °C"),
    Fault("ConnectorLockFailure", "E415", "the lock does not close"),
    Fault("PowerMeterFailure", "E520", "no answer from the meter"),
]
FAULT_S = (60, 900)  # some pass before anybody need know, most do not
AC_CARS_W = (3_700.0, 7_400.0, 11_000.0, 22_000.0)
DC_CARS_W = (50_000.0, 100_000.0, 150_000.0, 250_000.0)


@dataclass(frozen=True)
class Pace:
    """Simulated seconds a car stays and a place is free, each as (least, most)."""

    stay_s: tuple[float, float] = (600.0, 2400.0)
    free_s: tuple[float, float] = (120.0, 900.0)


@dataclass(frozen=True)
class Scenario:
    """A life, told in a sentence; the quirks and fates of the stations that live it."""

    words: str
    life: Callable[[Station, list[str], Pace], Awaitable[None]]
    quirks: Quirks = field(default_factory=Quirks)
    fates: tuple[Fate, ...] = (Fate.OK,)
    pace: Pace = Pace()


def random_car(station: Station, number: int) -> Vehicle:
    """Some car that fits the connector."""
    draw = station.random
    powers = DC_CARS_W if station.connectors[number].dc else AC_CARS_W
    return Vehicle(
        battery_wh=draw.choice((38_000, 52_000, 64_000, 77_000, 90_000)),
        soc=draw.uniform(0.1, 0.6),
        max_w=draw.choice(powers),
        target_soc=draw.choice((0.8, 0.9, 1.0)),
    )


async def visit(station: Station, number: int, tag: str, stay_s: float) -> None:
    """One driver: plugs in, holds up a tag, stays, stops, leaves."""
    draw, clock = station.random, station.clock
    connector = station.connectors[number]
    if connector.status != Status.AVAILABLE:
        return
    station.plug(number, random_car(station, number))
    await clock.sleep(draw.uniform(3, 10))
    if connector.transaction is None and connector.fault is None:
        status = await station.authorize(tag)
        if status not in {"Accepted", "Offline"}:
            await clock.sleep(draw.uniform(3, 10))
            await station.unplug(number)
            return
    if connector.transaction is None and connector.fault is None and connector.vehicle is not None:
        tx, _ = station.start(number, tag)
        await clock.sleep(stay_s)
        if not tx.over() and draw.random() < 0.8:
            station.stop(tx, Reason.LOCAL)
            await clock.sleep(draw.uniform(5, 60))
    if connector.vehicle is not None:
        await station.unplug(number)


async def place(station: Station, number: int, tags: list[str], pace: Pace) -> None:
    """One parking place: drivers come, one after the other."""
    draw = station.random
    await station.clock.sleep(draw.uniform(0, pace.free_s[0]))
    while True:
        await station.accepted.wait()
        if tags:
            await visit(station, number, draw.choice(tags), draw.uniform(*pace.stay_s))
        await station.clock.sleep(draw.uniform(*pace.free_s))


async def quiet(station: Station, tags: list[str], pace: Pace) -> None:
    """Nothing but heartbeats."""
    await asyncio.Event().wait()


async def charging(station: Station, tags: list[str], pace: Pace) -> None:
    """Drivers at every connector."""
    async with asyncio.TaskGroup() as group:
        for number in station.connectors:
            group.create_task(place(station, number, tags, pace))


async def faulty(station: Station, tags: list[str], pace: Pace) -> None:
    """Drivers, and faults that come and go; now and then the mains fail."""
    draw, clock = station.random, station.clock

    async def break_things() -> None:
        while True:
            await clock.sleep(draw.uniform(*pace.stay_s) / 2)
            await station.accepted.wait()
            if draw.random() < 0.15:
                station.power_cut(draw.uniform(60, 300))
                continue
            number = draw.choice(list(station.connectors))
            station.fault(number, draw.choice(FAULTS))
            await clock.sleep(draw.uniform(*FAULT_S))
            station.clear_fault(number)

    async with asyncio.TaskGroup() as group:
        group.create_task(charging(station, tags, pace))
        group.create_task(break_things())


async def flaky_network(station: Station, tags: list[str], pace: Pace) -> None:
    """Drivers, and a connection that is lost again and again; sessions go on offline."""
    draw, clock = station.random, station.clock

    async def lose_network() -> None:
        while True:
            await clock.sleep(draw.uniform(60, 300))
            if draw.random() < 0.5:
                station.drop()
                continue
            station.go_offline()
            await clock.sleep(draw.uniform(20, 300))
            station.go_online()

    async with asyncio.TaskGroup() as group:
        group.create_task(charging(station, tags, pace))
        group.create_task(lose_network())


async def storm(station: Station, tags: list[str], pace: Pace) -> None:
    """Every minute all lose the connection in the same second and boot again."""
    loop = asyncio.get_running_loop()
    while True:
        await station.accepted.wait()
        await asyncio.sleep(60 - loop.time() % 60)
        station.restart("PowerUp", away_s=0.01)


SCENARIOS: dict[str, Scenario] = {
    "quiet": Scenario("connected, heartbeats, nothing else", quiet),
    "charging": Scenario("drivers come, charge and leave", charging),
    "busy": Scenario(
        "hardly a free place, short stays",
        charging,
        pace=Pace(stay_s=(120, 600), free_s=(5, 30)),
    ),
    "faulty": Scenario("drivers, faults that come and go, power cuts", faulty),
    "flaky-network": Scenario(
        "drivers, and a connection that is lost again and again",
        flaky_network,
        quirks=Quirks(restart_message_ids=True),
    ),
    "firmware": Scenario(
        "takes firmware updates, each station with a fate of its own",
        quiet,
        fates=tuple(Fate),
    ),
    "deaf": Scenario("sends, but never answers a call", charging, quirks=Quirks(deaf=True)),
    "storm": Scenario("all reconnect and boot in the same second, every minute", storm),
}
