"""An exact bill rounded to money: lines, VAT by rate, totals, in minor units. Sums are exact.

The gross total is rounded once; rates, nets and lines follow from it by largest remainder (billing
documents keep the gross: 6.5 to 20 % of all gross totals cannot be reached from a rounded net).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from .money import decimal_text, half_up, net_of, share, spread, step_minor, to_minor
from .periods import ZERO
from .pricing import Bill, Line, Plan, by_rate

LIMIT = "LIMIT"  # the tariff's minimum or maximum price
RESERVED = "RESERVED_AMOUNT"  # more was used than the driver had let us reserve


@dataclass(slots=True)
class Totals:
    """A bill in minor units. `rates`: one row a VAT rate with net, vat and gross."""

    currency: str
    lines: list[dict[str, Any]] = field(default_factory=list)
    rates: list[dict[str, Any]] = field(default_factory=list)
    net_minor: int = 0
    vat_minor: int = 0
    gross_minor: int = 0


def total_up(
    plan: Plan, bill: Bill, at_most_minor: int | None = None, *, net: bool = False
) -> Totals:
    """Round `bill`; never above `at_most_minor` (what the driver reserved), shown as a line.

    `net`: a business buys at net prices: each line's net is rounded, the VAT once a rate.
    """
    if net:
        return _total_up_net(plan, bill)
    currency, step = plan.currency, step_minor(plan.currency)
    bases = by_rate(plan, bill)
    rates = sorted(bases, key=lambda rate: (rate is None, rate or ZERO))
    gross = {rate: bases[rate] * (1 + (rate or ZERO)) for rate in rates}
    total = to_minor(sum(gross.values(), ZERO), currency)
    result = Totals(currency, gross_minor=total)
    for rate, full in zip(rates, share(total, [gross[r] for r in rates], step), strict=True):
        paid = full
        if at_most_minor is not None and total > at_most_minor:
            paid = share(at_most_minor, [gross[r] for r in rates], step)[rates.index(rate)]
        _add_rate(result, plan, bill, rate, bases[rate], paid)
    result.gross_minor = sum(row["gross_minor"] for row in result.rates)
    result.net_minor = sum(row["net_minor"] for row in result.rates)
    result.vat_minor = result.gross_minor - result.net_minor
    return result


def _add_rate(
    result: Totals, plan: Plan, bill: Bill, rate: Fraction | None, base: Fraction, gross_minor: int
) -> None:
    """Append the lines of one VAT rate and its row."""
    currency, step = plan.currency, step_minor(plan.currency)
    scale = to_minor(1, currency)
    factor = 1 + (rate or ZERO)
    net_minor = net_of(gross_minor, rate or ZERO, currency)
    lines = [line for line in bill.lines if line.vat == rate]
    exact = [line.after for line in lines]
    rows = [_row(line) for line in lines]
    limited = base * factor - sum(exact, ZERO)
    if to_minor(limited, currency):
        exact.append(limited)
        rows.append({"dimension": LIMIT})
    capped = Fraction(gross_minor, scale) - sum(exact, ZERO)
    if abs(capped) >= Fraction(step, scale):
        exact.append(capped)
        rows.append({"dimension": RESERVED})
    nets = [amount / factor * scale for amount in exact]
    parts = zip(
        rows,
        spread(gross_minor, [amount * scale for amount in exact], step),
        spread(net_minor, nets, step),
        strict=True,
    )
    for row, line_gross, line_net in parts:
        row |= {
            "vat": _percent(rate),
            "net_minor": line_net,
            "vat_minor": line_gross - line_net,
            "gross_minor": line_gross,
        }
        result.lines.append(row)
    result.rates.append(
        {
            "vat": _percent(rate),
            "net_minor": net_minor,
            "vat_minor": gross_minor - net_minor,
            "gross_minor": gross_minor,
        }
    )


def _row(line: Line) -> dict[str, Any]:
    """A line without its amounts."""
    return {
        "dimension": str(line.dimension),
        "from": line.start.isoformat(),
        "to": line.end.isoformat(),
        "quantity": decimal_text(line.quantity, at_least=0),
        "unit": line.unit,
        "price": decimal_text(line.component.price, at_least=2),
        "element": line.component.element,
    }


def _total_up_net(plan: Plan, bill: Bill) -> Totals:
    """Net lines rounded one by one (EN 16931 BR-CO-10), the VAT once a rate (BR-CO-17)."""
    rows: list[dict[str, Any]] = []
    bases = by_rate(plan, bill)
    for rate in sorted(bases, key=lambda rate: (rate is None, rate or ZERO)):
        lines = [line for line in bill.lines if line.vat == rate]
        exact = [(_row(line), line.before) for line in lines]
        limited = bases[rate] - sum((line.before for line in lines), ZERO)
        if to_minor(limited, plan.currency):
            exact.append(({"dimension": LIMIT}, limited))
        rows += [
            row | {"vat": _percent(rate), "net_minor": to_minor(amount, plan.currency)}
            for row, amount in exact
        ]
    result = Totals(plan.currency, lines=vat_on_net(rows, plan.currency))
    result.rates = rates_of(result.lines)
    result.net_minor, result.vat_minor, result.gross_minor = (
        sum(row[name] for row in result.rates) for name in ("net_minor", "vat_minor", "gross_minor")
    )
    return result


def vat_on_net(lines: Sequence[dict[str, Any]], currency: str) -> list[dict[str, Any]]:
    """Lines of net amounts with their VAT: rounded once a rate, shared over the lines."""
    step, found = step_minor(currency), list(lines)
    for vat in {line["vat"] for line in lines}:
        rate = Fraction(vat or 0) / 100
        mine = [i for i, line in enumerate(found) if line["vat"] == vat]
        nets = [found[i]["net_minor"] for i in mine]
        total = half_up(sum(nets) * rate / step) * step
        for i, part in zip(mine, spread(total, [net * rate for net in nets], step), strict=True):
            net = found[i]["net_minor"]
            found[i] = found[i] | {"vat_minor": part, "gross_minor": net + part}
    return found


def rates_of(lines: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Net, VAT and gross by VAT rate (and category, where one is given): sums of the lines."""
    rates: dict[tuple[str | None, str], dict[str, Any]] = {}
    for line in lines:
        kind = {"category": line["category"]} if line.get("category") else {}
        key = (line["vat"], line.get("category", ""))
        row = rates.setdefault(key, {"vat": line["vat"], **kind})
        for name in ("net_minor", "vat_minor", "gross_minor"):
            row[name] = row.get(name, 0) + line[name]
    return sorted(rates.values(), key=lambda row: float(row["vat"] or -1))


def _percent(rate: Fraction | None) -> str | None:
    return None if rate is None else decimal_text(rate * 100, at_least=0)
