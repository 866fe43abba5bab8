"""A charger's clock against ours, learned from the timestamps of its live messages.

A message that waited in the charger's queue says nothing about its clock. In a live stream the
charger's time advances as ours does; when a queue is drained it leaps. So a sample (theirs − ours,
seconds) counts where it agrees with the one before, and the median of the last of them is what the
clock is off: single stale messages and network delays move it nowhere.
"""

from __future__ import annotations

from collections import deque
from datetime import datetime
from typing import Final

AGREES_S: Final = 5.0  # two messages are both live when their offsets differ by less
WINDOW: Final = 20  # samples the median is taken of
ENOUGH: Final = 5  # samples before anything is said, and between two looks
MOVED_S: Final = 5.0  # a smaller change is not worth a write


class Clock:
    """One connection's samples. `known_s` is what the station's row says."""

    __slots__ = ("_before_s", "_count", "_samples_s", "known_s")

    def __init__(self, known_s: float | None) -> None:
        self.known_s = known_s
        self._samples_s: deque[float] = deque(maxlen=WINDOW)
        self._before_s: float | None = None
        self._count = 0

    def heard(self, at: datetime, received_at: datetime) -> float | None:
        """Take a live message's two times; return the offset in seconds where it has moved."""
        sample_s = (at - received_at).total_seconds()
        before_s, self._before_s = self._before_s, sample_s
        if before_s is None or abs(sample_s - before_s) > AGREES_S:
            return None
        self._samples_s.append(sample_s)
        self._count += 1
        if self._count % ENOUGH:
            return None
        median_s = sorted(self._samples_s)[len(self._samples_s) // 2]
        if self.known_s is not None and abs(median_s - self.known_s) < MOVED_S:
            return None
        self.known_s = median_s
        return median_s
