"""Sampled values become readings; registers become energy, never more than was proven."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitoring import metering
from monitoring.metering import Sampled, Streak

NOW = datetime(2026, 11, 22, 10, 0, tzinfo=UTC)


def read(*values: dict[str, Any]) -> list[Sampled]:
    return metering.read(
        {"sampledValue": list(values)}, station_id=1, ref="1", evse=1, at=NOW, received_at=NOW
    )


def test_a_bare_value_is_the_import_register_in_wh() -> None:
    [one] = read({"value": "1234.567"})
    assert (one.register_mwh, one.context, one.flags) == (1_234_567, "Sample.Periodic", ())


@pytest.mark.parametrize(
    ("value", "mwh"),
    [
        ({"value": "1.5", "unit": "kWh"}, 1_500_000),
        ({"value": 1.5, "unitOfMeasure": {"unit": "kWh"}}, 1_500_000),
        ({"value": 15, "unitOfMeasure": {"unit": "Wh", "multiplier": 2}}, 1_500_000),
        ({"value": "1500", "unit": "Joule"}, 1_500_000),  # not in the list: the default unit
        ({"value": 1500}, 1_500_000),  # OpenEVSE: a number in 1.6
        ({"value": "1500", "unit": ""}, 1_500_000),
    ],
)
def test_units_and_multipliers_are_understood(value: dict[str, Any], mwh: int) -> None:
    assert read(value)[0].register_mwh == mwh


@pytest.mark.parametrize(
    ("value", "flag"),
    [
        ("NaN", "bad-value"),
        ("Infinity", "bad-value"),
        ("12,5", "bad-value"),
        (None, "bad-value"),
        (True, "bad-value"),
        ("1e400", "bad-value"),
        ("1e300", "huge"),
        ("99999999999999", "huge"),
        ("-5", "negative-value"),
    ],
)
def test_what_is_no_register_is_kept_as_it_came_and_flagged(value: Any, flag: str) -> None:
    [one] = read({"value": value})
    assert one.register_mwh is None
    assert one.flags == (flag,)
    assert one.extra == {"values": [{"value": value}]}


def test_three_phases_are_summed_and_a_part_of_them_is_not() -> None:
    phases = [{"value": str(n), "phase": f"L{n}"} for n in (1, 2, 3)]
    assert read(*phases)[0].register_mwh == 6_000
    [partial] = read(*phases[:2])
    assert (partial.register_mwh, partial.flags) == (None, ("phases",))
    assert read(phases[0])[0].register_mwh == 1_000
    assert read({"value": "7"}, *phases)[0].register_mwh == 7_000


def test_each_context_is_a_reading_and_all_columns_are_filled() -> None:
    begin, end = read(
        {"value": "1000", "context": "Transaction.Begin"},
        {"value": "2000", "context": "Transaction.End"},
        {"value": "7200", "measurand": "Power.Active.Import", "context": "Transaction.End"},
        {"value": "16", "measurand": "Current.Import", "phase": "L1", "context": "Transaction.End"},
        {"value": "15", "measurand": "Current.Import", "phase": "L2", "context": "Transaction.End"},
        {"value": "230", "measurand": "Voltage", "phase": "L1-N", "context": "Transaction.End"},
        {"value": "55", "measurand": "SoC", "location": "EV", "context": "Transaction.End"},
        {"value": "300", "unit": "K", "measurand": "Temperature", "context": "Transaction.End"},
        {"value": "50", "measurand": "Frequency", "context": "Transaction.End"},
    )  # fmt: skip
    assert begin.register_mwh == 1_000_000
    assert (end.register_mwh, end.power_w, end.voltage_v) == (2_000_000, 7200.0, 230.0)
    assert (end.current_a, end.current_l1_a, end.current_l2_a) == (16.0, 16.0, 15.0)
    assert end.soc_percent == 55.0
    assert end.temperature_c == pytest.approx(26.85)
    assert end.extra is not None
    assert [item["measurand"] for item in end.extra["values"]] == ["Frequency"]
    assert metering.begin_register([end, begin]) == 1_000_000
    assert metering.end_register([end, begin]) == 2_000_000


def test_the_outlet_counts_before_the_inlet() -> None:
    [one] = read({"value": "5", "location": "Inlet"}, {"value": "7", "location": "Outlet"})
    assert one.register_mwh == 7_000


def test_signed_records_are_kept_byte_for_byte() -> None:
    raw = 'OCMF|{"a" : 1}|{"SD":"3045"}'
    [old] = read({"value": raw, "format": "SignedData"})
    assert (old.signed, old.register_mwh) == (raw, None)
    [new] = read({"value": 5, "signedMeterValue": {"signedMeterData": raw, "publicKey": ""}})
    assert new.register_mwh == 5_000
    assert (
        new.signed
        == '{"signedMeterData":"OCMF|{\\"a\\" : 1}|{\\"SD\\":\\"3045\\"}","publicKey":""}'
    )


def test_the_digest_tells_content_apart_and_a_repetition_not() -> None:
    [a], [b], [c] = read({"value": "1"}), read({"value": "1"}), read({"value": "2"})
    assert metering.digest(a) == metering.digest(b) != metering.digest(c)
    assert 0 <= metering.digest(a) < 2**63


def test_a_clock_that_cannot_be_believed_gives_way_to_ours() -> None:
    assert metering.effective(NOW - timedelta(hours=5), NOW) == NOW - timedelta(hours=5)
    assert metering.effective(datetime(1970, 1, 1, tzinfo=UTC), NOW) == NOW
    assert metering.effective(NOW + timedelta(days=30), NOW) == NOW


# --- energy: start, readings, stop in Wh; what is billed, by which rung, with which doubts --------

CASES = [
    ((1000, [1500, 1800], 2000), (1000, "registers", set(), "")),
    ((1000, [], 2000), (1000, "registers", set(), "")),
    ((1000, [1500, 1800], None), (800, "provisional", set(), "")),
    ((1000, [], None), (0, "", set(), "")),
    ((1000, [1500, 1200], 2000), (1000, "registers", {"falling"}, "")),
    ((1000, [1500, 1200, 9000], None), (500, "provisional", {"falling"}, "")),
    ((1000, [1500, 0, 3], 3), (500, "provisional", {"falling", "negative"}, "negative-energy")),
    ((1000, [], 999), (0, "provisional", {"negative"}, "")),  # Huawei: one less than at the start
    ((1000, [], 500), (0, "provisional", {"negative"}, "negative-energy")),
    ((1000, [3000], 2000), (1000, "registers", {"mismatch"}, "meter-mismatch")),
    ((1000, [2005], 2000), (1000, "registers", set(), "")),  # within 10 Wh
    ((1000, [2**31 - 1], 2000), (1000, "registers", {"implausible"}, "")),
    ((0, [1500], 2**31 - 1), (1500, "provisional", {"implausible"}, "implausible-energy")),
    ((None, [1500, 1800], 2000), (500, "registers", {"no-begin"}, "")),
    ((None, [], 2000), (0, "", set(), "")),
]


@pytest.mark.parametrize(("given", "expected"), CASES)
def test_the_ladder_bills_what_is_proven(given: Any, expected: Any) -> None:
    start, readings, stop = given
    streak = Streak(start and start * 1000).follow(one * 1000 for one in readings)
    if start == 0:
        streak = Streak(0).follow(one * 1000 for one in readings)
    result = metering.energy(streak, stop and stop * 1000)
    assert (result.wh, result.source, set(result.flags), result.review) == expected


def test_133_7_wh_at_both_ends_is_no_energy() -> None:
    assert metering.energy(Streak(133_700), 133_700).wh == 0
    assert metering.energy(Streak(133_000), 134_000).wh == 1


registers = st.lists(st.integers(0, 2**40), max_size=12)


@given(st.integers(0, 2**40), registers, st.integers(0, 12))
def test_following_in_parts_is_following_at_once(start: int, values: list[int], cut: int) -> None:
    whole = Streak(start).follow(values)
    assert Streak(start).follow(values[:cut]).follow(values[cut:]) == whole


@given(st.integers(0, 2**40), registers, st.none() | st.integers(0, 2**40))
def test_energy_is_never_negative_nor_above_what_registers_span(
    start: int, values: list[int], stop: int | None
) -> None:
    result = metering.energy(Streak(start).follow(values), stop)
    highest = max([start, *values, stop or start])
    assert 0 <= result.wh <= (highest - start) // 1000
    if stop is not None and 0 <= stop - start <= metering.MAX_SESSION_MWH:
        assert result.wh == (stop - start) // 1000
