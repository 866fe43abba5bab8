"""The only rounding in the project: currencies, minor units, chargeable steps, fair shares.

Exact amounts are `fractions.Fraction` until they come here. A minor unit is the payment provider's
(Stripe's): 1/100 for most currencies, the whole unit for the zero-decimal ones, 1/1000 for the
three-decimal ones. One meaning of "minor" everywhere lets our books and theirs be compared exactly.
The tables are not derived from django-money or Babel: theirs differ for ISK, MGA and UGX.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import ROUND_HALF_UP, Decimal
from fractions import Fraction
from math import lcm

from moneyed import Money

ZERO_DECIMAL = frozenset(
    {
        *("BIF", "CLP", "DJF", "GNF", "JPY", "KMF", "KRW", "MGA"),
        *("PYG", "RWF", "VND", "VUV", "XAF", "XOF", "XPF"),
    }
)
THREE_DECIMAL = frozenset({"BHD", "JOD", "KWD", "OMR", "TND"})  # the last digit must be 0
WHOLE_UNITS_IN_HUNDREDTHS = frozenset({"ISK", "UGX"})  # sent x 100, whole units only

# The least a card payment can be, in minor units: the higher of the published figures. It depends
# on the settlement currency, so a refusal ("amount too small") has to be handled as a release too.
MINIMUM_MINOR = {
    "USD": 50, "AED": 200, "AUD": 60, "BGN": 100, "BRL": 200, "CAD": 60, "CHF": 50, "CZK": 1500,
    "DKK": 300, "EUR": 50, "GBP": 30, "HKD": 400, "HUF": 17500, "INR": 4000, "JPY": 80,
    "MXN": 1000, "MYR": 200, "NOK": 500, "NZD": 80, "PLN": 250, "RON": 200, "SEK": 500,
    "SGD": 60, "THB": 1500,
}  # fmt: skip
DEFAULT_MINIMUM_MINOR = 50


def factor(currency: str) -> int:
    """Minor units in one unit of `currency`: 1, 100 or 1000."""
    if currency in ZERO_DECIMAL:
        return 1
    return 1000 if currency in THREE_DECIMAL else 100


def step_minor(currency: str) -> int:
    """The smallest chargeable amount step in minor units: 10 for KWD, 100 for ISK, else 1."""
    if currency in THREE_DECIMAL:
        return 10
    return 100 if currency in WHOLE_UNITS_IN_HUNDREDTHS else 1


def minimum_minor(currency: str) -> int:
    """The least amount in minor units that is worth collecting from a card."""
    if currency in MINIMUM_MINOR:
        return MINIMUM_MINOR[currency]
    return DEFAULT_MINIMUM_MINOR * factor(currency) // 100 or DEFAULT_MINIMUM_MINOR


def half_up(value: Fraction) -> int:
    """The nearest integer, halves away from zero."""
    return _divide(value.numerator, value.denominator)


def _divide(numerator: int, denominator: int) -> int:
    """The nearest integer of a quotient, halves away from zero; the denominator is positive."""
    rounded = (2 * abs(numerator) + denominator) // (2 * denominator)
    return rounded if numerator >= 0 else -rounded


def to_minor(amount: Fraction | Decimal | int, currency: str) -> int:
    """Round an amount in units once, half up, to the chargeable step; in minor units."""
    step = step_minor(currency)
    numerator, denominator = amount.as_integer_ratio()
    return _divide(numerator * factor(currency), denominator * step) * step


def from_minor(minor: int, currency: str) -> Decimal:
    """The amount in units of `minor` minor units, with the currency's decimals."""
    scale = factor(currency)
    digits = len(str(scale)) - 1
    return Decimal(minor).scaleb(-digits)


def money(minor: int, currency: str) -> Money:
    """`minor` minor units as `Money`, for the `MoneyField` columns."""
    return Money(from_minor(minor, currency), currency)


def net_of(gross_minor: int, rate: Fraction, currency: str) -> int:
    """The net part of a gross amount at a VAT `rate` (0.19 for 19 %), half up, in minor units."""
    step = step_minor(currency)
    above, below = rate.as_integer_ratio()
    return _divide(gross_minor * below, step * (above + below)) * step


def share(total: int, weights: Sequence[Fraction | int], step: int = 1) -> list[int]:
    """Split `total` into integers proportional to `weights` whose sum is exactly `total`.

    Largest remainder; equal remainders go to the earlier part. All weights zero: the first part
    takes everything. `total` must be a multiple of `step`, and so is every part.
    """
    if len(weights) < 2:
        return [total][: len(weights)]
    unit = lcm(*(weight.denominator for weight in weights))
    parts = [weight.numerator * (unit // weight.denominator) for weight in weights]
    whole, steps = sum(parts), total // step
    if whole == 0:
        return [total] + [0] * (len(weights) - 1)
    if whole < 0:
        parts, whole = [-part for part in parts], -whole
    floors = [steps * part // whole for part in parts]
    missing = steps - sum(floors)
    order = sorted(range(len(parts)), key=lambda i: (-(steps * parts[i] % whole), i))
    for i in order[:missing]:
        floors[i] += 1
    return [value * step for value in floors]


def spread(total: int, exact: Sequence[Fraction], step: int = 1) -> list[int]:
    """Round each of `exact` so that the parts sum to `total`; the farthest from theirs give way.

    Unlike `share` it works for parts of both signs (a discount among fees): every part is rounded
    down, then the largest remainders are rounded up.
    """
    if not exact:
        return []
    unit = lcm(*(value.denominator for value in exact)) * step
    parts = [value.numerator * (unit // (value.denominator * step)) for value in exact]
    floors = [part // unit for part in parts]
    missing = total // step - sum(floors)
    order = sorted(range(len(parts)), key=lambda i: (-(parts[i] % unit), i))
    for turn in range(abs(missing)):
        i = order[turn % len(order)] if missing > 0 else order[-1 - turn % len(order)]
        floors[i] += 1 if missing > 0 else -1
    return [value * step for value in floors]


def decimal_text(value: Fraction, places: int = 10, at_least: int = 6) -> str:
    """A fraction as decimal text: at most `places` digits, trailing zeros cut to `at_least`."""
    scaled = _divide(value.numerator * 10**places, value.denominator)
    text = str(abs(scaled)).rjust(places + 1, "0")
    whole, digits = text[:-places], text[-places:].rstrip("0").ljust(at_least, "0")
    sign = "-" if scaled < 0 else ""
    return f"{sign}{whole}.{digits}" if digits else sign + whole


def quantize(value: Fraction, places: int) -> Decimal:
    """`value` rounded half up to `places` decimals (CDRs keep 4)."""
    return (
        Decimal(half_up(value * 10**places))
        .scaleb(-places)
        .quantize(Decimal(1).scaleb(-places), rounding=ROUND_HALF_UP)
    )
