"""A real gateway for tests: uvicorn as it runs in production, in a thread, on a free port."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import orjson
from channels.db import database_sync_to_async
from websockets.asyncio.client import ClientConnection, connect

from config import serve

ANSWER_S = 10.0


def db(function: Callable[..., Any]) -> Any:
    """Make a function that queries awaitable; its thread lets go of the connection."""
    return database_sync_to_async(function, thread_sensitive=False)


@contextmanager
def gateway() -> Iterator[str]:
    """Run a gateway; yields the URL that identities are appended to."""
    server = serve.server()
    sock = serve.listen("127.0.0.1", 0)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve([sock])), daemon=True)
    thread.start()
    try:
        yield f"ws://127.0.0.1:{sock.getsockname()[1]}/ocpp/"
    finally:
        server.end()
        thread.join(15)
        sock.close()
        assert not thread.is_alive(), "the gateway did not stop"


class Raw:
    """A socket that says exactly what the test says."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self._n = 0

    async def send(self, text: str | bytes) -> None:
        """Send raw text or bytes."""
        await self.socket.send(text)

    async def receive(self, timeout_s: float = ANSWER_S) -> list[Any]:
        """The next frame, parsed."""
        return orjson.loads(await asyncio.wait_for(self.socket.recv(), timeout_s))

    async def call(self, action: str, payload: Any, message_id: str = "") -> list[Any]:
        """Send a call and return the whole answer frame with its id."""
        self._n += 1
        message_id = message_id or f"m{self._n}"
        await self.send(orjson.dumps([2, message_id, action, payload]).decode())
        while True:
            frame = await self.receive()
            if frame[0] != 2:
                return frame

    async def boot(self, version: str = "1.6", **changes: Any) -> dict[str, Any]:
        """BootNotification; its answer's payload."""
        payload: dict[str, Any]
        if version == "1.6":
            payload = {"chargePointVendor": "Vendor", "chargePointModel": "Model"} | changes
        else:
            station = {"vendorName": "Vendor", "model": "Model"} | changes
            payload = {"reason": "PowerUp", "chargingStation": station}
        answer = await self.call("BootNotification", payload)
        assert answer[0] == 3, answer
        return answer[2]

    async def silent(self, seconds: float = 0.3) -> bool:
        """Whether nothing comes for a while."""
        try:
            await asyncio.wait_for(self.socket.recv(), seconds)
        except TimeoutError:
            return True
        return False


def raw(url: str, version: str | None = "1.6", **options: Any) -> Any:
    """Connect: `async with raw(url + "CP") as socket: …` gives a websockets connection."""
    protocols = [f"ocpp{version}"] if version else None
    return connect(url, subprotocols=protocols, compression=None, max_size=2**22, **options)
