"""Sharing a site's connection, as pure arithmetic: never above the limit, minimum, priority."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from monitoring import load
from monitoring.load import Draw

amps = st.integers(0, 80)
draws = st.lists(
    st.builds(
        Draw, st.integers(0, 10_000), st.integers(1, 80), st.integers(0, 3), st.integers(0, 9)
    ),
    max_size=12,
    unique_by=lambda draw: draw.key,
)  # fmt: skip


@given(st.integers(0, 400), draws, amps)
def test_the_shares_and_what_is_reserved_never_pass_the_limit(
    limit_a: int, wanted: list[Draw], reserved_a: int
) -> None:
    shares = load.share(limit_a, wanted, reserved_a=reserved_a)
    assert sum(shares.values()) <= max(limit_a - reserved_a, 0)
    assert set(shares) == {draw.key for draw in wanted}
    assert all(0 <= shares[draw.key] <= draw.max_a for draw in wanted)


@given(st.integers(0, 400), draws, amps, st.integers(1, 16))
def test_everybody_gets_the_minimum_where_it_is_feasible_and_nobody_less_but_nothing(
    limit_a: int, wanted: list[Draw], reserved_a: int, minimum_a: int
) -> None:
    shares = load.share(limit_a, wanted, reserved_a=reserved_a, minimum_a=minimum_a)
    least = {draw.key: min(minimum_a, draw.max_a) for draw in wanted}
    assert all(shares[key] == 0 or shares[key] >= least[key] for key in shares)
    if sum(least.values()) <= limit_a - reserved_a:
        assert all(shares[key] >= least[key] for key in shares)


@given(st.integers(0, 400), draws, amps)
def test_a_higher_priority_never_gets_less_than_a_lower_one_unless_it_can_take_no_more(
    limit_a: int, wanted: list[Draw], reserved_a: int
) -> None:
    shares = load.share(limit_a, wanted, reserved_a=reserved_a)
    for high in wanted:
        for low in wanted:
            if high.priority > low.priority and shares[high.key] < high.max_a:
                assert shares[low.key] <= min(load.MINIMUM_A, low.max_a)
                if shares[high.key] == 0:
                    assert shares[low.key] == 0


@given(st.integers(0, 400), draws, amps)
def test_nothing_is_left_over_while_a_session_that_charges_could_take_more(
    limit_a: int, wanted: list[Draw], reserved_a: int
) -> None:
    shares = load.share(limit_a, wanted, reserved_a=reserved_a)
    hungry = any(0 < shares[draw.key] < draw.max_a for draw in wanted)
    assert not hungry or sum(shares.values()) == limit_a - reserved_a


@given(st.integers(0, 400), draws, amps, st.data())
def test_on_the_way_to_the_plan_the_sum_never_rises_above_the_limit(
    limit_a: int, wanted: list[Draw], reserved_a: int, data: st.DataObject
) -> None:
    shares = load.share(limit_a, wanted, reserved_a=reserved_a)
    drawn = {key: data.draw(amps) for key in shares}
    began = sum(drawn.values()) + reserved_a
    for _ in range(len(shares) + 2):
        due = load.step(limit_a, shares, drawn, reserved_a=reserved_a)
        assert all(due[key] != drawn[key] for key in due)
        # the worst moment: every increase is taken before any decrease
        worst = sum(max(drawn[key], due.get(key, 0)) for key in drawn) + reserved_a
        assert worst <= max(limit_a, began)
        drawn |= due
    assert drawn == shares


@given(st.integers(0, 500), st.integers(0, 40))
def test_the_fallbacks_of_a_whole_site_stay_within_its_limit(limit_a: int, evses: int) -> None:
    each = load.fallback(limit_a, evses)
    assert each * evses <= limit_a
    assert each == 0 or each >= load.MINIMUM_A


def test_three_cars_share_32_amperes_as_11_11_10() -> None:
    cars = [Draw(n, 32, order=n) for n in (1, 2, 3)]
    assert load.share(32, cars) == {1: 11, 2: 11, 3: 10}


def test_the_sixth_car_waits_where_five_minima_fill_the_limit_and_the_oldest_go_first() -> None:
    cars = [Draw(n, 32, order=n) for n in range(6)]
    assert load.share(32, cars) == {0: 7, 1: 7, 2: 6, 3: 6, 4: 6, 5: 0}


def test_priority_takes_what_the_minimum_of_the_others_leaves() -> None:
    cars = [Draw(1, 32), Draw(2, 32, priority=1), Draw(3, 32)]
    assert load.share(40, cars) == {2: 28, 1: 6, 3: 6}


def test_a_newcomer_gets_its_share_once_the_others_have_come_down() -> None:
    target = {1: 16, 2: 16}
    assert load.step(32, target, {1: 32, 2: 0}) == {1: 16}
    assert load.step(32, target, {1: 16, 2: 0}) == {2: 16}
    assert load.step(32, target, {1: 16, 2: 16}) == {}


def test_currents_and_powers() -> None:
    assert load.amperes(22_000) == 32
    assert load.amperes(7_400, phases=1) == 32
    assert load.watts(16) == 11_040
