"""Signed webhooks: JSON to an address somebody typed in, without reaching into our own network.

The name is resolved once, every address it has must be public, and the connection goes to the
address that was checked. Redirects are not followed. Receivers check
`X-Signature: t=<unix time>,v1=<hex HMAC-SHA256 of "<t>.<body>" with the contact's key>`.
"""

import hashlib
import hmac
import http.client
import ipaddress
import json
import socket
import ssl
import time
from typing import Any
from urllib.parse import SplitResult, urlsplit

from django.conf import settings

TIMEOUT_S = 8.0
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_AGAIN = {408, 425, 429}


class TransportError(Exception):
    """A message could not be handed over. `permanent`: trying again is of no use."""

    def __init__(self, text: str, *, permanent: bool = False) -> None:
        super().__init__(text)
        self.permanent = permanent


def sign(secret: str, body: bytes, at: int) -> str:
    """Return the signature header of a body sent at `at` (seconds since 1970)."""
    digest = hmac.new(secret.encode(), f"{at}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={at},v1={digest}"


def post(url: str, payload: dict[str, Any], *, secret: str, message_id: str) -> None:
    """Send `payload` as signed JSON. Returns when it was taken (2xx). Raises TransportError.

    `message_id` stays the same when a message is sent again: receivers can tell.
    """
    target = _target(url)
    address = _public_address(target)
    body = json.dumps(payload, separators=(",", ":"), sort_keys=True).encode()
    connection = _Pinned(target, address)
    path = (target.path or "/") + (f"?{target.query}" if target.query else "")
    headers = {
        "Content-Type": "application/json",
        "User-Agent": "csms-webhook/1",
        "X-Message-Id": message_id,
        "X-Signature": sign(secret, body, int(time.time())),
    }
    try:
        connection.request("POST", path, body, headers)
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        raise TransportError(f"{target.hostname}: {error}") from error
    finally:
        connection.close()
    if 200 <= status < 300:
        return
    gone = 300 <= status < 500 and status not in _AGAIN
    raise TransportError(f"{target.hostname} answered {status}.", permanent=gone)


def _target(url: str) -> SplitResult:
    target = urlsplit(url)
    if target.scheme not in ("https", "http") or not target.hostname:
        raise TransportError("Write the webhook's address as https://…", permanent=True)
    if target.scheme == "http" and not _trusted(target):
        raise TransportError("Webhooks need https://.", permanent=True)
    return target


def _trusted(target: SplitResult) -> bool:
    return target.hostname in settings.WEBHOOK_PRIVATE_HOSTS


def _public_address(target: SplitResult) -> str:
    """Return the address to connect to; raises TransportError where any of them is not public."""
    try:
        found = socket.getaddrinfo(target.hostname, _port(target), type=socket.SOCK_STREAM)
    except OSError as error:
        raise TransportError(f"{target.hostname} is not known: {error}") from error
    addresses = [str(entry[4][0]) for entry in found]
    if not _trusted(target):
        for text in addresses:
            if not is_public(text):
                raise TransportError(
                    f"{target.hostname} leads into a private network ({text}); only the"
                    " WEBHOOK_PRIVATE_HOSTS may.",
                    permanent=True,
                )
    return addresses[0]


def is_public(text: str) -> bool:
    """Tell whether an IP address is one of the public internet."""
    address = ipaddress.ip_address(text.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address):
        if address in _NAT64:
            return False
        inner = address.ipv4_mapped or address.sixtofour
        if inner is not None:
            return is_public(str(inner))
    return address.is_global and not address.is_multicast


def _port(target: SplitResult) -> int:
    return target.port or (443 if target.scheme == "https" else 80)


class _Pinned(http.client.HTTPConnection):
    """A connection to the address that was checked, speaking as the name that was asked for."""

    def __init__(self, target: SplitResult, address: str) -> None:
        super().__init__(target.hostname or "", _port(target), timeout=TIMEOUT_S)
        self._address = address
        self._tls = ssl.create_default_context() if target.scheme == "https" else None

    def connect(self) -> None:
        """Connect to the pinned address."""
        self.sock = socket.create_connection((self._address, self.port), TIMEOUT_S)
        if self._tls is not None:
            self.sock = self._tls.wrap_socket(self.sock, server_hostname=self.host)
