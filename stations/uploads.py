"""The door for logs: where chargers put the diagnostics and security logs they were asked for.

`/l/<token>/` takes PUT and POST. The token is signed and names the station and the order, so no
table is needed and nobody else can write.
"""

from __future__ import annotations

from typing import Final

from django.conf import settings
from django.core import signing

SALT: Final = "stations.uploads"
VALID_S: Final = 7 * 86_400


def address(station_id: int, request_id: int) -> str:
    """Return the URL to which this station may upload the log of this order."""
    token = signing.dumps([station_id, request_id], salt=SALT, compress=True)
    return f"{settings.PUBLIC_URL}/l/{token}/"


def opened_by(token: str) -> tuple[int, int] | None:
    """Return (station id, request id) that a token opens the door for, None for a wrong one."""
    try:
        station_id, request_id = signing.loads(token, salt=SALT, max_age=VALID_S)
    except (signing.BadSignature, ValueError):
        return None
    return station_id, request_id
