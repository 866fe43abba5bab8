"""The ceiling: our own web server and websocket settings around an application that only echoes."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import django
import uvloop

from tests.servers import free_port


async def application(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Accept every websocket and send each text back."""
    await receive()
    subprotocols = scope["subprotocols"]
    await send(
        {"type": "websocket.accept", "subprotocol": subprotocols[0] if subprotocols else None}
    )
    while (event := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": event["text"]})


def serve(port: int) -> None:
    """Serve until terminated."""
    django.setup()  # the web server's settings know the models: certificates are among them
    from config import serve as product

    server = product.server()
    server.config.app = application
    sock = product.listen("127.0.0.1", port)

    async def run() -> None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, server.end)
        await server.serve(sockets=[sock])

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run())


@contextmanager
def running() -> Iterator[str]:
    """An echo server in a process of its own; its URL."""
    port = free_port()
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "config.settings"}
    process = subprocess.Popen([sys.executable, "-m", "bench.echo", str(port)], env=environment)
    try:
        for _ in range(200):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        yield f"ws://127.0.0.1:{port}/ocpp"
    finally:
        process.kill()
        process.wait()


if __name__ == "__main__":
    serve(int(sys.argv[1]))
