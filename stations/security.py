"""Who may connect: passwords of stations, hashed; attempts, limited.

A station's password is its OCPP AuthorizationKey / BasicAuthPassword. Chargers reconnect by the
thousand after a deploy, so the hash is PBKDF2 at a cost of about 3 ms, and a password that was
verified once is remembered in this process by a keyed digest: reconnecting costs microseconds.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

ITERATIONS: Final = 10_000
GENERATED_BYTES: Final = 20  # 40 hex digits: the longest key 1.6 allows, and within 2.x's limits
ATTEMPTS: Final = 10  # wrong passwords a client may send for one identity …
WINDOW_S: Final = 60.0  # … within this time
_REMEMBERED: Final = 50_000

_process_key = secrets.token_bytes(32)
_verified: OrderedDict[bytes, None] = OrderedDict()


def new_password() -> str:
    """Return a random password: 40 hexadecimal digits, 160 bits."""
    return secrets.token_hex(GENERATED_BYTES)


def hash_password(password: str | bytes) -> str:
    """Return what is stored: `pbkdf2_sha256$iterations$salt$digest`."""
    salt = secrets.token_hex(12)
    return f"pbkdf2_sha256${ITERATIONS}${salt}${_digest(_bytes(password), salt, ITERATIONS)}"


def verify_password(password: str | bytes, stored: str) -> bool:
    """Tell whether `password` is the one stored, in a time that does not depend on how wrong it is.

    An empty or unreadable `stored` matches nothing.
    """
    given = _bytes(password)
    mark = hmac.digest(_process_key, given + b"\0" + stored.encode(), "sha256")
    if mark in _verified:
        _verified.move_to_end(mark)
        return True
    try:
        scheme, iterations, salt, digest = stored.split("$")
        cost = int(iterations)
    except ValueError:
        scheme, cost, salt, digest = "", ITERATIONS, "", ""
    right = hmac.compare_digest(_digest(given, salt, cost), digest)
    if not right or scheme != "pbkdf2_sha256":
        return False
    _verified[mark] = None
    if len(_verified) > _REMEMBERED:
        _verified.popitem(last=False)
    return True


def basic_credentials(header: bytes | None) -> tuple[str, bytes] | None:
    """Return user name and password of an `Authorization: Basic` header, or None.

    The password stays bytes: 1.6 keys may be binary (security whitepaper, A00).
    """
    if not header:
        return None
    scheme, _, encoded = header.partition(b" ")
    if scheme.lower() != b"basic":
        return None
    try:
        user, colon, password = base64.b64decode(encoded.strip(), validate=True).partition(b":")
        return (user.decode(), password) if colon else None
    except (binascii.Error, UnicodeDecodeError):
        return None


@dataclass(frozen=True, slots=True)
class Shown:
    """What a socket showed: its Authorization header, TLS, the verified client certificate."""

    header: bytes | None = None
    tls: bool = False
    certificate_name: str = ""  # common name, verified by us or by a trusted proxy
    certificate_serial: str = ""


def proven(
    identity: str, password_hashes: Sequence[str], profile: int, shown: Shown
) -> tuple[int, int] | None:
    """Return (security profile proven, which password was right or −1); None: not admitted.

    Profile 0 needs nothing; 1 a password; 2 a password over TLS; 3 a client certificate whose
    common name is the identity. A profile is the least: better proof is welcome. The user name
    must be the identity. A station that has a password must send it or show its certificate,
    whatever its profile: knowing another station's password opens nothing. A certificate of
    another identity never does.
    """
    if shown.certificate_name:
        if shown.certificate_name == identity and shown.tls:
            return 3, -1
        return None
    if profile >= 3 or (profile == 2 and not shown.tls):
        return None
    known = [one for one in password_hashes if one]
    open_as_before = profile == 0 and not password_hashes[0]
    if not known:
        return (0, -1) if profile == 0 else None
    user, password = basic_credentials(shown.header) or ("", b"")
    named = hmac.compare_digest(user.encode(), identity.encode())
    if not password.isascii() or b"\0" in password:
        password = (
            password.hex().encode()
        )  # some 1.6 firmware sends the key's bytes, not its digits
    right = [verify_password(password, one) for one in known]
    if not named or not any(right):
        return (0, 0) if open_as_before else None
    which = password_hashes.index(known[right.index(True)])
    return (2 if shown.tls else 1), which


def may_connect(
    identity: str, password_hash: str, profile: int, header: bytes | None, *, tls: bool
) -> bool:
    """Tell whether a password opens this station (security profiles 0 to 2)."""
    return proven(identity, [password_hash], profile, Shown(header, tls)) is not None


class Attempts:
    """Counts failures by key within a sliding window; bounded in memory."""

    def __init__(
        self, limit: int = ATTEMPTS, window_s: float = WINDOW_S, keys: int = 10_000
    ) -> None:
        self._limit, self._window_s, self._keys = limit, window_s, keys
        self._failures: OrderedDict[str, list[float]] = OrderedDict()

    def exhausted(self, key: str) -> bool:
        """Tell whether `key` has failed too often lately."""
        return len(self._recent(key)) >= self._limit

    def failed(self, key: str) -> int:
        """Count one failure; return how many there are in the window."""
        recent = [*self._recent(key), time.monotonic()][-self._limit :]
        self._failures[key] = recent
        self._failures.move_to_end(key)
        if len(self._failures) > self._keys:
            self._failures.popitem(last=False)
        return len(recent)

    def succeeded(self, key: str) -> None:
        """Forget the failures of `key`."""
        self._failures.pop(key, None)

    def _recent(self, key: str) -> list[float]:
        since = time.monotonic() - self._window_s
        return [at for at in self._failures.get(key, ()) if at > since]


def _bytes(password: str | bytes) -> bytes:
    return password.encode() if isinstance(password, str) else password


def _digest(password: bytes, salt: str, iterations: int) -> str:
    return hashlib.pbkdf2_hmac("sha256", password, salt.encode(), iterations).hex()
