"""Charging profiles as stations hold them: kept when accepted, reported or cleared (2.x K)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from django.db.models import Exists, OuterRef, Q
from django.utils import timezone

from monitoring import load
from monitoring.models import Allotment, ChargingProfile, Session
from stations import journal, live

OURS: Final = "CSO"
# 1.6's word for the same purpose
PURPOSES_16: Final = {"ChargePointMaxProfile": "ChargingStationMaxProfile"}


def installed(station_id: int, evse: int, profile: Mapping[str, Any], source: str = OURS) -> None:
    """Keep a profile (2.x ChargingProfileType, camelCase) that a station has now.

    It replaces one of its id, and of our own the one of its purpose, level and EVSE (K01.FR.05).
    """
    schedules = profile["chargingSchedule"]
    values = {
        "evse": evse,
        "stack_level": profile["stackLevel"],
        "purpose": profile["chargingProfilePurpose"],
        "kind": profile["chargingProfileKind"],
        "recurrency": profile.get("recurrencyKind") or "",
        "valid_from": _time(profile.get("validFrom")),
        "valid_to": _time(profile.get("validTo")),
        "ref": str(profile.get("transactionId") or ""),
        "schedules": schedules if isinstance(schedules, list) else [schedules],
        "source": source,
        "at": timezone.now(),
    }
    row, _ = ChargingProfile.objects.update_or_create(
        station_id=station_id, profile_id=profile["id"], defaults=values
    )
    same = {name: values[name] for name in ("evse", "stack_level", "purpose", "source")}
    ChargingProfile.objects.filter(station=station_id, **same).exclude(pk=row.pk).delete()
    live.touch(f"station-{station_id}")


def reported(
    station_id: int, evse: int, profiles: Sequence[Mapping[str, Any]], source: str
) -> None:
    """Keep what a station reported to have (K09)."""
    for profile in profiles:
        installed(station_id, evse, profile, source)


def cleared(
    station_id: int,
    *,
    profile_id: int | None = None,
    evse: int | None = None,
    purpose: str | None = None,
    stack_level: int | None = None,
) -> int:
    """Forget the profiles that a station has cleared for us (K10); return how many."""
    given = {
        "profile_id": profile_id, "evse": evse, "purpose": purpose, "stack_level": stack_level
    }  # fmt: skip
    chosen = {name: value for name, value in given.items() if value not in (None, "")}
    if profile_id is not None:
        chosen = {"profile_id": profile_id}
    count, _ = ChargingProfile.objects.filter(station=station_id, source=OURS, **chosen).delete()
    live.touch(f"station-{station_id}")
    return count


def forget_ended() -> int:
    """Forget profiles of sessions that are over and those that ran out; return how many."""
    running = Session.objects.filter(
        station=OuterRef("station"), ref=OuterRef("ref"), stopped_at__isnull=True
    )
    over = Q(purpose="TxProfile") & ~Q(ref="") & ~Exists(running)
    count, _ = ChargingProfile.objects.filter(Q(valid_to__lt=timezone.now()) | over).delete()
    return count


def limited(station_id: int, evse: int | None, limit: Mapping[str, Any], schedules: Any) -> None:
    """Record a limit that came from outside (NotifyChargingLimit, K11, K12)."""
    journal.record(
        "charging_limit.reported", f"station-{station_id}", station_id=station_id,
        evse=evse, source=limit.get("chargingLimitSource"),
        grid_critical=limit.get("isGridCritical"), schedules=schedules,
    )  # fmt: skip
    live.touch(f"station-{station_id}")


def released(station_id: int, evse: int | None, source: str) -> None:
    """Record that a limit from outside is gone (ClearedChargingLimit, K13, K14)."""
    gone = ChargingProfile.objects.filter(station=station_id, source=source)
    (gone.filter(evse=evse) if evse else gone).delete()
    journal.record(
        "charging_limit.cleared", f"station-{station_id}", station_id=station_id,
        evse=evse, source=source,
    )  # fmt: skip
    live.touch(f"station-{station_id}")


def dynamic_limit(station_id: int, profile_id: int) -> float | None:
    """Return the limit a dynamic profile has now (2.1 K28), None where there is no such profile."""
    row = ChargingProfile.objects.filter(
        station=station_id, profile_id=profile_id, kind="Dynamic"
    ).first()
    if row is None:
        return None
    limit = row.schedules[0]["chargingSchedulePeriod"][0].get("limit")
    return None if limit is None else float(limit)


def moved(station_id: int, profile_id: int, limit: float | None, setpoint: float | None) -> None:
    """Keep the new value of a dynamic profile that the station has taken (2.1 K29)."""
    row = ChargingProfile.objects.filter(station=station_id, profile_id=profile_id).first()
    if row is None:
        return
    period = row.schedules[0]["chargingSchedulePeriod"][0]
    period |= {k: v for k, v in (("limit", limit), ("setpoint", setpoint)) if v is not None}
    row.at = timezone.now()
    row.save(update_fields=["schedules", "at"])
    live.touch(f"station-{station_id}")


def within(station_id: int, evse: int, schedule: Mapping[str, Any]) -> bool:
    """Tell whether a car's own schedule stays within what its session may draw (K17.FR.09)."""
    row = Allotment.objects.filter(station=station_id, evse=evse).first()
    if row is None or row.confirmed_a is None:
        return True
    peak = max((one.get("limit") or 0.0 for one in schedule["chargingSchedulePeriod"]), default=0.0)
    allowed = (
        row.confirmed_a if schedule["chargingRateUnit"] == "A" else load.watts(row.confirmed_a)
    )
    return bool(peak <= allowed + 0.5)


def _time(text: str | datetime | None) -> datetime | None:
    if text is None or isinstance(text, datetime):
        return text
    at = datetime.fromisoformat(text)
    return at if at.tzinfo else timezone.make_aware(at)
