"""A charge point's clock: its own idea of the time, and how fast its day goes by."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

UNSET = datetime(1970, 1, 1, tzinfo=UTC)


class Clock:
    """Time as one charge point sees it.

    `speed` lets a session of 30 minutes pass in 30 seconds (speed 60): waits shrink, energy
    flows `speed` times as fast; timestamps stay those of the real day, so that a server finds
    nothing
    in the future. `skew_s` seconds are added to every timestamp: a clock that is wrong and stays
    wrong.
    """

    def __init__(self, *, speed: float = 1.0, skew_s: float = 0.0, never_set: bool = False) -> None:
        if speed <= 0:
            raise ValueError("The speed factor must be above 0.")
        self.speed = speed
        self.skew_s = skew_s
        self.never_set = never_set
        self._born = datetime.now(UTC)

    def now(self) -> datetime:
        """The charge point's time in UTC; counted from 1970 where the clock was never set."""
        if self.never_set:
            return UNSET + (datetime.now(UTC) - self._born)
        return datetime.now(UTC) + timedelta(seconds=self.skew_s)

    def monotonic(self) -> float:
        """Simulated seconds since some fixed point; never goes back."""
        return asyncio.get_running_loop().time() * self.speed

    async def sleep(self, seconds: float) -> None:
        """Sleep simulated `seconds`."""
        await asyncio.sleep(max(0.0, seconds) / self.speed)


def stamp(at: datetime) -> str:
    """RFC 3339 in UTC with milliseconds, as OCPP wants it."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.") + f"{at.microsecond // 1000:03d}Z"
