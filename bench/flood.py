"""`make bench-flood`: a hundred chargers send garbage as fast as they can; what do others notice?

Good chargers send a heartbeat every fifth of a second, first alone, then beside the flood. The
flood runs in a process of its own, so that it costs the good ones' clock nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import multiprocessing
import time
from multiprocessing.synchronize import Event

import uvloop
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from bench import report
from bench.installation import DATABASES, installed
from bench.load import percentile

HEAD = ["database", "beside", "chargers", "heartbeats", "p50 ms", "p99 ms", "max ms"]
BOOT = '[2,"boot","BootNotification",{"chargePointVendor":"Bench","chargePointModel":"Flood"}]'
EVERY_S = 0.2
GARBAGE = (
    "not json at all",
    '[2,"x","Heartbeat",{"a":NaN}]',
    '[2,"x","MakeCoffee",{}]',
    '[2,"x","StatusNotification",{"connectorId":"one"}]',
    '[2,"x","MeterValues",{"connectorId":1,"meterValue":[' + '{"sampledValue":7},' * 500 + "{}]}]",
    '[3,"never asked",{}]',
    "[" * 5000,
)


async def booted(url: str, identity: str) -> ClientConnection:
    """Connect a charger and boot it."""
    socket = await connect(f"{url}/{identity}", subprotocols=["ocpp1.6"], compression=None)  # type: ignore[list-item]
    await socket.send(BOOT)
    await socket.recv()
    return socket


async def _flood(url: str, count: int, ready: Event, stop: Event) -> None:
    sockets = [await booted(url, f"NOISE{n:03d}") for n in range(count)]
    ready.set()

    async def shout(socket: ClientConnection) -> None:
        n = 0
        while not stop.is_set():
            await socket.send(GARBAGE[n % len(GARBAGE)])
            n += 1

    async def hear(socket: ClientConnection) -> None:
        async for _ in socket:
            pass

    tasks = [asyncio.create_task(work(one)) for one in sockets for work in (shout, hear)]
    while not stop.is_set():  # noqa: ASYNC110  another process sets it
        await asyncio.sleep(0.1)
    for task in tasks:
        task.cancel()
    for socket in sockets:
        socket.transport.abort()


def flood(url: str, count: int, ready: Event, stop: Event) -> None:
    """Send garbage on `count` sockets until `stop`. The other process's main function."""
    with contextlib.suppress(ConnectionClosed, OSError):
        uvloop.run(_flood(url, count, ready, stop))


async def heartbeats(url: str, count: int, seconds: float, prefix: str) -> list[float]:
    """How long each heartbeat of good chargers waited for its answer, in seconds, sorted."""
    sockets = [await booted(url, f"{prefix}{n:02d}") for n in range(count)]
    waited: list[float] = []
    until = time.perf_counter() + seconds

    async def beat(socket: ClientConnection, n: int) -> None:
        await asyncio.sleep(EVERY_S * n / count)
        while time.perf_counter() < until:
            began = time.perf_counter()
            await socket.send('[2,"h","Heartbeat",{}]')
            await socket.recv()
            took_s = time.perf_counter() - began
            waited.append(took_s)
            await asyncio.sleep(max(0.0, EVERY_S - took_s))

    await asyncio.gather(*(beat(socket, n) for n, socket in enumerate(sockets)))
    for socket in sockets:
        await socket.close()
    return sorted(waited)


def beside(url: str, noise: int, good: int, seconds: float) -> list[float]:
    """The good chargers' waits beside `noise` senders of garbage."""
    if not noise:
        return uvloop.run(heartbeats(url, good, seconds, "CALM"))
    spawn = multiprocessing.get_context("spawn")
    ready, stop = spawn.Event(), spawn.Event()
    process = spawn.Process(target=flood, args=(url, noise, ready, stop))
    process.start()
    try:
        if not ready.wait(60):
            raise SystemExit("The flood did not begin: see the words of its process above.")
        time.sleep(1)
        return uvloop.run(heartbeats(url, good, seconds, "GOOD"))
    finally:
        stop.set()
        process.join(10)
        if process.is_alive():
            process.terminate()


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--noise", type=int, default=100)
    parser.add_argument("--good", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--databases", default=",".join(DATABASES))
    parser.add_argument("--keep", action="store_true", help="print only, leave the page alone")
    options = parser.parse_args()
    rows = []
    for database in options.databases.split(","):
        with installed(database) as server:
            for noise in (0, options.noise):
                waited = beside(server.url, noise, options.good, options.seconds)
                figures = [percentile(waited, 0.5), percentile(waited, 0.99), waited[-1]]
                rows.append(
                    [database, f"{noise} senders of garbage" if noise else "nobody",
                     str(options.good), str(len(waited)), *(f"{1000 * one:.1f}" for one in figures)]
                )  # fmt: skip
                print("  ".join(rows[-1]), flush=True)
    text = f"{report.conditions()}\n\n{report.table(HEAD, rows)}"
    if options.keep:
        print(text)
    else:
        report.write("flood", text)


if __name__ == "__main__":
    main()
