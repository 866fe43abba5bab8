"""What the versions share: routing, replay guard, frame log, the one way out, common answers.

A dialect belongs to one connection. Its handlers translate: they take the charger's camelCase
payload, already validated, fill the lanes of the call's unit of work and return the answer, or a
function that makes it from the lanes' outcomes. The one way out commits the unit, with the frame
and its answer in the same transaction, and only then sends.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from time import monotonic, perf_counter
from typing import Any, ClassVar, Final

from ocpp import routing

from monitoring import authorization, bays, metrics, readings, sessions
from monitoring.facts import Bay
from stations import commands, configuration, journal, live, quirks, wire, writer
from stations.models import Station
from stations.ocpp import fastpath, pool
from stations.ocpp.clock import Clock
from stations.ocpp.delivery import Delivery, Link, Payload
from stations.ocpp.fastpath import Frame, Unreadable, Violation
from stations.presence import Boot, Booted, ClockRead, Seen, Status, believable

log = logging.getLogger(__name__)

REPLAYS: Final = 16  # answers remembered per connection; a charger waits for one at a time
SEEN_EVERY_S: Final = 1.0  # a sign of life is written at most this often
WAITED_S: Final = 300.0  # a start told later than this was begun while offline
BOOT: Final = "BootNotification"
LANES: Final = (authorization, bays, readings, sessions)  # imported for the lanes they register

Answer = Payload | Callable[[], Payload]
Handler = Callable[[Any, Payload, "Incoming"], Answer | Awaitable[Answer]]


@dataclass(slots=True)
class Incoming:
    """One call being handled: its unit of work, when it came, and what follows its commit."""

    unit: writer.Unit
    received_at: datetime
    message_id: str
    after: list[Callable[[], None]] = field(default_factory=list)

    def add(self, lane: str, fact: Any) -> writer.Slot:
        """Put a fact in a lane; the slot's outcome is readable once the lane was written."""
        return self.unit.add(lane, fact)

    def then(self, function: Callable[[], None]) -> None:
        """Call `function` after the commit, before the answer is sent."""
        self.after.append(function)


def on[F: Callable[..., Any]](action: str) -> Callable[[F], F]:
    """Mark a method as the handler of an action (the package's decorator, typed)."""
    decorate: Callable[[F], F] = routing.on(action)
    return decorate


class Dialect(Delivery):
    """One version of OCPP-J on one connection; v16, v201 and v21 say what differs."""

    version: ClassVar[str]
    actions: ClassVar[frozenset[str]]  # every action of the version, in either direction
    routes: ClassVar[dict[str, Handler]]
    sends: ClassVar[dict[str, Handler]] = {}  # 2.1: messages that are never answered

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls.routes = {
            str(action): getattr(route["_on_action"], "__wrapped__", route["_on_action"])
            for action, route in routing.create_route_map(cls).items()
        }

    def __init__(self, link: Link) -> None:
        super().__init__(link)
        self._replays: dict[str, tuple[int, str]] = {}
        self._seen_at = 0.0
        self._clock = Clock(link.station.clock_offset_s)

    # --- frames in ------------------------------------------------------------------------------

    async def receive(self, text: str) -> bool:
        """Process one text frame; False when it was refused (the consumer throttles those)."""
        try:
            frame = await self._read(text)
        except Violation as violation:
            return await self._refuse_frame(text, violation.message_id, violation)
        except Unreadable as unreadable:
            return await self._refuse_frame(text, "-1", unreadable)
        if frame.action in configuration.TELLING:
            frame = _redacted(frame)
        if frame.kind == fastpath.CALL:
            return await self._call(frame)
        if frame.kind == fastpath.SEND:
            return await self._sent_by_charger(frame)
        return self._answer_came(frame)

    async def _read(self, text: str) -> Frame:
        """Parse a frame; one that is no JSON is mended first where its quirk profile knows how."""
        try:
            return fastpath.read(text, self.version)
        except fastpath.RpcError:
            mended, name = quirks.mend(self.quirks, text)
            if not name:
                raise
            frame = fastpath.read(mended, self.version)
            repaired = fastpath.RpcError(fastpath.FRAMEWORK, f"repaired, {name}")
            await self._keep_refused(frame.action, frame.id, text[:4000], repaired)
            pool.later(quirks.count, self.quirks_id, name)
            return frame

    async def _call(self, frame: Frame) -> bool:
        mark = hash((frame.action, frame.packed))
        known = self._replays.get(frame.id)
        if known is not None and known[0] == mark:
            await self.link.send(known[1])
            return True
        if not self.link.booted and not self._may_speak(frame.action):
            await self.link.send(self._error(frame.id, fastpath.SECURITY, "boot first"))
            return False
        call, begun = Incoming(writer.Unit(), datetime.now(UTC), frame.id), perf_counter()
        result = "error"
        try:
            answer = await self._handle(frame, call)
            text = await self._commit(frame, call, answer)
            result = "ok"
        except writer.WriterError:
            result = "unsaved"
            return True  # silence: the charger retries, by specification
        except Violation as violation:
            if await self._boots_in_another_version(frame):
                return False
            return await self._refuse_call(frame, violation)
        except Exception:  # a bug of ours is answered InternalError, the socket stays
            log.exception("%s of %s failed.", frame.action, self.link.station.identity)
            failure = Violation(fastpath.INTERNAL, "an internal error occurred", frame.id)
            return await self._refuse_call(frame, failure)
        finally:
            action = frame.action if frame.action in self.actions else "other"
            took_s = perf_counter() - begun
            metrics.observe_message(self.version, action, "in", result, took_s)
        self._remember(frame.id, mark, text)
        await self.link.send(text)
        return True

    async def _boots_in_another_version(self, frame: Frame) -> bool:
        """FoxESS: 1.6 messages over another version's subprotocol. It reconnects, in its own."""
        payload = frame.payload
        if self.version == fastpath.V16 or frame.action != BOOT or type(payload) is not dict:
            return False
        vendor, model = payload.get("chargePointVendor"), payload.get("chargePointModel")
        if type(vendor) is not str or type(model) is not str:
            return False
        firmware = str(payload.get("firmwareVersion", ""))
        found = await pool.write(
            quirks.adopt, self.station_id, vendor[:50], model[:50], firmware[:50], fastpath.V16
        )
        if found:
            await self.link.close(1000)
        return bool(found)

    def _may_speak(self, action: str) -> bool:
        """Before it is accepted a station may boot, and answer what we asked (B02.FR.08)."""
        return action == BOOT or (self.link.state == "pending" and action in self._early)

    async def _handle(self, frame: Frame, call: Incoming) -> Answer:
        handler = self.routes.get(frame.action)
        if handler is None:
            if frame.action in self.actions:
                raise Violation(fastpath.NOT_SUPPORTED, "not an action for a central system")
            raise Violation(fastpath.NOT_IMPLEMENTED, "no such action in this version")
        self._validate(frame, call)
        answer = handler(self, frame.payload, call)
        if answer.__class__ is not dict and inspect.isawaitable(answer):
            return await answer
        return answer

    def _validate(self, frame: Frame, call: Incoming) -> None:
        if self.quirks.get("normalise") and type(frame.payload) is dict:
            for name in quirks.normalise(self.quirks, frame.action, frame.payload):
                call.then(lambda name=name: pool.later(quirks.count, self.quirks_id, name))  # type: ignore[misc]
        validator = fastpath.request_validator(self.version, frame.action)
        if validator is None or validator.is_valid(frame.payload):
            return
        if type(frame.payload) is dict and self.quirks.get("repairs"):
            repaired = quirks.tolerate(
                self.quirks, frame.action, frame.payload, lambda: validator.is_valid(frame.payload)
            )
            if repaired:
                call.then(lambda: pool.later(quirks.count, self.quirks_id, repaired))
                return
        fastpath.validate_request(self.version, frame.action, frame.payload)

    async def _commit(self, frame: Frame, call: Incoming, answer: Answer) -> str:
        """Commit the call with its answer; return the text to send."""
        self._note_life(call)
        unit = call.unit
        if callable(answer):
            unit.reply = lambda: fastpath.dumps(answer())
        else:
            unit.answer = fastpath.dumps(answer)
        unit.add(
            "frames",
            wire.Frame(
                self.station_id, call.received_at, frame.action, frame.id, frame.packed, unit
            ),
        )
        packed = await writer.commit(unit)
        for function in call.after:
            function()
        return fastpath.pack_result(frame.id, packed)

    def _note_life(self, call: Incoming) -> None:
        now = monotonic()
        if now - self._seen_at >= SEEN_EVERY_S:
            self._seen_at = now
            call.add("seen", Seen(self.station_id, call.received_at))

    def _remember(self, message_id: str, mark: int, text: str) -> None:
        self._replays.pop(message_id, None)
        self._replays[message_id] = (mark, text)
        if len(self._replays) > REPLAYS:
            del self._replays[next(iter(self._replays))]

    async def _sent_by_charger(self, frame: Frame) -> bool:
        """2.1's SEND: handled like a call, never answered, whatever becomes of it."""
        handler = self.sends.get(frame.action)
        if handler is None or not self.link.booted:
            return False
        call = Incoming(writer.Unit(), datetime.now(UTC), frame.id)
        try:
            self._validate(frame, call)
            answer = handler(self, frame.payload, call)
            if inspect.isawaitable(answer):
                answer = await answer
            await self._commit(frame, call, answer)
        except (Violation, writer.WriterError):
            return False
        except Exception:  # a bug of ours: told as not taken, the socket stays
            log.exception("%s of %s failed.", frame.action, self.link.station.identity)
            return False
        return True

    # --- refusals -------------------------------------------------------------------------------

    def _error(self, message_id: str, code: str, description: str) -> str:
        return fastpath.pack_error(message_id, code, description, self.version)

    async def _refuse_call(self, frame: Frame, violation: Violation) -> bool:
        """Answer a readable call with a CALLERROR, and keep both."""
        if not await self._keep_refused(frame.action, frame.id, frame.packed, violation):
            return False
        await self.link.send(self._error(frame.id, violation.code, violation.description))
        return False

    async def _refuse_frame(
        self, text: str, message_id: str, error: Unreadable | Violation
    ) -> bool:
        """Answer what is no proper frame: in 2.x always, in 1.6 only what looked like a call."""
        if self.link.booted:
            kept = text[:4000].replace("\0", "\ufffd")  # no database text can hold it
            await self._keep_refused("", message_id, kept, error)
        dropped = not fastpath.looks_like_call(text) or error.code == fastpath.MESSAGE_TYPE
        if self.version == fastpath.V16 and dropped:
            return False
        await self.link.send(self._error(message_id, error.code, error.description))
        return False

    async def _keep_refused(
        self, action: str, message_id: str, payload: str, error: fastpath.RpcError
    ) -> bool:
        unit = writer.Unit()
        reason = f"{fastpath.spelled(error.code, self.version)}: {error.description}"
        unit.add(
            "frames",
            wire.Frame(
                self.station_id,
                datetime.now(UTC),
                action[:50],
                message_id,
                payload,
                unit,
                reason[:60],
            ),
        )
        try:
            await writer.commit(unit)
        except writer.WriterError:
            return False
        return True

    # --- what every version says in the same way -------------------------------------------------

    def booting(self, call: Incoming, boot: Boot) -> writer.Slot:
        """Keep a boot; once it is committed the station may speak, or may not."""
        slot = call.add("boots", boot)

        def booted() -> None:
            outcome: Booted = slot.outcome
            self.link.state, self.link.booted = outcome.state, outcome.state == "accepted"
            if outcome.quirks is not None:
                self.quirks, self.quirks_id = outcome.quirks.settings, outcome.quirks.pk
            if self.link.booted and self.quirks.get("trigger_on_boot"):
                pool.later(self._trigger, tuple(self.quirks["trigger_on_boot"]))

        call.then(booted)
        return slot

    def _trigger(self, messages: tuple[str, ...]) -> None:
        """Ask for what this make does not say by itself after its boot."""
        station = Station.objects.get(pk=self.station_id)
        for message in messages:
            commands.send(station, "trigger_message", subject="quirk", message=message)
            quirks.count(self.quirks_id, "trigger_on_boot")

    def waited(self, at: datetime, received_at: datetime) -> bool:
        """Tell whether a message waited in the charger, by its clock as far as we know that: 1.6
        does not say that it was offline."""
        late_s = (received_at - at).total_seconds() + (self._clock.known_s or 0.0)
        return believable(at, received_at) and late_s > WAITED_S

    def told_time(self, call: Incoming, at: datetime) -> None:
        """Compare a live message's time with ours; write only what the clock has moved."""
        offset_s = self._clock.heard(at, call.received_at)
        if offset_s is not None:
            call.add("clocks", ClockRead(self.station_id, offset_s))

    def connector_status(self, call: Incoming, status: Status) -> None:
        """Keep a connector's status, and tell the sessions: a free bay ends occupancy."""
        call.add("statuses", status)
        if status.at is not None:
            self.told_time(call, status.at)
        if status.evse > 0:
            at = status.at if believable(status.at, call.received_at) else None
            call.add(
                "bays",
                Bay(
                    status.station_id,
                    status.evse,
                    status.connector,
                    status.status,
                    at or call.received_at,
                    call.received_at,
                ),
            )

    def verdict(self, call: Incoming, uid: str, token_type: str) -> writer.Slot:
        """Ask whether a token may charge here, now; the outcome is a Verdict."""
        request = authorization.Request(uid, token_type, self.station_id)
        return call.add("authorizations", request)

    async def vendor_data(self, payload: Payload) -> Payload:
        """Answer a DataTransfer by its vendor's entry in DATA_TRANSFERS."""
        function = DATA_TRANSFERS.get(payload["vendorId"])
        if function is None:
            return {"status": "UnknownVendorId"}
        message_id = payload.get("messageId", "")
        status, data = await pool.write(function, self.station_id, message_id, payload.get("data"))
        await self.news("data.transferred", vendor=payload["vendorId"], message=message_id)
        return {"status": status} | ({} if data is None else {"data": data})

    async def news(self, kind: str, /, **data: Any) -> None:
        """Record what the charger reported, in a transaction of its own."""
        await pool.write(self._record, kind, data)

    def _record(self, kind: str, data: Payload) -> None:
        subject = f"station-{self.station_id}"
        journal.record(kind, subject, station_id=self.station_id, **data)
        live.touch(subject)


def _redacted(frame: Frame) -> Frame:
    """Return a report without the passwords in it: neither the log nor a row keeps one."""
    payload = configuration.redacted(frame.payload)
    if payload == frame.payload:
        return frame
    return frame._replace(payload=payload, packed=fastpath.dumps(payload))


# vendorId → function(station_id, messageId, data) that returns (status, data of the answer)
DataTransfer = Callable[[int, str, Any], tuple[str, str | None]]
DATA_TRANSFERS: dict[str, DataTransfer] = {}

writer.lane("authorizations", 15, authorization.decide)
