"""Charging profiles as a charge point obeys them (1.6 §3.13, 2.0.1 K01)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from stations.simulator.model import Connector, Payload, Transaction

WHOLE_STATION = {
    "ChargePointMaxProfile",
    "ChargingStationMaxProfile",
    "ChargingStationExternalConstraints",
}
NO_LIMIT = 1e9  # 2.1 periods need not carry one


@dataclass
class Profile:
    """A charging profile, the same for all versions. Periods are (seconds from start, limit in
    `unit`).
    """

    evse: int
    id: int
    stack: int
    purpose: str
    kind: str
    unit: str
    periods: list[tuple[float, float]]
    start: datetime | None
    duration_s: float | None
    daily: bool
    valid_from: datetime | None
    valid_to: datetime | None

    def limit(self, now: datetime, started: datetime | None) -> float | None:
        """The limit at `now` in `unit`; None where the profile says nothing then."""
        if (self.valid_from and now < self.valid_from) or (self.valid_to and now >= self.valid_to):
            return None
        begin = started if self.kind == "Relative" or self.start is None else self.start
        passed = (now - begin).total_seconds() if begin is not None else 0.0
        if self.kind == "Recurring":
            passed %= 86_400 if self.daily else 7 * 86_400
        if passed < 0 or (self.duration_s is not None and passed >= self.duration_s):
            return None
        found = None
        for start, limit in self.periods:
            if start <= passed:
                found = limit
        return found


def parse_profile(evse: int, raw: Payload) -> Profile:
    """Read a csChargingProfiles (1.6) or chargingProfile (2.x); raises KeyError or ValueError on
    nonsense.
    """
    schedule: Any = raw["chargingSchedule"]
    schedule = schedule[0] if isinstance(schedule, list) else schedule
    return Profile(
        evse=evse,
        id=int(raw["chargingProfileId"] if "chargingProfileId" in raw else raw["id"]),
        stack=int(raw["stackLevel"]),
        purpose=str(raw["chargingProfilePurpose"]),
        kind=str(raw["chargingProfileKind"]),
        unit=str(schedule["chargingRateUnit"]),
        periods=[
            (float(p["startPeriod"]), float(p.get("limit", NO_LIMIT)))
            for p in schedule["chargingSchedulePeriod"]
        ],
        start=_time(schedule.get("startSchedule")),
        duration_s=schedule.get("duration"),
        daily=raw.get("recurrencyKind", "Daily") == "Daily",
        valid_from=_time(raw.get("validFrom")),
        valid_to=_time(raw.get("validTo")),
    )


def install(profiles: list[Profile], new: Profile) -> None:
    """Keep `new`, in place of one with its id or with its purpose, level and EVSE (1.6 §5.16.4,
    K01.FR.05).
    """
    profiles[:] = [
        p
        for p in profiles
        if p.id != new.id and (p.purpose, p.stack, p.evse) != (new.purpose, new.stack, new.evse)
    ]
    profiles.append(new)


def clear(
    profiles: list[Profile],
    *,
    id: int | None,
    evse: int | None,
    purpose: str | None,
    stack: int | None,
) -> bool:
    """Forget what matches; whether anything did (1.6 §5.5)."""
    kept = [
        p
        for p in profiles
        if (id is not None and p.id != id)
        or (evse is not None and p.evse != evse)
        or (purpose is not None and p.purpose != purpose)
        or (stack is not None and p.stack != stack)
    ]
    found = len(kept) < len(profiles)
    profiles[:] = kept
    return found


def limit_w(profiles: list[Profile], connector: Connector, now: datetime) -> float | None:
    """Watts a connector may draw at `now`: the highest stack level a purpose, TxProfile before
    TxDefaultProfile, and below the station's own maximum. None where nothing limits."""
    tx: Transaction | None = connector.transaction
    started = tx.started_at if tx is not None else None
    best: dict[str, tuple[int, float]] = {}
    for profile in profiles:
        if profile.evse not in {0, connector.number}:
            continue
        limit = profile.limit(now, started)
        if limit is None:
            continue
        watts = limit if profile.unit == "W" else limit * connector.voltage_v * connector.phases
        rank = profile.stack * 2 + (profile.evse != 0)
        if profile.purpose not in best or rank > best[profile.purpose][0]:
            best[profile.purpose] = (rank, watts)
    own = best.get("TxProfile") or best.get("TxDefaultProfile")
    caps = [watts for purpose, (_, watts) in best.items() if purpose in WHOLE_STATION]
    if own is not None:
        caps.append(own[1])
    return min(caps, default=None)


def composite(
    profiles: list[Profile], connector: Connector, now: datetime, duration_s: int, unit: str
) -> list[tuple[int, float]]:
    """(second, limit in `unit`) wherever the limit changes within `duration_s`, sampled each
    minute.
    """
    periods: list[tuple[int, float]] = []
    for second in range(0, max(1, duration_s), 60):
        watts = limit_w(profiles, connector, now + timedelta(seconds=second))
        watts = connector.max_w if watts is None else min(watts, connector.max_w)
        limit = watts if unit == "W" else watts / connector.voltage_v / connector.phases
        if not periods or periods[-1][1] != round(limit, 1):
            periods.append((second, round(limit, 1)))
    return periods


def _time(text: str | None) -> datetime | None:
    if not text:
        return None
    at = datetime.fromisoformat(text)
    return at if at.tzinfo is not None else at.replace(tzinfo=UTC)
