"""A tariff's price in words, taxes included, in the order of the law: kWh, minute, session, other.

AFIR (EU 2023/1804, art. 5) orders the components; PAngV § 14 wants the kWh price first. The same
words are on the pay page, in the back office and wherever a price is shown before the start.
"""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from typing import Any

from babel.dates import format_date, get_day_names
from babel.numbers import format_currency, format_decimal
from django.utils.translation import get_language, ngettext
from django.utils.translation import gettext as _

from .money import quantize
from .ocpi import read_tariff
from .periods import ZERO, Number
from .pricing import Component, Dimension, Element, Plan, Restrictions

# kWh, minute, session, other
ORDER = (Dimension.ENERGY, Dimension.TIME, Dimension.PARKING_TIME, Dimension.FLAT)
PLACES = 4  # of a price a kWh or a minute


def describe(ocpi: dict[str, Any]) -> list[str]:
    """The tariff as sentences, one a price, in the current language; taxes included.

    >>> describe(tariff)
    ['€0.49 per kWh', '€0.10 per minute of occupancy after charging, after 4 h']
    """
    return sentences(read_tariff(ocpi, strict=False))


def sentences(plan: Plan) -> list[str]:
    """`describe` for a tariff that is already read."""
    found: list[str] = []
    charging = [e for e in plan.elements if e.restrictions.reservation is None]
    for dimension in ORDER:
        elements = [e for e in charging if dimension in e.components]
        for n, element in enumerate(elements):
            component = element.components[dimension]
            if component.price == 0 and len(elements) == 1:
                continue
            otherwise = n > 0 and element.restrictions == Restrictions()
            found.append(_price(plan, component, element, otherwise=otherwise))
    found += [
        _price(plan, component, element, reserved=True)
        for element in plan.elements
        if element.restrictions.reservation is not None
        for component in element.components.values()
    ]
    found += limits(plan)
    return found or [_("Free of charge")]


def gross(plan: Plan, component: Component) -> Fraction:
    """The component's price with its VAT: what the driver pays for a unit."""
    if plan.tax in ("YES", "N/A"):
        return component.price
    return component.price * (1 + (component.vat or ZERO))


def amount(value: Fraction, currency: str, places: int = PLACES) -> str:
    """An amount in the current language; more than two decimals only where it has them."""
    rounded = quantize(value, places).normalize()
    exponent = rounded.as_tuple().exponent
    if isinstance(exponent, int) and exponent > 0:
        rounded = rounded.quantize(Decimal(1))
    return str(
        format_currency(rounded, currency, locale=_locale(), decimal_quantization=False)
    ).replace("\u00a0", " ")


def _locale() -> str:
    language = get_language() or "en"
    return "en_GB" if language == "en" else language.replace("-", "_")


def _price(
    plan: Plan,
    component: Component,
    element: Element,
    *,
    otherwise: bool = False,
    reserved: bool = False,
) -> str:
    price = gross(plan, component)
    if component.dimension in (Dimension.TIME, Dimension.PARKING_TIME):
        price /= 60
    said = amount(price, plan.currency)
    texts = {
        Dimension.ENERGY: _("%(price)s per kWh"),
        Dimension.TIME: _("%(price)s per minute of charging"),
        Dimension.PARKING_TIME: _("%(price)s per minute of occupancy after charging"),
        Dimension.FLAT: _("%(price)s per session"),
    }
    if reserved:
        expired = element.restrictions.reservation == "RESERVATION_EXPIRES"
        if component.dimension is Dimension.FLAT:
            text = _("%(price)s for a reservation")
        else:
            text = _("%(price)s per minute of reservation")
        if expired:
            text += _(" that is not used")
    else:
        text = texts[component.dimension]
    parts = [text % {"price": said}]
    if otherwise:
        parts.append(_("otherwise"))
    parts += conditions(element.restrictions)
    if component.step > 1 and component.dimension is not Dimension.FLAT:
        parts.append(step(component))
    if component.vat is None and plan.tax == "NO" and component.price:
        parts.append(_("plus taxes"))
    return ", ".join(parts)


def step(component: Component) -> str:
    if component.dimension is Dimension.ENERGY:
        return _("billed in steps of %(step)s kWh") % {
            "step": format_decimal(Decimal(component.step) / 1000, locale=_locale())
        }
    minutes, seconds = divmod(component.step, 60)
    if seconds:
        return ngettext(
            "billed in steps of %(n)s second", "billed in steps of %(n)s seconds", component.step
        ) % {"n": component.step}
    return ngettext(
        "billed in steps of %(n)s minute", "billed in steps of %(n)s minutes", minutes
    ) % {"n": minutes}


def conditions(bounds: Restrictions) -> list[str]:
    """When an element applies, in words."""
    found: list[str] = []
    if bounds.start_time is not None or bounds.end_time is not None:
        found.append(
            _("from %(start)s to %(end)s")
            % {"start": _clock(bounds.start_time), "end": _clock(bounds.end_time, end=True)}
        )
    if bounds.days is not None:
        found.append(_days(sorted(bounds.days)))
    for date, text in (
        (bounds.start_date, _("from %(date)s")),
        (bounds.end_date, _("until the day before %(date)s")),
    ):
        if date is not None:
            found.append(text % {"date": format_date(date, "medium", locale=_locale())})
    found += _between(bounds.min_duration, bounds.max_duration, _hours)
    found += _between(bounds.min_wh, bounds.max_wh, lambda wh: f"{_number(Fraction(wh, 1000))} kWh")
    found += _rate(bounds.min_power, bounds.max_power, "kW")
    found += _rate(bounds.min_current, bounds.max_current, "A")
    return found


def _days(days: list[int]) -> str:
    """Weekdays, three and more in a row as a range: Mon–Fri, Sun."""
    names = get_day_names("abbreviated", locale=_locale())
    runs: list[list[int]] = []
    for day in days:
        if runs and runs[-1][-1] == day - 1:
            runs[-1].append(day)
        else:
            runs.append([day])
    return ", ".join(
        f"{names[run[0]]}–{names[run[-1]]}"
        if len(run) > 2
        else ", ".join(str(names[day]) for day in run)
        for run in runs
    )


def _clock(minutes: int | None, *, end: bool = False) -> str:
    if minutes is None:
        return "24:00" if end else "00:00"
    return "24:00" if end and minutes == 0 else f"{minutes // 60:02}:{minutes % 60:02}"


def _number(value: Fraction) -> str:
    return str(format_decimal(quantize(value, 3).normalize(), locale=_locale()))


def _hours(seconds: Number) -> str:
    if seconds % 3600 == 0:
        return f"{_number(Fraction(seconds, 3600))} h"
    return f"{_number(Fraction(seconds, 60))} min"


def _between(least: Number | None, below: Number | None, say: Any) -> list[str]:
    if least and below is not None:
        return [_("from %(a)s to %(b)s") % {"a": say(least), "b": say(below)}]
    if least:
        return [_("after %(a)s") % {"a": say(least)}]
    return [] if below is None else [_("up to %(b)s") % {"b": say(below)}]


def _rate(least: Fraction | None, below: Fraction | None, unit: str) -> list[str]:
    found = []
    if least is not None:
        found.append(_("at %(a)s and more") % {"a": f"{_number(least)} {unit}"})
    if below is not None:
        found.append(_("below %(b)s") % {"b": f"{_number(below)} {unit}"})
    return found


def limits(plan: Plan) -> list[str]:
    found = []
    least = plan.min_after if plan.min_after is not None else plan.min_before
    most = plan.max_after if plan.max_after is not None else plan.max_before
    if least:
        found.append(_("at least %(price)s") % {"price": amount(least, plan.currency)})
    if most is not None:
        found.append(_("at most %(price)s") % {"price": amount(most, plan.currency)})
    return found
