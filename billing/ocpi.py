"""OCPI tariffs and CDRs, versions 2.2.1 and 2.3.0, read into the shapes of `billing.pricing`.

Everything that can be wrong with an object is reported at once, in words, each with its path.

    OcpiError(ValueError)       .problems: list of "path: what is wrong and what to write instead"
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping, Sequence
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from .periods import Number, Period, Usage
from .pricing import Component, Dimension, Element, Plan, Restrictions

DAYS = ["MONDAY", "TUESDAY", "WEDNESDAY", "THURSDAY", "FRIDAY", "SATURDAY", "SUNDAY"]
RESERVATIONS = ("RESERVATION", "RESERVATION_EXPIRES")
TAXES = ("YES", "NO", "N/A")
TIME = re.compile(r"([01]\d|2[0-3]):([0-5]\d)$")
RESTRICTION_FIELDS = frozenset(
    {
        *("start_time", "end_time", "start_date", "end_date", "day_of_week", "reservation"),
        *("min_kwh", "max_kwh", "min_current", "max_current", "min_power", "max_power"),
        *("min_duration", "max_duration"),
    }
)
TARIFF_FIELDS = frozenset(
    {
        *("country_code", "party_id", "id", "currency", "type", "tariff_alt_text"),
        *("tariff_alt_url", "min_price", "max_price", "preauthorize_amount", "elements"),
        *("tax_included", "start_date_time", "end_date_time", "energy_mix", "last_updated"),
    }
)
COMPONENT_FIELDS = frozenset({"type", "price", "vat", "step_size"})


class OcpiError(ValueError):
    """The object cannot be used; `problems` says why, one sentence each."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = list(problems)


class _Reader:
    """Collects problems while values are read."""

    def __init__(self, *, strict: bool = False) -> None:
        self.problems: list[str] = []
        self.strict = strict

    def say(self, path: str, text: str) -> None:
        self.problems.append(f"{path}: {text}")

    def unknown(self, given: Mapping[str, Any], known: frozenset[str], path: str) -> None:
        """A misspelt restriction would silently widen a price: refuse what is not in OCPI."""
        for name in given:
            if self.strict and name not in known:
                self.say(f"{path}.{name}", "is not a field of OCPI here; check the spelling")

    def number(self, value: object, path: str, *, least: int | None = 0) -> Fraction | None:
        """A JSON number as an exact fraction (floats by their shortest text), None if absent."""
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, (int, float, Decimal, str)):
            self.say(path, "must be a number")
            return None
        try:
            number = Decimal(str(value))
        except InvalidOperation:
            self.say(path, "must be a number")
            return None
        if not number.is_finite() or (least is not None and number < least):
            self.say(path, f"must be a number not below {least}")
            return None
        return Fraction(number)

    def moment(self, value: object, path: str) -> dt.datetime | None:
        """An OCPI DateTime: RFC 3339, UTC when no offset is given."""
        if value is None:
            return None
        try:
            at = dt.datetime.fromisoformat(str(value))
        except ValueError:
            self.say(path, "must be a date and time like 2026-01-31T13:30:00Z")
            return None
        return (at if at.tzinfo else at.replace(tzinfo=dt.UTC)).astimezone(dt.UTC)

    def minutes(self, value: object, path: str) -> int | None:
        """A time of day as minutes since midnight."""
        if value is None:
            return None
        match = TIME.match(str(value))
        if match is None:
            self.say(path, "must be a time of day like 09:30")
            return None
        return int(match[1]) * 60 + int(match[2])

    def day(self, value: object, path: str) -> dt.date | None:
        """A local date."""
        if value is None:
            return None
        try:
            return dt.date.fromisoformat(str(value))
        except ValueError:
            self.say(path, "must be a date like 2026-01-31")
            return None

    def mapping(self, value: object, path: str) -> Mapping[str, Any]:
        """A JSON object; anything else is a problem and reads as an empty one."""
        if isinstance(value, Mapping):
            return value
        self.say(path, "must be an object")
        return {}

    def items(self, value: object, path: str) -> Sequence[Any]:
        """A JSON array; anything else is a problem and reads as an empty one."""
        if isinstance(value, list | tuple):
            return value
        self.say(path, "must be a list")
        return []


def read_tariff(data: object, *, strict: bool = True) -> Plan:
    """An OCPI tariff object (mod_tariffs 11.3.1) as a `Plan`; raises `OcpiError`.

    `strict` refuses fields OCPI does not have. Not strict: they are ignored, as a receiver must.
    """
    read = _Reader(strict=strict)
    tariff = _content(read, data, "elements")
    read.unknown(tariff, TARIFF_FIELDS, "$")
    currency = str(tariff.get("currency") or "")
    currency = currency if strict else currency.upper()
    if not re.fullmatch(r"[A-Z]{3}", currency):
        read.say("$.currency", "must be an ISO 4217 code in capitals, like EUR")
    tax = str(tariff.get("tax_included") or "NO").upper().replace("NA", "N/A")
    if tax not in TAXES:
        read.say("$.tax_included", "must be YES, NO or N/A")
    elements = [
        _element(read, element, i)
        for i, element in enumerate(read.items(tariff.get("elements"), "$.elements"))
    ]
    if not elements and not read.problems:
        read.say("$.elements", "is empty; a free tariff has one FLAT component of price 0")
    low = _limit(read, tariff.get("min_price"), "$.min_price")
    high = _limit(read, tariff.get("max_price"), "$.max_price")
    for name in ("start_date_time", "end_date_time"):
        read.moment(tariff.get(name), f"$.{name}")
    if read.problems:
        raise OcpiError(read.problems)
    return Plan(currency, tax, tuple(elements), *low, *high)


def _content(read: _Reader, data: object, field: str) -> Mapping[str, Any]:
    """The object itself, also out of the `data` of an OCPI response."""
    given = read.mapping(data, "$")
    inner = given.get("data")
    if field not in given and isinstance(inner, list) and len(inner) == 1:
        inner = inner[0]
    return inner if field not in given and isinstance(inner, Mapping) else given


def _limit(read: _Reader, value: object, path: str) -> tuple[Fraction | None, Fraction | None]:
    """A price limit as (before taxes, after taxes): 2.3.0, 2.2.1, or a bare number of 2.1.1.

    A 2.3.0 `Price` names its taxes instead of the sum: `taxes[].amount` added gives it.
    """
    if value is None:
        return None, None
    if isinstance(value, (int, float, Decimal)):
        return read.number(value, path), None
    price = read.mapping(value, path)
    before = price.get("before_taxes", price.get("excl_vat"))
    after = price.get("after_taxes", price.get("incl_vat"))
    if before is None and after is None:
        read.say(path, "needs before_taxes (OCPI 2.3.0) or excl_vat (2.2.1)")
    net = read.number(before, f"{path}.before_taxes")
    gross = read.number(after, f"{path}.after_taxes")
    taxes = price.get("taxes")
    if gross is None and net is not None and taxes:
        amounts = [
            read.number(read.mapping(tax, f"{path}.taxes[{i}]").get("amount"), f"{path}.taxes[{i}]")
            for i, tax in enumerate(read.items(taxes, f"{path}.taxes"))
        ]
        gross = net + sum((amount or Fraction(0) for amount in amounts), Fraction(0))
    return net, gross


def _element(read: _Reader, data: object, index: int) -> Element:
    path = f"$.elements[{index}]"
    element = read.mapping(data, path)
    read.unknown(element, frozenset({"price_components", "restrictions"}), path)
    components: dict[Dimension, Component] = {}
    given = read.items(element.get("price_components"), f"{path}.price_components")
    for i, value in enumerate(given):
        component = _component(read, value, f"{path}.price_components[{i}]", index)
        if component is not None:
            components.setdefault(component.dimension, component)
    restrictions = element.get("restrictions")
    return Element(
        components,
        Restrictions()
        if restrictions is None
        else _restrictions(read, restrictions, f"{path}.restrictions"),
    )


def _component(read: _Reader, data: object, path: str, element: int) -> Component | None:
    given = read.mapping(data, path)
    read.unknown(given, COMPONENT_FIELDS, path)
    kind = str(given.get("type"))
    if kind not in Dimension.__members__:
        read.say(f"{path}.type", "must be ENERGY, TIME, PARKING_TIME or FLAT")
    price = read.number(given.get("price"), f"{path}.price")
    if given.get("price") is None:
        read.say(f"{path}.price", "is missing")
    vat = read.number(given.get("vat"), f"{path}.vat")
    step = read.number(given.get("step_size"), f"{path}.step_size")
    if step is not None and step.denominator != 1:
        read.say(f"{path}.step_size", "must be a whole number of Wh or seconds")
    if kind not in Dimension.__members__ or price is None:
        return None
    rate = None if vat is None else vat / 100
    return Component(Dimension(kind), price, rate, 1 if step is None else int(step), element)


def _restrictions(read: _Reader, data: object, path: str) -> Restrictions:
    given = read.mapping(data, path)
    read.unknown(given, RESTRICTION_FIELDS, path)

    def number(name: str) -> Fraction | None:
        return read.number(given.get(name), f"{path}.{name}")

    days = given.get("day_of_week")
    if days is not None:
        days = read.items(days, f"{path}.day_of_week")
        for day in days:
            if day not in DAYS:
                read.say(f"{path}.day_of_week", f"{day!r} is not a day; write MONDAY to SUNDAY")
    reservation = given.get("reservation")
    if reservation is not None and reservation not in RESERVATIONS:
        read.say(f"{path}.reservation", "must be RESERVATION or RESERVATION_EXPIRES")
    min_kwh, max_kwh = number("min_kwh"), number("max_kwh")
    return Restrictions(
        start_time=read.minutes(given.get("start_time"), f"{path}.start_time"),
        end_time=read.minutes(given.get("end_time"), f"{path}.end_time"),
        start_date=read.day(given.get("start_date"), f"{path}.start_date"),
        end_date=read.day(given.get("end_date"), f"{path}.end_date"),
        min_wh=None if min_kwh is None else _whole(min_kwh * 1000),
        max_wh=None if max_kwh is None else _whole(max_kwh * 1000),
        min_power=number("min_power"),
        max_power=number("max_power"),
        min_current=number("min_current"),
        max_current=number("max_current"),
        min_duration=_whole(number("min_duration")),
        max_duration=_whole(number("max_duration")),
        days=frozenset(DAYS.index(day) for day in days if day in DAYS) if days else None,
        reservation=reservation if reservation in RESERVATIONS else None,
    )


def _whole(value: Fraction | None) -> Number | None:
    """A whole number as an int, which compares many times faster than a fraction."""
    return value.numerator if value is not None and value.denominator == 1 else value


def zone_named(name: str) -> ZoneInfo:
    """The IANA time zone of that name; raises `OcpiError` with what to write instead."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise OcpiError([f"{name!r} is not a time zone; write one like Europe/Berlin"]) from error


def read_cdr(data: object, zone: str | None = None) -> Usage:
    """An OCPI CDR or session (its `charging_periods`) as `Usage`; raises `OcpiError`.

    A period ends where the next one starts, the last at `end_date_time`. The time zone is `zone`,
    else the location's `time_zone`, else UTC.
    """
    read = _Reader()
    cdr = _content(read, data, "charging_periods")
    location = cdr.get("cdr_location") or cdr.get("location") or {}
    given_zone = location.get("time_zone") if isinstance(location, Mapping) else None
    periods = read.items(cdr.get("charging_periods"), "$.charging_periods")
    starts = [
        read.moment(
            read.mapping(period, f"$.charging_periods[{i}]").get("start_date_time"),
            f"$.charging_periods[{i}].start_date_time",
        )
        for i, period in enumerate(periods)
    ]
    if any(start is None for start in starts):
        read.say("$.charging_periods", "each period needs a start_date_time")
    begin = read.moment(cdr.get("start_date_time"), "$.start_date_time")
    end = read.moment(cdr.get("end_date_time", cdr.get("stop_date_time")), "$.end_date_time")
    if read.problems:
        raise OcpiError(read.problems)
    order = [i for _, i in sorted((at, i) for i, at in enumerate(starts) if at is not None)]
    moments = [at for i in order if (at := starts[i]) is not None]
    last = max([*moments, *([end] if end else [])], default=None)
    found = [
        _period(read, periods[i], moments[n], moments[n + 1] if n + 1 < len(order) else last, i)
        for n, i in enumerate(order)
    ]
    if read.problems:
        raise OcpiError(read.problems)
    reserved_only = bool(found) and all(
        p.reserved_s and not (p.wh or p.charging_s or p.parking_s) for p in found
    )
    return Usage(
        tuple(found),
        zone_named(zone or str(given_zone or "UTC")),
        started=begin,
        expired=reserved_only,
    )


def _period(
    read: _Reader, data: Mapping[str, Any], start: dt.datetime, end: dt.datetime | None, i: int
) -> Period:
    path = f"$.charging_periods[{i}]"
    volume: dict[str, Fraction] = {}
    for n, item in enumerate(read.items(data.get("dimensions"), f"{path}.dimensions")):
        dimension = read.mapping(item, f"{path}.dimensions[{n}]")
        amount = read.number(dimension.get("volume"), f"{path}.dimensions[{n}].volume", least=None)
        name = str(dimension.get("type"))
        if amount is not None:
            volume[name] = volume.get(name, Fraction(0)) + amount

    def first(*names: str) -> Fraction | None:
        return next((volume[name] for name in names if name in volume), None)

    def seconds(name: str) -> Fraction:
        return volume.get(name, Fraction(0)) * 3600

    return Period(
        start=start,
        end=max(start, end or start),
        wh=volume.get("ENERGY", Fraction(0)) * 1000,
        charging_s=seconds("TIME"),
        parking_s=seconds("PARKING_TIME"),
        reserved_s=seconds("RESERVATION_TIME") + seconds("RESERVATION"),
        min_kw=first("MIN_POWER", "POWER", "MAX_POWER"),
        max_kw=first("MAX_POWER", "POWER", "MIN_POWER"),
        min_a=first("MIN_CURRENT", "CURRENT", "MAX_CURRENT"),
        max_a=first("MAX_CURRENT", "CURRENT", "MIN_CURRENT"),
    )


def as_version(data: Mapping[str, Any], version: str) -> dict[str, Any]:
    """A tariff object in the words of OCPI 2.3.0 or 2.2.1, for partners who read one of them.

    2.2.1 has no `tax_included`: prices that include their VAT are written without it.
    """
    tariff = {name: value for name, value in data.items() if name != "tax_included"}
    plan = read_tariff(data, strict=False)
    old = version == "2.2.1"
    names = ("excl_vat", "incl_vat") if old else ("before_taxes", "after_taxes")
    limits = {"min_price": (plan.min_before, plan.min_after)}
    limits["max_price"] = (plan.max_before, plan.max_after)
    for name, values in limits.items():
        if data.get(name) is not None:
            known = {n: float(v) for n, v in zip(names, values, strict=True) if v is not None}
            if old and "excl_vat" not in known:
                known["excl_vat"] = known["incl_vat"]
            tariff[name] = known
    if not old:
        return tariff | {"tax_included": plan.tax}
    if plan.tax == "YES":
        tariff["elements"] = [
            element | {"price_components": [_net(part) for part in element["price_components"]]}
            for element in data["elements"]
        ]
    return tariff


def _net(part: Mapping[str, Any]) -> dict[str, Any]:
    """A price component without the VAT its price includes; ten digits."""
    rate = 1 + Fraction(str(part.get("vat") or 0)) / 100
    return {**part, "price": round(float(Fraction(str(part["price"])) / rate), 10)}
