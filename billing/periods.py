"""Periods of a session and how they are cut: at instants, at clock edges, at amounts of energy.

Whole Wh and seconds stay whole: parts are shared by largest remainder, so their sum is exact.
Fractional amounts (a foreign CDR's) are shared exactly.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise
from zoneinfo import ZoneInfo

from .money import share

ZERO = Fraction(0)
type Number = int | Fraction


@dataclass(frozen=True, slots=True)
class Period:
    """A stretch of a session: start and end in UTC, what was used in it, and at what power.

    A pause by load management (SuspendedEVSE) has neither charging nor parking seconds.
    `read` is False where the energy was calculated between readings. `gap`: no reading for so long
    that where in it the energy flowed is not known.
    """

    start: dt.datetime
    end: dt.datetime
    wh: Number = 0
    charging_s: Number = 0
    parking_s: Number = 0
    reserved_s: Number = 0
    min_kw: Fraction | None = None
    max_kw: Fraction | None = None
    min_a: Fraction | None = None
    max_a: Fraction | None = None
    read: bool = True
    gap: bool = False

    @property
    def reserved(self) -> bool:
        """Whether this is the reservation before the session."""
        return bool(self.reserved_s) and not (self.wh or self.charging_s or self.parking_s)


@dataclass(frozen=True, slots=True)
class Usage:
    """A session as its price sees it. `expired`: a reservation nobody came for.

    Not `verified`: the charger's clock could not be checked, so its times prove durations alone.
    `doubts` names what was decided before the price was (`billing.fairness`).
    """

    periods: tuple[Period, ...]
    zone: ZoneInfo
    started: dt.datetime | None = None
    expired: bool = False
    verified: bool = True
    doubts: tuple[str, ...] = ()


def local_edges(
    zone: ZoneInfo, minutes: set[int], first: dt.datetime, last: dt.datetime
) -> Iterator[dt.datetime]:
    """Those minutes of every local day between two instants, and the clock changes, in UTC.

    A time that the spring change skips has no instant of its own: the change itself is the edge.
    A time that the autumn change repeats has two.
    """
    marks = [first]
    while marks[-1] < last:
        marks.append(min(marks[-1] + dt.timedelta(hours=12), last))
    offsets = [mark.astimezone(zone).utcoffset() or dt.timedelta() for mark in marks]
    days = _days(first.astimezone(zone).date(), last.astimezone(zone).date())
    if len(set(offsets)) == 1:  # no clock change: plain arithmetic, a tenth of the time
        for day in days:
            midnight = dt.datetime(day.year, day.month, day.day, tzinfo=dt.UTC) - offsets[0]
            for minute in minutes:
                yield midnight + dt.timedelta(minutes=minute)
        return
    for day in days:
        for minute in minutes:
            wall = dt.datetime.combine(day, dt.time(minute // 60, minute % 60), zone)
            for fold in (0, 1):
                instant = wall.replace(fold=fold).astimezone(dt.UTC)
                if instant.astimezone(zone).replace(tzinfo=None) == wall.replace(tzinfo=None):
                    yield instant
    for n, (before, after) in enumerate(pairwise(offsets)):
        if before != after:
            yield _clock_change(zone, marks[n], marks[n + 1])


def _days(first: dt.date, last: dt.date) -> list[dt.date]:
    """Every day between two, both included."""
    return [first + dt.timedelta(days=n) for n in range((last - first).days + 1)]


def _clock_change(zone: ZoneInfo, low: dt.datetime, high: dt.datetime) -> dt.datetime:
    """The first second with the UTC offset of `high`, by bisection."""
    offset = high.astimezone(zone).utcoffset()
    low_s, high_s = int(low.timestamp()), -int(-high.timestamp() // 1)
    while high_s - low_s > 1:
        middle = (low_s + high_s) // 2
        same = dt.datetime.fromtimestamp(middle, dt.UTC).astimezone(zone).utcoffset() == offset
        low_s, high_s = (low_s, middle) if same else (middle, high_s)
    return dt.datetime.fromtimestamp(high_s, dt.UTC)


def _micros(start: dt.datetime, end: dt.datetime) -> int:
    return (end - start) // dt.timedelta(microseconds=1)


def cut_at(period: Period, instants: Sequence[dt.datetime]) -> list[Period]:
    """Cut a period at instants inside it; Wh and seconds in proportion, sums exact."""
    if not instants:
        return [period]
    bounds = [period.start, *instants, period.end]
    weights = [Fraction(_micros(a, b)) for a, b in pairwise(bounds)]
    wh, charging, parking, reserved = (
        _divide(total, weights)
        for total in (period.wh, period.charging_s, period.parking_s, period.reserved_s)
    )
    return [
        replace(
            period,
            start=bounds[i],
            end=bounds[i + 1],
            wh=wh[i],
            charging_s=charging[i],
            parking_s=parking[i],
            reserved_s=reserved[i],
            read=False,
        )
        for i in range(len(weights))
    ]


def _divide(total: Number, weights: list[Fraction]) -> list[Number]:
    """Whole numbers by largest remainder; a fractional total (a foreign CDR) exactly."""
    if isinstance(total, int):
        return list(share(total, weights))
    whole = sum(weights, ZERO)
    return [total * weight / whole for weight in weights]


def cut_energy(part: Period, used: Number, thresholds: list[Number]) -> Iterator[Period]:
    """Cut a period where the energy since the start passes a threshold."""
    start, wh, before = part.start, part.wh, used
    span = Fraction(_micros(part.start, part.end))
    for threshold in thresholds:
        if not used < threshold < used + wh:
            continue
        taken: Number = threshold - before
        if isinstance(wh, int):
            taken = -(-taken.numerator // taken.denominator)  # the Wh that crosses stays below
        at = part.start + dt.timedelta(microseconds=int(span * (before + taken - used) / wh))
        at = min(max(start, at.replace(microsecond=0)), part.end)
        yield _slice(part, start, at, taken)
        start, before = at, before + taken
    if start == part.start and before == used:
        yield part
    else:
        yield _slice(part, start, part.end, used + wh - before)


def _slice(part: Period, start: dt.datetime, end: dt.datetime, wh: Number) -> Period:
    """The stretch of `part` between two instants with `wh`; seconds cumulatively, sums exact."""

    def seconds(total: Number) -> Number:
        whole = _micros(part.start, part.end)
        if not whole or not total:
            return total if end == part.end else 0
        marks = [Fraction(total) * _micros(part.start, at) / whole for at in (start, end)]
        if isinstance(total, int):
            return int(marks[1]) - int(marks[0])
        return marks[1] - marks[0]

    return replace(
        part,
        start=start,
        end=end,
        wh=wh,
        charging_s=seconds(part.charging_s),
        parking_s=seconds(part.parking_s),
        reserved_s=seconds(part.reserved_s),
        read=False,
    )
