"""Quirk profiles: how makes of chargers misbehave, and what is tolerated, as data.

A `QuirkProfile` row is chosen at boot by vendor, model and firmware. Its `settings`:

    version          "1.6"    what the charger speaks, whatever subprotocol it offers or forgets
    repairs          [names]  of REPAIRS, tried in turn when a payload breaks its schema
    timeout_s        90       how long it may take to answer an order
    local_time       true     times without a zone are the site's, not UTC
    deaf_after       3        unanswered orders before the socket is closed
    hold_s           2        how long orders wait after a reconnect without a boot
    text_repairs     [names]  of TEXT_REPAIRS, tried on a frame that is no JSON; the log keeps both
    normalise        [names]  of NORMALISERS: valid, but not meant as it is said; on every payload
    trigger_on_boot  [names]  messages asked for after an accepted boot
    ask_all_keys     true     GetConfiguration never names keys (1.6)
    stack_level      0        the only stack level it takes
    lowest_limit     {"A": 6, "W": 1380}   limits below are raised to it: 0 would end the session
    max_as_default   true     a limit of the whole station is sent as TxDefaultProfile

Repairs cost nothing while a charger behaves: they are tried only after its payload was refused.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from django.db import transaction
from ocpp.v16.enums import UnitOfMeasure

from stations.models import QuirkProfile, Station

REFRESH_S: Final = 30.0

# name → change the payload in place; true when there was something to change
Repair = Callable[[str, dict[str, Any]], bool]
REPAIRS: Final[dict[str, Repair]] = {}

# name → (what a broken text has, what is meant)
TEXT_REPAIRS: Final[dict[str, tuple[str, str]]] = {
    # AEFA: `"transactionId":,` where there is none. −1 means that: the open session of the tag.
    "empty_transaction_id": (r'("transactionId"\s*:)\s*(?=[,}])', r"\g<1>-1"),
}
NORMALISERS: Final[dict[str, Repair]] = {}
_PROFILES: Final = ("csChargingProfiles", "chargingProfile")
_WHOLE_STATION: Final = ("ChargePointMaxProfile", "ChargingStationMaxProfile")

_profiles: list[QuirkProfile] = []
_read_at: float = -REFRESH_S


def repair(name: str) -> Callable[[Repair], Repair]:
    """Register a repair under `name`."""

    def register(function: Repair) -> Repair:
        REPAIRS[name] = function
        return function

    return register


def profile_for(vendor: str, model: str, firmware: str) -> QuirkProfile | None:
    """Return the profile of this make: an own one before a built-in one, one that names models
    before one for all, the newest.
    """
    fitting = [one for one in _known() if _fits(one, vendor, model, firmware)]
    return max(
        fitting,
        key=lambda one: (not one.built_in, one.model_pattern != ".*", one.pk),
        default=None,
    )


def tolerate(
    settings: Mapping[str, Any], action: str, payload: dict[str, Any], valid: Callable[[], bool]
) -> str:
    """Repair a refused payload in place until `valid()`; return the repair that did it, or ""."""
    names: list[str] = settings.get("repairs", [])
    for name in names:
        change = REPAIRS.get(name)
        if change is not None and change(action, payload) and valid():
            return name
    return ""


def mend(settings: Mapping[str, Any], text: str) -> tuple[str, str]:
    """Return a frame's text as its charger meant it, and the repair that did it, or ""."""
    for name in settings.get("text_repairs", ()):
        pattern, put = TEXT_REPAIRS.get(name, ("", ""))
        mended = re.sub(pattern, put, text) if pattern else text
        if mended != text:
            return mended, name
    return text, ""


def normalise(settings: Mapping[str, Any], action: str, payload: dict[str, Any]) -> list[str]:
    """Change a payload in place to what its charger means; return what did."""
    return [
        name
        for name in settings.get("normalise", ())
        if name in NORMALISERS and NORMALISERS[name](action, payload)
    ]


def adapt(settings: Mapping[str, Any], action: str, payload: dict[str, Any]) -> list[str]:
    """Change a call of ours in place to what its charger can take; return what was changed."""
    done = []
    if settings.get("ask_all_keys") and action == "GetConfiguration" and payload.pop("key", None):
        done.append("ask_all_keys")
    for profile in filter(None, (payload.get(name) for name in _PROFILES)):
        done += _adapted(settings, profile)
    return done


def _adapted(settings: Mapping[str, Any], profile: dict[str, Any]) -> list[str]:
    done = []
    level = settings.get("stack_level")
    if level is not None and profile["stackLevel"] != level:
        profile["stackLevel"] = level
        done.append("stack_level")
    if settings.get("max_as_default") and profile["chargingProfilePurpose"] in _WHOLE_STATION:
        profile["chargingProfilePurpose"] = "TxDefaultProfile"
        done.append("max_as_default")
    schedules = profile["chargingSchedule"]
    for schedule in [schedules] if isinstance(schedules, dict) else schedules:
        lowest = settings.get("lowest_limit", {}).get(schedule["chargingRateUnit"], 0)
        for period in schedule["chargingSchedulePeriod"]:
            if period["limit"] < lowest:
                period["limit"] = lowest
                done.append("lowest_limit")
    return done


def adopt(station_id: int, vendor: str, model: str, firmware: str, version: str) -> bool:
    """Give a station that offered one version and boots in another the profile that says so.

    True where there is such a profile: on its next connection the station is spoken to in
    `version`.
    """
    profile = profile_for(vendor, model, firmware)
    if profile is None or profile.settings.get("version") != version:
        return False
    return bool(Station.objects.filter(pk=station_id).update(quirks=profile))


def count(profile_id: int | None, name: str) -> None:
    """Add one to what a profile has tolerated."""
    with transaction.atomic():
        profile = QuirkProfile.objects.select_for_update().filter(pk=profile_id or 0).first()
        if profile is None:
            return
        profile.tolerated = profile.tolerated | {name: profile.tolerated.get(name, 0) + 1}
        profile.save(update_fields=["tolerated"])


def _known() -> list[QuirkProfile]:
    global _profiles, _read_at
    if time.monotonic() - _read_at > REFRESH_S:
        _profiles, _read_at = list(QuirkProfile.objects.all()), time.monotonic()
    return _profiles


def forget() -> None:
    """Read the profiles afresh at the next boot (after an edit, in tests)."""
    global _read_at
    _read_at = -REFRESH_S


def _fits(profile: QuirkProfile, vendor: str, model: str, firmware: str) -> bool:
    named = profile.vendor.casefold() == vendor.casefold()
    try:
        if not named and not re.fullmatch(profile.vendor, vendor, re.IGNORECASE):
            return False
        if not re.fullmatch(profile.model_pattern, model, re.IGNORECASE):
            return False
    except re.error:
        return False
    lowest, highest = profile.firmware_from, profile.firmware_to
    if lowest and _natural(firmware) < _natural(lowest):
        return False
    return not (highest and _natural(firmware) > _natural(highest))


def _natural(version: str) -> list[tuple[int, int, str]]:
    """Return a key that sorts 1.10 after 1.9."""
    return [
        (1, int(part), "") if part.isdigit() else (0, 0, part)
        for part in re.findall(r"\d+|[^\d.\-_ ]+", version)
    ]


# --- repairs ------------------------------------------------------------------------------------

_UNITS: Final = frozenset(one.value for one in UnitOfMeasure) | {"Celcius", "Hertz"}
_LISTS: Final = ("meterValue", "transactionData")


def _samples(payload: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        sample
        for name in _LISTS
        for value in (payload[name] if isinstance(payload.get(name), list) else ())
        if isinstance(value, dict) and isinstance(value.get("sampledValue"), list)
        for sample in value["sampledValue"]
        if isinstance(sample, dict)
    ]


@repair("lone_meter_value")
def _lone_meter_value(action: str, payload: dict[str, Any]) -> bool:
    """Huawei: `meterValue` is an object instead of a list of one."""
    changed = False
    for name in _LISTS:
        if isinstance(payload.get(name), dict):
            payload[name] = [payload[name]]
            changed = True
    for value in payload.get("meterValue") or ():
        if isinstance(value, dict) and isinstance(value.get("sampledValue"), dict):
            value["sampledValue"] = [value["sampledValue"]]
            changed = True
    return changed


@repair("numeric_values")
def _numeric_values(action: str, payload: dict[str, Any]) -> bool:
    """OpenEVSE: 1.6 sampled values as numbers instead of text."""
    wrong = [one for one in _samples(payload) if isinstance(one.get("value"), int | float)]
    for sample in wrong:
        sample["value"] = str(sample["value"])
    return bool(wrong)


@repair("unknown_units")
def _unknown_units(action: str, payload: dict[str, Any]) -> bool:
    """ChargeAmps, Autel: a unit outside 1.6's list; the measurand's default is taken instead."""
    wrong = [one for one in _samples(payload) if one.get("unit") not in (*_UNITS, None)]
    for sample in wrong:
        del sample["unit"]
    return bool(wrong)


@repair("other_error")
def _other_error(action: str, payload: dict[str, Any]) -> bool:
    """Legrand: an error code outside the list; kept in `vendorErrorCode`."""
    code = payload.get("errorCode")
    if action != "StatusNotification" or not isinstance(code, str):
        return False
    payload["errorCode"] = "OtherError"
    payload.setdefault("vendorErrorCode", code[:50])
    return True


@repair("long_id_tag")
def _long_id_tag(action: str, payload: dict[str, Any]) -> bool:
    """KEBA: `_serial` appended to an idTag that is then too long for 1.6."""
    tag = payload.get("idTag")
    if not isinstance(tag, str) or len(tag) <= 20 or "_" not in tag:
        return False
    payload["idTag"] = tag.partition("_")[0]
    return True


# --- valid, but not what is meant -----------------------------------------------------------------


def normaliser(name: str) -> Callable[[Repair], Repair]:
    """Register a normaliser under `name`."""

    def register(function: Repair) -> Repair:
        NORMALISERS[name] = function
        return function

    return register


@normaliser("serial_behind_tag")
def _serial_behind_tag(action: str, payload: dict[str, Any]) -> bool:
    """KEBA: the card's number, an underscore and the charger's own serial number."""
    tag = payload.get("idTag")
    if not isinstance(tag, str) or "_" not in tag.strip("_"):
        return False
    payload["idTag"] = tag.partition("_")[0]
    return True


@normaliser("registers_in_kwh")
def _registers_in_kwh(action: str, payload: dict[str, Any]) -> bool:
    """OpenEVSE: registers in kWh, labelled Wh. Start and stop registers are right."""
    register = "Energy.Active.Import.Register"
    wrong = [
        one
        for one in _samples(payload)
        if one.get("measurand", register) == register and one.get("unit", "Wh") == "Wh"
    ]
    for sample in wrong:
        sample["unit"] = "kWh"
    return bool(wrong)
