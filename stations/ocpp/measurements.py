"""Sampled values of both families of versions → the columns of a reading: mWh, W, A, V, °C, %.

The hottest code of the product after the frame itself: one pass, no objects in between. What does
not fit a column is kept as sent in `extra`; what cannot be a number is kept and flagged.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, tzinfo
from typing import Any, Final

from monitoring.metering import Sampled
from stations.ocpp.times import read_time

PERIODIC: Final = "Sample.Periodic"  # the default context in every version
REGISTER: Final = "Energy.Active.Import.Register"  # the default measurand in every version
MAX_MWH: Final = 2**62  # what a 64-bit column holds, with room for a difference

# measurand → (column, {unit: factor}); the unit "" is the measurand's default
_MWH: Final = {"": 1_000.0, "Wh": 1_000.0, "kWh": 1_000_000.0}
_W: Final = {"": 1.0, "W": 1.0, "kW": 1_000.0}
_ONE: Final = {"": 1.0, "A": 1.0, "V": 1.0, "Percent": 1.0}
_COLUMNS: Final[dict[str, tuple[str, dict[str, float]]]] = {
    REGISTER: ("register_mwh", _MWH),
    "Energy.Active.Export.Register": ("export_mwh", _MWH),
    "Power.Active.Import": ("power_w", _W),
    "Power.Offered": ("offered_w", _W),
    "Current.Import": ("current_a", _ONE),
    "Current.Offered": ("offered_a", _ONE),
    "Voltage": ("voltage_v", _ONE),
    "SoC": ("soc_percent", _ONE),
}
_SUMMED: Final = frozenset({"register_mwh", "export_mwh", "power_w", "offered_w"})
_PHASE_CURRENTS: Final = {
    f"L{n}{neutral}": f"current_l{n}_a" for n in (1, 2, 3) for neutral in ("", "-N")
}


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

    Takes 1.6's values (text, `unit`, `format`) and 2.x's (numbers, `unitOfMeasure`,
    `signedMeterValue`) alike. Raises Violation for a nonsensical timestamp.
    """
    found = []
    for value in meter_values:
        at = read_time(value["timestamp"], zone)
        contexts: dict[str, dict[str, Any]] = {}
        for sample in value["sampledValue"]:
            context = sample.get("context", PERIODIC)
            columns = contexts.get(context)
            if columns is None:
                columns = contexts[context] = {}
            _take(sample, columns)
        for context, columns in contexts.items():
            phases = columns.pop("phases", None)
            if phases:
                _settle_phases(phases, columns)
            found.append(
                Sampled(
                    station_id,
                    ref,
                    evse,
                    at,
                    received_at,
                    context,
                    charging_state=charging_state,
                    **columns,
                )
            )
    return found


def register_of(sampled: Iterable[Sampled], context: str) -> int | None:
    """Return the import register (mWh) measured in this context, if any."""
    for one in sampled:
        if one.context == context and one.register_mwh is not None:
            return one.register_mwh
    return None


def _take(sample: dict[str, Any], columns: dict[str, Any]) -> None:
    """Put one sampled value where it belongs."""
    raw = sample["value"]
    if sample.get("format") == "SignedData":
        columns["signed"] = raw
        return
    unit, factor = sample.get("unit", ""), 1.0
    if "unitOfMeasure" in sample:
        unit = sample["unitOfMeasure"].get("unit", "")
        multiplier = sample["unitOfMeasure"].get("multiplier", 0)
        factor = 10.0**multiplier if -30 < multiplier < 30 else 0.0
    if "signedMeterValue" in sample:
        signed = dict(sample["signedMeterValue"])
        columns["signed"] = signed.pop("signedMeterData", "")
        _keep(columns, "signedMeterValue", signed)
    measurand = sample.get("measurand", REGISTER)
    phase = sample.get("phase", "")
    try:
        number = float(raw) * factor
    except (TypeError, ValueError):
        number = float("nan")
    column, units = _COLUMNS.get(measurand, ("", _ONE))
    scale = units.get(unit)
    if number != number or number in (float("inf"), float("-inf")):
        columns["flags"] = ("unreadable",)
        _keep(columns, _name(measurand, phase), [raw, unit])
    elif measurand == "Temperature":
        columns["temperature_c"] = _celsius(number, unit)
    elif not column or scale is None:
        _keep(columns, _name(measurand, phase), [raw, unit])
    elif phase:
        if (phase_column := _PHASE_CURRENTS.get(phase)) and column == "current_a":
            columns[phase_column] = number
        phases = columns.setdefault("phases", {})
        phases.setdefault(column, {})[phase] = _scaled(column, number * scale, columns)
    elif column not in columns or sample.get("location", "Outlet") == "Outlet":
        columns[column] = _scaled(column, number * scale, columns)


def _scaled(column: str, number: float, columns: dict[str, Any]) -> float | int | None:
    if not column.endswith("_mwh"):
        return number
    if -MAX_MWH < number < MAX_MWH:
        return round(number)
    columns["flags"] = ("huge",)
    _keep(columns, column, number)
    return None


def _settle_phases(phases: dict[str, dict[str, Any]], columns: dict[str, Any]) -> None:
    """Where only phases were measured: energy and power are their sum, current the largest."""
    for column, values in phases.items():
        lines = [
            value
            for phase, value in values.items()
            if phase[:2] in ("L1", "L2", "L3") and value is not None
        ]
        if column in columns or not lines:
            continue
        if column in _SUMMED:
            columns[column] = sum(lines)
        elif column == "voltage_v":
            columns[column] = lines[0]
        else:
            columns[column] = max(lines)


def _keep(columns: dict[str, Any], name: str, value: Any) -> None:
    columns.setdefault("extra", {})[name] = value


def _name(measurand: str, phase: str) -> str:
    return f"{measurand}.{phase}" if phase else measurand


def _celsius(number: float, unit: str) -> float:
    if unit == "Fahrenheit":
        return (number - 32) * 5 / 9
    return number - 273.15 if unit in ("K", "Kelvin") else number
