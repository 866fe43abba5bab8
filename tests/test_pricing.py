"""Prices: the public OCPI cases, the specification's examples, and properties that always hold."""

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from io import StringIO
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from django.conf import settings
from django.core.management import CommandError, call_command
from django.utils.translation import override
from hypothesis import given
from hypothesis import strategies as st

from billing.money import quantize
from billing.ocpi import OcpiError, read_cdr, read_tariff
from billing.periods import Period, Usage
from billing.pricing import by_rate, price
from billing.words import describe

VECTORS = Path(__file__).resolve().parent.parent.parent / "shared" / "vectors" / "tariffs"
needs_vectors = pytest.mark.skipif(
    not VECTORS.exists(), reason="../shared/vectors is not beside this clone"
)
UTC_ZONE = ZoneInfo("UTC")
T0 = datetime(2026, 3, 2, 8, 0, tzinfo=UTC)  # a Monday


def load(path: Path) -> dict:
    return json.loads(path.read_text(), parse_float=Decimal)


def component(kind: str, amount: float | str, vat: float | None = None, step: int = 1) -> dict:
    given = {"type": kind, "price": amount, "step_size": step}
    return given if vat is None else given | {"vat": vat}


def tariff(*elements: dict, **fields: object) -> dict:
    return {"id": "t", "currency": "EUR", "elements": list(elements)} | fields


def element(*components: dict, **restrictions: object) -> dict:
    given = {"price_components": list(components)}
    return given | ({"restrictions": restrictions} if restrictions else {})


def session(*parts: tuple, start: datetime = T0, zone: str = "UTC", **fields: object) -> Usage:
    """Parts are (seconds, Wh, kind) with kind charging, parking, paused or reserved."""
    periods, at = [], start
    for seconds, wh, kind in parts:
        end = at + timedelta(seconds=seconds)
        times = {f"{kind}_s": seconds} if kind != "paused" else {}
        periods.append(Period(at, end, wh=wh, **times))
        at = end
    return Usage(tuple(periods), ZoneInfo(zone), **fields)


def total(plan: dict, usage: Usage) -> tuple[str, str]:
    bill = price(read_tariff(plan), usage)
    return str(quantize(bill.before, 4)), str(quantize(bill.after, 4))


# --- the public cases ---------------------------------------------------------------------------

# Known wrong in the files (their README says so): the right totals instead.
CORRECTED = {
    "tandemdrive/025kwh_min_price/cdr2_less_than_2kWh.json": ("0.5000", "0.5500"),
    "hamza/codeberg_issue_228/cdr.json": ("1.8370", "2.2228"),
}


def cases() -> list[str]:
    return [str(path.relative_to(VECTORS)) for path in sorted(VECTORS.glob("*/*/cdr*.json"))]


@needs_vectors
@pytest.mark.parametrize("case", cases())
def test_public_cdrs_cost_what_they_say(case: str) -> None:
    cdr = load(VECTORS / case)
    beside = (VECTORS / case).parent / "tariff.json"
    plan = read_tariff(load(beside) if beside.exists() else cdr["tariffs"][0], strict=False)
    zone = "Europe/Amsterdam" if case.startswith("hamza") else "UTC"
    bill = price(plan, read_cdr(cdr, zone), split=False)
    said = (cdr["total_cost"]["excl_vat"], cdr["total_cost"]["incl_vat"])
    expected = CORRECTED.get(case, tuple(str(quantize(Fraction(x), 4)) for x in said))
    assert (str(quantize(bill.before, 4)), str(quantize(bill.after, 4))) == expected
    # Cutting the periods where prices change does not change what well-formed ones cost.
    whole = price(plan, read_cdr(cdr, zone), split=True)
    assert (whole.before, whole.after) == (bill.before, bill.after)


@needs_vectors
def test_every_published_tariff_is_read() -> None:
    paths = [*VECTORS.glob("*/*/tariff.json"), *VECTORS.glob("ocpi-*/tariff*.json")]
    assert len(paths) > 40
    for path in paths:
        read_tariff(load(path), strict="misspelled" not in str(path))


@needs_vectors
def test_a_misspelt_restriction_is_refused_with_its_path() -> None:
    with pytest.raises(OcpiError, match=r"elements\[0\].restrictions.dayOfWeek: is not a field"):
        read_tariff(load(VECTORS / "hamza/misspelled_field/tariff.json"))


@needs_vectors
@pytest.mark.parametrize(
    ("version", "name"), [("2.3.0", "cdr_example.json"), ("2.2.1", "cdr_example.json")]
)
def test_the_specifications_cdr_costs_what_it_says(version: str, name: str) -> None:
    cdr = load(VECTORS / f"ocpi-{version}" / name)
    bill = price(read_tariff(cdr["tariffs"][0], strict=False), read_cdr(cdr), split=False)
    assert (quantize(bill.before, 2), quantize(bill.after, 2)) == (Decimal("4.00"), Decimal("4.40"))


# --- the specification's examples ---------------------------------------------------------------

ENERGY = component("ENERGY", 0.25, 10.0)
START = component("FLAT", 0.50, 20.0)


def test_parking_is_rounded_up_to_its_step() -> None:
    plan = tariff(element(START, ENERGY, component("PARKING_TIME", 2.0, 20.0, 900)))
    assert total(plan, session((3600, 20_000, "charging"), (2400, 0, "parking"))) == (
        "7.0000",
        "7.9000",
    )


def test_the_price_cap_holds_before_and_after_taxes() -> None:
    plan = tariff(element(START, ENERGY), max_price={"before_taxes": 10.0, "after_taxes": 11.0})
    assert total(plan, session((3600, 50_000, "charging"))) == ("10.0000", "11.0000")
    assert total(plan, session((3600, 30_000, "charging"))) == ("8.0000", "8.8500")


def test_a_capped_bill_has_bases_that_meet_both_limits() -> None:
    plan = read_tariff(
        tariff(element(START, ENERGY), max_price={"before_taxes": 10.0, "after_taxes": 11.0})
    )
    bases = by_rate(plan, price(plan, session((3600, 50_000, "charging"))))
    assert bases == {Fraction(1, 5): 0, Fraction(1, 10): 10}


def test_limits_that_no_rates_can_meet_give_the_smaller_gross() -> None:
    plan = read_tariff(tariff(element(ENERGY), max_price={"before_taxes": 10, "after_taxes": 10.5}))
    bill = price(plan, session((3600, 50_000, "charging")))
    bases = by_rate(plan, bill)
    assert (bill.before, bill.after) == (10, Fraction("10.5"))
    assert sum(base * (1 + rate) for rate, base in bases.items()) == Fraction("10.5")


def test_a_minimum_price_is_paid_even_for_nothing() -> None:
    plan = read_tariff(tariff(element(ENERGY), min_price={"excl_vat": 0.5, "incl_vat": 0.55}))
    bill = price(plan, session((60, 0, "charging")))
    assert (bill.before, bill.after) == (Fraction("0.5"), Fraction("0.55"))
    assert by_rate(plan, bill) == {Fraction(1, 10): Fraction("0.5")}


COMPLEX = tariff(
    element(component("FLAT", 2.5, 15.0)),
    element(component("TIME", 1.0, 20.0, 900), max_current=32.0),
    element(
        component("TIME", 2.0, 20.0, 600),
        min_current=32.0,
        day_of_week=["MONDAY", "TUESDAY", "WEDNESDAY", "THURSDAY", "FRIDAY"],
    ),
    element(
        component("TIME", 1.25, 20.0, 600), min_current=32.0, day_of_week=["SATURDAY", "SUNDAY"]
    ),
    element(
        component("PARKING_TIME", 5.0, 10.0, 300),
        start_time="09:00",
        end_time="18:00",
        day_of_week=["MONDAY", "TUESDAY", "WEDNESDAY", "THURSDAY", "FRIDAY"],
    ),
    element(
        component("PARKING_TIME", 6.0, 10.0, 300),
        start_time="10:00",
        end_time="17:00",
        day_of_week=["SATURDAY"],
    ),
)


@pytest.mark.parametrize(
    ("start", "minutes", "parked", "ampere", "expected"),
    [
        (datetime(2026, 3, 2, 9, 30, tzinfo=UTC), 147, 42, 16, ("8.7000", "9.9400")),
        (datetime(2026, 3, 7, 13, 30, tzinfo=UTC), 114, 71, 43, ("12.3750", "13.9750")),
    ],
)
def test_the_complex_tariff(
    start: datetime, minutes: int, parked: int, ampere: int, expected: tuple[str, str]
) -> None:
    middle = start + timedelta(minutes=minutes)
    usage = Usage(
        (
            Period(
                start,
                middle,
                charging_s=minutes * 60,
                min_a=Fraction(ampere),
                max_a=Fraction(ampere),
            ),
            Period(middle, middle + timedelta(minutes=parked), parking_s=parked * 60),
        ),
        UTC_ZONE,
    )
    assert total(COMPLEX, usage) == expected


def test_energy_is_rounded_up_to_its_step() -> None:
    plan = tariff(element(START, component("ENERGY", 0.25, 10.0, 100)))
    assert total(plan, session((3600, 20_450, "charging"))) == ("5.6250", "6.2375")


STEPS = tariff(
    element(
        component("TIME", 1.2, step=1800),
        component("PARKING_TIME", 1.0, step=900),
        start_time="00:00",
        end_time="17:00",
    ),
    element(
        component("TIME", 2.4, step=900),
        component("PARKING_TIME", 1.0, step=900),
        start_time="17:00",
        end_time="20:00",
    ),
    element(component("TIME", 2.4, step=900), start_time="20:00", end_time="00:00"),
)


@pytest.mark.parametrize(
    ("hour", "minute", "parts", "expected"),
    [
        (16, 55, [(600, 0, "charging"), (120, 0, "parking")], "0.5500"),
        (16, 35, [(2100, 0, "charging")], "1.3000"),
        (19, 55, [(600, 0, "charging"), (120, 0, "parking")], "0.6000"),
    ],
)
def test_the_last_step_of_a_dimension_rounds_the_session(
    hour: int, minute: int, parts: list, expected: str
) -> None:
    usage = session(*parts, start=datetime(2026, 3, 2, hour, minute, tzinfo=UTC))
    assert total(STEPS, usage)[0] == expected


def test_the_first_hour_and_kwh_are_free() -> None:
    plan = tariff(
        element(component("PARKING_TIME", 0, step=60), min_duration=0, max_duration=3600),
        element(component("PARKING_TIME", 2.0, step=60), min_duration=3600, max_duration=10800),
        element(component("PARKING_TIME", 3.0, step=60), min_duration=10800),
        element(component("ENERGY", 0), max_kwh=1.0),
        element(component("ENERGY", 0.20), min_kwh=1.0),
    )
    usage = session((600, 20_000, "charging"), (9900, 0, "parking"))
    # 19 kWh at 0.20, 50 min free, 115 min at 2.00
    assert total(plan, usage)[0] == str(quantize(Fraction("3.8") + Fraction(115 * 2, 60), 4))


def reservation_tariff(*reserved: tuple) -> dict:
    return tariff(
        *(element(*parts, reservation=kind) for kind, *parts in reserved), element(START, ENERGY)
    )


@pytest.mark.parametrize(
    ("plan", "minutes", "used", "expected"),
    [
        (
            reservation_tariff(("RESERVATION", component("TIME", 5.0, 20.0, 60))),
            15,
            True,
            ("6.7500", "7.6000"),
        ),
        (
            reservation_tariff(
                ("RESERVATION", component("FLAT", 2.0, 20.0), component("TIME", 5.0, 20.0, 300))
            ),
            13,
            True,
            ("8.7500", "10.0000"),
        ),
        (
            reservation_tariff(
                ("RESERVATION_EXPIRES", component("FLAT", 4.0, 20.0)),
                ("RESERVATION", component("TIME", 2.0, 20.0, 600)),
            ),
            22,
            True,
            ("6.5000", "7.3000"),
        ),
        (
            reservation_tariff(
                ("RESERVATION_EXPIRES", component("FLAT", 4.0, 20.0)),
                ("RESERVATION", component("TIME", 2.0, 20.0, 600)),
            ),
            60,
            False,
            ("6.0000", "7.2000"),
        ),
        (
            reservation_tariff(
                ("RESERVATION_EXPIRES", component("TIME", 6.0, 20.0, 600)),
                ("RESERVATION", component("TIME", 3.0, 20.0, 600)),
            ),
            22,
            True,
            ("7.0000", "7.9000"),
        ),
        (
            reservation_tariff(
                ("RESERVATION_EXPIRES", component("TIME", 6.0, 20.0, 600)),
                ("RESERVATION", component("TIME", 3.0, 20.0, 600)),
            ),
            90,
            False,
            ("9.0000", "10.8000"),
        ),
    ],
)
def test_reservations(plan: dict, minutes: int, used: bool, expected: tuple[str, str]) -> None:
    parts = [(minutes * 60, 0, "reserved")] + ([(3600, 20_000, "charging")] if used else [])
    assert total(plan, session(*parts, expired=not used)) == expected


def test_power_decides_between_prices() -> None:
    plan = tariff(
        element(component("ENERGY", 0.20), max_power=16.0),
        element(component("ENERGY", 0.35), max_power=32.0),
        element(component("ENERGY", 0.50)),
    )
    periods = []
    for i, (wh, kw) in enumerate([(1000, 6), (40_000, 48), (500, 4)]):
        start = T0 + timedelta(hours=i)
        power = Fraction(kw)
        periods.append(
            Period(start, start + timedelta(hours=1), wh, 3600, min_kw=power, max_kw=power)
        )
    assert total(plan, Usage(tuple(periods), UTC_ZONE))[0] == "20.3000"


# --- rules that are easy to get wrong -----------------------------------------------------------


def test_each_dimension_looks_for_its_own_element() -> None:
    plan = tariff(
        element(component("ENERGY", 0.30), start_time="00:00", end_time="23:00"),
        element(component("ENERGY", 0.99), component("TIME", 1.0)),
    )
    assert total(plan, session((3600, 10_000, "charging")))[0] == "4.0000"


def test_a_night_tariff_wraps_midnight() -> None:
    plan = tariff(
        element(component("ENERGY", 0.10), start_time="22:00", end_time="06:00"),
        element(component("ENERGY", 0.40)),
    )
    usage = session((4 * 3600, 4000, "charging"), start=datetime(2026, 3, 2, 20, 0, tzinfo=UTC))
    assert total(plan, usage)[0] == "1.0000"  # 2 kWh at 0.40, 2 kWh at 0.10
    usage = session((4 * 3600, 4000, "charging"), start=datetime(2026, 3, 2, 4, 0, tzinfo=UTC))
    assert total(plan, usage)[0] == "1.0000"


@pytest.mark.parametrize(
    ("start", "cheap_s"),
    [
        # Berlin 2026-03-29: 02:00 → 03:00; the window 01:00–04:00 lasts two hours
        (datetime(2026, 3, 28, 23, 0, tzinfo=UTC), 2 * 3600),
        # Berlin 2026-10-25: 03:00 → 02:00; it lasts four
        (datetime(2026, 10, 24, 22, 0, tzinfo=UTC), 4 * 3600),
        # any other day: three
        (datetime(2026, 7, 1, 22, 0, tzinfo=UTC), 3 * 3600),
    ],
)
def test_a_time_window_is_as_long_as_the_clock_change_makes_it(
    start: datetime, cheap_s: int
) -> None:
    plan = tariff(
        element(component("TIME", 1.0), start_time="01:00", end_time="04:00"),
        element(component("TIME", 10.0)),
    )
    hours = 8
    usage = session((hours * 3600, 0, "charging"), start=start, zone="Europe/Berlin")
    expected = Fraction(cheap_s, 3600) + 10 * (hours - Fraction(cheap_s, 3600))
    assert total(plan, usage)[0] == str(quantize(expected, 4))


def test_a_time_the_spring_change_skips_begins_at_the_change() -> None:
    plan = tariff(
        element(component("TIME", 1.0), start_time="02:30", end_time="04:00"),
        element(component("TIME", 10.0)),
    )
    start = datetime(2026, 3, 29, 0, 0, tzinfo=UTC)  # 01:00 local; the change is at 01:00 UTC
    usage = session((3 * 3600, 0, "charging"), start=start, zone="Europe/Berlin")
    # 01:00–02:00 dear, then 03:00–04:00 cheap, then 04:00–05:00 dear
    assert total(plan, usage)[0] == "21.0000"


def test_weekdays_and_dates_change_at_local_midnight() -> None:
    plan = tariff(
        element(component("ENERGY", 1.0), day_of_week=["TUESDAY"], end_date="2026-03-04"),
        element(component("ENERGY", 0.5)),
    )
    start = datetime(2026, 3, 2, 22, 0, tzinfo=UTC)  # Monday 23:00 in Berlin
    usage = session((2 * 3600, 2000, "charging"), start=start, zone="Europe/Berlin")
    assert total(plan, usage)[0] == "1.5000"


def test_load_management_is_neither_charging_nor_parking() -> None:
    plan = tariff(element(component("TIME", 6.0), component("PARKING_TIME", 60.0)))
    usage = session((600, 1000, "charging"), (3600, 0, "paused"), (600, 1000, "charging"))
    assert total(plan, usage)[0] == "2.0000"


def test_durations_count_from_the_sessions_start_not_from_its_first_period() -> None:
    plan = tariff(
        element(component("ENERGY", 1), max_duration=600), element(component("ENERGY", 2))
    )
    usage = session((300, 1000, "charging"), started=T0 - timedelta(seconds=600))
    assert total(plan, usage)[0] == "2.0000"


def test_prices_that_include_tax_are_split_from_the_gross() -> None:
    plan = read_tariff(tariff(element(component("ENERGY", 0.59, 19.0)), tax_included="YES"))
    bill = price(plan, session((3600, 10_000, "charging")))
    assert (bill.after, bill.before) == (Fraction("5.9"), Fraction("5.9") / Fraction("1.19"))


def test_missing_power_is_decided_for_the_driver_and_said() -> None:
    plan = read_tariff(
        tariff(
            element(component("ENERGY", 0.20), max_power=16.0), element(component("ENERGY", 0.50))
        )
    )
    bill = price(plan, session((3600, 10_000, "charging")))
    assert (bill.before, bill.doubts) == (2, ["power_unknown"])


def test_a_flat_fee_is_charged_once_when_it_first_becomes_active() -> None:
    plan = tariff(
        element(component("FLAT", 1.0), start_time="09:00", end_time="12:00"),
        element(component("ENERGY", 0)),
    )
    bill = price(read_tariff(plan), session(*[(1800, 500, "charging")] * 6))
    flat = [line for line in bill.lines if line.dimension == "FLAT"]
    assert [(line.before, line.start.hour) for line in flat] == [(1, 9)]


def test_every_problem_of_a_tariff_is_said_at_once() -> None:
    with pytest.raises(OcpiError) as caught:
        read_tariff(
            {
                "currency": "euro",
                "elements": [
                    {
                        "price_components": [{"type": "KWH", "price": -1}],
                        "restrictions": {"start_time": "9:00", "day_of_week": ["MON"]},
                    }
                ],
            }
        )
    assert [problem.split(":")[0] for problem in caught.value.problems] == [
        "$.currency",
        "$.elements[0].price_components[0].type",
        "$.elements[0].price_components[0].price",
        "$.elements[0].restrictions.day_of_week",
        "$.elements[0].restrictions.start_time",
    ]


# --- properties ---------------------------------------------------------------------------------

prices = st.decimals(0, 5, places=4)
kinds = st.sampled_from(["charging", "parking", "paused"])


@st.composite
def plans(draw: st.DrawFn) -> dict:
    """Tariffs with every restriction that time and energy can decide, steps of 1."""
    elements = []
    for _ in range(draw(st.integers(1, 4))):
        names = draw(st.sets(st.sampled_from(["ENERGY", "TIME", "PARKING_TIME"]), min_size=1))
        parts = [
            component(name, draw(prices), draw(st.sampled_from([None, 7, 19]))) for name in names
        ]
        bounds: dict = {}
        if draw(st.booleans()):
            hours = draw(st.lists(st.integers(0, 23), min_size=2, max_size=2, unique=True))
            bounds |= {"start_time": f"{hours[0]:02}:30", "end_time": f"{hours[1]:02}:30"}
        if draw(st.booleans()):
            bounds["min_kwh"] = draw(st.integers(0, 30))
        if draw(st.booleans()):
            bounds["max_duration"] = draw(st.integers(1, 6)) * 1800
        if draw(st.booleans()):
            bounds["day_of_week"] = ["MONDAY", "SATURDAY"]
        elements.append(element(*parts, **bounds))
    return tariff(*elements)


@st.composite
def sessions(draw: st.DrawFn) -> Usage:
    """Sessions across midnights and clock changes, at whole Wh a second."""
    start = draw(
        st.sampled_from(
            [T0, datetime(2026, 3, 28, 20, tzinfo=UTC), datetime(2026, 10, 24, 20, tzinfo=UTC)]
        )
    )
    parts = []
    for _ in range(draw(st.integers(1, 5))):
        seconds, kind = draw(st.integers(1, 20_000)), draw(kinds)
        parts.append(
            (seconds, seconds * draw(st.integers(0, 4)) if kind == "charging" else 0, kind)
        )
    return session(*parts, start=start, zone="Europe/Berlin")


@given(plans(), sessions())
def test_segments_add_up_to_the_session(plan: dict, usage: Usage) -> None:
    bill = price(read_tariff(plan), usage)
    for name in ("wh", "charging_s", "parking_s"):
        assert sum(getattr(segment.period, name) for segment in bill.segments) == sum(
            getattr(period, name) for period in usage.periods
        )
    ends = [segment.period.end for segment in bill.segments]
    assert [s.period.start for s in bill.segments][1:] == ends[:-1]


@given(plans(), sessions(), st.data())
def test_splitting_a_period_never_changes_the_price(
    plan: dict, usage: Usage, data: st.DataObject
) -> None:
    parsed = read_tariff(plan)
    whole = price(parsed, usage)
    pieces: list[Period] = []
    for period in usage.periods:
        length = int((period.end - period.start).total_seconds())
        at = data.draw(st.integers(0, length))
        rate = period.wh // length
        middle = period.start + timedelta(seconds=at)
        pieces += [
            Period(
                period.start,
                middle,
                rate * at,
                min(period.charging_s, at),
                min(period.parking_s, at),
            ),
            Period(
                middle,
                period.end,
                rate * (length - at),
                max(0, period.charging_s - at),
                max(0, period.parking_s - at),
            ),
        ]
    split = price(parsed, Usage(tuple(pieces), usage.zone))
    assert (split.before, split.after) == (whole.before, whole.after)


@given(plans(), sessions(), st.integers(1, 5000))
def test_more_energy_never_costs_less(plan: dict, usage: Usage, more: int) -> None:
    # At one price a kWh; tiers may make more energy cheaper on purpose.
    for item in plan["elements"]:
        item.pop("restrictions", None)
    last = usage.periods[-1]
    richer = Usage(
        (
            *usage.periods[:-1],
            Period(last.start, last.end, last.wh + more, last.charging_s, last.parking_s),
        ),
        usage.zone,
    )
    assert price(read_tariff(plan), richer).after >= price(read_tariff(plan), usage).after


@given(plans(), sessions())
def test_a_replay_gives_the_same_bill(plan: dict, usage: Usage) -> None:
    first, second = price(read_tariff(plan), usage), price(read_tariff(plan), usage)
    assert first == second


# --- the command --------------------------------------------------------------------------------


def test_the_command_prints_the_documented_shape(tmp_path: Path) -> None:
    (tmp_path / "t.json").write_text(json.dumps(tariff(element(START, ENERGY))))
    (tmp_path / "c.json").write_text(
        json.dumps(
            {
                "start_date_time": "2026-01-13T14:30:00Z",
                "end_date_time": "2026-01-13T15:30:00Z",
                "charging_periods": [
                    {
                        "start_date_time": "2026-01-13T14:30:00Z",
                        "dimensions": [{"type": "ENERGY", "volume": 20}],
                    }
                ],
            }
        )
    )
    out = StringIO()
    call_command(
        "tariffs", "price", str(tmp_path / "t.json"), str(tmp_path / "c.json"), "--json", stdout=out
    )
    result = json.loads(out.getvalue())
    assert result["total"] == {"before_taxes": "5.500000", "after_taxes": "6.100000"}
    assert result["energy"] == {"before_taxes": "5.000000", "after_taxes": "5.500000"}
    assert result["flat"] == {"before_taxes": "0.500000", "after_taxes": "0.600000"}
    assert result["lines"][1] == {
        "dimension": "ENERGY",
        "from": "2026-01-13T14:30:00Z",
        "to": "2026-01-13T15:30:00Z",
        "quantity": "20.000",
        "unit": "kWh",
        "price": "0.2500",
        "vat": "10.0",
        "before_taxes": "5.000000",
        "after_taxes": "5.500000",
        "element": 0,
    }


def test_the_command_says_what_is_wrong_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "t.json").write_text("{}")
    with pytest.raises(CommandError, match=r"\$.currency: must be an ISO 4217 code"):
        call_command("tariffs", "price", str(tmp_path / "t.json"), str(tmp_path / "t.json"))


# --- in words -----------------------------------------------------------------------------------


def test_the_price_in_words_is_in_the_order_of_the_law_with_taxes() -> None:
    plan = tariff(
        element(component("FLAT", 1, 20), component("TIME", 6, 20)),
        element(component("ENERGY", 0.4, 20), start_time="22:00", end_time="06:00"),
        element(component("ENERGY", 0.5, 20)),
        element(component("PARKING_TIME", 3, 20, 300), min_duration=7200),
        max_price={"before_taxes": 40, "after_taxes": 48},
    )
    assert describe(plan) == [
        "€0.48 per kWh, from 22:00 to 06:00",
        "€0.60 per kWh, otherwise",
        "€0.12 per minute of charging",
        "€0.06 per minute of occupancy after charging, after 2 h, billed in steps of 5 minutes",
        "€1.20 per session",
        "at most €48.00",
    ]
    with override("de"):
        assert describe(plan)[0] == "0,48 € je kWh, von 22:00 bis 06:00 Uhr"
    assert describe(tariff(element(component("FLAT", 0)))) == ["Free of charge"]


@pytest.mark.parametrize("language", [code for code, _ in settings.LANGUAGES if code != "en"])
def test_every_language_says_prices_in_its_own_words(language: str) -> None:
    plan = tariff(element(component("ENERGY", 0.4, 20), component("FLAT", 1, 20)))
    english = describe(plan)
    with override(language):
        assert not set(describe(plan)) & {line for line in english if "session" in line}
