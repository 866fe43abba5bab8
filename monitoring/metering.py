"""Sampled values → readings (mWh, W, A, V); the energy of a session. Pure: no database here.

Energy comes from a ladder (billing notes §2), first form: start and stop registers; without a stop
the last register of the non-decreasing streak, `provisional`. Whatever is doubtful is flagged and
never billed upward. Each result depends on the set of what came, not on its order.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import Any, Final

import orjson

from stations.presence import believable

REGISTER: Final = "Energy.Active.Import.Register"
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


def digest(fact: Sampled) -> int:
    """Return 63 bits of context and content: the same for a retransmission, and only for one."""
    content = orjson.dumps(
        (fact.context, *(getattr(fact, name) for name in MEASURED)),
        option=orjson.OPT_SORT_KEYS,
    )
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
    by_context: dict[str, list[dict[str, Any]]] = {}
    for item in meter_value.get("sampledValue") or []:
        by_context.setdefault(item.get("context") or "Sample.Periodic", []).append(item)
    found = []
    for context, items in by_context.items():
        content = _Content()
        for item in sorted(items, key=_location_rank):
            content.take(item)
        columns = content.columns()
        common = (station_id, ref, evse, at, received_at, context)
        found.append(Sampled(*common, **columns, signed=(content.signed or [""])[0]))
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
    mwh = int(number * _UNITS.get(unit, Decimal(1)) * 1000)
    return mwh if 0 <= mwh <= MAX_MWH else None


_UNITS: Final = {
    "kWh": Decimal(1000),
    "kW": Decimal(1000),
    "kvarh": Decimal(1000),
    "mA": Decimal("0.001"),
}
_KNOWN_UNITS: Final = {
    "Energy": {"Wh", "kWh", "varh", "kvarh"},
    "Power": {"W", "kW", "VA", "kVA", "var", "kvar"},
    "Current": {"A", "mA"},
    "Voltage": {"V"},
    "SoC": {"Percent", "%"},
    "Temperature": {"Celsius", "Celcius", "Fahrenheit", "K"},
}
_PHASES: Final = {"L1": "L1", "L2": "L2", "L3": "L3", "L1-N": "L1", "L2-N": "L2", "L3-N": "L3"}
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


def _location_rank(item: dict[str, Any]) -> int:
    """Outlet counts before other places of measurement (it is also the default)."""
    return 0 if item.get("location", "Outlet") == "Outlet" else 1


def _number(value: Any) -> Decimal | None:
    """Return a finite number, from text or JSON number; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    try:
        number = Decimal(str(value).strip())
    except InvalidOperation:
        return None
    return number if number.is_finite() and number.adjusted() < 30 else None


class _Content:
    """Collects the sampled values of one moment and context."""

    def __init__(self) -> None:
        self.values: dict[tuple[str, str], Decimal] = {}  # (measurand, phase) → base unit
        self.rest: list[dict[str, Any]] = []
        self.signed: list[str] = []
        self.flags: set[str] = set()

    def take(self, item: dict[str, Any]) -> None:
        """Put one SampledValue where it belongs."""
        if item.get("format") == "SignedData":  # 1.6: the value is the signed record
            self.signed.append(str(item.get("value", "")))
            return
        if item.get("signedMeterValue"):  # 2.x: beside the plain value
            self.signed.append(orjson.dumps(item["signedMeterValue"]).decode())
            item = {name: value for name, value in item.items() if name != "signedMeterValue"}
        measurand = item.get("measurand") or REGISTER
        number = self._scaled(measurand, item)
        key = (measurand, item.get("phase") or "")
        wanted = measurand in _SUMMED or measurand in _PLAIN or measurand in _ELECTRIC
        if number is None or not wanted or key in self.values:
            self.rest.append(item)
        else:
            self.values[key] = number

    def _scaled(self, measurand: str, item: dict[str, Any]) -> Decimal | None:
        """Return the value in Wh, W, A, V, percent or °C; None where it cannot be."""
        number = _number(item.get("value"))
        if number is None:
            self.flags.add("bad-value")
            return None
        of = item.get("unitOfMeasure") or {}
        unit = item.get("unit") or of.get("unit") or ""
        known = _KNOWN_UNITS.get(measurand.partition(".")[0])
        if unit and known and unit not in known:
            self.flags.add("unit")
            unit = ""
        multiplier = of.get("multiplier", 0)
        if not -12 <= multiplier <= 12:
            self.flags.add("unit")
            return None
        number = number.scaleb(multiplier) * _UNITS.get(unit, Decimal(1))
        if unit == "Fahrenheit":
            number = (number - 32) * 5 / 9
        elif unit == "K":
            number -= Decimal("273.15")
        if abs(number) * 1000 > MAX_MWH:
            self.flags.add("huge")
            return None
        if number < 0 and "Register" in measurand:
            self.flags.add("negative-value")
            return None
        if measurand == "SoC" and not 0 <= number <= 100:
            self.flags.add("bad-value")
            return None
        return number

    def columns(self) -> dict[str, Any]:
        """Return the reading's columns."""
        found: dict[str, Any] = {}
        for measurand, column in _SUMMED.items():
            total = self._total(measurand)
            if total is not None:
                energy_column = column.endswith("_mwh")
                found[column] = round(total * 1000) if energy_column else float(total)
        for measurand, column in _PLAIN.items():
            if (value := self.values.get((measurand, ""))) is not None:
                found[column] = float(value)
        self._electric(found)
        if self.rest:
            found["extra"] = {"values": self.rest}
        found["flags"] = tuple(sorted(self.flags))
        return found

    def _total(self, measurand: str) -> Decimal | None:
        """Return the unphased value, else the sum of the phases (L1 alone: a one-phase meter)."""
        if (whole := self.values.get((measurand, ""))) is not None:
            return whole
        phases = {
            _PHASES[phase]: value
            for (name, phase), value in self.values.items()
            if name == measurand and phase in _PHASES
        }
        if phases and phases.keys() not in ({"L1"}, {"L1", "L2", "L3"}):
            self.flags.add("phases")
            self.rest += [
                {"measurand": measurand, "phase": phase, "value": str(value)}
                for phase, value in phases.items()
            ]
            return None
        return sum(phases.values(), Decimal(0)) if phases else None

    def _electric(self, found: dict[str, Any]) -> None:
        amps = {
            _PHASES[phase]: float(value)
            for (name, phase), value in self.values.items()
            if name == "Current.Import" and phase in _PHASES
        }
        for phase, value in amps.items():
            found[f"current_{phase.lower()}_a"] = value
        if (whole := self.values.get(("Current.Import", ""))) is not None:
            found["current_a"] = float(whole)
        elif amps:
            found["current_a"] = max(amps.values())
        volts = {phase: v for (name, phase), v in self.values.items() if name == "Voltage"}
        for phase in ("", "L1-N", "L1", "L2-N", "L2", "L3-N", "L3", "L1-L2"):
            if phase in volts:
                found["voltage_v"] = float(volts[phase])
                break


_ELECTRIC: Final = frozenset({"Current.Import", "Voltage"})
