"""Reservations: honoured at authorization, used, canceled, over."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from monitoring import authorization
from monitoring.authorization import Request
from stations import reservations
from stations.models import Entry, Reservation
from tests import make

pytestmark = pytest.mark.django_db


def reserve(station: Any, evse: int | None = 1, uid: str = "OWNER", **more: Any) -> Reservation:
    until = timezone.now() + timedelta(hours=1)
    given = {"token_uid": uid, "until": until, "evse": evse} | more
    return reservations.accepted(station.pk, 5, **given)


def verdict(station: Any, uid: str, evse: int | None = None) -> str:
    return authorization.decide([Request(uid, "", station.pk, evse)])[0].status


def test_another_drivers_evse_is_refused_the_owner_and_the_group_are_let_in() -> None:
    station = make.station(2)
    for uid, group in (("OWNER", ""), ("OTHER", ""), ("MATE", "FLEET")):
        make.token(uid=uid, group=group)
    reserve(station, group="FLEET")
    assert verdict(station, "OTHER", 1) == "NotAtThisTime"
    assert verdict(station, "owner", 1) == "Accepted"
    assert verdict(station, "MATE", 1) == "Accepted"
    assert verdict(station, "OTHER", 2) == "Accepted"
    assert verdict(station, "OTHER") == "Accepted"  # another EVSE is free
    assert verdict(make.station(), "OTHER", 1) == "Accepted"


def test_a_station_with_one_evse_refuses_others_before_they_plug_in() -> None:
    station = make.station(1)
    make.token(uid="OTHER")
    reserve(station)
    assert verdict(station, "OTHER") == "NotAtThisTime"


def test_what_is_over_binds_nobody_and_is_told_once() -> None:
    station = make.station(1)
    make.token(uid="OTHER")
    reserve(station)
    Reservation.objects.update(until=timezone.now() - timedelta(seconds=1))
    assert verdict(station, "OTHER", 1) == "Accepted"
    assert (reservations.sweep(), reservations.sweep()) == (1, 0)
    assert Reservation.objects.get().state == "expired"
    assert Entry.objects.filter(kind="reservation.expired").count() == 1


def test_a_session_uses_it_and_what_ended_stays_ended() -> None:
    station = make.station(1)
    reserve(station)
    used = reservations.Used(station.pk, 5, timezone.now())
    assert reservations.write_used([used, used]) == [True, False]
    assert not reservations.update(station.pk, 5, "Expired")
    assert Reservation.objects.get().state == "used"


@pytest.mark.parametrize(
    ("status", "state"),
    [("Expired", "expired"), ("Removed", "removed"), ("NoTransaction", "expired")],
)
def test_the_station_says_what_became_of_it(status: str, state: str) -> None:
    station = make.station(1)
    reserve(station)
    assert reservations.update(station.pk, 5, status)
    assert Reservation.objects.get().state == state
