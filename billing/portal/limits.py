"""How often one address may try to pay (card testing): attempts count, mistyped forms do not."""

from __future__ import annotations

import ipaddress

from django.core.cache import cache
from django.http import HttpRequest

BEGINS = 10  # reservations asked for from one address …
WITHIN_S = 600  # … in ten minutes


def address_of(request: HttpRequest) -> str:
    """Return whom to count: the peer's address, its /64 in IPv6 (one household, one phone).

    The server has put a trusted proxy's X-Forwarded-For there, and nobody else's.
    """
    peer: str = request.META.get("REMOTE_ADDR", "")
    try:
        address = ipaddress.ip_address(peer)
    except ValueError:
        return peer
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped:
            return str(address.ipv4_mapped)
        return str(ipaddress.ip_network((address, 64), strict=False))
    return peer


def exhausted(request: HttpRequest) -> bool:
    """Whether this address has used up its attempts for now."""
    return int(cache.get(_key(request)) or 0) >= BEGINS


def count(request: HttpRequest) -> None:
    """Note one attempt: a reservation that is about to be asked for."""
    key = _key(request)
    cache.add(key, 0, WITHIN_S)
    try:
        cache.incr(key)
    except ValueError:  # expired in between
        cache.set(key, 1, WITHIN_S)


def _key(request: HttpRequest) -> str:
    return f"pay-{address_of(request)}"
