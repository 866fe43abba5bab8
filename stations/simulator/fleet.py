"""Many simulated charge points in one process."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from stations.simulator.clock import Clock
from stations.simulator.scenarios import SCENARIOS, Pace, Scenario
from stations.simulator.station import Station

log = logging.getLogger("stations.simulator")


@dataclass
class Member:
    """A station of a fleet and the life it leads."""

    station: Station
    scenario: Scenario
    tags: list[str]
    pace: Pace | None = None

    async def live(self) -> None:
        """Run the station and its scenario until cancelled; a scenario that breaks is logged,
        begun anew.
        """
        runner = asyncio.create_task(self.station.run())
        try:
            while True:
                try:
                    pace = self.pace or self.scenario.pace
                    await self.scenario.life(self.station, self.tags, pace)
                except Exception:  # one broken scenario must not end the fleet
                    log.exception("%s: the scenario broke", self.station.identity)
                    await asyncio.sleep(5)
        finally:
            await self.station.shut_down()
            await runner


def build(
    url: str,
    *,
    versions: Sequence[str],
    count: int,
    scenario: str,
    prefix: str = "SIM",
    password: str | None = None,
    connectors: int = 2,
    dc: bool = False,
    speed: float = 1.0,
    seed: int = 0,
    tags: Sequence[str] = (),
) -> list[Member]:
    """`count` stations named `prefix`-001…, versions and fates taken in turn. Deterministic under
    `seed`.
    """
    chosen = SCENARIOS[scenario]
    members = []
    for n in range(count):
        station = Station(
            url,
            f"{prefix}-{n + 1:03d}",
            versions[n % len(versions)],
            connectors=connectors,
            dc=dc,
            password=password,
            seed=seed,
            clock=Clock(speed=speed),
            quirks=replace(chosen.quirks),
            fate=chosen.fates[n % len(chosen.fates)],
        )
        members.append(Member(station, chosen, list(tags)))
    return members


async def run(
    members: list[Member], *, spread_s: float = 1.0, report: Callable[[str], None] | None = None
) -> None:
    """Start the members one after the other within `spread_s`, then report every 10 s, until
    cancelled.
    """

    async def late(member: Member, after_s: float) -> None:
        await asyncio.sleep(after_s)
        await member.live()

    async with asyncio.TaskGroup() as group:
        for n, member in enumerate(members):
            group.create_task(late(member, spread_s * n / max(1, len(members))))
        while report is not None:
            await asyncio.sleep(10)
            report(summary(members))


def summary(members: list[Member]) -> str:
    """A line about the fleet: connected, charging, energy, what waits, what failed."""
    stations = [m.station for m in members]
    running = [tx for s in stations for tx in s.transactions]
    kwh = sum(c.register_wh for s in stations for c in s.connectors.values()) / 1000
    kw = sum(tx.connector.power_w() for tx in running) / 1000
    line = (
        f"{sum(s.connected for s in stations)} of {len(stations)} connected, "
        f"{len(running)} charging at {kw:.1f} kW, {kwh:.1f} kWh so far, "
        f"{sum(len(s.outbox) for s in stations)} messages waiting"
    )
    refused = next((s for s in stations if s.refused is not None), None)
    if refused is not None:
        line += f"; {refused.identity}: {refused.refused}"
    elif not any(s.connected for s in stations) and stations:
        status = stations[0].boot_answer.get("status")
        if status and status != "Accepted":
            line += f"; boot answered {status}: approve the stations first"
    return line
