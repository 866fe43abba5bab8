"""Orders out: one at a time, each ending in exactly one terminal state with the charger's answer.

A dialect has one method per name in `stations.catalogue` that its version knows; it takes the Order
and returns a Call, or one of the package's call dataclasses, or raises Impossible.
`answered_<name>` may keep what an accepting answer tells. Nothing here is awaited by whatever reads
the socket.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from typing import Any, ClassVar, Final, NamedTuple

from monitoring import metrics
from stations import commands, journal, passwords, quirks
from stations.catalogue import COMMANDS
from stations.configuration import HIDDEN, redacted
from stations.models import Command, Message
from stations.ocpp import fastpath, pool
from stations.ocpp.fastpath import Frame, Violation
from stations.presence import Admitted

log = logging.getLogger(__name__)

RENEW_S: Final = 5.0  # a station that keeps its socket after a new password gets this long
LATE: Final = 16  # unanswered orders whose late answer is still recognised
DEAF_AFTER: Final = 3  # unanswered orders in a row: heartbeat alive, but it hears nothing

ACCEPTING: Final = (Command.Status.ACCEPTED, Command.Status.SCHEDULED)
STATUSES: Final = {
    "Accepted": Command.Status.ACCEPTED,
    "AcceptedCanceled": Command.Status.ACCEPTED,
    "RebootRequired": Command.Status.ACCEPTED,
    "Unpublished": Command.Status.ACCEPTED,
    "Unlocked": Command.Status.ACCEPTED,
    "Scheduled": Command.Status.SCHEDULED,
}

Payload = dict[str, Any]


class Impossible(Exception):
    """This order cannot be said in this version of the protocol; the text says why."""


class Call(NamedTuple):
    """What a dialect method says: an action and its payload as the wire has it (camelCase)."""

    action: str
    payload: Payload


def without_none(value: Any) -> Any:
    """Return a payload without what is None, and without objects that had nothing else."""
    if isinstance(value, dict):
        kept = {key: without_none(one) for key, one in value.items() if one is not None}
        return {key: one for key, one in kept.items() if one != {} or value[key] == {}}
    if isinstance(value, list):
        return [without_none(one) for one in value]
    return value


@dataclass(frozen=True, slots=True)
class Order:
    """A command as its dialect method sees it; absent arguments are None."""

    id: int
    args: Payload

    def __getattr__(self, name: str) -> Any:
        return self.args.get(name)


@dataclass(slots=True)
class Link:
    """The connection a dialect speaks on, as the consumer knows it."""

    station: Admitted
    epoch: int
    zone: tzinfo  # for times that carry none
    send: Callable[[str], Awaitable[None]]
    close: Callable[[int], Awaitable[None]]
    state: str = ""
    booted: bool = False

    def __post_init__(self) -> None:
        self.state, self.booted = self.station.state, self.station.booted


class Delivery:
    """The half of a dialect that speaks first."""

    version: ClassVar[str]

    def __init__(self, link: Link) -> None:
        self.link = link
        self.station_id = link.station.station_id
        self.quirks, self.quirks_id = link.station.quirks, link.station.quirks_id
        self._pending: dict[str, asyncio.Future[Frame]] = {}
        self._late: dict[str, Command] = {}
        self._unanswered = 0
        self._renewal: asyncio.Task[None] | None = None
        self._early: set[str] = set()  # what we asked for before the station was accepted

    async def deliver(self, command: Command) -> None:
        """Send one order and wait for its answer; the row ends in exactly one terminal state.

        Never awaited by whatever reads the socket: the answer comes in through `receive`.
        """
        try:
            action, payload = self._request(command)
        except (Impossible, Violation) as error:
            await pool.write(commands.finish, command.pk, Command.Status.FAILED, error=str(error))
            return
        message_id = uuid.uuid4().hex
        shown = HIDDEN if self._hidden(command) else payload
        claimed = await pool.write(
            commands.claim, command, epoch=self.link.epoch, message_id=message_id, action=action,
            request=shown,
        )  # fmt: skip
        if not claimed:
            return
        command.action, command.message_id, command.request = action, message_id, shown
        answer: asyncio.Future[Frame] = asyncio.get_running_loop().create_future()
        self._pending[message_id] = answer  # before sending: the answer may be faster than we are
        timeout_s = self.quirks.get("timeout_s") or COMMANDS[command.name].timeout_s
        sent_at = datetime.now(UTC)
        try:
            await self.link.send(fastpath.pack_call(message_id, action, fastpath.dumps(payload)))
            frame = await asyncio.wait_for(answer, timeout_s)
        except TimeoutError:
            await self._unanswered_order(command, sent_at, f"No answer within {timeout_s} s.")
        except OSError:
            await self._conclude(
                command, sent_at, Command.Status.TIMED_OUT,
                error="The connection closed before the answer.",
            )  # fmt: skip
        else:
            self._unanswered = 0
            await self._answered_order(command, sent_at, frame)
        finally:
            self._pending.pop(message_id, None)

    def _request(self, command: Command) -> tuple[str, Payload]:
        method = getattr(self, command.name, None)
        if method is None:
            raise Impossible(f"OCPP {self.version} has no such order.")
        request = method(Order(command.pk, command.args))
        if isinstance(request, Call):
            action, payload = request.action, without_none(request.payload)
        else:
            action, payload = type(request).__name__, fastpath.payload_of(request)
        for name in quirks.adapt(self.quirks, action, payload) if self.quirks else ():
            pool.later(quirks.count, self.quirks_id, name)
        try:
            fastpath.validate_request(self.version, action, payload)
        except Violation as violation:
            raise Impossible(f"{action} cannot carry this: {violation.description}.") from None
        if not self.link.booted:
            self._early.update(self.asked_by(command))
        return action, payload

    def asked_by(self, command: Command) -> set[str]:
        """Return the actions with which a charger carries out this order."""
        if command.name == "trigger_message":
            return {str(command.args.get("message", ""))}
        return set(COMMANDS[command.name].expects)

    def _answer_came(self, frame: Frame) -> bool:
        future = self._pending.get(frame.id)
        if future is not None:
            if not future.done():
                future.set_result(frame)
            return True
        command = self._late.pop(frame.id, None)
        if command is None:
            return False  # we never asked
        pool.later(self._keep_late, command, frame)
        return True

    async def _answered_order(self, command: Command, sent_at: datetime, frame: Frame) -> None:
        if frame.kind != fastpath.CALLRESULT:
            description = f"{frame.action}: {frame.payload[0]}".strip(": ")
            await self._conclude(
                command, sent_at, Command.Status.FAILED, frame,
                response={"error": frame.action, "description": frame.payload[0]},
                error=description,
            )  # fmt: skip
            return
        try:
            if type(frame.payload) is not dict:
                raise Violation(fastpath.FORMAT, "the payload must be an object")
            fastpath.validate_response(self.version, command.action, frame.payload)
        except Violation as violation:
            await self._conclude(
                command, sent_at, Command.Status.FAILED, frame, response=frame.payload,
                error=f"Invalid answer: {violation.description}.",
            )  # fmt: skip
            return
        status = self.outcome(command, frame.payload)
        info = frame.payload.get("statusInfo") or {}
        error = "" if status in ACCEPTING else self.refusal(frame.payload)
        if info.get("reasonCode"):
            error = f"{error} ({info['reasonCode']} {info.get('additionalInfo', '')})".strip()
        await self._conclude(command, sent_at, status, frame, response=frame.payload, error=error)

    def outcome(self, command: Command, answer: Payload) -> Command.Status:
        """Normalise an answer: accepted, scheduled or rejected. An answer of no status accepts."""
        return STATUSES.get(answer.get("status", "Accepted"), Command.Status.REJECTED)

    def refusal(self, answer: Payload) -> str:
        """Return the word with which the charger refused."""
        return str(answer.get("status", ""))

    def password_changed(self, command: Command) -> None:
        """The station took a new password: on trial until it connects with that one."""
        passwords.accepted(self.station_id, command.args.get("value", ""))

    async def _renew(self) -> None:
        """Let the station come back with its new password, where it did not by itself (A01)."""
        await asyncio.sleep(RENEW_S)
        await self.link.close(1012)

    async def _unanswered_order(self, command: Command, sent_at: datetime, error: str) -> None:
        self._late[command.message_id] = command
        if len(self._late) > LATE:
            del self._late[next(iter(self._late))]
        await self._conclude(command, sent_at, Command.Status.TIMED_OUT, error=error)
        self._unanswered += 1
        if self._unanswered >= self.quirks.get("deaf_after", DEAF_AFTER):
            log.warning("%s hears no orders: closing its socket.", self.link.station.identity)
            await pool.write(self._deaf)
            await self.link.close(1011)

    def _deaf(self) -> None:
        subject = f"station-{self.station_id}"
        journal.record(
            "station.deaf", subject, station_id=self.station_id, unanswered=self._unanswered
        )

    async def _conclude(
        self,
        command: Command,
        sent_at: datetime,
        status: Command.Status,
        frame: Frame | None = None,
        *,
        response: Any = None,
        error: str = "",
    ) -> None:
        latency_ms = (datetime.now(UTC) - sent_at).total_seconds() * 1000 if frame else None
        follow_up = getattr(self, f"answered_{command.name}", None)
        if follow_up is not None and status in ACCEPTING:
            try:
                await pool.write(follow_up, command, response)
            except Exception:  # the command ended as answered; its use may fail
                log.exception("The answer to command %s could not be used.", command.pk)
        elif status == Command.Status.TIMED_OUT and self._hidden(command):
            await pool.write(self.password_changed, command)  # it may have been taken
        await pool.write(self._end, command, sent_at, status, latency_ms, response, error)
        if status in ACCEPTING and self._hidden(command) and not _waits(response):
            self._renewal = asyncio.get_running_loop().create_task(self._renew())
        took_s = (datetime.now(UTC) - sent_at).total_seconds()
        result = "ok" if frame and frame.kind == fastpath.CALLRESULT else str(status)
        metrics.observe_message(self.version, command.action, "out", result, took_s)

    def _end(
        self,
        command: Command,
        sent_at: datetime,
        status: Command.Status,
        latency_ms: float | None,
        response: Any,
        error: str,
    ) -> None:
        """Keep the frame with its answer and the end of the command, in one transaction."""
        response = redacted(response)  # some chargers tell their password when asked
        Message.objects.create(
            at=sent_at,
            station_id=self.station_id,
            direction=Message.Direction.OUT,
            action=command.action,
            message_id=command.message_id,
            payload=fastpath.dumps(command.request),
            answer=fastpath.dumps(response) if response is not None else "",
            error=error[:60] if status not in ACCEPTING else "",
            latency_ms=latency_ms,
        )
        commands.finish(command.pk, status, response=response, error=error)

    def _hidden(self, command: Command) -> bool:
        """Tell whether an order carries a password, which is kept nowhere once it is sent."""
        return commands.carries_secret(command.name, command.args)

    def _keep_late(self, command: Command, frame: Frame) -> None:
        response = {"error": frame.action}
        if frame.kind == fastpath.CALLRESULT:
            response = redacted(frame.payload)
            taken = type(frame.payload) is dict and self.outcome(command, frame.payload)
            if taken in ACCEPTING and self._hidden(command):
                self.password_changed(command)  # else the station would be locked out
        Message.objects.filter(
            station=self.station_id, message_id=command.message_id, answer=""
        ).update(answer=fastpath.dumps(response))
        commands.finish(command.pk, Command.Status.TIMED_OUT, response=response)

    def disconnected(self) -> None:
        """Tell whoever waits for an answer that none can come any more."""
        if self._renewal is not None:
            self._renewal.cancel()
        for future in self._pending.values():
            if not future.done():
                future.set_exception(ConnectionError("the socket is gone"))


def _waits(response: Any) -> bool:
    """Tell whether a setting only counts after the station's next restart."""
    return "RebootRequired" in fastpath.dumps(response)
