"""What a charger calls itself: the identity at the end of its URL, and where it calls from."""

from __future__ import annotations

import re
from typing import Any, Final
from urllib.parse import unquote_to_bytes

PREFIX: Final = b"/ocpp/"
MAX_IDENTITY: Final = 48  # 2.x Part 4 §3.1.1, and as much as we store


class BadAddress(Exception):
    """The URL names no station; `status` is the HTTP answer."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


def identity_in(scope: Any) -> str:
    """Return the identity a websocket's URL ends with, percent-decoded exactly once.

    One trailing slash is forgiven. Raises BadAddress: 404 for another path or a slash in the raw
    path, 400 for what no identity can be (broken encoding, a colon, a control character, an
    encoded slash, more than 48 characters).
    """
    raw = scope.get("raw_path") or scope["path"].encode()
    if not raw.startswith(PREFIX):
        raise BadAddress(404, "Chargers connect to /ocpp/<identity>.")
    encoded = raw[len(PREFIX) :].split(b"?")[0].removesuffix(b"/")
    if not encoded or b"/" in encoded:
        raise BadAddress(404, "Chargers connect to /ocpp/<identity>.")
    pieces = encoded.split(b"%")[1:]
    if any(len(piece) < 2 or not _is_hex(piece[:2]) for piece in pieces):
        raise BadAddress(400, "The identity is not percent-encoded properly.")
    try:
        identity = unquote_to_bytes(encoded).decode()
    except UnicodeDecodeError:
        raise BadAddress(400, "The identity is not UTF-8.") from None
    if len(identity) > MAX_IDENTITY:
        raise BadAddress(400, f"An identity has at most {MAX_IDENTITY} characters.")
    if not identity.isprintable() or not identity.strip() or set(identity) & set("/:"):
        raise BadAddress(400, "An identity has no colon, slash or control characters.")
    return identity


def peer_of(scope: Any) -> str:
    """Return the address the socket comes from."""
    client = scope.get("client")
    return str(client[0]) if client else ""


def common_name_in(subject: str) -> str:
    """Return the CN of a distinguished name as nginx writes it (RFC 2253: `CN=CP-1,O=Acme`).

    Empty where there is none, or more than one: then it names nobody for certain.
    """
    found = []
    for part in re.split(r"(?<!\\)[,+]", subject):
        name, _, value = part.strip().partition("=")
        if name.strip().upper() in ("CN", "2.5.4.3"):
            found.append(re.sub(r"\\(.)", r"\1", value))
    return found[0] if len(found) == 1 else ""


def _is_hex(pair: bytes) -> bool:
    return all(chr(one) in "0123456789abcdefABCDEF" for one in pair)
