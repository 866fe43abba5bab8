"""The sandbox on a port of its own: what tests and tools talk to through the official SDK."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

from billing.sandbox.engine import Sandbox


class Handler(BaseHTTPRequestHandler):
    """HTTP around `Sandbox.handle`; a lost reply closes the socket without a word."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    box: Sandbox

    def do_GET(self) -> None:
        self._answer("GET")

    def do_POST(self) -> None:
        self._answer("POST")

    def do_DELETE(self) -> None:
        self._answer("DELETE")

    def _answer(self, verb: str) -> None:
        url = urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
        reply = self.box.handle(
            verb, url.path, dict(self.headers), body if verb == "POST" else url.query
        )
        if reply.lost:
            self.close_connection = True
            return
        content = json.dumps(reply.body).encode()
        self.send_response(reply.status)
        for name, value in reply.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: the sandbox keeps its own list of calls."""


@contextmanager
def serving(box: Sandbox, port: int = 0) -> Iterator[str]:
    """Serve `box` on loopback for the length of a `with`; gives its base address."""
    handler = type("BoxHandler", (Handler,), {"box": box})
    server = ThreadingHTTPServer(("127.0.0.1", port), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(timeout=5)
