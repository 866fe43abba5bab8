"""The websocket of one charger: handshake, fencing, frames, drain. And this process's live sockets.

Three things of Channels are replaced on purpose (measured, see docs/adr): `dispatch`, which hops
to the one thread-sensitive thread for every frame; `websocket_disconnect`, which does the same;
and the channel layer, whose part the bus (`stations/live.py`) plays with one listener a process.

Frames of one socket are processed in order, one at a time: that bounds what is in flight, keeps the
answers in order, and is the back-pressure. Orders run in a task of their own and never block it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from time import monotonic
from typing import Any, ClassVar, Final
from zoneinfo import ZoneInfo

from channels.exceptions import StopConsumer
from channels.generic.websocket import AsyncWebsocketConsumer
from django.conf import settings
from django.db import DatabaseError

from stations import certificates, passwords, presence, security, writer
from stations.models import Command, Station
from stations.ocpp import pool
from stations.ocpp.address import BadAddress, common_name_in, identity_in, peer_of
from stations.ocpp.delivery import Link
from stations.ocpp.dialect import Dialect
from stations.ocpp.fastpath import MAX_FRAME_BYTES
from stations.ocpp.gateway import gateway
from stations.ocpp.v16 import V16
from stations.ocpp.v21 import V21
from stations.ocpp.v201 import V201

log = logging.getLogger(__name__)

DIALECTS: Final[dict[str, type[Dialect]]] = {"1.6": V16, "2.0.1": V201, "2.1": V21}
SUBPROTOCOLS: Final = {f"ocpp{version}": version for version in DIALECTS}

FRAMES_A_SECOND: Final = 1_000.0  # a station's allowance; what exceeds it waits, nothing is dropped
REFUSED_COSTS: Final = 100.0  # a refused frame weighs as much as this many good ones
LOG_EVERY_S: Final = 60.0
HOLD_S: Final = 2.0  # orders wait this long after a reconnect, for a boot that may be coming
DRAIN_S: Final = 5.0

# Orders that a station still pending may get (2.0.1 B02.FR.01, 1.6 §4.2).
BEFORE_ACCEPTANCE: Final = ("trigger_message", "get_configuration", "change_configuration",
                            "get_report")  # fmt: skip

attempts = security.Attempts()


class Refused(Exception):
    """The handshake ends with an HTTP answer instead of an upgrade."""

    def __init__(self, status: int, text: str, *headers: tuple[bytes, bytes]) -> None:
        super().__init__(text)
        self.status, self.text, self.headers = status, text, headers


class OcppConsumer(AsyncWebsocketConsumer):  # type: ignore[misc]
    """One socket of one charger."""

    dialect: Dialect
    link: Link
    epoch: int = 0

    async def __call__(
        self,
        scope: Any,
        receive: Callable[[], Awaitable[Any]],
        send: Callable[[Any], Awaitable[None]],
    ) -> None:
        """Read events until the socket is gone; clean up however it went."""
        self.scope, self.base_send, self._receive = scope, send, receive
        self.loop = asyncio.get_running_loop()
        self.station_id = 0
        self.code = 1006
        self._allowance, self._allowed_at = FRAMES_A_SECOND, monotonic()
        self._logged_at = -LOG_EVERY_S
        self._held: asyncio.TimerHandle | None = None  # until the charger has spoken
        self._deliverer: asyncio.Task[None] | None = None
        self._again = False
        self._missed = False  # an order came while orders were held
        try:
            while True:
                await self.dispatch(await receive())
        except StopConsumer:
            pass
        except OSError:  # the client vanished while we were sending
            pass
        finally:
            if self.epoch:
                await asyncio.shield(self._gone())

    async def dispatch(self, message: Any) -> None:
        """Handle one ASGI event, on the event loop, without touching database connections."""
        await self.EVENTS[message["type"]](self, message)

    # --- handshake ------------------------------------------------------------------------------

    async def websocket_connect(self, message: Any) -> None:
        """Admit the station, authenticate it, choose the version; 401 comes before the upgrade."""
        try:
            identity = identity_in(self.scope)
            admitted = await self._admit(identity)
            version, subprotocol = self._version(admitted)
            if version:
                await self._open(admitted, version)
        except BadAddress as error:
            await self._refuse(Refused(error.status, str(error)))
        except Refused as refused:
            await self._refuse(refused)
        except (writer.WriterError, DatabaseError):
            log.warning("The database is down: a charger was turned away.")
            await self._refuse(Refused(503, "Try again later.", (b"retry-after", b"10")))
        else:
            await self.accept(subprotocol)
            if not version:  # 1.6-J §3.2, 2.x Part 4 §3.2: complete without the header, then close
                await self.close(1002)
                return
            gateway.join(self)
            hold_s = self.link.station.quirks.get("hold_s", HOLD_S)
            self._held = self.loop.call_later(hold_s, self._spoke)

    async def _admit(self, identity: str) -> presence.Admitted:
        key = f"{peer_of(self.scope)} {identity}"
        if attempts.exhausted(key):
            raise Refused(429, "Too many wrong passwords.", (b"retry-after", b"60"))
        headers = dict(self.scope["headers"])
        try:
            admitted, right = await pool.write(_admitted, identity, self._shown(headers))
        except presence.NotAdmitted:
            raise Refused(404, "No such station.") from None
        if not right:
            if attempts.failed(key) == 1:
                log.warning("Wrong credentials for %r from %s.", identity, peer_of(self.scope))
            raise Refused(401, "Wrong credentials.", (b"www-authenticate", b'Basic realm="ocpp"'))
        attempts.succeeded(key)
        return admitted

    def _shown(self, headers: dict[bytes, bytes]) -> security.Shown:
        """Return what the socket proves: by its own TLS, or in the words of a trusted proxy."""
        header = headers.get(b"authorization")
        extensions = self.scope.get("extensions") or {}
        own = extensions.get("tls") or {}
        if own:
            return security.Shown(
                header, True, own.get("client_cert_name") or "",
                own.get("client_cert_serial") or "",
            )  # fmt: skip
        if extensions.get("peer", peer_of(self.scope)) not in settings.TRUSTED_PROXIES:
            return security.Shown(header, self.scope.get("scheme") == "wss")
        tls = headers.get(b"x-forwarded-proto") == b"https"
        if not tls or headers.get(b"x-client-verify") != b"SUCCESS":
            return security.Shown(header, tls)
        subject = headers.get(b"x-client-subject", b"").decode("utf-8", "replace")
        serial = headers.get(b"x-client-serial", b"").decode("ascii", "replace")
        # a certificate without a common name names nobody: "?" is no identity a URL can have
        return security.Shown(header, True, common_name_in(subject) or "/", serial)

    def _version(self, admitted: presence.Admitted) -> tuple[str, str | None]:
        """Return (version to speak, subprotocol to answer): the first offered one we know."""
        offered = [name for name in self.scope.get("subprotocols", ()) if name in SUBPROTOCOLS]
        named = admitted.quirks.get("version", "")
        if named in DIALECTS:
            return named, offered[0] if offered else None
        return (SUBPROTOCOLS[offered[0]], offered[0]) if offered else ("", None)

    async def _open(self, admitted: presence.Admitted, version: str) -> None:
        unit = writer.Unit()
        opened = presence.Opened(admitted.station_id, version, gateway.name, datetime.now(UTC))
        slot = unit.add("opened", opened)
        await writer.commit(unit)
        if not slot.outcome:  # retired since it was admitted
            raise Refused(404, "No such station.")
        self.station_id, self.epoch = admitted.station_id, slot.outcome
        local = admitted.quirks.get("local_time")
        self.link = Link(
            station=admitted,
            epoch=self.epoch,
            zone=ZoneInfo(admitted.time_zone) if local else UTC,
            send=self.send_text,
            close=self.close,
        )
        self.dialect = DIALECTS[version](self.link)

    async def _refuse(self, refused: Refused) -> None:
        if "websocket.http.response" not in self.scope.get("extensions", {}):
            await self.close()  # daphne cannot say why
            raise StopConsumer
        body = refused.text.encode()
        await self.base_send(
            {
                "type": "websocket.http.response.start",
                "status": refused.status,
                "headers": [(b"content-type", b"text/plain; charset=utf-8"), *refused.headers],
            }
        )
        await self.base_send({"type": "websocket.http.response.body", "body": body})
        # uvicorn calls a consumer that returns before its connection is lost a broken one: it
        # tells of the answer first, and of the loss then.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1):
                await self._receive()
                await self._receive()
        raise StopConsumer

    # --- frames ---------------------------------------------------------------------------------

    async def websocket_receive(self, message: Any) -> None:
        """Process one frame completely before the next is read."""
        text = message.get("text")
        if not self.epoch:
            return
        if text is None:
            await self.close(1003)  # OCPP-J is text
            return
        if len(text) > MAX_FRAME_BYTES:
            await self.close(1009)
            return
        booted = self.link.booted
        good = await self.dialect.receive(text)
        if self._held is not None:
            if good:
                self._spoke()
        elif self.link.booted != booted:
            self.wake()
        now = monotonic()
        self._allowance = min(
            FRAMES_A_SECOND, self._allowance + (now - self._allowed_at) * FRAMES_A_SECOND
        ) - (1.0 if good else REFUSED_COSTS)
        self._allowed_at = now
        if not good:
            self._complain(now)
        if self._allowance < 0:
            await asyncio.sleep(-self._allowance / FRAMES_A_SECOND)

    def _complain(self, now: float) -> None:
        if now - self._logged_at >= LOG_EVERY_S:
            self._logged_at = now
            log.warning("%s sends frames that are refused.", self.link.station.identity)

    async def send_text(self, text: str) -> None:
        """Send one frame."""
        await self.base_send({"type": "websocket.send", "text": text})

    # --- orders ---------------------------------------------------------------------------------

    def wake(self) -> None:
        """Look for orders now. On the socket's own event loop."""
        self._release()
        if self._deliverer is None or self._deliverer.done():
            self._deliverer = self.loop.create_task(self._deliver())
        else:
            self._again = True

    def _release(self) -> None:
        if self._held is not None:
            self._held.cancel()
            self._held = None

    def _spoke(self) -> None:
        """The charger has spoken, or said nothing for long enough: orders need not wait."""
        self._release()
        if self.link.station.orders or self._missed:
            self.wake()

    def wake_from_afar(self) -> None:
        """The same from any thread; before the charger has spoken, orders are held."""
        if self._held is None:
            self.loop.call_soon_threadsafe(self.wake)
        else:
            self._missed = True

    def close_from_afar(self) -> None:
        """A newer socket has taken this station over: close this one, from any thread."""
        self._end_from_afar(1000, "a newer connection took over")

    def expel_from_afar(self) -> None:
        """The station was retired: hear nothing more from it and close, from any thread."""
        self.link.state, self.link.booted = Station.State.RETIRED, False
        self._end_from_afar(1008, "this station was retired")

    def _end_from_afar(self, code: int, reason: str) -> None:
        self.loop.call_soon_threadsafe(self._begin_closing, code, reason)

    def _begin_closing(self, code: int, reason: str) -> None:
        self._closing = self.loop.create_task(self.close(code, reason))

    async def close(self, code: Any = None, reason: str | None = None) -> None:
        """Close the socket, if it is not closed already."""
        with contextlib.suppress(OSError, RuntimeError):
            await super().close(code, reason)

    async def _deliver(self) -> None:
        """Deliver queued orders one after another until none is left."""
        while True:
            self._again = False
            try:
                command = await pool.read(_next_order, self.link)
                if command is not None:
                    await self.dialect.deliver(command)
                elif not self._again:
                    return
            except (DatabaseError, writer.WriterError):
                return  # the gateway's sweep asks again
            except Exception:  # one broken order must not end the socket
                log.exception("An order to %s failed.", self.link.station.identity)
                return

    # --- the end --------------------------------------------------------------------------------

    async def websocket_disconnect(self, message: Any) -> None:
        """The socket is gone, by the charger, the network or our own closing."""
        self.code = message.get("code") or 1006
        raise StopConsumer

    async def _gone(self) -> None:
        """Clear our traces, where no newer socket has written over them."""
        gateway.leave(self)
        self._release()
        self.dialect.disconnected()
        if self._deliverer is not None and not self._deliverer.done():
            await asyncio.wait([self._deliverer], timeout=DRAIN_S)
            self._deliverer.cancel()
        unit = writer.Unit()
        unit.add(
            "closed",
            presence.Closed(self.station_id, self.epoch, datetime.now(UTC), self.code),
        )
        try:
            await writer.commit(unit)
        except writer.WriterError:
            log.warning("The database is down: a closed socket could not be noted.")

    EVENTS: ClassVar[dict[str, Callable[[Any, Any], Awaitable[None]]]] = {
        "websocket.connect": websocket_connect,
        "websocket.receive": websocket_receive,
        "websocket.disconnect": websocket_disconnect,
    }


def _admitted(identity: str, shown: security.Shown) -> tuple[presence.Admitted, bool]:
    """Return the station and whether these credentials open it; note what they prove."""
    admitted = presence.admit(identity)
    proof = security.proven(
        identity,
        [admitted.password_hash, admitted.next_password_hash],
        admitted.security_profile,
        shown,
    )
    if proof is None:
        return admitted, False
    if shown.certificate_serial and certificates.is_revoked(
        admitted.station_id, shown.certificate_serial
    ):
        return admitted, False
    profile, which = proof
    passwords.came_with(admitted, profile, which)
    return admitted, True


def _next_order(link: Link) -> Command | None:
    """Return the oldest order this socket may send now, if it still owns its station."""
    queued = Command.objects.filter(
        station=link.station.station_id,
        station__epoch=link.epoch,
        status=Command.Status.QUEUED,
        expires_at__gt=datetime.now(UTC),
    ).order_by("pk")
    if not link.booted:
        if link.state != Station.State.PENDING:
            return None
        queued = queued.filter(name__in=BEFORE_ACCEPTANCE)
    return queued.first()
