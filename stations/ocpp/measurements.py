"""The fast way through a MeterValue; `monitoring.metering.read` says what the values mean.

Nearly every MeterValue is a handful of plain numbers in known units, of one context, each measurand
once: those are read here, in one pass with floats, five times as fast. Anything else (signed data,
multipliers, power by phase, two contexts, a number that is none) goes to metering, which gives
the same result for the plain ones too: a test holds the two against each other.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, tzinfo
from typing import Any, Final

from monitoring import metering
from monitoring.metering import MAX_MWH, REGISTER, Sampled
from stations.ocpp.times import read_time

PERIODIC: Final = "Sample.Periodic"  # the default context in every version
MAX_DIGITS: Final = 15  # what a float holds exactly

# (measurand, unit) → column, factor, largest number; the unit "" is the measurand's default
_PLAIN: Final[dict[tuple[str, str], tuple[str, float, float]]] = {
    (measurand, unit): (column, factor, largest)
    for measurand, column, units, largest in (
        (REGISTER, "register_mwh", {"": 1e3, "Wh": 1e3, "kWh": 1e6}, float(MAX_MWH)),
        ("Energy.Active.Export.Register", "export_mwh", {"": 1e3, "Wh": 1e3, "kWh": 1e6}, 1e15),
        ("Power.Active.Import", "power_w", {"": 1.0, "W": 1.0, "kW": 1e3}, 1e9),
        ("Power.Offered", "offered_w", {"": 1.0, "W": 1.0, "kW": 1e3}, 1e9),
        ("Current.Import", "current_a", {"": 1.0, "A": 1.0}, 1e6),
        ("Current.Offered", "offered_a", {"": 1.0, "A": 1.0}, 1e6),
        ("Voltage", "voltage_v", {"": 1.0, "V": 1.0}, 1e6),
        ("SoC", "soc_percent", {"": 1.0, "Percent": 1.0}, 100.0),
    )
    for unit, factor in units.items()
}
_REGISTERS: Final = frozenset({"register_mwh", "export_mwh"})
_LINES: Final = {"L1": "L1", "L2": "L2", "L3": "L3", "L1-N": "L1", "L2-N": "L2", "L3-N": "L3"}
_CURRENTS: Final = {phase: f"current_{line.lower()}_a" for phase, line in _LINES.items()}
_VOLTAGES: Final = {"L1-N": 1, "L1": 2, "L2-N": 3, "L2": 4, "L3-N": 5, "L3": 6}  # first counts


def moments(
    station_id: int,
    ref: str | None,
    evse: int | None,
    meter_values: Iterable[dict[str, Any]],
    received_at: datetime,
    zone: tzinfo,
    charging_state: str = "",
) -> list[Sampled]:
    """Return one Sampled for each moment and context of a list of MeterValue objects.

    Raises Violation for a nonsensical timestamp.
    """
    found = []
    for value in meter_values:
        at = read_time(value["timestamp"], zone)
        columns = _plain(value["sampledValue"])
        if columns is not None:
            found.append(Sampled(station_id, ref, evse, at, received_at, **columns))
        else:
            found += metering.read(
                value, station_id=station_id, ref=ref, evse=evse, at=at, received_at=received_at
            )
    if charging_state:
        for sampled in found:
            sampled.charging_state = charging_state
    return found


def _plain(samples: list[dict[str, Any]]) -> dict[str, Any] | None:
    """Return the columns of plain samples, None where there is anything to think about."""
    if not samples:
        return None
    context = samples[0].get("context", PERIODIC)
    columns: dict[str, Any] = {"context": context}
    voltage = 9
    for sample in samples:
        get = sample.get
        unit_of_measure = get("unitOfMeasure")
        if unit_of_measure is None:
            unit = get("unit", "")
        elif "multiplier" in unit_of_measure or "signedMeterValue" in sample:
            return None
        else:
            unit = unit_of_measure.get("unit", "")
        place = _PLAIN.get((get("measurand", REGISTER), unit))
        raw = sample["value"]
        if (
            place is None
            or get("context", PERIODIC) != context
            or get("format") == "SignedData"
            or (type(raw) is str and len(raw) > MAX_DIGITS)
            or "signedMeterValue" in sample
        ):
            return None
        column, factor, largest = place
        try:
            number = float(raw) * factor
        except ValueError:
            return None
        if not 0.0 <= number <= largest:  # NaN is not either
            return None
        phase = get("phase")
        if phase is not None:
            if column == "voltage_v" and phase in _VOLTAGES and "voltage_v" not in columns:
                if _VOLTAGES[phase] < voltage:
                    voltage = _VOLTAGES[phase]
                    columns["volts"] = number
                continue
            if column != "current_a" or phase not in _CURRENTS or "current_a" in columns:
                return None
            column = _CURRENTS[phase]
        if column in columns:
            return None
        columns[column] = round(number) if column in _REGISTERS else number
    return _settled(columns)


def _settled(columns: dict[str, Any]) -> dict[str, Any] | None:
    """Choose the voltage, and the largest of the phases' currents."""
    volts = columns.pop("volts", None)
    if volts is not None:
        columns.setdefault("voltage_v", volts)
    lines = [columns[name] for name in _LINE_COLUMNS if name in columns]
    if lines:
        columns.setdefault("current_a", max(lines))
    return columns


_LINE_COLUMNS: Final = ("current_l1_a", "current_l2_a", "current_l3_a")
