"""OCPI objects in the shapes partners send, and every restriction at its two bounds."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.models.tariffs import canonical
from billing.money import quantize
from billing.ocpi import OcpiError, read_cdr, read_tariff
from billing.periods import Period, Usage
from billing.pricing import price
from billing.totals import total_up

from .test_pricing import T0, component, element, plans, session, sessions, tariff


def cdr(*periods: tuple[str, dict[str, object]], end: str, **fields: object) -> dict:
    """A CDR: (start, volumes by dimension) each period."""
    return {
        "start_date_time": periods[0][0],
        "end_date_time": end,
        "charging_periods": [
            {
                "start_date_time": start,
                "dimensions": [{"type": name, "volume": v} for name, v in volumes.items()],
            }
            for start, volumes in periods
        ],
        **fields,
    }


def cost(plan: dict, given: dict, zone: str | None = None) -> tuple[str, str]:
    bill = price(read_tariff(plan, strict=False), read_cdr(given, zone), split=False)
    return str(quantize(bill.before, 4)), str(quantize(bill.after, 4))


ONE_HOUR = cdr(
    ("2026-03-02T08:00:00Z", {"ENERGY": 10, "TIME": 1}),
    ("2026-03-02T09:00:00Z", {"PARKING_TIME": 0.5}),
    end="2026-03-02T09:30:00Z",
)


@pytest.mark.parametrize(
    ("plan", "given", "expected"),
    [
        pytest.param(
            tariff(element(component("ENERGY", 0.25, 10), component("TIME", 2))),
            ONE_HOUR,
            ("4.5000", "4.7500"),
            id="a component without vat adds no tax, another one's does not spill over",
        ),
        pytest.param(
            tariff(element(component("ENERGY", "0.25", 10)) | {"restrictions": {}}),
            ONE_HOUR,
            ("2.5000", "2.7500"),
            id="empty restrictions restrict nothing; numbers may be text",
        ),
        pytest.param(
            tariff(element(component("ENERGY", 0.25)) | {"restrictions": None}, min_price=3),
            ONE_HOUR,
            ("3.0000", "3.0000"),
            id="null restrictions; a bare minimum of 2.1.1",
        ),
        pytest.param(
            tariff(
                element(component("ENERGY", 0.25, 10)),
                min_price={"before_taxes": 5, "taxes": [{"name": "VAT", "amount": 0.5}]},
            ),
            ONE_HOUR,
            ("5.0000", "5.5000"),
            id="a 2.3.0 price names its taxes",
        ),
        pytest.param(
            tariff(
                element(component("ENERGY", 0.25, 10)), min_price={"excl_vat": 5, "incl_vat": 5.5}
            ),
            ONE_HOUR,
            ("5.0000", "5.5000"),
            id="a 2.2.1 price",
        ),
        pytest.param(
            tariff(element(component("ENERGY", 0.25, 10)), tax_included="N/A"),
            ONE_HOUR,
            ("2.5000", "2.5000"),
            id="no tax known: before and after are one",
        ),
        pytest.param(
            {"data": tariff(element(component("ENERGY", 0.25, 10))), "status_code": 1000},
            {"data": [ONE_HOUR], "status_code": 1000},
            ("2.5000", "2.7500"),
            id="an OCPI response is unwrapped",
        ),
        pytest.param(
            tariff(element(component("PARKING_TIME", 6.0, None, 900))),
            ONE_HOUR | {"charging_periods": list(reversed(ONE_HOUR["charging_periods"]))},
            ("3.0000", "3.0000"),
            id="periods in any order",
        ),
        pytest.param(
            tariff(element(component("TIME", 6.0, None, 300))),
            cdr(("2026-03-02T08:00:00Z", {"TIME": 0.083333}), end="2026-03-02T08:05:00Z"),
            ("0.5000", "0.5000"),
            id="a truncated third of an hour is five minutes before the step is applied",
        ),
        pytest.param(
            tariff(element(component("TIME", 6.0, None, 300))),
            cdr(("2026-03-02T08:00:00Z", {"TIME": 0.166667}), end="2026-03-02T08:10:00Z"),
            ("1.0000", "1.0000"),
            id="and one rounded up is ten, not fifteen",
        ),
        pytest.param(
            tariff(
                element(component("FLAT", 4.0), component("TIME", 5.0), reservation="RESERVATION"),
                element(component("FLAT", 1.0), component("ENERGY", 0.25)),
            ),
            cdr(
                ("2026-03-02T07:30:00Z", {"RESERVATION_TIME": 0.5}),
                ("2026-03-02T08:00:00Z", {"ENERGY": 10, "TIME": 1}),
                end="2026-03-02T09:00:00Z",
            ),
            ("10.0000", "10.0000"),
            id="a reservation that was used, and the charging after it",
        ),
        pytest.param(
            tariff(
                element(component("TIME", 5.0), reservation="RESERVATION"),
                element(component("FLAT", 4.0), reservation="RESERVATION_EXPIRES"),
                element(component("FLAT", 1.0), component("ENERGY", 0.25)),
            ),
            cdr(("2026-03-02T07:30:00Z", {"RESERVATION_TIME": 0.5}), end="2026-03-02T08:00:00Z"),
            ("6.5000", "6.5000"),
            id="one nobody came for: the expiry's fee, the reservation's time, no start fee",
        ),
    ],
)
def test_partners_shapes_cost_the_same(plan: dict, given: dict, expected: tuple[str, str]) -> None:
    assert cost(plan, given) == expected


def test_the_local_clock_is_the_locations_unless_another_is_named() -> None:
    plan = tariff(
        element(component("ENERGY", 0.10), start_time="09:00", end_time="10:00"),
        element(component("ENERGY", 0.50)),
    )
    here = ONE_HOUR | {"cdr_location": {"time_zone": "Europe/Berlin"}}
    assert cost(plan, here)[0] == "1.0000"  # 08:00 UTC is 09:00 in Berlin
    assert cost(plan, here, "UTC")[0] == "5.0000"
    assert cost(plan, ONE_HOUR | {"location": {"time_zone": "Europe/Helsinki"}})[0] == "5.0000"
    assert cost(plan, ONE_HOUR)[0] == "5.0000"


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"charging_periods": {}},
        {"charging_periods": [{"dimensions": []}]},
        ONE_HOUR | {"end_date_time": "soon"},
        [],
    ],
)
def test_a_cdr_that_cannot_be_read_says_so(given: object) -> None:
    with pytest.raises(OcpiError):
        read_cdr(given)


# --- every restriction: its start is in, its end is out -------------------------------------------

HOUR = timedelta(hours=1)


def moment(offset: timedelta, **volumes: object) -> Usage:
    """10 kWh in the hour that begins `offset` after a session's start on Monday, 08:00 UTC."""
    before = Period(T0, T0 + offset, wh=5000, charging_s=int(offset.total_seconds()))
    start = T0 + offset
    hour = Period(start, start + HOUR, wh=10_000, charging_s=3600, **volumes)  # type: ignore[arg-type]
    return Usage((before, hour) if offset else (hour,), ZoneInfo("UTC"), started=T0)


def electric(**volumes: float) -> dict[str, Fraction]:
    return {name: Fraction(str(value)) for name, value in volumes.items()}


@pytest.mark.parametrize(
    ("restrictions", "usage", "met"),
    [
        ({"start_time": "08:00"}, moment(timedelta()), True),
        ({"start_time": "08:01"}, moment(timedelta()), False),
        ({"end_time": "08:00"}, moment(timedelta()), False),
        ({"end_time": "08:01"}, moment(timedelta()), True),
        ({"start_time": "22:00", "end_time": "08:00"}, moment(timedelta()), False),
        ({"start_time": "08:00", "end_time": "00:00"}, moment(timedelta()), True),
        ({"start_time": "22:00", "end_time": "08:01"}, moment(timedelta()), True),
        ({"start_date": "2026-03-02"}, moment(timedelta()), True),
        ({"start_date": "2026-03-03"}, moment(timedelta()), False),
        ({"end_date": "2026-03-02"}, moment(timedelta()), False),
        ({"end_date": "2026-03-03"}, moment(timedelta()), True),
        ({"day_of_week": ["MONDAY"]}, moment(timedelta()), True),
        ({"day_of_week": ["SUNDAY", "TUESDAY"]}, moment(timedelta()), False),
        ({"day_of_week": []}, moment(timedelta()), True),
        ({"min_kwh": 5}, moment(HOUR), True),
        ({"min_kwh": 5.001}, moment(HOUR), False),
        ({"max_kwh": 5}, moment(HOUR), False),
        ({"max_kwh": 5.001}, moment(HOUR), True),
        ({"min_duration": 3600}, moment(HOUR), True),
        ({"min_duration": 3601}, moment(HOUR), False),
        ({"max_duration": 3600}, moment(HOUR), False),
        ({"max_duration": 3601}, moment(HOUR), True),
        ({"min_power": 11}, moment(timedelta(), **electric(min_kw=11, max_kw=11)), True),
        ({"min_power": 11.1}, moment(timedelta(), **electric(min_kw=11, max_kw=11)), False),
        ({"max_power": 11}, moment(timedelta(), **electric(min_kw=11, max_kw=11)), False),
        ({"max_power": 11.1}, moment(timedelta(), **electric(min_kw=11, max_kw=11)), True),
        ({"min_current": 16}, moment(timedelta(), **electric(min_a=16, max_a=16)), True),
        ({"min_current": 16.1}, moment(timedelta(), **electric(min_a=16, max_a=16)), False),
        ({"max_current": 16}, moment(timedelta(), **electric(min_a=16, max_a=16)), False),
        ({"max_current": 48.1}, moment(timedelta(), **electric(min_a=48, max_a=48)), True),
        ({"reservation": "RESERVATION"}, moment(timedelta()), False),
        ({"min_kwh": 5, "day_of_week": ["TUESDAY"]}, moment(HOUR), False),
    ],
)
def test_a_restriction_includes_its_start_and_excludes_its_end(
    restrictions: dict, usage: Usage, met: bool
) -> None:
    plan = tariff(element(component("ENERGY", 1.0), **restrictions), element(component("FLAT", 0)))
    bill = price(read_tariff(plan), usage, split=False)
    last = bill.segments[-1]
    assert ("ENERGY" in last.components) is met


def test_the_cheaper_reading_of_an_unknown_current_is_taken() -> None:
    plan = tariff(
        element(component("ENERGY", 0.9), min_current=32), element(component("ENERGY", 0.5))
    )
    bill = price(read_tariff(plan), moment(timedelta()))
    assert (bill.before, bill.doubts) == (5, [])  # not met is the cheaper one: no doubt to name


# --- what always holds ----------------------------------------------------------------------------


@given(plans(), sessions())
def test_a_replay_gives_identical_bytes(plan: dict, usage: Usage) -> None:
    def once() -> bytes:
        parsed = read_tariff(plan)
        totals = total_up(parsed, price(parsed, usage))
        return canonical([totals.lines, totals.rates, totals.gross_minor])

    assert once() == once()


@given(plans(), sessions(), st.sampled_from(["ENERGY", "TIME", "PARKING_TIME"]))
def test_one_line_of_a_dimension_is_never_more_than_its_dearest_price(
    plan: dict, usage: Usage, name: str
) -> None:
    bill = price(read_tariff(plan), usage)
    dearest = max(
        (
            Fraction(Decimal(str(part["price"])))
            for item in plan["elements"]
            for part in item["price_components"]
            if part["type"] == name
        ),
        default=Fraction(0),
    )
    lines = [line for line in bill.lines if line.dimension == name]
    assert sum(line.before for line in lines) <= dearest * sum(line.quantity for line in lines)


def test_a_night_of_the_autumn_change_is_an_hour_longer_and_billed_by_elapsed_time() -> None:
    plan = tariff(element(component("TIME", 1.0), start_time="01:00", end_time="04:00"))
    start = datetime(2026, 10, 24, 20, tzinfo=UTC)
    usage = session((43_200, 0, "charging"), start=start, zone="Europe/Berlin")
    assert price(read_tariff(plan), usage).before == 4
