"""The fast way through MeterValues gives what metering gives."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitoring import metering
from monitoring.metering import Sampled
from stations.ocpp.fastpath import Violation
from stations.ocpp.measurements import _plain, moments
from stations.ocpp.times import read_time, utc_text

NOW = datetime(2026, 11, 22, 10, 0, tzinfo=UTC)
STAMP = "2026-11-22T09:59:59.500Z"
FIELDS = Sampled.__slots__


def read(samples: list[dict[str, Any]]) -> list[Sampled]:
    return moments(1, "7", 1, [{"timestamp": STAMP, "sampledValue": samples}], NOW, UTC, "Charging")


def by_metering(samples: list[dict[str, Any]]) -> list[Sampled]:
    found = metering.read(
        {"sampledValue": samples},
        station_id=1,
        ref="7",
        evse=1,
        at=read_time(STAMP, UTC),
        received_at=NOW,
    )
    for one in found:
        one.charging_state = "Charging"
    return found


def told(found: list[Sampled]) -> list[dict[str, Any]]:
    return [{name: getattr(one, name) for name in FIELDS} for one in found]


MEASURANDS = [
    "Energy.Active.Import.Register",
    "Energy.Active.Export.Register",
    "Power.Active.Import",
    "Power.Offered",
    "Current.Import",
    "Current.Offered",
    "Voltage",
    "SoC",
    "Temperature",
    "Frequency",
    "Energy.Reactive.Import.Register",
]
texts = st.one_of(
    st.integers(-5, 10**9).map(str),
    st.decimals(0, 10**6, places=3).map(str),
    st.sampled_from(["", "NaN", "abc", "1e3", " 5 ", "99999999999999999999", "0", "-1", "inf"]),
)
samples_16 = st.lists(
    st.fixed_dictionaries(
        {"value": texts},
        optional={
            "measurand": st.sampled_from(MEASURANDS),
            "unit": st.sampled_from(["Wh", "kWh", "W", "kW", "A", "V", "Percent", "Celsius"]),
            "phase": st.sampled_from(["L1", "L2", "L3", "N", "L1-N", "L2-N", "L1-L2"]),
            "context": st.sampled_from(["Sample.Periodic", "Transaction.End"]),
            "location": st.sampled_from(["Outlet", "Inlet", "EV"]),
            "format": st.sampled_from(["Raw", "Raw", "SignedData"]),
        },
    ),
    max_size=6,
)
samples_2x = st.lists(
    st.fixed_dictionaries(
        {
            "value": st.one_of(
                st.integers(-5, 10**12), st.floats(-1, 1e6).map(lambda x: round(x, 3))
            )
        },
        optional={
            "measurand": st.sampled_from(MEASURANDS),
            "unitOfMeasure": st.fixed_dictionaries(
                {},
                optional={
                    "unit": st.sampled_from(["Wh", "kWh", "W", "A", "V"]),
                    "multiplier": st.integers(-3, 3),
                },
            ),
            "phase": st.sampled_from(["L1", "L2", "L3", "N", "L1-N"]),
            "signedMeterValue": st.just({"signedMeterData": "x"}),
        },
    ),
    max_size=6,
)


@given(st.one_of(samples_16, samples_2x))
def test_the_fast_way_and_metering_agree(samples: list[dict[str, Any]]) -> None:
    assert told(read(samples)) == told(by_metering(samples))


def test_the_usual_meter_value_takes_the_fast_way() -> None:
    samples = [
        {"value": "1234.567", "measurand": "Energy.Active.Import.Register", "unit": "Wh"},
        {"value": "7.4", "measurand": "Power.Active.Import", "unit": "kW"},
        {"value": "16.1", "measurand": "Current.Import", "phase": "L1", "unit": "A"},
        {"value": "16.3", "measurand": "Current.Import", "phase": "L2", "unit": "A"},
        {"value": "230.1", "measurand": "Voltage", "phase": "L1-N", "unit": "V"},
        {"value": "55", "measurand": "SoC", "location": "EV", "unit": "Percent"},
    ]
    assert _plain(samples) is not None
    (one,) = read(samples)
    assert (one.register_mwh, one.power_w, one.soc_percent) == (1_234_567, 7_400.0, 55.0)
    assert (one.current_a, one.current_l1_a, one.current_l2_a) == (16.3, 16.1, 16.3)
    assert (one.voltage_v, one.context, one.charging_state) == (
        230.1,
        "Sample.Periodic",
        "Charging",
    )
    assert one.at == datetime(2026, 11, 22, 9, 59, 59, 500_000, tzinfo=UTC)


def test_times_are_read_in_whatever_way_they_were_written() -> None:
    berlin = datetime.fromisoformat("2026-01-01T12:00:00+01:00").tzinfo
    noon = datetime(2026, 1, 1, 12, tzinfo=UTC)
    assert read_time("2026-01-01T12:00:00Z", UTC) == noon
    assert read_time("2026-01-01t12:00:00z", UTC) == noon
    assert read_time("2026-01-01T14:00:00+02:00", UTC) == noon
    assert read_time("2026-01-01T13:00:00", berlin) == noon
    assert read_time("2026-01-01T12:00:00.123456789Z", UTC).microsecond == 123_456
    assert read_time("2026-01-01T11:59:60Z", UTC).second == 59
    assert read_time("1970-01-01T00:00:00Z", UTC).year == 1970
    for nonsense in ("", "soon", "2026-13-01T00:00:00Z", "0001-01-01T00:00:00+14:00"):
        with pytest.raises(Violation):
            read_time(nonsense, UTC)
    assert utc_text(noon) == "2026-01-01T12:00:00.000Z"
