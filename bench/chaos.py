"""`make bench-chaos`: kill -9 of the server in the middle of sessions, and a database that stops at
once; then every session a charger told is compared with the database.

The chargers keep what was not acknowledged and send it again, as OCPP demands. Expected: 0 missing,
0 doubled, energy and readings exact.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import signal
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from bench import report
from bench.installation import DATABASES, TAG, Installation, installed
from stations.simulator.model import Transaction
from stations.simulator.station import Station

HEAD = ["database", "kills", "database stops", "sessions", "readings", "sent again", "missing",
        "doubled", "wrong energy", "wrong readings", "never stopped"]  # fmt: skip
VERSIONS = ("1.6", "2.0.1", "2.1")


@dataclass
class Told:
    """A session as its charger told it, all of it acknowledged."""

    tx: Transaction
    station: str
    readings_wh: list[int] = field(default_factory=list)

    @property
    def ref(self) -> str:
        """The name the server knows it by."""
        number = self.tx.transaction_id
        return self.tx.ref if number is None else str(number)


@dataclass
class Verdict:
    """What the comparison found; `exact` when all is as told."""

    sessions: int
    readings: int
    sent_again: int
    missing: int = 0
    doubled: int = 0
    wrong_energy: int = 0
    wrong_readings: int = 0
    never_stopped: int = 0

    @property
    def exact(self) -> bool:
        """Whether nothing is missing, doubled or wrong."""
        return not (
            self.missing
            or self.doubled
            or self.wrong_energy
            or self.wrong_readings
            or self.never_stopped
        )


class Chargers:
    """Chargers that run session after session and remember what they told."""

    def __init__(self, url: str, count: int, seed: int = 0, readings: int = 5) -> None:
        self.readings = readings
        self.told: list[Told] = []
        self.sent: Counter[tuple[str, str]] = Counter()  # (identity, message without its id)
        self.enough = asyncio.Event()
        self.random = random.Random(seed)
        self.stations = [self._station(url, n) for n in range(count)]

    def _station(self, url: str, n: int) -> Station:
        identity = f"CHAOS-{n:04d}"

        def observe(direction: str, frame: list[Any]) -> None:
            if direction == "out" and frame[0] == 2 and frame[2] != "BootNotification":
                self.sent[identity, json.dumps(frame[2:])] += 1

        station = Station(
            url, identity, VERSIONS[n % len(VERSIONS)], connectors=1, autonomous=False,
            reconnect_s=0.2, answer_s=5, observer=observe,
        )  # fmt: skip
        station.configuration.set("TransactionMessageAttempts", "1000")
        return station

    async def run(self) -> None:
        """Charge until `enough` is set and every started session is told to its end."""
        runners = [asyncio.create_task(station.run()) for station in self.stations]
        await asyncio.gather(*(self._life(station) for station in self.stations))
        await asyncio.gather(*(station.shut_down() for station in self.stations))
        await asyncio.gather(*runners)

    async def _life(self, station: Station) -> None:
        await station.accepted.wait()
        connector = station.connectors[1]
        while True:  # once at least: on a slow machine a charger may be late
            tx, answer = station.start(1, TAG)
            told = Told(tx, station.identity)
            await answer
            for _ in range(self.readings):
                connector.register_wh += self.random.randrange(1, 500)
                told.readings_wh.append(int(connector.register_wh))
                await station.sample(tx)
                await asyncio.sleep(self.random.uniform(0, 0.2))
            connector.register_wh += self.random.randrange(1, 500)
            await station.stop(tx)
            self.told.append(told)
            if self.enough.is_set():
                return

    def compare(self, census: list[dict[str, Any]]) -> Verdict:
        """Hold what was told against what the database holds."""
        verdict = Verdict(
            len(self.told),
            sum(len(told.readings_wh) for told in self.told),
            sum(count - 1 for count in self.sent.values() if count > 1),
        )
        found = {(row["station"], row["ref"]): row for row in census}
        verdict.doubled = len(census) - len(found)
        for told in self.told:
            row = found.pop((told.station, told.ref), None)
            if row is None:
                verdict.missing += 1
                continue
            assert told.tx.stop_wh is not None
            verdict.wrong_energy += row["energy_wh"] != told.tx.stop_wh - told.tx.start_wh
            verdict.wrong_readings += row["registers_wh"] != told.readings_wh
            verdict.never_stopped += not row["stopped"]
        verdict.doubled += len(found)
        return verdict


def census(server: Installation) -> list[dict[str, Any]]:
    """The sessions in the installation's database."""
    done = subprocess.run(
        [sys.executable, "-m", "bench.census"],
        env=server.running.environment, check=True, capture_output=True, text=True,
    )  # fmt: skip
    rows: list[dict[str, Any]] = json.loads(done.stdout)
    return rows


async def rampage(
    server: Installation, chargers: Chargers, *, kills: int, database_stops: int, calm_s: float
) -> Verdict:
    """Let the chargers charge, kill the server and stop its database, and compare at the end."""
    work = asyncio.create_task(chargers.run())
    blows = ["kill"] * kills + ["database"] * database_stops
    chargers.random.shuffle(blows)
    for blow in blows:
        await asyncio.sleep(calm_s * chargers.random.uniform(0.5, 1.5))
        if blow == "kill":
            server.running.kill()
            await asyncio.to_thread(server.running.start)
        elif server.postgresql is not None:
            await asyncio.to_thread(server.postgresql.restart, signal.SIGQUIT)
    await asyncio.sleep(calm_s)
    chargers.enough.set()
    await asyncio.wait_for(work, 180)
    return chargers.compare(await asyncio.to_thread(census, server))


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument("--calm", type=float, default=4, help="seconds between two blows, about")
    parser.add_argument("--databases", default=",".join(DATABASES))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", action="store_true", help="print only, leave the page alone")
    options = parser.parse_args()
    rows = []
    exact = True
    for database in options.databases.split(","):
        stops = 1 if database == "postgresql" else 0
        with installed(database) as server:

            async def go(server: Installation = server, stops: int = stops) -> Verdict:
                chargers = Chargers(server.url, options.count, options.seed)
                return await rampage(
                    server, chargers, kills=options.kills, database_stops=stops,
                    calm_s=options.calm,
                )  # fmt: skip

            verdict = asyncio.run(go())
        exact = exact and verdict.exact
        figures = [verdict.sessions, verdict.readings, verdict.sent_again, verdict.missing,
                   verdict.doubled, verdict.wrong_energy, verdict.wrong_readings,
                   verdict.never_stopped]  # fmt: skip
        rows.append([database, str(options.kills), str(stops), *(f"{n:,}" for n in figures)])
        print("  ".join(rows[-1]), flush=True)
    text = f"{report.conditions()}\n\n{report.table(HEAD, rows)}"
    if options.keep:
        print(text)
    else:
        report.write("chaos", text)
    if not exact:
        sys.exit("Something acknowledged was lost, doubled or changed: see the table.")


if __name__ == "__main__":
    main()
