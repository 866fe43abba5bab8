"""A tariff as the pay page's table: one row a price, on the words of `billing.words`."""

from __future__ import annotations

import datetime as dt
import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Any
from zoneinfo import ZoneInfo

from django.utils.formats import number_format
from django.utils.translation import gettext as _

from billing import words
from billing.money import from_minor
from billing.ocpi import OcpiError, read_tariff
from billing.periods import Period, Usage
from billing.pricing import Component, Dimension, Element, Plan, price
from billing.totals import total_up


@dataclass(frozen=True, slots=True)
class PriceRow:
    """One price: `what` it is for, the `amount` with its unit, and `when` it applies."""

    what: str
    amount: str
    when: str
    vat: str


@dataclass(frozen=True, slots=True)
class PriceTable:
    """A whole tariff, taxes included, in the lawful order, and what else must be known."""

    rows: tuple[PriceRow, ...]
    notes: tuple[str, ...]
    free: bool


def price_table(ocpi: dict[str, Any]) -> PriceTable:
    """Describe a tariff in the current language. Raises OcpiError where it cannot be read."""
    plan = read_tariff(ocpi, strict=False)
    elements = [element for element in plan.elements if element.restrictions.reservation is None]
    rows = [
        _row(plan, component, element)
        for dimension in words.ORDER
        for element in elements
        if (component := element.components.get(dimension))
    ]
    notes = []
    if any(Dimension.PARKING_TIME in element.components for element in elements):
        notes.append(
            _(
                "The occupancy fee counts only while your vehicle takes no power of its own accord;"
                " a pause by the station is never charged."
            )
        )
    notes += words.limits(plan)
    free = all(c.price == 0 for element in elements for c in element.components.values())
    return PriceTable(tuple(rows), tuple(notes), free)


def _row(plan: Plan, component: Component, element: Element) -> PriceRow:
    value, unit = words.gross(plan, component), ""
    if component.dimension is Dimension.ENERGY:
        unit = " / kWh"
    elif component.dimension is not Dimension.FLAT:
        value, unit = value / 60, " / " + _("min")
    what = {
        Dimension.ENERGY: _("Electricity"),
        Dimension.TIME: _("Charging time"),
        Dimension.PARKING_TIME: _("Occupancy after charging"),
        Dimension.FLAT: _("Start fee"),
    }[component.dimension]
    when = words.conditions(element.restrictions)
    if component.step > 1 and component.dimension is not Dimension.FLAT:
        when.append(words.step(component))
    return PriceRow(
        what, words.amount(value, plan.currency) + unit, ", ".join(when), _vat(plan, component)
    )


def _vat(plan: Plan, component: Component) -> str:
    if component.vat:
        percent = float(component.vat * 100)
        return _("incl. %(rate)s %% VAT") % {"rate": number_format(f"{percent:g}")}
    return _("plus taxes") if component.vat is None and plan.tax == "NO" else ""


def money_text(minor: int, currency: str) -> str:
    """Return an amount in minor units as the current language writes it."""
    return words.amount(Fraction(from_minor(minor, currency)), currency)


@dataclass(frozen=True, slots=True)
class Example:
    """What `kwh` cost at `kw`, which takes `time`; all as the current language writes it."""

    kwh: str
    kw: str
    time: str
    cost: str


EXAMPLE_KWH = 20
USUAL_W = 11_000  # where the connector's power is not known


def example_of(plan: Plan, zone: ZoneInfo, at: dt.datetime, power_w: int) -> Example:
    """Return the example session of a connector of `power_w`: 20 kWh, as long as they take."""
    power_w = power_w or USUAL_W
    minutes = math.ceil(EXAMPLE_KWH * 60_000 / power_w)
    if minutes > 30:
        minutes = 5 * math.ceil(minutes / 5)  # the minutes said are the minutes priced
    cost = example_minor(plan, zone, at, EXAMPLE_KWH, minutes)
    return Example(
        kwh=str(EXAMPLE_KWH),
        kw=number_format(f"{power_w / 1000:g}"),
        time=duration_text(minutes * 60),
        cost=money_text(cost, plan.currency),
    )


def example_minor(plan: Plan, zone: ZoneInfo, at: dt.datetime, kwh: int, minutes: int) -> int:
    """Return what a session of so much energy and time, starting `at`, costs (minor units)."""
    start = at.replace(microsecond=0)
    end = start + dt.timedelta(minutes=minutes)
    power = Fraction(kwh * 60, minutes)
    period = Period(start, end, wh=kwh * 1000, charging_s=minutes * 60, min_kw=power, max_kw=power)
    return total_up(plan, price(plan, Usage((period,), zone, started=start))).gross_minor


def duration_text(seconds: int) -> str:
    """Return a duration as `1 h 05 min`."""
    minutes = seconds // 60
    if minutes < 60:
        return _("%(n)d min") % {"n": minutes}
    return _("%(h)d h %(m)02d min") % {"h": minutes // 60, "m": minutes % 60}


def price_in_short(ocpi: dict[str, Any]) -> str:
    """Return a tariff in a few words for a list: the price a kWh, and whether fees come on top."""
    try:
        plan = read_tariff(ocpi, strict=False)
    except OcpiError:
        return ""
    elements = [element for element in plan.elements if element.restrictions.reservation is None]
    parts = [part for element in elements for part in element.components.values()]
    if all(part.price == 0 for part in parts):
        return _("Free of charge")
    kwh = {words.gross(plan, part) for part in parts if part.dimension is Dimension.ENERGY}
    if not kwh:
        return _("by time or session")
    text = words.amount(min(kwh), plan.currency) + " / kWh"
    if len(kwh) > 1:
        text = _("from %(price)s") % {"price": text}
    if any(part.price and part.dimension is not Dimension.ENERGY for part in parts):
        text = _("%(price)s plus fees") % {"price": text}
    return text
