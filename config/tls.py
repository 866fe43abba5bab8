"""TLS without a proxy: uvicorn's options, and what a socket's peer has proved of itself.

Behind nginx the proxy ends TLS and says so in headers; here it is this process that does. Either
way the consumer reads one thing from the scope, `extensions["tls"]`, and `extensions["peer"]`: the
address the socket really comes from, before any header may say otherwise.
"""

from __future__ import annotations

import ssl
import tempfile
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import DatabaseError
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.http11 import Request

from stations import certificates


class Protocol(WebSocketsSansIOProtocol):
    """uvicorn's websocket, which also tells who is at the other end."""

    def handle_connect(self, event: Request) -> None:
        """Begin the handshake; the application's task starts after this returned."""
        super().handle_connect(event)
        scope: Any = getattr(self, "scope", None)
        if scope is None:
            return
        scope["extensions"]["peer"] = self.client[0] if self.client else ""
        peer: Any = self.transport.get_extra_info("peercert")
        if peer:
            scope["extensions"]["tls"] = {
                "client_cert_name": _common_name(peer),
                "client_cert_serial": peer.get("serialNumber", ""),
            }


def _common_name(peer: dict[str, Any]) -> str:
    for part in peer.get("subject", ()):
        for name, value in part:
            if name == "commonName":
                return str(value)
    return ""


def options() -> dict[str, Any]:
    """Return uvicorn's TLS options: none without TLS_CERTIFICATE and TLS_KEY.

    Chargers of security profile 3 are verified with TLS_CLIENT_CA, or with our own authorities.
    """
    if not settings.TLS_CERTIFICATE:
        return {}
    given: dict[str, Any] = {
        "ssl_certfile": settings.TLS_CERTIFICATE,
        "ssl_keyfile": settings.TLS_KEY,
        "ssl_context_factory": _context,
    }
    trusted = _client_authorities()
    if trusted:
        given |= {"ssl_ca_certs": trusted, "ssl_cert_reqs": ssl.CERT_OPTIONAL}
    return given


def _context(config: Any, default: Any) -> ssl.SSLContext:
    context: ssl.SSLContext = default()
    context.minimum_version = ssl.TLSVersion.TLSv1_2  # A00.FR.312
    return context


def _client_authorities() -> str:
    if settings.TLS_CLIENT_CA:
        return str(settings.TLS_CLIENT_CA)
    try:
        own = certificates.trusted_pem()
    except DatabaseError:
        return ""
    if not own:
        return ""
    with tempfile.NamedTemporaryFile("w", suffix=".pem", delete=False) as file:
        file.write(own)
    return str(Path(file.name))
