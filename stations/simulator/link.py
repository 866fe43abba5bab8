"""One OCPP-J connection: frames out and in (OCPP-J 1.6 §4, OCPP 2.0.1 Part 4 §4).

Our calls go out one at a time, each waiting for its answer; the server's calls are answered as
they come,
independent of ours.
"""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import uuid
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import quote

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from stations.simulator.model import CallError, Payload, Quirks, Reply

log = logging.getLogger("stations.simulator")

type Handler = Callable[[str, Payload], Awaitable[Reply]]
type Observer = Callable[[str, list[Any]], None]


class LinkDownError(Exception):
    """The socket is gone, or went before the answer came."""


class NoAnswerError(Exception):
    """The server did not answer in time."""


class Link:
    """A connected socket. Made by `Link.open`; used until `closed` is set."""

    def __init__(
        self, socket: ClientConnection, handler: Handler, quirks: Quirks, observer: Observer | None
    ) -> None:
        self._socket = socket
        self._handler = handler
        self._quirks = quirks
        self._observer = observer
        self._turn = asyncio.Lock()
        self._waiting: dict[str, asyncio.Future[Payload]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._count = 0
        self.closed = asyncio.Event()
        self.close_code: int | None = None
        self._reader = asyncio.create_task(self._read())

    @classmethod
    async def open(
        cls,
        url: str,
        identity: str,
        subprotocol: str,
        handler: Handler,
        *,
        password: str | None = None,
        quirks: Quirks | None = None,
        observer: Observer | None = None,
        timeout_s: float = 30.0,
    ) -> Link:
        """Connect to `url`/`identity` with basic authentication where there is a password.

        Raises OSError or websockets.WebSocketException where that fails (a 401 is an
        InvalidStatus).
        """
        quirks = quirks or Quirks()
        headers = {}
        if password is not None:
            plain = f"{identity}:{password}".encode()
            headers["Authorization"] = "Basic " + base64.b64encode(plain).decode()
        socket = await connect(
            f"{url.rstrip('/')}/{quote(identity, safe='')}",
            subprotocols=None if quirks.no_subprotocol else [Subprotocol(subprotocol)],
            additional_headers=headers,
            compression=None,
            proxy=None,
            open_timeout=timeout_s,
            close_timeout=2,
            ping_interval=None,
            max_size=2**20,
            user_agent_header=None,
        )
        return cls(socket, handler, quirks, observer)

    async def call(self, action: str, payload: Payload, *, timeout_s: float = 30.0) -> Payload:
        """Send a CALL and return the CALLRESULT's payload.

        Raises CallError for a CALLERROR, NoAnswerError after `timeout_s`, LinkDownError when the
        socket goes.
        """
        async with self._turn:
            if self.closed.is_set():
                raise LinkDownError
            message_id = self._next_id()
            future: asyncio.Future[Payload] = asyncio.get_running_loop().create_future()
            self._waiting[message_id] = future
            try:
                await self.send([2, message_id, action, payload])
                return await asyncio.wait_for(future, timeout_s)
            except TimeoutError:
                raise NoAnswerError(f"{action} was not answered within {timeout_s:g} s") from None
            finally:
                self._waiting.pop(message_id, None)
                if future.done() and not future.cancelled():
                    future.exception()  # seen, also where sending failed first

    async def send(self, frame: list[Any]) -> None:
        """Send any frame as it is."""
        await self.send_text(json.dumps(frame, separators=(",", ":")))
        if self._observer is not None:
            self._observer("out", frame)

    async def send_text(self, text: str) -> None:
        """Send raw text, even if it is no frame at all."""
        try:
            await self._socket.send(text)
        except ConnectionClosed:
            raise LinkDownError from None

    async def close(self, code: int = 1000) -> None:
        """Close politely."""
        await self._socket.close(code)
        await self.closed.wait()

    def drop(self) -> None:
        """Lose the connection without a word, as a power cut or a dead modem does."""
        self._socket.transport.abort()

    def _next_id(self) -> str:
        self._count += 1
        return str(self._count) if self._quirks.restart_message_ids else str(uuid.uuid4())

    async def _read(self) -> None:
        try:
            async for text in self._socket:
                self._take(text)
        except ConnectionClosed:
            pass
        finally:
            self.close_code = self._socket.close_code
            self.closed.set()
            for future in self._waiting.values():
                if not future.done():
                    future.set_exception(LinkDownError())

    def _take(self, text: str | bytes) -> None:
        try:
            frame = json.loads(text)
        except ValueError:
            log.warning("not JSON from the server: %.80r", text)
            return
        if self._observer is not None:
            self._observer("in", frame)
        match frame:
            case [2, str(message_id), str(action), dict(payload)]:
                task = asyncio.create_task(self._answer(message_id, action, payload))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
            case [3, str(message_id), dict(payload)]:
                self._resolve(message_id, payload, None)
            case [4, str(message_id), str(code), str(description), *_]:
                self._resolve(message_id, None, CallError(code, description))
            case [6, *_]:
                pass  # SEND, 2.1: nothing a charge point has to do
            case _:
                log.warning("no OCPP frame from the server: %.80r", text)

    def _resolve(self, message_id: str, payload: Payload | None, error: CallError | None) -> None:
        future = self._waiting.get(message_id)
        if future is None or future.done():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(payload or {})

    async def _answer(self, message_id: str, action: str, payload: Payload) -> None:
        if self._quirks.deaf:
            return
        then = None
        try:
            try:
                reply = await self._handler(action, payload)
                then = reply.then
                frame: list[Any] = [3, message_id, reply.payload]
            except CallError as error:
                frame = [4, message_id, error.code, error.description, {}]
            await self.send(frame)
        except LinkDownError:
            log.info("gone before the answer to %s", action)
        if then is not None:
            await then()
