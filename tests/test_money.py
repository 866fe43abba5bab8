"""Rounding happens in one place, once, and sums stay exact."""

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing import money
from billing.ocpi import read_tariff
from billing.pricing import price
from billing.totals import total_up
from tests.test_pricing import ENERGY, component, element, plans, session, sessions, tariff

CURRENCIES = ["EUR", "JPY", "KWD", "ISK", "HUF"]


@pytest.mark.parametrize(
    ("amount", "currency", "minor"),
    [
        ("19.99", "EUR", 1999),
        ("0.005", "EUR", 1),
        ("0.00499", "EUR", 0),
        ("-0.005", "EUR", -1),
        ("100.5", "JPY", 101),
        ("1.0049", "KWD", 1000),
        ("1.0051", "KWD", 1010),
        ("149.5", "ISK", 15000),
        ("10", "UGX", 1000),
        ("10", "MGA", 10),
    ],
)
def test_amounts_are_rounded_half_up_to_what_can_be_charged(
    amount: str, currency: str, minor: int
) -> None:
    assert money.to_minor(Fraction(amount), currency) == minor


def test_every_two_decimal_price_survives() -> None:
    for cents in range(10_000):
        assert money.to_minor(Decimal(cents) / 100, "EUR") == cents
        assert money.from_minor(cents, "EUR") == Decimal(cents) / 100


@given(st.integers(0, 10**9), st.lists(st.integers(0, 10**6), min_size=1, max_size=9))
def test_shares_sum_to_the_whole_and_are_fair(total: int, weights: list[int]) -> None:
    parts = money.share(total, weights)
    assert sum(parts) == total
    if sum(weights):
        for part, weight in zip(parts, weights, strict=True):
            assert abs(part - Fraction(total * weight, sum(weights))) < 1


@given(
    st.lists(st.fractions(-1000, 1000, max_denominator=997), min_size=1, max_size=9),
    st.integers(-2, 2),
)
def test_spread_meets_any_total_near_the_exact_sum(exact: list[Fraction], off: int) -> None:
    total = money.half_up(sum(exact)) + off
    parts = money.spread(total, exact)
    assert sum(parts) == total
    assert all(abs(part - value) < 4 for part, value in zip(parts, exact, strict=True))


@pytest.mark.parametrize(
    ("gross", "rate", "net"),
    [(9999, "0.19", 8403), (3000, "0.19", 2521), (1, "0.19", 1), (0, "0.19", 0), (700, "0", 700)],
)
def test_the_gross_a_driver_was_promised_is_kept(gross: int, rate: str, net: int) -> None:
    assert money.net_of(gross, Fraction(rate), "EUR") == net


def test_minimums_are_known_for_every_currency() -> None:
    assert [money.minimum_minor(c) for c in ("EUR", "JPY", "KWD", "XOF")] == [50, 80, 500, 50]


@given(plans(), sessions(), st.one_of(st.none(), st.integers(0, 3000)), st.sampled_from(CURRENCIES))
def test_a_bill_in_minor_units_adds_up(
    plan: dict, usage: object, cap: int | None, currency: str
) -> None:
    parsed = read_tariff(plan | {"currency": currency})
    step = money.step_minor(currency)
    cap = None if cap is None else cap * step
    bill = price(parsed, usage)
    totals = total_up(parsed, bill, cap)
    full = money.to_minor(bill.after, currency)
    assert totals.gross_minor == (full if cap is None else min(full, cap))
    for name in ("net_minor", "vat_minor", "gross_minor"):
        assert sum(line[name] for line in totals.lines) == getattr(totals, name)
        assert sum(rate[name] for rate in totals.rates) == getattr(totals, name)
    for row in [*totals.lines, *totals.rates]:
        assert row["net_minor"] + row["vat_minor"] == row["gross_minor"]
        assert row["net_minor"] % step == 0
    for rate in totals.rates:
        mine = [line for line in totals.lines if line["vat"] == rate["vat"]]
        assert sum(line["gross_minor"] for line in mine) == rate["gross_minor"]


def test_a_price_limit_is_a_line_of_the_bill() -> None:
    plan = read_tariff(
        tariff(
            element(component("FLAT", 0.5, 20), ENERGY),
            max_price={"before_taxes": 10.0, "after_taxes": 11.0},
        )
    )
    totals = total_up(plan, price(plan, session((3600, 50_000, "charging"))))
    assert (totals.net_minor, totals.vat_minor, totals.gross_minor) == (1000, 100, 1100)
    assert [line["dimension"] for line in totals.lines].count("LIMIT") == 2


def test_a_minimum_price_of_an_empty_session_is_one_line() -> None:
    plan = read_tariff(tariff(element(ENERGY), min_price={"excl_vat": 0.5, "incl_vat": 0.55}))
    totals = total_up(plan, price(plan, session((600, 0, "charging"))))
    assert [(line["dimension"], line["gross_minor"]) for line in totals.lines] == [("LIMIT", 55)]
