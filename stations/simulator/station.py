"""The charge point itself: connects, boots, charges cars, keeps what it could not send."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Callable
from datetime import datetime
from typing import Any

from websockets.exceptions import WebSocketException

from stations.simulator import charging, configuration
from stations.simulator.clock import Clock, stamp
from stations.simulator.dialect import Dialect, Message
from stations.simulator.link import Link, LinkDownError, NoAnswerError
from stations.simulator.model import (
    CallError,
    Connector,
    Fate,
    Fault,
    Payload,
    Quirks,
    Reason,
    Reply,
    Status,
    Transaction,
    Vehicle,
)
from stations.simulator.outbox import Outbox
from stations.simulator.v2 import V21, V201
from stations.simulator.v16 import V16

log = logging.getLogger("stations.simulator")

DIALECTS: dict[str, type[Dialect]] = {"1.6": V16, "2.0.1": V201, "2.1": V21}
BOOT_S = 20.0  # from power-on to the first frame
INSTALL_S = 30.0  # how long a firmware update is written


class Station:
    """A charge point. `run()` lives until `shut_down()`; the verbs below are what happens to it
    meanwhile.

    `autonomous` False leaves meters, samples and heartbeats to the caller, which is what tests
    want.
    """

    def __init__(
        self,
        url: str,
        identity: str,
        version: str = "1.6",
        *,
        connectors: dict[int, float] | int = 2,
        dc: bool = False,
        password: str | None = None,
        vendor: str = "Demo Works",
        model: str = "Pillar 22",
        firmware: str = "1.0.0",
        seed: int = 0,
        clock: Clock | None = None,
        quirks: Quirks | None = None,
        fate: Fate = Fate.OK,
        autonomous: bool = True,
        auto_boot: bool = True,
        reconnect_s: float = 1.0,
        boot_s: float = BOOT_S,
        install_s: float = INSTALL_S,
        answer_s: float = 30.0,
        observer: Callable[[str, list[Any]], None] | None = None,
    ) -> None:
        self.url, self.identity, self.version = url, identity, version
        self.password = password
        self.vendor, self.model, self.firmware = vendor, model, firmware
        self.serial = identity[:25]
        self.random = random.Random(f"{seed}:{identity}")  # noqa: S311  a simulation, to be repeatable
        self.quirks = quirks or Quirks()
        self.fate = fate
        self.boot_s, self.install_s = boot_s, install_s
        self.clock = clock or Clock(never_set=self.quirks.never_set_clock)
        self.autonomous, self.reconnect_s, self.observer = autonomous, reconnect_s, observer
        if isinstance(connectors, int):
            connectors = dict.fromkeys(range(1, connectors + 1), 150_000.0 if dc else 22_000.0)
        self.connectors = {n: Connector(n, max_w=w, dc=dc) for n, w in connectors.items()}
        self.configuration = configuration.factory_settings(
            vendor, model, self.serial, firmware, connectors
        )
        self.dialect = DIALECTS[version](self)
        self.outbox = Outbox(
            lambda: self.configuration.integer("TransactionMessageAttempts"),
            lambda n: self.clock.sleep(
                n * self.configuration.integer("TransactionMessageRetryInterval")
            ),
            answer_s,
        )
        self.link: Link | None = None
        self.accepted = asyncio.Event()
        self.booted = False
        self.boot_reason = "PowerUp"
        self.boot_answer: Payload = {}
        self.refused: Exception | None = None  # why the last connection failed
        self.operative = True
        self.calls: list[tuple[str, Payload]] = []  # what the server ordered, oldest first
        self.overrides: dict[str, Payload | CallError] = {}  # answers to give instead of our own
        self.profiles: list[charging.Profile] = []
        self.local_list: dict[str, Payload] = {}
        self.local_list_version = 0
        self.firmware_task: asyncio.Task[None] | None = None
        self.firmware_last: tuple[str, int | None] = ("Idle", None)
        self.after_boot: list[Callable[[], None]] = []
        self._boot_asked = asyncio.Event()
        if auto_boot:
            self._boot_asked.set()
        self._online = asyncio.Event()
        self._online.set()
        self.idle = asyncio.Event()
        self.idle.set()
        self._ended = asyncio.Event()
        self._rest_s = 0.0
        self._advanced: dict[int, float] = {}
        self._tasks: set[asyncio.Task[Any]] = set()

    # --- the connection --------------------------------------------------------------------------

    async def run(self) -> None:
        """Connect, boot, serve and connect again, until `shut_down`."""
        failures = 0
        while not self._ended.is_set():
            await self._either(self._online.wait())
            if self._ended.is_set():
                break
            try:
                self.link = await Link.open(
                    self.url, self.identity, self.dialect.subprotocol, self._handle,
                    password=self.password, quirks=self.quirks, observer=self.observer,
                )  # fmt: skip
            except (OSError, WebSocketException) as error:
                self.refused = error
                failures += 1
                log.info("%s could not connect: %s", self.identity, error)
            else:
                self.refused = None
                began = asyncio.get_running_loop().time()
                await self._serve(self.link)
                failures = 0 if asyncio.get_running_loop().time() - began > 5 else failures + 1
            pause = (
                self.reconnect_s * min(60, 2 ** min(failures, 6)) * self.random.uniform(0.5, 1.0)
            )
            rest, self._rest_s = self._rest_s, 0.0
            await self._either(asyncio.sleep(rest / self.clock.speed if rest else pause))

    async def shut_down(self) -> None:
        """Close the connection politely and end `run` and everything else."""
        self._ended.set()
        if self.link is not None and not self.link.closed.is_set():
            await self.link.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def go_offline(self) -> None:
        """Lose the network: the socket dies without a word, nothing is tried until `go_online`."""
        self._online.clear()
        self.drop()

    def go_online(self) -> None:
        """Have the network again."""
        self._online.set()

    def drop(self) -> None:
        """Lose this connection; `run` makes a new one."""
        self.accepted.clear()
        if self.link is not None:
            self.link.drop()

    def ask_boot(self) -> None:
        """Boot now, where `auto_boot` was False."""
        self._boot_asked.set()

    def restart(self, reason: str, *, away_s: float | None = None) -> None:
        """Reboot: the socket goes, and after `away_s` (default `boot_s`) the charge point boots
        with `reason` (2.x words).
        """
        self.booted, self.boot_reason = False, reason
        self._rest_s = self.boot_s if away_s is None else away_s
        self.accepted.clear()
        if self.link is not None:
            self.link.drop()

    @property
    def connected(self) -> bool:
        """Whether a socket is open and the server accepted the boot."""
        return self.accepted.is_set()

    async def call(self, action: str, payload: Payload, *, timeout_s: float = 30.0) -> Payload:
        """Send any call now; raises LinkDownError, NoAnswerError or CallError."""
        if self.link is None:
            raise LinkDownError
        return await self.link.call(action, payload, timeout_s=timeout_s)

    async def _either(self, wait: Any) -> None:
        """Wait for `wait` or for the end."""
        tasks = [asyncio.ensure_future(wait), asyncio.ensure_future(self._ended.wait())]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, link: Link) -> None:
        tasks = [asyncio.create_task(self._live(link))]
        try:
            await link.closed.wait()
        finally:
            self.accepted.clear()
            for task in tasks:
                task.cancel()
            for outcome in await asyncio.gather(*tasks, return_exceptions=True):
                if isinstance(outcome, Exception):
                    log.error("%s broke", self.identity, exc_info=outcome)
            self.outbox.forget_passing()

    async def _live(self, link: Link) -> None:
        with contextlib.suppress(LinkDownError):
            if not self.booted:
                await self._boot_asked.wait()
                await self._boot(link)
            self.accepted.set()
            for callback in self.after_boot:
                callback()
            self.after_boot.clear()
            self.say(*self.dialect.statuses(None, self.clock.now()))
            for connector in self.connectors.values():
                self.say(*self.dialect.statuses(connector, self.clock.now()))
            if self.quirks.orphan_stop and self.connectors:
                self._stop_an_orphan()
            async with asyncio.TaskGroup() as group:
                group.create_task(self.outbox.drain(link))
                if self.autonomous:
                    group.create_task(self._heartbeats(link))

    async def _boot(self, link: Link) -> None:
        """Send BootNotification until accepted (1.6 §4.2, 2.0.1 B01–B03)."""
        while True:
            wait = 30.0
            try:
                self.boot_answer = await link.call(
                    "BootNotification", self.dialect.boot(self.boot_reason)
                )
            except (CallError, NoAnswerError) as error:
                log.info("%s: boot failed: %s", self.identity, error)
            else:
                interval = int(self.boot_answer.get("interval") or 0)
                if self.boot_answer.get("status") == "Accepted":
                    self.booted = True
                    if interval:
                        self.configuration.set("HeartbeatInterval", str(interval))
                    return
                wait = interval or wait
            await asyncio.sleep(wait)

    async def _heartbeats(self, link: Link) -> None:
        while True:
            interval = self.configuration.integer("HeartbeatInterval") or 300
            await asyncio.sleep(interval)
            with contextlib.suppress(CallError, NoAnswerError):
                await link.call("Heartbeat", {})

    async def _handle(self, action: str, payload: Payload) -> Reply:
        self.calls.append((action, payload))
        del self.calls[:-1000]
        override = self.overrides.get(action)
        if isinstance(override, CallError):
            raise override
        if override is not None:
            return Reply(override)
        return await self.dialect.handle(action, payload)

    def say(self, *messages: Message | None, keep: bool = False) -> None:
        """Queue messages in order; without `keep` only while connected."""
        for message in messages:
            if message is not None and (keep or self.connected):
                self.outbox.put(message[0], message[1], keep=keep)

    def spawn(self, work: Any) -> asyncio.Task[Any]:
        """Run `work` beside everything else until `shut_down`."""
        task: asyncio.Task[Any] = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    # --- what happens at the connectors ----------------------------------------------------------

    def set_status(self, connector: Connector, status: Status) -> None:
        """Change a connector's state and say so; a fault and an inoperative connector win."""
        if connector.fault is not None:
            status = Status.FAULTED
        elif status == Status.AVAILABLE and not (connector.operative and self.operative):
            status = Status.UNAVAILABLE
        elif status == Status.AVAILABLE and connector.reservation is not None:
            status = Status.RESERVED
        before, connector.status = connector.status, status
        if self.dialect.word(before) != self.dialect.word(status):
            self.say(*self.dialect.statuses(connector, self.clock.now()))

    def plug(self, number: int, vehicle: Vehicle | None = None) -> None:
        """Plug a vehicle into a connector."""
        connector = self.connectors[number]
        connector.vehicle = vehicle or Vehicle()
        self.set_status(connector, Status.PREPARING)

    async def unplug(self, number: int) -> None:
        """Pull the cable; a running transaction stops (StopTransactionOnEVSideDisconnect)."""
        connector = self.connectors[number]
        if connector.transaction is not None:
            self.stop(connector.transaction, Reason.EV_DISCONNECTED)
        connector.vehicle = None
        self.set_status(connector, Status.AVAILABLE)

    async def authorize(self, tag: str, token_type: str = "") -> str:
        """Ask the server about a tag; its word, or "Offline" without a connection."""
        listed = self.local_list.get(tag)
        if listed is not None:
            return str(listed.get("status", "Invalid"))
        token_type = token_type or self.dialect.default_kind
        try:
            answer = await self.call("Authorize", self.dialect.authorize(tag, token_type))
        except (LinkDownError, NoAnswerError):
            return "Offline"
        except CallError:
            return "Invalid"
        return self.dialect.authorized(answer) or "Invalid"

    def start(
        self,
        number: int,
        tag: str,
        *,
        remote_start_id: int | None = None,
        token_type: str = "",
        at: datetime | None = None,
    ) -> tuple[Transaction, asyncio.Future[Payload | None]]:
        """Begin a transaction and queue its start; the future is the server's answer."""
        connector = self.connectors[number]
        if connector.transaction is not None:
            raise ValueError(f"Connector {number} is busy.")
        if connector.vehicle is None:
            self.plug(number)
        self._advanced[number] = self.clock.monotonic()
        at = at or self.clock.now()
        tx = Transaction(
            connector, tag, at, int(connector.register_wh), remote_start_id=remote_start_id,
            token_type=token_type or self.dialect.default_kind, offline=not self.connected,
        )  # fmt: skip
        if connector.reservation is not None:
            tx.reservation_id = connector.reservation[0]
        connector.transaction, connector.reservation = tx, None
        self.idle.clear()
        action, build = self.dialect.started(tx, connector.read(at))
        if self.quirks.resend_start:
            self.outbox.put(action, build, keep=True)  # its answer is lost on the way
        answer = self.outbox.put(
            action, build, keep=True, twice=self.quirks.duplicate_sends,
            on_answer=lambda payload: self._start_answered(tx, payload),
        )  # fmt: skip
        self.set_status(connector, Status.CHARGING)
        if self.autonomous:
            self.spawn(self._charge(tx))
        return tx, answer

    async def _start_answered(self, tx: Transaction, payload: Payload) -> None:
        if "transactionId" in payload:
            tx.transaction_id = payload["transactionId"]
        await self.token_answered(tx, payload)

    async def token_answered(self, tx: Transaction, payload: Payload) -> None:
        """Heed the token status in an answer about a transaction (1.6 §4.8, 2.0.1 E05)."""
        status = self.dialect.authorized(payload)
        if status is not None:
            tx.accepted = status in {"Accepted", "ConcurrentTx"}
        elif tx.accepted is None:
            tx.accepted = True
        refused = not tx.accepted and tx.stopped_at is None
        if refused and self.autonomous and self.configuration.flag("StopTransactionOnInvalidId"):
            self.stop(tx, Reason.DEAUTHORIZED)

    def sample(
        self, tx: Transaction, *, at: datetime | None = None, context: str = "Sample.Periodic"
    ) -> asyncio.Future[Payload | None]:
        """Read the meter of a running transaction and queue the values."""
        self._advance(tx.connector)
        reading = tx.connector.read(at or self.clock.now())
        tx.samples += 1
        if self.quirks.falling_register and tx.samples == 3:
            reading.register_wh = max(0, reading.register_wh - 500)
        action, build = self.dialect.sampled(tx, [reading], context)
        return self.outbox.put(
            action, build, keep=True, twice=self.quirks.duplicate_sends,
            on_answer=lambda payload: self.token_answered(tx, payload),
        )  # fmt: skip

    def stop(
        self, tx: Transaction, reason: Reason = Reason.LOCAL, *, at: datetime | None = None
    ) -> asyncio.Future[Payload | None]:
        """End a transaction and queue its stop; the cable stays in (Finishing)."""
        if tx.stopped_at is not None:
            raise ValueError("The transaction has stopped already.")
        self._advance(tx.connector)
        tx.stopped_at, tx.reason = at or self.clock.now(), reason
        tx.stop_wh = int(tx.connector.register_wh)
        tx.offline = not self.connected
        action, build = self.dialect.stopped(tx, tx.connector.read(tx.stopped_at))
        answer = self.outbox.put(action, build, keep=True, twice=self.quirks.duplicate_sends)
        connector = tx.connector
        connector.transaction = None
        if not self.transactions:
            self.idle.set()
        self.set_status(connector, Status.FINISHING)
        if connector.wanted_operative is not None:
            connector.operative, connector.wanted_operative = connector.wanted_operative, None
        return answer

    def fault(self, number: int, fault: Fault) -> None:
        """Break a connector: a running transaction stops, the state is Faulted."""
        connector = self.connectors[number]
        connector.fault = fault
        if connector.transaction is not None:
            self.stop(connector.transaction, Reason.OTHER)
        self.set_status(connector, Status.FAULTED)
        self.say(*self.dialect.faulted(connector, fault, self.clock.now(), cleared=False))

    def clear_fault(self, number: int) -> None:
        """Mend a connector."""
        connector = self.connectors[number]
        fault, connector.fault = connector.fault, None
        if fault is not None:
            self.say(*self.dialect.faulted(connector, fault, self.clock.now(), cleared=True))
        self.set_status(
            connector, Status.AVAILABLE if connector.vehicle is None else Status.PREPARING
        )

    def power_cut(self, away_s: float = 60.0) -> None:
        """Lose mains for `away_s`: sessions end, the socket dies, then a boot after power-up."""
        for connector in self.connectors.values():
            if connector.transaction is not None:
                self.stop(connector.transaction, Reason.POWER_LOSS)
        self.restart("PowerUp", away_s=away_s)

    @property
    def transactions(self) -> list[Transaction]:
        """The running ones."""
        return [c.transaction for c in self.connectors.values() if c.transaction is not None]

    # --- time passing ----------------------------------------------------------------------------

    def _advance(self, connector: Connector) -> None:
        if not self.autonomous:
            return
        now = self.clock.monotonic()
        connector.limit_w = charging.limit_w(self.profiles, connector, self.clock.now())
        connector.advance(now - self._advanced.get(connector.number, now))
        self._advanced[connector.number] = now

    async def _charge(self, tx: Transaction) -> None:
        """Sample a running transaction until it stops; suspend when the battery has enough."""
        connector = tx.connector
        while not tx.over():
            interval = self.configuration.integer("MeterValueSampleInterval") or 60
            await self.clock.sleep(interval)
            if tx.over():
                return
            self.sample(tx)
            full = connector.vehicle is not None and connector.vehicle.accepts_w() <= 0
            held = connector.limit_w is not None and connector.limit_w <= 0
            status = Status.CHARGING
            if full or held:
                status = Status.SUSPENDED_EV if full else Status.SUSPENDED_EVSE
            if connector.status != status:
                self.set_status(connector, status)
                for message in self.dialect.charging_state(
                    tx, self.clock.now(), "ChargingStateChanged"
                ):
                    self.say(message, keep=True)

    def _stop_an_orphan(self) -> None:
        connector = next(iter(self.connectors.values()))
        tx = Transaction(connector, "ORPHAN", self.clock.now(), int(connector.register_wh))
        tx.transaction_id = self.random.randrange(10**8, 2**31)
        tx.stopped_at, tx.stop_wh, tx.reason = self.clock.now(), tx.start_wh, Reason.POWER_LOSS
        self.say(self.dialect.stopped(tx, connector.read(tx.stopped_at)), keep=True)

    def current_time(self) -> str:
        """The charge point's time as OCPP text."""
        return stamp(self.clock.now())
