"""A charger for tests, in any of the three versions, on top of the simulated charge point.

    async with Charger(url, "CP-1", "2.0.1") as c:
        await c.boot()
        await c.plug(1)
        tx = await c.start(1, "TAG")
        await c.meter(tx, 1500)
        await c.stop(tx, 3000)

Every verb means the same in each version and returns once the server has answered. Energy is in Wh
since the start of the session, unless `register_wh` gives the meter's own count.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from datetime import datetime
from typing import Any, Self

from stations.simulator.link import LinkDownError
from stations.simulator.model import Fault, Payload, Reason, Status, Transaction, Vehicle
from stations.simulator.station import Station

ANSWER_S = 10.0
VERSIONS = ("1.6", "2.0.1", "2.1")


class Charger:
    """A charge point that does what the test says and nothing by itself."""

    def __init__(self, url: str, identity: str, version: str = "1.6", **options: Any) -> None:
        self.frames: list[tuple[str, list[Any]]] = []
        self.station = Station(
            url,
            identity,
            version,
            autonomous=False,
            auto_boot=False,
            reconnect_s=options.pop("reconnect_s", 0.05),
            observer=lambda direction, frame: self.frames.append((direction, frame)),
            **options,
        )
        self.station.configuration.set("TransactionMessageRetryInterval", "0")
        self.identity, self.version = identity, version
        self._runner: asyncio.Task[None] | None = None
        self._seen = 0

    async def __aenter__(self) -> Self:
        await self.connect()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    # --- connection ------------------------------------------------------------------------------

    async def connect(self) -> None:
        """Open the socket; raises what the server refused with."""
        self._runner = asyncio.create_task(self.station.run())
        async with asyncio.timeout(ANSWER_S):
            await self._until(lambda: self.station.link or self.station.refused)
        if self.station.refused is not None:
            await self.close()
            raise self.station.refused

    async def close(self) -> None:
        """Close politely and stop everything."""
        await self.station.shut_down()
        if self._runner is not None:
            with contextlib.suppress(asyncio.CancelledError):
                await self._runner

    async def boot(self, *, wait: bool = True) -> Payload:
        """BootNotification; its answer. With `wait`, once accepted and the statuses are sent."""
        self.station.boot_answer = {}
        self.station.ask_boot()
        async with asyncio.timeout(ANSWER_S):
            await self._until(lambda: self.station.boot_answer)
        if wait:
            async with asyncio.timeout(ANSWER_S):
                await self.station.accepted.wait()
            await self.settled()
        return self.station.boot_answer

    async def offline(self) -> None:
        """Lose the network."""
        self.station.go_offline()
        if self.station.link is not None:
            await self.station.link.closed.wait()

    async def online(self) -> None:
        """Have the network back, reconnect, send what waited."""
        self.station.go_online()
        await self.accepted()
        await self.settled()

    async def accepted(self) -> None:
        """Wait until connected and booted."""
        async with asyncio.timeout(ANSWER_S):
            await self.station.accepted.wait()

    async def _until(self, true: Callable[[], object]) -> None:
        while not true():  # noqa: ASYNC110  a test may watch anything
            await asyncio.sleep(0.005)

    async def settled(self) -> None:
        """Wait until every queued message is answered."""
        async with asyncio.timeout(ANSWER_S):
            await self._until(lambda: len(self.station.outbox) == 0)

    # --- messages --------------------------------------------------------------------------------

    async def call(self, action: str, payload: Payload) -> Payload:
        """Send any call; returns the answer's payload or raises CallError, NoAnswerError."""
        return await self.station.call(action, payload, timeout_s=ANSWER_S)

    async def send_text(self, text: str) -> None:
        """Send raw text."""
        if self.station.link is None:
            raise LinkDownError
        await self.station.link.send_text(text)

    async def expect(self, action: str, timeout_s: float = ANSWER_S) -> Payload:
        """The payload of the server's next call of that name; others before it are skipped."""
        async with asyncio.timeout(timeout_s):
            while True:
                while self._seen < len(self.station.calls):
                    name, payload = self.station.calls[self._seen]
                    self._seen += 1
                    if name == action:
                        return payload
                await asyncio.sleep(0.005)

    def sent(self, action: str) -> list[Payload]:
        """Payloads of all our calls of that name, oldest first."""
        return [f[3] for way, f in self.frames if way == "out" and f[0] == 2 and f[2] == action]

    async def heartbeat(self) -> Payload:
        """Heartbeat."""
        return await self.call("Heartbeat", {})

    # --- at the connectors -----------------------------------------------------------------------

    async def plug(self, number: int = 1, vehicle: Vehicle | None = None) -> None:
        """Plug a car in."""
        self.station.plug(number, vehicle)
        await self._arrived()

    async def unplug(self, number: int = 1) -> None:
        """Pull the cable."""
        await self.station.unplug(number)
        await self._arrived()

    async def authorize(self, tag: str) -> str:
        """Authorize; the status word."""
        return await self.station.authorize(tag)

    async def start(
        self,
        number: int,
        tag: str,
        *,
        at: datetime | None = None,
        register_wh: int | None = None,
        remote_start_id: int | None = None,
        token_type: str = "",
    ) -> Transaction:
        """Begin a session; the verdict is in `tx.accepted`, a 1.6 id in
        `tx.transaction_id`.
        """
        connector = self.station.connectors[number]
        if register_wh is not None:
            connector.register_wh = register_wh
        tx, answer = self.station.start(
            number, tag, at=at, remote_start_id=remote_start_id, token_type=token_type
        )
        await self._answered(answer)
        return tx

    async def meter(
        self,
        tx: Transaction,
        wh: int | None = None,
        *,
        at: datetime | None = None,
        power_w: float | None = None,
        register_wh: int | None = None,
    ) -> None:
        """A periodic reading."""
        self._turn_register(tx, wh, register_wh)
        tx.connector.forced_w = power_w
        await self._answered(self.station.sample(tx, at=at))

    async def stop(
        self,
        tx: Transaction,
        wh: int | None = None,
        *,
        at: datetime | None = None,
        reason: Reason = Reason.LOCAL,
        register_wh: int | None = None,
    ) -> None:
        """End the session."""
        self._turn_register(tx, wh, register_wh)
        await self._answered(self.station.stop(tx, reason, at=at))

    async def status(self, number: int, status: Status) -> None:
        """Say any connector state."""
        self.station.set_status(self.station.connectors[number], status)
        await self._arrived()

    async def fault(self, number: int, code: str = "GroundFailure", info: str = "") -> None:
        """Break a connector."""
        self.station.fault(number, Fault(code, info=info))
        await self._arrived()

    async def clear_fault(self, number: int) -> None:
        """Mend it."""
        self.station.clear_fault(number)
        await self._arrived()

    def _turn_register(self, tx: Transaction, wh: int | None, register_wh: int | None) -> None:
        if register_wh is not None:
            tx.connector.register_wh = register_wh
        elif wh is not None:
            tx.connector.register_wh = tx.start_wh + wh

    async def _answered(self, answer: asyncio.Future[Payload | None]) -> None:
        if self.station.connected:
            await asyncio.wait_for(asyncio.shield(answer), ANSWER_S)

    async def _arrived(self) -> None:
        if self.station.connected:
            await self.settled()
