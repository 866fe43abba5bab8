"""What a session costs: usage and a tariff become segments, lines and totals. Pure.

OCPI 2.2.1 (bugfix) and 2.3.0, mod_tariffs. In one sentence: at every instant and for every
dimension the first element in list order that matches and has a component of that dimension sets
the price; each dimension is rounded up once per session to the last active step; the price limits
apply before and after taxes independently. All amounts are exact fractions; `billing.money` rounds
once.

Units: energy Wh, time s, power kW, current A (phases summed), prices per kWh, hour, session.
"""

from __future__ import annotations

import datetime as dt
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from fractions import Fraction

from .periods import ZERO, Number, Period, Usage, cut_at, cut_energy, local_edges

ENGINE = "2"


class Dimension(StrEnum):
    """What a price component prices (OCPI TariffDimensionType)."""

    ENERGY = "ENERGY"
    TIME = "TIME"
    PARKING_TIME = "PARKING_TIME"
    FLAT = "FLAT"


@dataclass(frozen=True, slots=True)
class Component:
    """A price per kWh, hour or session; `vat` is a rate (0.19), None where none was given."""

    dimension: Dimension
    price: Fraction
    vat: Fraction | None
    step: int
    element: int


@dataclass(frozen=True, slots=True)
class Restrictions:
    """When an element is active: every bound that is set must hold, start in, end out."""

    start_time: int | None = None
    end_time: int | None = None
    start_date: dt.date | None = None
    end_date: dt.date | None = None
    min_wh: Number | None = None
    max_wh: Number | None = None
    min_power: Fraction | None = None
    max_power: Fraction | None = None
    min_current: Fraction | None = None
    max_current: Fraction | None = None
    min_duration: Number | None = None
    max_duration: Number | None = None
    days: frozenset[int] | None = None
    reservation: str | None = None

    @property
    def local(self) -> bool:
        """Whether the local clock or calendar decides."""
        return any(
            bound is not None
            for bound in (self.start_time, self.end_time, self.start_date, self.end_date, self.days)
        )

    @property
    def electrical(self) -> bool:
        """Whether power or current decides."""
        return any(
            bound is not None
            for bound in (self.min_power, self.max_power, self.min_current, self.max_current)
        )


@dataclass(frozen=True, slots=True)
class Element:
    """Components that share restrictions; one component a dimension."""

    components: dict[Dimension, Component]
    restrictions: Restrictions = Restrictions()


@dataclass(frozen=True, slots=True)
class Plan:
    """A tariff, parsed: `tax` is YES (prices include it), NO, or N/A."""

    currency: str
    tax: str
    elements: tuple[Element, ...]
    min_before: Fraction | None = None
    min_after: Fraction | None = None
    max_before: Fraction | None = None
    max_after: Fraction | None = None


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch in which nothing that decides a price changes, and the components that applied."""

    period: Period
    components: dict[Dimension, Component]


@dataclass(slots=True)
class Line:
    """One component's share of the bill: quantity in Wh, s or 1; amounts exact."""

    dimension: str
    component: Component
    start: dt.datetime
    end: dt.datetime
    used: Number = 0
    billed: Number = 0
    before: Fraction = ZERO
    after: Fraction = ZERO
    vat: Fraction | None = None

    @property
    def quantity(self) -> Fraction:
        """The billed quantity in the unit of the price: kWh, h or 1."""
        if self.component.dimension is Dimension.FLAT:
            return Fraction(self.billed)
        scale = 1000 if self.component.dimension is Dimension.ENERGY else 3600
        return Fraction(self.billed) / scale

    @property
    def unit(self) -> str:
        """kWh, h or session."""
        if self.component.dimension is Dimension.FLAT:
            return "session"
        return "kWh" if self.component.dimension is Dimension.ENERGY else "h"


@dataclass(slots=True)
class Bill:
    """The exact price of a session. `doubts` names what was decided in the driver's favour."""

    currency: str
    segments: list[Segment] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)
    before: Fraction = ZERO
    after: Fraction = ZERO
    doubts: list[str] = field(default_factory=list)

    def total(self, dimension: str) -> tuple[Fraction, Fraction]:
        """The sums before and after taxes of the lines of one dimension, without adjustments."""
        lines = [line for line in self.lines if line.dimension == dimension]
        return sum((x.before for x in lines), ZERO), sum((x.after for x in lines), ZERO)


RESERVATION = "RESERVATION"


def price(plan: Plan, usage: Usage, *, split: bool = True) -> Bill:
    """Price `usage` with `plan`.

    `split`: cut periods where a price changes inside them, energy interpolated in whole Wh by
    largest remainder. False prices the periods as given (a CDR's are already cut by its sender).

    A power or current restriction that the usage says nothing about is not met; where meeting it
    would have been cheaper for the driver, the cheaper result is returned with a doubt.
    """
    bill, unknown = _price(plan, usage, split=split, assume=False)
    if unknown:
        other, _ = _price(plan, usage, split=split, assume=True)
        if other.after < bill.after:
            other.doubts.append("power_unknown")
            return other
    return bill


def _price(plan: Plan, usage: Usage, *, split: bool, assume: bool) -> tuple[Bill, bool]:
    bill = Bill(plan.currency)
    seeker = Seeker(plan, usage, assume=assume)
    tally = _Tally()
    for parts in _cut(plan, usage, seeker) if split else ([p] for p in usage.periods):
        moments = [part.start for part in parts] if len(parts) > 1 and parts[0].gap else []
        for period in parts:
            components = seeker.components(period)
            if moments or not usage.verified:
                components = seeker.fair(period, components, moments)
            bill.segments.append(Segment(period, components))
            tally.add(period, components)
            seeker.used_wh += period.wh
    tally.round_up()
    bill.doubts = sorted(seeker.doubts)
    bill.lines = [_amounts(plan, line) for line in tally.lines.values()]
    _limit(plan, bill)
    return bill, seeker.unknown


class Seeker:
    """Finds the component of each dimension at an instant; keeps the energy used so far."""

    def __init__(self, plan: Plan, usage: Usage, *, assume: bool) -> None:
        charging = [p for p in usage.periods if not p.reserved]
        reserved = [p for p in usage.periods if p.reserved]
        self.charging_from = charging[0].start if charging else None
        if not reserved and usage.started is not None:
            self.charging_from = usage.started  # a CDR's start before a reservation is the latter's
        self.reserved_from = reserved[0].start if reserved else None
        self.zone = usage.zone
        self.assume = assume
        self.unknown = False
        self.doubts: set[str] = set()
        self.gross = plan.tax != "NO"
        self.any_clock = _every_clock(plan, usage) if not usage.verified else []
        self.used_wh: Number = 0
        kinds = ("RESERVATION_EXPIRES", "RESERVATION") if usage.expired else ("RESERVATION",)
        self.reservation = [
            _kinds_of(e)
            for kind in kinds
            for e in plan.elements
            if e.restrictions.reservation == kind
        ]
        self.charging = [_kinds_of(e) for e in plan.elements if e.restrictions.reservation is None]

    def components(
        self, period: Period, at: dt.datetime | None = None, local: dt.datetime | None = None
    ) -> dict[Dimension, Component]:
        """The components in force at the start of `period`, one a dimension at most.

        `at`: as if it began then; `local`: as if the local clock showed that.
        """
        found: dict[Dimension, Component] = {}
        reserved = period.reserved
        since = self.reserved_from if reserved else self.charging_from
        elapsed = 0 if since is None else max(0, _seconds(since, at or period.start))
        for element, clock, electrical in self.reservation if reserved else self.charging:
            bounds = element.restrictions
            if found.keys() >= element.components.keys():
                continue
            if clock:
                local = local or (at or period.start).astimezone(self.zone)
                if not _in_calendar(bounds, local):
                    continue
            if not _within(elapsed, bounds.min_duration, bounds.max_duration):
                continue
            if not _within(self.used_wh, bounds.min_wh, bounds.max_wh):
                continue
            if electrical and not self._electrical(bounds, period):
                continue
            for dimension, component in element.components.items():
                if not reserved or dimension in (Dimension.FLAT, Dimension.TIME):
                    found.setdefault(dimension, component)
        return found

    def fair(
        self, period: Period, found: dict[Dimension, Component], moments: list[dt.datetime]
    ) -> dict[Dimension, Component]:
        """`found`, or what is cheaper where the moment of use is in doubt.

        In a gap between readings the energy may have flowed at any of its `moments`; with a clock
        that could not be verified everything may have happened at any time of any day.
        """
        if self.any_clock and not period.reserved:
            options = [self.components(period, local=local) for local in self.any_clock]
            best = self._cheapest([found, *options], found)
            if best != found:
                self.doubts.add("clock_unverified")
            found = best
        if moments and period.wh:
            options = [self.components(period, at) for at in moments]
            best = self._cheapest(
                [found, *options], {k: v for k, v in found.items() if k is Dimension.ENERGY}
            )
            if best.get(Dimension.ENERGY) != found.get(Dimension.ENERGY):
                self.doubts.add("reading_gap")
                found = {k: v for k, v in found.items() if k is not Dimension.ENERGY} | best
        return found

    def _cheapest(
        self, options: list[dict[Dimension, Component]], asked: dict[Dimension, Component]
    ) -> dict[Dimension, Component]:
        """Of each dimension asked for the cheapest component; none where one option has none."""
        best = {}
        for dimension in asked:
            choice = [option.get(dimension) for option in options]
            known = [component for component in choice if component is not None]
            if len(known) == len(choice):
                best[dimension] = min(known, key=self._cost)
        return best

    def _cost(self, component: Component) -> Fraction:
        """What a unit costs the driver, taxes included."""
        return component.price * (1 if self.gross else 1 + (component.vat or ZERO))

    def _electrical(self, bounds: Restrictions, period: Period) -> bool:
        """Power and current bounds; a value the usage does not have counts as `assume` says."""
        for value, least in ((period.min_kw, bounds.min_power), (period.min_a, bounds.min_current)):
            if least is not None and not self._known(value is not None and value >= least, value):
                return False
        for value, below in ((period.max_kw, bounds.max_power), (period.max_a, bounds.max_current)):
            if below is not None and not self._known(value is not None and value < below, value):
                return False
        return True

    def _known(self, met: bool, value: Fraction | None) -> bool:
        if value is None:
            self.unknown = True
            return self.assume
        return met


def _kinds_of(element: Element) -> tuple[Element, bool, bool]:
    """The element, whether the clock decides in it, whether power or current does."""
    return element, element.restrictions.local, element.restrictions.electrical


def _seconds(start: dt.datetime, end: dt.datetime) -> int:
    """Whole seconds between two UTC instants."""
    delta = end - start
    return delta.days * 86400 + delta.seconds


def _within(value: Number, least: Number | None, below: Number | None) -> bool:
    return (least is None or value >= least) and (below is None or value < below)


def _in_calendar(bounds: Restrictions, local: dt.datetime) -> bool:
    """Whether a local instant lies in the dates, weekdays and times; the night wraps midnight."""
    day = local.date()
    if bounds.start_date is not None and day < bounds.start_date:
        return False
    if bounds.end_date is not None and day >= bounds.end_date:
        return False
    if bounds.days is not None and day.weekday() not in bounds.days:
        return False
    minute = local.hour * 60 + local.minute
    start = bounds.start_time or 0
    end = bounds.end_time or 1440  # absent, or 00:00: the end of the day
    if end < start:
        return minute >= start or minute < end
    return start <= minute < end


def _every_clock(plan: Plan, usage: Usage) -> list[dt.datetime]:
    """A local instant of every stretch of a week around the session in which no price changes."""
    bounds = [e.restrictions for e in plan.elements if e.restrictions.local]
    if not bounds or not usage.periods:
        return []
    minutes = {0} | {m % 1440 for b in bounds for m in (b.start_time, b.end_time) if m is not None}
    day = usage.periods[0].start.astimezone(usage.zone).date()
    return [
        dt.datetime.combine(day + dt.timedelta(days=n), dt.time(m // 60, m % 60))
        for n in range(-3, 4)
        for m in sorted(minutes)
    ]


def _cut(plan: Plan, usage: Usage, seeker: Seeker) -> Iterator[list[Period]]:
    """The parts of each period, cut wherever a restriction can begin or cease to match."""
    edges = _edges(plan, usage, seeker)
    thresholds = sorted(
        {
            bound
            for element in plan.elements
            for bound in (element.restrictions.min_wh, element.restrictions.max_wh)
            if bound
        }
    )
    used: Number = 0
    for period in usage.periods:
        inside = edges[bisect_right(edges, period.start) : bisect_left(edges, period.end)]
        parts: list[Period] = []
        for part in cut_at(period, inside):
            if thresholds and _passes(thresholds, used, used + part.wh):
                parts += cut_energy(part, used, thresholds)
            else:
                parts.append(part)
            used += part.wh
        yield parts


def _passes(thresholds: list[Number], used: Number, after: Number) -> bool:
    """Whether a threshold lies between two amounts of energy, neither of them."""
    at = bisect_right(thresholds, used)
    return at < len(thresholds) and thresholds[at] < after


def _edges(plan: Plan, usage: Usage, seeker: Seeker) -> list[dt.datetime]:
    """Every instant (UTC) at which the clock, the calendar or the duration can change a price."""
    if not usage.periods:
        return []
    first, last = usage.periods[0].start, max(p.end for p in usage.periods)
    edges: set[dt.datetime] = set()
    for since in (seeker.charging_from, seeker.reserved_from):
        for element in plan.elements:
            for bound in (element.restrictions.min_duration, element.restrictions.max_duration):
                if since is not None and bound:
                    edges.add(since + dt.timedelta(seconds=float(bound)))
    bounds = [e.restrictions for e in plan.elements if e.restrictions.local]
    if bounds:
        minutes = {0} | {
            minute for b in bounds for minute in (b.start_time, b.end_time) if minute is not None
        }
        edges.update(local_edges(usage.zone, minutes, first, last))
    return sorted(edge for edge in edges if first < edge < last)


class _Tally:
    """Adds up quantities per component, then rounds each dimension up once."""

    def __init__(self) -> None:
        self.lines: dict[tuple[str, int], Line] = {}
        self.totals: dict[str, Number] = {}
        self.last: dict[str, Line] = {}

    def add(self, period: Period, components: dict[Dimension, Component]) -> None:
        """One segment's quantities, and the flat fee when it first becomes active."""
        flat = components.get(Dimension.FLAT)
        if period.reserved:
            self._quantity(RESERVATION, components.get(Dimension.TIME), period, period.reserved_s)
            self._flat(RESERVATION, flat, period)
            return
        self._flat(Dimension.FLAT, flat, period)
        energy, time = components.get(Dimension.ENERGY), components.get(Dimension.TIME)
        parking = components.get(Dimension.PARKING_TIME)
        self._quantity(Dimension.ENERGY, energy, period, period.wh)
        self._quantity(Dimension.TIME, time, period, period.charging_s)
        self._quantity(Dimension.PARKING_TIME, parking, period, period.parking_s)

    def _flat(self, kind: str, component: Component | None, period: Period) -> None:
        key = (f"{kind}:flat", 0)
        if component is not None and key not in self.lines:
            self.lines[key] = Line(kind, component, period.start, period.end, 1, 1)

    def _quantity(
        self, kind: str, component: Component | None, period: Period, amount: Number
    ) -> None:
        if not amount:
            return
        self.totals[kind] = self.totals.get(kind, 0) + amount
        if component is None:
            return
        key = (kind, component.element)
        line = self.lines.get(key)
        if line is None:
            line = self.lines[key] = Line(kind, component, period.start, period.end)
        line.end = period.end
        line.used += amount
        line.billed += amount
        self.last[kind] = line

    def round_up(self) -> None:
        """Round the session's total of each dimension up to the last active component's step.

        Where parking was billed only parking is rounded; charging time stays exact.
        """
        for kind in (RESERVATION, Dimension.ENERGY, Dimension.TIME, Dimension.PARKING_TIME):
            line = self.last.get(kind)
            if line is None or line.component.step < 1:
                continue
            if kind == Dimension.TIME and Dimension.PARKING_TIME in self.last:
                continue
            total, step = Fraction(self.totals[kind]), line.component.step
            whole = total if kind == Dimension.ENERGY else Fraction(round(total))
            target = -(-whole // step) * step
            if target > whole or step > 1:  # thirds of an hour arrive cut to six decimals
                line.billed += target - total


def _amounts(plan: Plan, line: Line) -> Line:
    """Fill the exact amounts; a component without VAT is the same before and after taxes."""
    component = line.component
    line.vat = None if plan.tax == "N/A" else component.vat
    amount = component.price * line.quantity
    rate = 1 + (line.vat or ZERO)
    if plan.tax == "YES":
        line.before, line.after = amount / rate, amount
    else:
        line.before, line.after = amount, amount * rate
    return line


def _limit(plan: Plan, bill: Bill) -> None:
    """Apply the price limits, before and after taxes independently, as adjustment lines."""
    before = sum((line.before for line in bill.lines), ZERO)
    after = sum((line.after for line in bill.lines), ZERO)
    bill.before = _clamp(before, plan.min_before, plan.max_before)
    bill.after = _clamp(after, plan.min_after, plan.max_after)
    ratio = after / before if before else 1 + (_first_rate(plan) or ZERO)
    if bill.before != before and plan.min_after is None and plan.max_after is None:
        bill.after = bill.before * ratio
    elif bill.after != after and plan.min_before is None and plan.max_before is None:
        bill.before = bill.after / ratio


def _clamp(value: Fraction, least: Fraction | None, most: Fraction | None) -> Fraction:
    if least is not None and value < least:
        value = least
    return most if most is not None and value > most else value


def _first_rate(plan: Plan) -> Fraction | None:
    """The VAT rate of the first component that has one: for a minimum with nothing used."""
    if plan.tax == "N/A":
        return None
    rates = (c.vat for e in plan.elements for c in e.components.values() if c.vat is not None)
    return next(rates, None)


def by_rate(plan: Plan, bill: Bill) -> dict[Fraction | None, Fraction]:
    """The taxable base of each VAT rate such that the bill's limited totals are met.

    Where limits make no set of bases meet both totals, the smaller gross wins and the VAT is
    recomputed by rate: no VAT sum appears on an invoice that no rate produces.
    """
    bases: dict[Fraction | None, Fraction] = {}
    for line in bill.lines:
        bases[line.vat] = bases.get(line.vat, ZERO) + line.before
    if not any(bases.values()):
        bases = {_first_rate(plan): ZERO} if bill.after else bases
    base, gross = sum(bases.values(), ZERO), _gross(bases)
    if (base, gross) == (bill.before, bill.after):
        return bases
    if base:
        bases = {rate: amount * bill.before / base for rate, amount in bases.items()}
    else:
        bases = dict.fromkeys(bases, bill.before)
    surplus = _gross(bases) - bill.after
    low, high = min(bases, key=_rate), max(bases, key=_rate)
    if surplus and _rate(high) > _rate(low):
        shift = surplus / (_rate(high) - _rate(low))
        if bases[high] >= shift and bases[low] >= -shift:
            return bases | {high: bases[high] - shift, low: bases[low] + shift}
    gross = _gross(bases)
    smaller = min(gross, bill.after)
    return {rate: amount * smaller / gross for rate, amount in bases.items()} if gross else bases


def _rate(rate: Fraction | None) -> Fraction:
    return rate or ZERO


def _gross(bases: dict[Fraction | None, Fraction]) -> Fraction:
    return sum((amount * (1 + _rate(rate)) for rate, amount in bases.items()), ZERO)
