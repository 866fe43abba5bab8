"""What each source says a session's energy was, side by side: for the person who decides a doubt.

One rung is billed, never a mix of them (docs/billing.md). Power over time is shown as a cross-check
and never billed by itself.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise

from monitoring.metering import TOLERANCE_MWH
from monitoring.models import Reading, Session

FAR_APART_S = 1800  # power is not believed to have held for longer than this


@dataclass(frozen=True, slots=True)
class Witness:
    """One source: registers in mWh where it has them, its energy in Wh, its distance in Wh."""

    name: str  # registers, readings, power
    begin_mwh: int | None
    end_mwh: int | None
    wh: int | None
    billed: bool
    differs_wh: int | None
    agrees: bool


def witnesses(session: Session) -> list[Witness]:
    """Return what the stop register, the readings and the power say, and which of it is billed."""
    readings = list(
        Reading.objects.filter(session=session)
        .order_by("at", "n")
        .values_list("at", "register_mwh", "power_w")
    )
    start = session.meter_start_mwh
    start = session.streak_start_mwh if start is None else start
    source = session.energy_source
    found = [
        ("registers", session.meter_start_mwh, session.meter_stop_mwh, source == "registers"),
        ("readings", start, session.last_register_mwh, source == "provisional"),
    ]
    said = [
        (name, begin, end, None if None in (begin, end) else (end - begin) // 1000, billed)  # type: ignore[operator]
        for name, begin, end, billed in found
    ]
    said.append(("power", None, None, power_wh(readings), False))
    return [_witness(session.energy_wh, *one) for one in said]


def _witness(
    billed_wh: int, name: str, begin: int | None, end: int | None, wh: int | None, billed: bool
) -> Witness:
    differs = None if wh is None else wh - billed_wh
    limit = max(TOLERANCE_MWH // 1000, billed_wh // 200)
    return Witness(
        name, begin, end, wh, billed, differs, differs is not None and abs(differs) <= limit
    )


def power_wh(readings: Sequence[tuple[datetime, int | None, float | None]]) -> int | None:
    """Return the energy under the power curve in Wh, by trapezoids; None with fewer than two."""
    known = [(at, power) for at, _register, power in readings if power is not None]
    if len(known) < 2:
        return None
    total = 0.0
    for (at, power), (then, later) in pairwise(known):
        seconds = min((then - at).total_seconds(), FAR_APART_S)
        total += (power + later) / 2 * seconds / 3600
    return round(total)
