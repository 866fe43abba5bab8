"""The bill of a session as a timeline: each stretch with its share of every line, to the cent.

What is shown is replayed from the charge's stored inputs; the shares of a line are its amount
spread over the stretches by largest remainder, so that rows and adjustments sum to the bill.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any

from django.utils.translation import gettext as _

from . import fairness, inputs
from .documents import Words
from .models import Charge, Invoice
from .money import decimal_text, quantize, share, step_minor
from .periods import ZERO, Period
from .pricing import RESERVATION, Bill, Component, Dimension, Plan
from .settlement import NotNow, replay, rounds_net
from .totals import total_up

STEP, WAIVER = "STEP", "WAIVER"
type Key = tuple[str, int, str]  # dimension, element, unit

UNIT_S = {"kWh": 1000, "h": 3600, "session": 1}  # Wh, s or 1 in one unit of the price


@dataclass(slots=True)
class Part:
    """One price on one stretch: its quantity, its exact amount, its share in minor units."""

    dimension: str
    component: Component
    unit: str
    quantity: Fraction
    exact: Fraction
    minor: int


@dataclass(slots=True)
class Row:
    """One stretch of time. `read`: its energy comes from readings, not from a calculation."""

    period: Period
    parts: list[Part] = field(default_factory=list)

    @property
    def minor(self) -> int:
        """The stretch's share of the bill."""
        return sum(part.minor for part in self.parts)


@dataclass(slots=True)
class Adjustment:
    """What belongs to no stretch: step rounding, price limits, a cap, a waiver."""

    kind: str
    minor: int
    vat: str | None = None
    dimension: str = ""
    quantity: Fraction = ZERO


@dataclass(slots=True)
class Timeline:
    """Rows and adjustments sum to `minor`, what is billed for the session.

    That is the gross, with `vat_minor` in it; or the net (`net`), where the VAT comes on top.
    """

    currency: str
    rows: list[Row]
    adjustments: list[Adjustment]
    net: bool
    vat_minor: int = 0
    zone: str = "UTC"
    doubts: list[str] = field(default_factory=list)

    @property
    def minor(self) -> int:
        """The bill: gross, or net where a business is invoiced at net prices."""
        whole = sum(row.minor for row in self.rows)
        return whole + sum(adjustment.minor for adjustment in self.adjustments)


def timeline_of(charge: Charge) -> Timeline:
    """The timeline of a charge: as its document says it, or as it is priced now.

    Raises `settlement.NotNow` before the charge is priced.
    """
    if charge.invoice is not None:
        for session in charge.invoice.snapshot["sessions"]:
            if session["id"] == charge.session_id:
                return timeline_on(charge.invoice, session)
    plan, bill = replay(charge)
    net, billed = rounds_net(charge, plan), list(charge.lines)
    waived = charge.state == Charge.State.WAIVED or not (billed or charge.gross_minor)
    billed = billed or total_up(plan, bill, net=net).lines
    found = _timeline(plan, bill, billed, net=net)
    found.zone, found.doubts = charge.session.station.zone.key, list(charge.doubts)
    if waived:
        found.vat_minor = 0
        if found.minor:
            found.adjustments.append(Adjustment(WAIVER, -found.minor))
    return found


def timeline_on(invoice: Invoice, session: dict[str, Any]) -> Timeline:
    """The timeline of a session as an issued document bills it, from the kept inputs.

    Raises `settlement.NotNow` where they are not kept.
    """
    content = inputs.kept((session.get("inputs") or {}).get("sha256", ""))
    if content is None:
        raise NotNow("The inputs of this bill are not kept.")
    plan, bill, _totals = inputs.computed(session, content)
    lines = invoice.snapshot["lines"]
    billed = [line for line in lines if line.get("session") == session["id"]]
    net = session["inputs"]["net"] or any(line.get("category") == "AE" for line in billed)
    found = _timeline(plan, bill, billed, net=net)
    found.zone, found.doubts = session["time_zone"], list(session["doubts"])
    return found


def _timeline(plan: Plan, bill: Bill, billed: list[dict[str, Any]], *, net: bool) -> Timeline:
    rows = [Row(segment.period) for segment in bill.segments]
    adjustments = _spread(plan, bill, billed, rows, "net_minor" if net else "gross_minor")
    vat_minor = sum(line["vat_minor"] for line in billed)
    return Timeline(plan.currency, rows, adjustments, net, vat_minor)


def _spread(
    plan: Plan, bill: Bill, billed: Sequence[dict[str, Any]], rows: list[Row], amount: str
) -> list[Adjustment]:
    """Spread every billed line over the stretches it is for; what is left are adjustments."""
    used, found = _used(bill), []
    step = step_minor(plan.currency)
    known = {(str(line.dimension), line.component.element, line.unit): line for line in bill.lines}
    for row in billed:
        line = known.get((row["dimension"], row.get("element", -1), row.get("unit", "")))
        if line is None:
            found.append(Adjustment(row["dimension"], row[amount], row["vat"]))
            continue
        key = (str(line.dimension), line.component.element, line.unit)
        stretches = used.get(key, [])
        rounded_up = Fraction(line.billed) - line.used
        weights = [Fraction(quantity) for _i, quantity in stretches]
        minors = share(row[amount], [*weights, rounded_up], step)
        full = line.before if amount == "net_minor" else line.after
        for (i, quantity), minor in zip(stretches, minors[:-1], strict=True):
            part = Fraction(quantity)
            rows[i].parts.append(
                Part(
                    str(line.dimension),
                    line.component,
                    line.unit,
                    part / UNIT_S[line.unit],
                    full * part / line.billed if line.billed else ZERO,
                    minor,
                )
            )
        if rounded_up or minors[-1]:
            quantity = rounded_up / UNIT_S[line.unit]
            found.append(Adjustment(STEP, minors[-1], row["vat"], str(line.dimension), quantity))
    return found


def _used(bill: Bill) -> dict[Key, list[tuple[int, Any]]]:
    """Which stretch used how much (Wh, s, 1) of each line: as `pricing` tallies them."""
    found: dict[Key, list[tuple[int, Any]]] = {}
    started: set[str] = set()

    def add(i: int, kind: str, component: Component | None, quantity: Any) -> None:
        if component is not None and quantity:
            flat = component.dimension is Dimension.FLAT
            unit = "session" if flat else "kWh" if kind == Dimension.ENERGY else "h"
            found.setdefault((kind, component.element, unit), []).append((i, quantity))

    for i, segment in enumerate(bill.segments):
        period, components = segment.period, segment.components
        flat = components.get(Dimension.FLAT)
        kind = RESERVATION if period.reserved else str(Dimension.FLAT)
        if flat is not None and kind not in started:
            started.add(kind)
            add(i, kind, flat, 1)
        if period.reserved:
            add(i, RESERVATION, components.get(Dimension.TIME), period.reserved_s)
            continue
        add(i, str(Dimension.ENERGY), components.get(Dimension.ENERGY), period.wh)
        add(i, str(Dimension.TIME), components.get(Dimension.TIME), period.charging_s)
        parking = components.get(Dimension.PARKING_TIME)
        add(i, str(Dimension.PARKING_TIME), parking, period.parking_s)
    return found


# --- in words -------------------------------------------------------------------------------------


def in_words(timeline: Timeline, language: str) -> dict[str, Any]:
    """The timeline for a template, in the active language and the site's time."""
    words = Words(language, timeline.currency)
    zone = timeline.zone
    return {
        "rows": [_row_in_words(row, words, zone) for row in merged(timeline.rows)],
        "adjustments": [_adjustment_in_words(a, words) for a in timeline.adjustments],
        "total": words.money(timeline.minor),
        "vat": words.money(timeline.vat_minor),
        "gross": words.money(timeline.minor + (timeline.vat_minor if timeline.net else 0)),
        "net": timeline.net,
        "doubts": [said for doubt in timeline.doubts if (said := fairness.sentence(doubt))],
    }


def merged(rows: Sequence[Row]) -> list[Row]:
    """Neighbours at the same prices as one: a reading a minute makes a day unreadable."""
    found: list[Row] = []
    for row in rows:
        before = found[-1] if found else None
        if before is not None and _alike(before, row):
            first, last = before.period, row.period
            period = replace(first, end=last.end, wh=first.wh + last.wh)
            parts = [
                replace(
                    a, quantity=a.quantity + b.quantity, exact=a.exact + b.exact,
                    minor=a.minor + b.minor,
                )
                for a, b in zip(before.parts, row.parts, strict=True)
            ]  # fmt: skip
            found[-1] = Row(period, parts)
        else:
            found.append(Row(row.period, list(row.parts)))
    return found


def _alike(a: Row, b: Row) -> bool:
    def prices(row: Row) -> list[tuple[str, Component]]:
        return [(part.dimension, part.component) for part in row.parts]

    same = (a.period.read, _kind(a.period)) == (b.period.read, _kind(b.period))
    return same and a.period.end == b.period.start and prices(a) == prices(b)


def _row_in_words(row: Row, words: Words, zone: str) -> dict[str, Any]:
    period = row.period
    return {
        "start": words.clock(period.start, zone),
        "end": words.clock(period.end, zone),
        "energy": words.number(f"{(quantize(Fraction(period.wh) / 1000, 3)).normalize():f}")
        + "\u00a0kWh",
        "read": _("read") if period.read else _("calculated"),
        "kwh": bool(period.wh),
        "kind": _kind(period),
        "parts": [
            {
                "what": words.description(part.dimension),
                "sum": _multiplied(part, words),
                "element": part.component.element + 1,
                "vat": words.percent(_percent(part.component.vat)),
                "exact": words.amount(quantize(part.exact, 6).normalize()),
                "amount": words.money(part.minor),
            }
            for part in row.parts
        ],
        "amount": words.money(row.minor),
    }


def _multiplied(part: Part, words: Words) -> str:
    """Quantity times unit price."""
    unit = {"kWh": "kWh", "h": _("h"), "session": ""}[part.unit]
    price = words.amount(quantize(part.component.price, 6).normalize())
    quantity = words.number(f"{quantize(part.quantity, 4).normalize():f}")
    return f"{quantity}\u00a0{unit} × {price}" if unit else f"{quantity} × {price}"


def _percent(rate: Fraction | None) -> str | None:
    return None if rate is None else decimal_text(rate * 100, at_least=0)


def _kind(period: Period) -> str:
    if period.reserved:
        return _("Reserved")
    if period.charging_s:
        return _("Charging")
    return _("Occupied after charging") if period.parking_s else _("Waiting, nothing is counted")


def _adjustment_in_words(adjustment: Adjustment, words: Words) -> dict[str, Any]:
    if adjustment.kind == STEP:
        what = _("%(what)s: rounded up to the tariff's step") % {
            "what": words.description(adjustment.dimension)
        }
    elif adjustment.kind == WAIVER:
        what = _("Waived")
    else:
        what = words.description(adjustment.kind)
    vat = "" if adjustment.kind == WAIVER else words.percent(adjustment.vat)
    return {"what": what, "vat": vat, "amount": words.money(adjustment.minor)}
