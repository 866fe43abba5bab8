"""Sampled values → readings (mWh, W, A, V); the energy of a session. Pure: no database here.

Energy comes from a ladder (billing notes §2), first form: start and stop registers; without a stop
the last register of the non-decreasing streak, `provisional`. Whatever is doubtful is flagged and
never billed upward. Each result depends on the set of what came, not on its order.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from math import isfinite
from operator import attrgetter
from typing import Any, Final

import orjson

from stations.presence import believable

REGISTER: Final = "Energy.Active.Import.Register"
PERIODIC: Final = "Sample.Periodic"
MAX_MWH: Final = 10**15  # 1 TWh: no meter's register is larger
MAX_SESSION_MWH: Final = 5 * 10**9  # 5 MWh: no session takes more; beyond it a register is nonsense
TOLERANCE_MWH: Final = 10_000  # 10 Wh: chargers truncate and round on their own

# Words in Session.flags that follow from the registers; recomputed, so never merely added.
FALLING: Final = "falling"  # a register below an earlier one: reset, roll-over or another family
NEGATIVE: Final = "negative"  # the stop register is below the start register
IMPLAUSIBLE: Final = "implausible"  # a register more than 5 MWh above the start
MISMATCH: Final = "mismatch"  # readings before the stop are above the stop register
NO_BEGIN: Final = "no-begin"  # no start register: the first reading serves
DERIVED: Final = frozenset({FALLING, NEGATIVE, IMPLAUSIBLE, MISMATCH, NO_BEGIN})


@dataclass(slots=True, eq=False)  # not frozen: that costs four microseconds a message
class Sampled:
    """One moment of one meter: a MeterValue, its sampled values of one context. Lane "readings".

    Without `ref` (1.6 MeterValues outside a transaction, 2.x MeterValues) it belongs to the EVSE's
    open session, if there is one.
    """

    station_id: int
    ref: str | None
    evse: int | None
    at: datetime  # UTC, the charger's clock
    received_at: datetime
    context: str = ""
    register_mwh: int | None = None
    export_mwh: int | None = None
    power_w: float | None = None
    offered_w: float | None = None
    current_a: float | None = None
    current_l1_a: float | None = None
    current_l2_a: float | None = None
    current_l3_a: float | None = None
    voltage_v: float | None = None
    offered_a: float | None = None
    soc_percent: float | None = None
    temperature_c: float | None = None
    charging_state: str = ""
    extra: dict[str, Any] | None = None
    signed: str = ""
    flags: tuple[str, ...] = ()


MEASURED: Final = (
    "register_mwh",
    "export_mwh",
    "power_w",
    "offered_w",
    "current_a",
    "current_l1_a",
    "current_l2_a",
    "current_l3_a",
    "voltage_v",
    "offered_a",
    "soc_percent",
    "temperature_c",
    "charging_state",
    "extra",
    "signed",
)


_content = attrgetter(*MEASURED)


def digest(fact: Sampled) -> int:
    """Return 63 bits of context and content: the same for a retransmission, and only for one."""
    content = orjson.dumps((fact.context, _content(fact)), option=orjson.OPT_SORT_KEYS)
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest()) >> 1


def effective(at: datetime, received_at: datetime) -> datetime:
    """Return the charger's time, or ours where its clock cannot be believed (1970, far future)."""
    return at if believable(at, received_at) else received_at


# --- energy ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Streak:
    """The non-decreasing run of registers from the start on: as far as energy is believed."""

    start_mwh: int | None
    last_mwh: int | None = None
    flags: frozenset[str] = frozenset()

    def follow(self, registers: Iterable[int]) -> "Streak":
        """Return the streak after `registers`, which are in the order of their times."""
        start, last, flags = self.start_mwh, self.last_mwh, set(self.flags)
        for register in registers:
            if start is None:
                start = last = register
                flags.add(NO_BEGIN)
            elif register - start > MAX_SESSION_MWH:
                flags.add(IMPLAUSIBLE)
            elif register < (start if last is None else last):
                flags.add(FALLING)
            elif FALLING not in flags:
                last = register
        return Streak(start, last, frozenset(flags))


@dataclass(frozen=True, slots=True)
class Energy:
    """What a session used, the rung it stands on and what is doubtful about it."""

    wh: int
    source: str  # Session.Source
    flags: frozenset[str]
    review: str = ""


def energy(streak: Streak, stop_mwh: int | None) -> Energy:
    """Return the energy by registers where a stop register is known, else provisionally.

    Whole Wh, rounded down. A stop register that is below the start, or absurdly far above it, is
    not used: then what the streak proves is billed, after a person looked.
    """
    start, flags = streak.start_mwh, set(streak.flags)
    proven = 0
    if start is not None and streak.last_mwh is not None:
        proven = max(0, streak.last_mwh - start)
    if start is None or stop_mwh is None:
        source = "provisional" if streak.last_mwh is not None else ""
        return Energy(proven // 1000, source, frozenset(flags))
    used = stop_mwh - start
    if used < 0:
        flags.add(NEGATIVE)
        review = "negative-energy" if used < -TOLERANCE_MWH else ""
        return Energy(proven // 1000, "provisional", frozenset(flags), review)
    if used > MAX_SESSION_MWH:
        flags.add(IMPLAUSIBLE)
        return Energy(proven // 1000, "provisional", frozenset(flags), "implausible-energy")
    review = ""
    if proven > used + max(TOLERANCE_MWH, used // 200):
        flags.add(MISMATCH)
        review = "meter-mismatch"
    return Energy(used // 1000, "registers", frozenset(flags), review)


# --- parsing --------------------------------------------------------------------------------------


def read(
    meter_value: dict[str, Any],
    *,
    station_id: int,
    ref: str | None,
    evse: int | None,
    at: datetime,
    received_at: datetime,
) -> list[Sampled]:
    """Return the readings in one MeterValue of 1.6 or 2.x: one for each context in it.

    `at` is its timestamp, parsed. Values that are no finite number, out of range or of an unknown
    kind are kept in `extra` as they came.
    """
    contents: dict[str, _Content] = {}
    inside: list[dict[str, Any]] = []  # measured elsewhere than at the outlet: counts after it
    for item in meter_value.get("sampledValue") or []:
        if item.get("location", "Outlet") != "Outlet":
            inside.append(item)
            continue
        context = item.get("context") or PERIODIC
        if context not in contents:
            contents[context] = _Content()
        contents[context].take(item)
    for item in inside:
        contents.setdefault(item.get("context") or PERIODIC, _Content()).take(item)
    found = []
    for context, content in contents.items():
        columns = content.columns()
        common = (station_id, ref, evse, at, received_at, context)
        if not content.signed:
            found.append(Sampled(*common, **columns))
            continue
        found.append(Sampled(*common, **columns, signed=content.signed[0]))
        found += [Sampled(*common, signed=record) for record in content.signed[1:]]
    return found


def begin_register(readings: Sequence[Sampled]) -> int | None:
    """Return the register in mWh at Transaction.Begin, else the earliest of `readings`."""
    return _register_of(readings, "Transaction.Begin", first=True)


def end_register(readings: Sequence[Sampled]) -> int | None:
    """Return the register in mWh at Transaction.End, else the latest of `readings`."""
    return _register_of(readings, "Transaction.End", first=False)


def _register_of(readings: Sequence[Sampled], context: str, *, first: bool) -> int | None:
    known = [one for one in readings if one.register_mwh is not None]
    marked = [one for one in known if one.context == context] or known
    marked.sort(key=lambda one: (one.at, one.register_mwh))
    return marked[0 if first else -1].register_mwh if marked else None


def milliwatt_hours(value: Any, unit: str = "Wh") -> int | None:
    """Return a register such as 1.6's meterStart in mWh; None where it is not a usable number."""
    number = _number(value)
    if number is None:
        return None
    mwh = round(number * _UNITS.get(unit, 1.0) * 1000)
    return mwh if 0 <= mwh <= MAX_MWH else None


# Double precision is exact here: 10^15 mWh is a third of 2^53's range, beyond it is refused.
_UNITS: Final = {"kWh": 1000.0, "kW": 1000.0, "kVA": 1000.0, "mA": 0.001}
_KNOWN_UNITS: Final = {
    "Energy": {"Wh", "kWh", "varh", "kvarh"},
    "Power": {"W", "kW", "VA", "kVA", "var", "kvar"},
    "Current": {"A", "mA"},
    "Voltage": {"V"},
    "SoC": {"Percent", "%"},
    "Temperature": {"Celsius", "Celcius", "Fahrenheit", "K"},
}
_PHASES: Final = {"L1": "L1", "L2": "L2", "L3": "L3", "L1-N": "L1", "L2-N": "L2", "L3-N": "L3"}
_ALL_PHASES: Final = ({"L1"}, {"L1", "L2", "L3"})
_SUMMED: Final = {
    REGISTER: "register_mwh",
    "Energy.Active.Export.Register": "export_mwh",
    "Power.Active.Import": "power_w",
    "Power.Offered": "offered_w",
}
_PLAIN: Final = {
    "Current.Offered": "offered_a",
    "SoC": "soc_percent",
    "Temperature": "temperature_c",
}
_CURRENT: Final = "Current.Import"
_VOLTAGE: Final = "Voltage"
_WANTED: Final = frozenset({*_SUMMED, *_PLAIN, _CURRENT, _VOLTAGE})
_VOLTAGE_PHASES: Final = ("", "L1-N", "L1", "L2-N", "L2", "L3-N", "L3", "L1-L2")


def _number(value: Any) -> float | None:
    """Return a finite number, from text or JSON number; None for anything else."""
    if type(value) is str:
        if "_" in value:  # Python would read 1_000
            return None
    elif type(value) is not float and type(value) is not int:
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if isfinite(number) else None


@lru_cache(maxsize=1024)
def _conversion(measurand: str, unit: str, multiplier: int) -> tuple[float, float, str]:
    """Return factor and offset to Wh, W, A, V, percent or °C, and a flag for a strange unit."""
    known = _KNOWN_UNITS.get(measurand.partition(".")[0])
    flag = "unit" if unit and known and unit not in known else ""
    if flag:
        unit = ""
    if not -12 <= multiplier <= 12:
        return 0.0, 0.0, "bad-multiplier"
    factor = 10.0**multiplier * _UNITS.get(unit, 1.0)
    if unit == "Fahrenheit":
        return factor * 5 / 9, -32 * 5 / 9, flag
    return factor, -273.15 if unit == "K" else 0.0, flag


class _Content:
    """Collects the sampled values of one moment and context."""

    __slots__ = ("flags", "phased", "rest", "signed", "whole")

    def __init__(self) -> None:
        self.whole: dict[str, float] = {}  # measurand → value in its base unit
        self.phased: dict[str, dict[str, float]] = {}  # measurand → phase → value
        self.rest: list[dict[str, Any]] = []
        self.signed: list[str] = []
        self.flags: set[str] = set()

    def take(self, item: dict[str, Any]) -> None:
        """Put one SampledValue where it belongs."""
        if item.get("format") == "SignedData":  # 1.6: the value is the signed record
            self.signed.append(str(item.get("value", "")))
            return
        if "signedMeterValue" in item:  # 2.x: beside the plain value
            self.signed.append(orjson.dumps(item["signedMeterValue"]).decode())
            item = {name: value for name, value in item.items() if name != "signedMeterValue"}
        measurand = item.get("measurand") or REGISTER
        number = self._in_base_unit(measurand, item)
        phase = item.get("phase")
        values = self.phased.setdefault(measurand, {}) if phase else self.whole
        key = phase or measurand
        if number is None or measurand not in _WANTED or key in values:
            self.rest.append(item)
        else:
            values[key] = number

    def _in_base_unit(self, measurand: str, item: dict[str, Any]) -> float | None:
        """Return the value in Wh, W, A, V, percent or °C; None where it cannot be."""
        number = _number(item.get("value"))
        if number is None:
            self.flags.add("bad-value")
            return None
        unit, multiplier = item.get("unit") or "", 0
        if of := item.get("unitOfMeasure"):
            unit, multiplier = of.get("unit") or "", of.get("multiplier") or 0
        factor, offset, flag = _conversion(measurand, unit, multiplier)
        number = number * factor + offset
        if flag:
            self.flags.add(flag)
            if not factor:
                return None
        if abs(number) > MAX_MWH / 1000:
            self.flags.add("huge")
            return None
        if number < 0 and measurand.endswith(".Register"):
            self.flags.add("negative-value")
            return None
        if measurand == "SoC" and not 0 <= number <= 100:
            self.flags.add("bad-value")
            return None
        return number

    def columns(self) -> dict[str, Any]:
        """Return the reading's columns."""
        found: dict[str, Any] = {}
        for measurand, value in self.whole.items():
            if column := _SUMMED.get(measurand) or _PLAIN.get(measurand):
                found[column] = value
        for measurand, phases in self.phased.items():
            if measurand in _SUMMED and measurand not in self.whole:
                self._sum(measurand, phases, found)
        for column in ("register_mwh", "export_mwh"):
            if column in found:
                found[column] = round(found[column] * 1000)
        self._electric(found)
        if self.rest:
            found["extra"] = {"values": self.rest}
        if self.flags:
            found["flags"] = tuple(sorted(self.flags))
        return found

    def _sum(self, measurand: str, phases: dict[str, float], found: dict[str, Any]) -> None:
        """Sum the phases where all are there (L1 alone: a one-phase meter)."""
        known = {_PHASES[phase]: value for phase, value in phases.items() if phase in _PHASES}
        if known.keys() in _ALL_PHASES:
            found[_SUMMED[measurand]] = sum(known.values())
        elif phases:
            self.flags.add("phases")
            self.rest += [
                {"measurand": measurand, "phase": phase, "value": value}
                for phase, value in phases.items()
            ]

    def _electric(self, found: dict[str, Any]) -> None:
        amps = self.phased.get(_CURRENT)
        if amps:
            for phase, value in amps.items():
                if phase in _PHASES:
                    found[f"current_{_PHASES[phase].lower()}_a"] = value
            found["current_a"] = max(amps.values())
        if _CURRENT in self.whole:
            found["current_a"] = self.whole[_CURRENT]
        volts = self.phased.get(_VOLTAGE, {})
        if _VOLTAGE in self.whole:
            found["voltage_v"] = self.whole[_VOLTAGE]
        elif volts:
            phase = next((one for one in _VOLTAGE_PHASES if one in volts), "")
            if phase:
                found["voltage_v"] = volts[phase]
