"""Reservations: kept once a station accepted one, until they are used, canceled or over."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import transaction
from django.db.models import Count
from django.utils import timezone

from stations import journal, live, writer
from stations.models import Evse, Reservation
from stations.state import try_advance

# What a station says became of one (2.x ReservationUpdateStatusEnumType).
UPDATES = {
    "Expired": Reservation.State.EXPIRED,
    "Removed": Reservation.State.REMOVED,
    "NoTransaction": Reservation.State.EXPIRED,
}


@dataclass(frozen=True, slots=True)
class Used:
    """A session began on a reservation."""

    station_id: int
    number: int
    at: datetime


@transaction.atomic
def accepted(
    station_id: int, number: int, *, token_uid: str, until: datetime, evse: int | None = None,
    group: str = "",
) -> Reservation:  # fmt: skip
    """Keep what a station has accepted; the same number again replaces it (H01.FR.02)."""
    row, _ = Reservation.objects.update_or_create(
        station_id=station_id,
        number=number,
        defaults={
            "evse": evse, "token_uid": token_uid, "group": group, "until": until,
            "state": Reservation.State.ACTIVE, "made_at": timezone.now(), "ended_at": None,
        },
    )  # fmt: skip
    journal.record(
        "reservation.made", row, station_id=station_id, evse=evse, number=number,
        token_uid=token_uid, until=until.isoformat(),
    )  # fmt: skip
    live.touch(f"station-{station_id}")
    return row


@transaction.atomic
def end(station_id: int, number: int, state: Reservation.State) -> bool:
    """End an active reservation; False where there is none."""
    rows = Reservation.objects.filter(station=station_id, number=number)
    if not try_advance(rows, state, ended_at=timezone.now()):
        return False
    journal.record(
        f"reservation.{state}", f"station-{station_id}", station_id=station_id, number=number
    )
    live.touch(f"station-{station_id}")
    return True


def update(station_id: int, number: int, status: str) -> bool:
    """Take ReservationStatusUpdate (H04)."""
    return end(station_id, number, UPDATES.get(status, Reservation.State.REMOVED))


def sweep(now: datetime | None = None) -> int:
    """End reservations whose time is over, where the station did not tell; return how many."""
    due = Reservation.objects.filter(
        state=Reservation.State.ACTIVE, until__lte=now or timezone.now()
    ).values_list("station_id", "number")
    return sum(end(pk, number, Reservation.State.EXPIRED) for pk, number in due[:500])


def write_used(facts: Sequence[Used]) -> list[bool]:
    """Note the reservations on which sessions began."""
    return [end(fact.station_id, fact.number, Reservation.State.USED) for fact in facts]


class Held:
    """What is reserved at some stations, asked once for a batch."""

    def __init__(self, station_ids: Iterable[int]) -> None:
        rows = Reservation.objects.filter(
            station__in=set(station_ids), state=Reservation.State.ACTIVE, until__gt=timezone.now()
        ).values_list("station_id", "evse", "token_uid", "group")
        self._held: dict[int, list[tuple[int | None, str, str]]] = {}
        for station_id, evse, uid, group in rows:
            self._held.setdefault(station_id, []).append((evse, uid.upper(), group))
        self._evses: dict[int, int] = {}
        if self._held:
            counted: Any = Evse.objects.filter(station__in=self._held).order_by()
            self._evses = dict(
                counted.values("station").annotate(n=Count("pk")).values_list("station", "n")
            )

    def from_others(self, station_id: int, evse: int | None, uid: str, group: str) -> bool:
        """Tell whether another driver has reserved this EVSE, or every EVSE of the station.

        A token of the reservation's group may use it too (1.6 §5.13, H03).
        """
        others = [
            reserved_evse
            for reserved_evse, owner, owners in self._held.get(station_id, ())
            if owner != uid.upper() and not (owners and owners == group)
        ]
        if not others:
            return False
        if evse is not None and evse in others:
            return True
        mine = len(self._held[station_id]) > len(others)
        return evse is None and not mine and len(others) >= self._evses.get(station_id, 1)


writer.lane("reservations", 55, write_used)
