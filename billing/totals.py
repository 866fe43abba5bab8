"""An exact bill rounded to money: lines, VAT by rate, totals, in minor units. Sums are exact.

The gross total is rounded once; rates, nets and lines follow from it by largest remainder (billing
documents keep the gross: 6.5 to 20 % of all gross totals cannot be reached from a rounded net).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from .money import decimal_text, net_of, share, spread, step_minor, to_minor
from .periods import ZERO
from .pricing import Bill, Plan, by_rate

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


def total_up(plan: Plan, bill: Bill, at_most_minor: int | None = None) -> Totals:
    """Round `bill`; never above `at_most_minor` (what the driver reserved), shown as a line."""
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
    rows: list[dict[str, Any]] = [
        {
            "dimension": str(line.dimension),
            "from": line.start.isoformat(),
            "to": line.end.isoformat(),
            "quantity": decimal_text(line.quantity, at_least=0),
            "unit": line.unit,
            "price": decimal_text(line.component.price, at_least=2),
            "element": line.component.element,
        }
        for line in lines
    ]
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


def _percent(rate: Fraction | None) -> str | None:
    return None if rate is None else decimal_text(rate * 100, at_least=0)
