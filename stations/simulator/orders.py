"""What the server may order, told once for all versions; the dialects translate."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import TYPE_CHECKING

from stations.simulator import firmware
from stations.simulator.model import Connector, Reason, Status, Transaction, Vehicle

if TYPE_CHECKING:
    from stations.simulator.station import Station

type Work = Callable[[], Awaitable[None]]


def free_connector(station: Station, number: int | None, tag: str) -> Connector | None:
    """The connector a remote start may use: the one asked for, else one with a car, else any free
    one.
    """
    able = [
        c
        for c in station.connectors.values()
        if c.transaction is None
        and c.operative
        and c.fault is None
        and (c.reservation is None or c.reservation[1] == tag)
        and number in {None, 0, c.number}
    ]
    return min(able, key=lambda c: (c.vehicle is None, c.number), default=None)


def remote_start(
    station: Station, number: int | None, tag: str, remote_start_id: int | None, token_type: str
) -> tuple[Connector, Work] | None:
    """RemoteStartTransaction / RequestStartTransaction: where, and what to do after the answer."""
    connector = free_connector(station, number, tag)
    if connector is None or not station.operative:
        return None

    async def work() -> None:
        if station.configuration.flag("AuthorizeRemoteTxRequests"):
            status = await station.authorize(tag, token_type)
            if status not in {"Accepted", "Offline"}:
                return
        visitor = connector.vehicle is None
        if visitor and station.autonomous:
            station.set_status(connector, Status.PREPARING)
            await station.clock.sleep(station.random.uniform(2, 6))
            station.plug(
                connector.number,
                Vehicle(soc=station.random.uniform(0.2, 0.6), max_w=connector.max_w),
            )
        if connector.transaction is None:
            station.start(
                connector.number, tag, remote_start_id=remote_start_id, token_type=token_type
            )

    return connector, work


def find_transaction(station: Station, ref: str | int) -> Transaction | None:
    """The running transaction of that 1.6 id or 2.x reference."""
    return next((t for t in station.transactions if ref in (t.ref, t.transaction_id)), None)


def remote_stop(station: Station, tx: Transaction) -> Work:
    """Stop it; where the station lives on its own, the driver unplugs a little later."""

    async def work() -> None:
        if tx.stopped_at is None:
            station.stop(tx, Reason.REMOTE)
        if station.autonomous:
            await station.clock.sleep(station.random.uniform(5, 15))
            if tx.connector.transaction is None and tx.connector.vehicle is not None:
                await station.unplug(tx.connector.number)

    return work


def reset(station: Station, *, hard: bool) -> Work:
    """Stop what runs, say so where there is time to, and reboot (1.6 §5.14, 2.0.1 B11/B12)."""

    async def work() -> None:
        pending = [
            station.stop(tx, Reason.IMMEDIATE_RESET if hard else Reason.REBOOT)
            for tx in station.transactions
        ]
        if pending and not hard:
            await asyncio.wait(pending, timeout=5)
        for connector in station.connectors.values():
            if connector.status == Status.FINISHING and connector.fault is None:
                connector.status = Status.PREPARING if connector.vehicle else Status.AVAILABLE
        station.restart("RemoteReset")

    return work


def reset_when_idle(station: Station) -> Work:
    """Reboot after the last transaction (2.0.1 B12)."""

    async def work() -> None:
        await station.idle.wait()
        station.restart("ScheduledReset")

    return work


def change_availability(
    station: Station, number: int | None, operative: bool
) -> tuple[str, Work] | None:
    """Accepted, or Scheduled where a transaction runs (1.6 §5.2, 2.0.1 G03/G04); None: no such
    connector.
    """
    if number and number not in station.connectors:
        return None
    chosen = [station.connectors[number]] if number else list(station.connectors.values())
    busy = [c for c in chosen if c.transaction is not None]

    async def work() -> None:
        if not number:
            station.operative = operative
            station.say(*station.dialect.statuses(None, station.clock.now()))
        for connector in chosen:
            if connector.transaction is not None:
                connector.wanted_operative = operative
                continue
            connector.operative = operative
            if operative and connector.status != Status.UNAVAILABLE:
                continue
            plugged = connector.vehicle is not None
            station.set_status(
                connector,
                (Status.PREPARING if plugged else Status.AVAILABLE)
                if operative
                else Status.UNAVAILABLE,
            )

    return ("Scheduled" if busy and not operative else "Accepted"), work


def trigger(station: Station, message: str, number: int | None) -> Work | None:
    """Send a message the server asked for (1.6 §5.17, 2.0.1 F06); None where it cannot be
    triggered.
    """
    chosen = [station.connectors[number]] if number else list(station.connectors.values())
    now: Callable[[], datetime] = station.clock.now

    async def boot() -> None:
        answer = station.outbox.put(
            "BootNotification", lambda: station.dialect.boot("Triggered"), keep=False
        )
        await answer

    async def heartbeat() -> None:
        station.say(("Heartbeat", dict))

    async def status() -> None:
        if not number:
            station.say(*station.dialect.statuses(None, now()))
        for connector in chosen:
            station.say(*station.dialect.statuses(connector, now()))

    async def meter() -> None:
        for connector in chosen:
            if connector.transaction is not None:
                station.sample(connector.transaction, context="Trigger")
            else:
                station.say(station.dialect.idle_meter(connector, connector.read(now()), "Trigger"))

    async def transaction() -> None:
        for connector in chosen:
            if connector.transaction is not None:
                station.sample(connector.transaction, context="Trigger")

    async def firmware_status() -> None:
        station.say(firmware.status_when_asked(station))

    async def log_status() -> None:
        station.say(station.dialect.log_status("Idle", None))

    works: dict[str, Work] = {
        "BootNotification": boot,
        "Heartbeat": heartbeat,
        "StatusNotification": status,
        "MeterValues": meter,
        "TransactionEvent": transaction,
        "FirmwareStatusNotification": firmware_status,
        "DiagnosticsStatusNotification": log_status,
        "LogStatusNotification": log_status,
    }
    return works.get(message)


def reserve(
    station: Station, number: int | None, tag: str, reservation_id: int, expires: datetime
) -> tuple[str, Work | None]:
    """Keep a connector for a tag until `expires` (1.6 §5.13, 2.0.1 H01)."""
    able = [c for c in station.connectors.values() if number in {None, 0, c.number}]
    if not able or expires <= station.clock.now():
        return "Rejected", None
    free = [
        c
        for c in able
        if c.status == Status.AVAILABLE or (c.reservation or (0,))[0] == reservation_id
    ]
    if not free:
        worst = able[0]
        if worst.status in {Status.FAULTED, Status.UNAVAILABLE}:
            return str(worst.status), None
        return "Occupied", None
    connector = free[0]
    connector.reservation = (reservation_id, tag)

    async def work() -> None:
        station.set_status(connector, Status.RESERVED)
        seconds = (expires - station.clock.now()).total_seconds()
        station.spawn(_expire(station, connector, reservation_id, seconds))

    return "Accepted", work


async def _expire(
    station: Station, connector: Connector, reservation_id: int, seconds: float
) -> None:
    await asyncio.sleep(seconds)
    if connector.reservation is not None and connector.reservation[0] == reservation_id:
        connector.reservation = None
        if connector.status == Status.RESERVED:
            station.set_status(connector, Status.AVAILABLE)


def cancel_reservation(station: Station, reservation_id: int) -> bool:
    """Forget a reservation; whether there was one (1.6 §5.1)."""
    for connector in station.connectors.values():
        if connector.reservation is not None and connector.reservation[0] == reservation_id:
            connector.reservation = None
            if connector.status == Status.RESERVED:
                station.set_status(connector, Status.AVAILABLE)
            return True
    return False
