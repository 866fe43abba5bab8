"""Times on the wire: RFC 3339 out, whatever chargers write in."""

from __future__ import annotations

from datetime import UTC, datetime, tzinfo

from stations.ocpp.fastpath import PROPERTY, Violation


def utc_text(at: datetime) -> str:
    """RFC 3339 in UTC with milliseconds and a Z, as both specifications want it."""
    return at.isoformat(timespec="milliseconds")[:23] + "Z"


def read_time(text: str, zone: tzinfo) -> datetime:
    """Return the moment a charger wrote, in UTC; without a zone it is in `zone`.

    1970, 2014 and the future are moments too: whoever uses them judges. Raises Violation for
    what is no time at all.
    """
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        try:  # a leap second, or lower case
            at = datetime.fromisoformat(text.upper().replace(":60", ":59"))
        except ValueError:
            raise Violation(PROPERTY, "a timestamp is not RFC 3339") from None
    try:
        return (at.replace(tzinfo=zone) if at.tzinfo is None else at).astimezone(UTC)
    except (OverflowError, ValueError):
        raise Violation(PROPERTY, "a timestamp is beyond the calendar") from None
