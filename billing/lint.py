"""What is odd about a tariff before anybody is billed with it: gaps, overlaps, dead prices, law.

`lint` evaluates the tariff at every combination of the moments, amounts and powers at which a price
can change, with the engine itself: what it reports is what sessions would meet.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import product
from typing import Any
from zoneinfo import ZoneInfo

from django.utils.translation import gettext as _

from .periods import Number, Period, Usage
from .pricing import Dimension, Element, Plan, Seeker

POWERFUL_KW = 50  # AFIR Art. 5: from here on ad hoc prices are kWh and occupancy alone
MONDAY = dt.date(2026, 1, 5)
AT = dt.datetime(2026, 1, 5, tzinfo=dt.UTC)
POINTS = 20_000  # more combinations are thinned: a lint that takes minutes is not read
DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")


@dataclass(frozen=True, slots=True)
class Remark:
    """One thing to look at. `level`: error (against the law), warning, note."""

    code: str
    level: str
    text: str
    element: int | None = None


@dataclass(frozen=True, slots=True)
class Point:
    """A moment of a session: local time, Wh and seconds so far, kW."""

    local: dt.datetime
    wh: Number
    elapsed_s: Number
    kw: Fraction

    def __str__(self) -> str:
        said = f"{DAYS[self.local.weekday()]} {self.local:%H:%M}"
        if self.wh:
            said += f", {float(self.wh) / 1000:g} kWh"
        if self.elapsed_s:
            said += f", {float(self.elapsed_s) / 60:g} min"
        return said + (f", {float(self.kw):g} kW" if self.kw else "")


def lint(
    plan: Plan, *, power_kw: float = 0, eichrecht: bool = False, zone: str = "UTC"
) -> list[Remark]:
    """Every remark, errors first.

    `power_kw`: of the strongest connector it is for; `eichrecht`: whether the meters there are
    bound by German calibration law; `zone`: where its local times are read.
    """
    found = [
        *_reach(plan),
        *_steps(plan),
        *_taxes(plan),
        *_flats(plan),
        *_power(plan),
        *_law(plan, power_kw, eichrecht),
        *_clock(plan, ZoneInfo(zone)),
    ]
    order = {"error": 0, "warning": 1, "note": 2}
    return sorted(found, key=lambda one: (order[one.level], one.code, one.element or 0))


# --- where each price applies ---------------------------------------------------------------------


def points(plan: Plan) -> list[Point]:
    """A moment of every stretch in which no price changes."""
    bounds = [e.restrictions for e in plan.elements]
    minutes = {0} | {m % 1440 for b in bounds for m in (b.start_time, b.end_time) if m is not None}
    days = {MONDAY}
    if any(b.days is not None for b in bounds):
        days = {MONDAY + dt.timedelta(days=n) for n in range(7)}
    for bound in bounds:
        days |= {day for day in (bound.start_date, bound.end_date) if day is not None}

    def amounts(*pairs: tuple[Any, Any]) -> list[Any]:
        return sorted({0, *(value for pair in pairs for value in pair if value)})

    clocks = [
        dt.datetime.combine(day, dt.time(minute // 60, minute % 60))
        for day in sorted(days)
        for minute in sorted(minutes)
    ]
    combined = [
        Point(local, wh, elapsed, Fraction(kw))
        for local, wh, elapsed, kw in product(
            clocks,
            amounts(*((b.min_wh, b.max_wh) for b in bounds)),
            amounts(*((b.min_duration, b.max_duration) for b in bounds)),
            amounts(*((b.min_power, b.max_power) for b in bounds)),
        )
    ]
    return combined[:: max(1, -(-len(combined) // POINTS))]


def matches(element: Element, plan: Plan, point: Point) -> bool:
    """Whether the element's restrictions hold at a moment of charging (currents: as the power)."""
    bounds = replace(element.restrictions, min_current=None, max_current=None)
    period = Period(AT, AT + dt.timedelta(hours=1), min_kw=point.kw, max_kw=point.kw)
    alone = replace(plan, elements=(replace(element, restrictions=bounds),))
    seeker = Seeker(alone, Usage((period,), ZoneInfo("UTC"), started=AT), assume=False)
    seeker.used_wh = point.wh
    at = AT + dt.timedelta(seconds=float(point.elapsed_s))
    return bool(seeker.components(period, at, point.local))


def _reach(plan: Plan) -> Iterator[Remark]:
    """Gaps, overlaps and prices that never apply."""
    charging = [
        (i, element)
        for i, element in enumerate(plan.elements)
        if element.restrictions.reservation is None
    ]
    seen: set[tuple[int, Dimension]] = set()
    overlaps: dict[tuple[int, int, Dimension], Point] = {}
    gaps: dict[Dimension, Point] = {}
    wanted = {d for _i, e in charging for d in e.components if d is not Dimension.FLAT}
    for point in points(plan):
        here = [(i, element) for i, element in charging if matches(element, plan, point)]
        for dimension in Dimension:
            able = [(i, e) for i, e in here if dimension in e.components]
            if able:
                seen.add((able[0][0], dimension))
            elif dimension in wanted:
                gaps.setdefault(dimension, point)
            bound = [i for i, e in able if _restricted(e)]
            for other in bound[1:]:
                overlaps.setdefault((bound[0], other, dimension), point)
    if Dimension.ENERGY in gaps:  # a time or parking price for some hours alone is usual
        text = _("No price per kWh applies at %(point)s: that energy is free.")
        yield Remark("gap", "warning", text % {"point": gaps[Dimension.ENERGY]})
    elif Dimension.ENERGY not in wanted and wanted:
        yield Remark("no_energy", "note", _("There is no price per kWh at all."))
    for (first, second, dimension), point in overlaps.items():
        text = _(
            "Overlaps with element %(n)s for %(dimension)s at %(point)s: the first one counts."
        )
        said = text % {"n": first, "dimension": dimension, "point": point}
        yield Remark("overlap", "warning", said, second)
    for i, element in charging:
        for dimension in element.components:
            if (i, dimension) not in seen:
                text = _("Its %(dimension)s price never applies: an earlier element always does.")
                yield Remark("unreachable", "warning", text % {"dimension": dimension}, i)


def _restricted(element: Element) -> bool:
    return element.restrictions != type(element.restrictions)()


# --- single rules ---------------------------------------------------------------------------------


def _steps(plan: Plan) -> Iterator[Remark]:
    for i, element in enumerate(plan.elements):
        for dimension, component in element.components.items():
            if component.step > 1 and dimension is not Dimension.FLAT:
                text = _(
                    "%(dimension)s is rounded up to %(step)s %(unit)s a session: "
                    "the driver pays for what was not used. A step of 1 is fair."
                )
                unit = "Wh" if dimension is Dimension.ENERGY else "s"
                said = text % {"dimension": dimension, "step": component.step, "unit": unit}
                yield Remark("step", "warning", said, i)


def _taxes(plan: Plan) -> Iterator[Remark]:
    if plan.tax == "N/A":
        return
    for i, element in enumerate(plan.elements):
        for dimension, component in element.components.items():
            if component.vat is None and component.price:
                text = _("%(dimension)s has no VAT rate. None is not 0 %%: give it, or write N/A.")
                yield Remark("vat", "warning", text % {"dimension": dimension}, i)


def _flats(plan: Plan) -> Iterator[Remark]:
    flats = [
        i
        for i, e in enumerate(plan.elements)
        if Dimension.FLAT in e.components and e.restrictions.reservation is None
    ]
    for i in flats[1:]:
        text = _("A session pays one fee per session: the first that becomes active.")
        yield Remark("flats", "warning", text, i)


def _power(plan: Plan) -> Iterator[Remark]:
    """A power or current bound needs a fallback for when the charger reports none."""
    energy = [e for e in plan.elements if Dimension.ENERGY in e.components]
    if any(e.restrictions.electrical for e in energy) and all(
        e.restrictions.electrical for e in energy
    ):
        text = _("Every price per kWh depends on power: without a reported power it is free.")
        yield Remark("power", "warning", text)


def _law(plan: Plan, power_kw: float, eichrecht: bool) -> Iterator[Remark]:
    """AFIR at 50 kW and more; German calibration law for prices that change in a session."""
    for i, element in enumerate(plan.elements):
        bounds = element.restrictions
        if bounds.reservation is not None:
            continue
        if power_kw >= POWERFUL_KW:
            for dimension in (Dimension.FLAT, Dimension.TIME):
                component = element.components.get(dimension)
                if component is not None and component.price:
                    text = _(
                        "From 50 kW on an ad hoc price is per kWh, and per minute of occupancy "
                        "(AFIR Art. 5): %(dimension)s is not allowed there."
                    )
                    yield Remark("afir", "error", text % {"dimension": dimension}, i)
        changing = bounds.local or bounds.electrical or bounds.min_wh or bounds.max_wh
        if eichrecht and changing and Dimension.ENERGY in element.components:
            text = _(
                "The price per kWh may change within a session: calibration law wants a signed "
                "reading at each change. Change at quarter hours, with signed clock readings."
            )
            yield Remark("eichrecht", "warning", text, i)


def _clock(plan: Plan, zone: ZoneInfo) -> Iterator[Remark]:
    """Times of day that a clock change skips or repeats within the year ahead."""
    edges = {
        minute: i
        for i, e in enumerate(plan.elements)
        for minute in (e.restrictions.start_time, e.restrictions.end_time)
        if minute
    }
    if not edges:
        return
    day = dt.datetime.now(dt.UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    for n in range(366):
        date = (day + dt.timedelta(days=n)).date()
        for minute, i in edges.items():
            wall = dt.datetime.combine(date, dt.time(minute // 60 % 24, minute % 60), zone)
            back = wall.astimezone(dt.UTC).astimezone(zone)
            skipped = back.replace(tzinfo=None) != wall.replace(tzinfo=None)
            repeated = wall.utcoffset() != wall.replace(fold=1).utcoffset()
            if skipped or repeated:
                text = (
                    _("%(time)s does not exist on %(date)s: the price changes at the clock change.")
                    if skipped
                    else _(
                        "%(time)s comes twice on %(date)s: between them the price changes twice."
                    )
                )
                said = text % {"time": f"{wall:%H:%M}", "date": date.isoformat()}
                yield Remark("dst", "note", said, i)
