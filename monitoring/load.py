"""Sharing a site's connection: how many amperes each charging session may draw. Pure.

`share` says what is fair; `step` says what may be ordered now without the sum ever passing the
limit on the way there. Everything is in whole amperes per phase, and every session is counted on
every phase: which phase a single-phase car draws from is not known, so this is the safe side.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

VOLTAGE_V: Final = 230
PHASES: Final = 3
MINIMUM_A: Final = 6  # IEC 61851-1: below this a car stops charging


@dataclass(frozen=True, slots=True)
class Draw:
    """One session that wants power.

    `max_a`: what the connector (and, where it said so, the car) can take. A higher `priority` goes
    first; among equals the `order` (the session's age) decides who gets an odd ampere.
    """

    key: int
    max_a: int
    priority: int = 0
    order: int = 0


def share(limit_a: int, draws: Sequence[Draw], *, reserved_a: int = 0, minimum_a: int = MINIMUM_A
          ) -> dict[int, int]:  # fmt: skip
    """Return the amperes of each draw's key: a session's share, 0 where it has to wait.

    `reserved_a` is what stations may draw that do not hear us. First everybody gets the minimum, in
    order of priority, as long as there is any; those who can take less than the minimum get what
    they can take. What is left goes to the highest priority first, evenly among equals.
    """
    ranked = sorted(draws, key=lambda draw: (-draw.priority, draw.order, draw.key))
    left = max(limit_a - reserved_a, 0)
    shares = dict.fromkeys((draw.key for draw in ranked), 0)
    for draw in ranked:
        least = min(minimum_a, draw.max_a)
        if least > left:
            break  # nobody of less priority overtakes
        shares[draw.key] = least
        left -= least
    fed = [draw for draw in ranked if shares[draw.key] > 0]
    for priority in sorted({draw.priority for draw in fed}, reverse=True):
        left = _fill([draw for draw in fed if draw.priority == priority], shares, left)
    return shares


def _fill(equals: Sequence[Draw], shares: dict[int, int], left: int) -> int:
    """Raise the lowest of these evenly while there is something left; return what remains."""
    while left > 0:
        hungry = [draw for draw in equals if shares[draw.key] < draw.max_a]
        if not hungry:
            break
        lowest = min(shares[draw.key] for draw in hungry)
        level = [draw for draw in hungry if shares[draw.key] == lowest]
        above = [shares[draw.key] for draw in hungry if shares[draw.key] > lowest]
        ceiling = min([draw.max_a for draw in level] + above)
        each = min(ceiling - lowest, left // len(level))
        if each == 0:
            for draw in level[:left]:
                shares[draw.key] += 1
            return 0
        for draw in level:
            shares[draw.key] += each
        left -= each * len(level)
    return left


def step(
    limit_a: int,
    target: Mapping[int, int],
    drawn: Mapping[int, int],
    *,
    reserved_a: int = 0,
    minimum_a: int = MINIMUM_A,
) -> dict[int, int]:
    """Return what to order now, key → amperes: only what differs from `drawn`.

    `drawn` is the most each session may draw by what its station has accepted. Decreases go at
    once; an increase only as far as there is room while the decreases are not yet accepted.
    """
    now = {key: amps for key, amps in target.items() if amps < drawn[key]}
    room = limit_a - reserved_a - sum(drawn.values())
    for key, amps in target.items():
        rise = amps - drawn[key]
        if rise <= 0 or room <= 0:
            continue
        granted = drawn[key] + min(rise, room)
        if granted < min(minimum_a, amps):
            continue  # less than a car can use: wait for the decreases
        now[key] = granted
        room -= granted - drawn[key]
    return now


def fallback(limit_a: int, evses: int, minimum_a: int = MINIMUM_A) -> int:
    """Return what each EVSE may draw when its station has lost us: an equal part, or nothing.

    However many stations lose us at once, the sum stays within the limit.
    """
    each = limit_a // evses if evses else 0
    return each if each >= minimum_a else 0


def amperes(power_w: float, phases: int = PHASES) -> int:
    """Return the current per phase of a power, rounded to the nearest ampere (230 V)."""
    return max(round(power_w / (VOLTAGE_V * phases)), 0)


def watts(amps: int, phases: int = PHASES) -> int:
    """Return the power of a current per phase (230 V)."""
    return amps * VOLTAGE_V * phases
