"""What stations say of themselves as a whole, and what their clocks are off."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
import time_machine
from django.db import transaction
from django.test.utils import CaptureQueriesContext

from monitoring import alerts
from monitoring.models import Incident
from stations import presence
from stations.models import Connector, Entry, Station
from stations.ocpp.clock import ENOUGH, Clock
from tests import make
from tests.gateway import Raw, db, gateway, raw

T0 = datetime(2026, 3, 10, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return T0 + timedelta(seconds=seconds)


# --- the station as a whole -----------------------------------------------------------------------


def whole(station: Station, status: str, seconds: float, error: str = "") -> presence.Status:
    return presence.Status(station.pk, 0, 0, status, at(seconds), at(seconds), error)


@pytest.mark.django_db
def test_the_status_of_a_whole_station_is_kept_and_told_once() -> None:
    station = make.station(2)
    with transaction.atomic():
        taken = presence.write_statuses(
            [
                whole(station, "Available", 0),
                whole(station, "Unavailable", 10),
                whole(station, "Unavailable", 20),
                whole(station, "Faulted", 15, "InternalError"),  # a replay
            ]
        )
    assert taken == [True, True, True, False]
    station.refresh_from_db()
    assert (station.status, station.error_code, station.status_at) == ("Unavailable", "", at(20))
    told = Entry.objects.filter(kind="station.status_changed").order_by("pk")
    assert [(one.subject, one.data["status"], one.data["previous"]) for one in told] == [
        (f"station-{station.pk}", "Available", ""),
        (f"station-{station.pk}", "Unavailable", "Available"),
    ]
    assert set(station.connectors.values_list("status", flat=True)) == {"Unknown"}


@pytest.mark.django_db
def test_many_stations_at_once_cost_two_queries_more(connection_queries) -> None:
    stations = [make.station() for _ in range(10)]
    facts = [whole(station, "Available", 0) for station in stations]
    with transaction.atomic(), connection_queries() as one:
        presence.write_statuses(facts[:1])
    with transaction.atomic(), connection_queries() as many:
        presence.write_statuses(facts)
    assert len(many) <= len(one)


@pytest.fixture
def connection_queries():
    from django.db import connection

    return lambda: CaptureQueriesContext(connection)


@pytest.fixture
def url() -> Iterator[str]:
    with gateway() as address:
        yield address


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("version", ["1.6", "2.0.1", "2.1"])
async def test_number_zero_is_the_station_in_every_version(url, version) -> None:
    station = await db(make.station)(identity="CP1", version=version)
    now = datetime.now(UTC).isoformat()
    if version == "1.6":
        payload = {"connectorId": 0, "status": "Unavailable", "errorCode": "NoError"}
    else:
        payload = {"evseId": 0, "connectorId": 0, "connectorStatus": "Unavailable"}
    async with raw(url + "CP1", version) as socket:
        charger = Raw(socket)
        await charger.boot(version)
        answer = await charger.call("StatusNotification", payload | {"timestamp": now})
        assert answer[2] == {}
        if version != "1.6":  # an EVSE as a whole is its first connector, never one numbered 0
            payload |= {"evseId": 1, "timestamp": now}
            assert (await charger.call("StatusNotification", payload))[2] == {}
    await db(station.refresh_from_db)()
    assert station.status == "Unavailable"
    assert await db(Entry.objects.filter(kind="station.status_changed").count)() == 1
    plugs = await db(lambda: list(Connector.objects.values_list("number", "status")))()
    assert plugs == [(1, "Unknown" if version == "1.6" else "Unavailable")]


# --- clocks ---------------------------------------------------------------------------------------


def samples(*pairs: tuple[float, float], known_s: float | None = None) -> list[float]:
    """What a clock says after messages of (charger's seconds, ours)."""
    clock = Clock(known_s)
    said = [clock.heard(at(theirs), at(ours)) for theirs, ours in pairs]
    return [one for one in said if one is not None]


def test_a_live_stream_tells_what_the_clock_is_off_once() -> None:
    assert samples(*[(60 * n - 120, 60 * n + 0.2 * (n % 3)) for n in range(40)]) == [-120.2]
    assert samples(*[(60 * n + 400, 60 * n) for n in range(40)]) == [400.0]


def test_a_drained_queue_says_nothing_of_the_clock() -> None:
    queued = [(60 * n, 30_000 + 0.05 * n) for n in range(200)]
    live = [(30_100 + 60 * n, 30_100 + 60 * n) for n in range(1 + ENOUGH)]
    assert samples(*queued) == []
    assert samples(*queued, *live) == [0.0]


def test_single_stale_messages_move_nothing() -> None:
    live = [(60 * n, 60 * n) for n in range(40)]
    live[20:20] = [(100, 1200), (100, 1201)]
    assert samples(*live, known_s=0.0) == []


def test_a_small_change_is_not_written_and_a_corrected_clock_is() -> None:
    drifting = [(60 * n + 0.1 * n, 60 * n) for n in range(40)]
    assert samples(*drifting, known_s=0.0) == []
    corrected = [(60 * n, 60 * n) for n in range(40)]
    assert samples(*corrected, known_s=-300.0) == [0.0]


def meter(version: str, stamp: datetime) -> dict:
    values = [{"timestamp": stamp.isoformat(), "sampledValue": [{"value": "1"}]}]
    if version == "1.6":
        return {"connectorId": 1, "meterValue": values}
    values[0]["sampledValue"] = [{"value": 1.0}]
    return {"evseId": 1, "meterValue": values}


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("version", ["1.6", "2.0.1"])
async def test_a_wrong_clock_is_measured_and_found_by_the_rule(url, version) -> None:
    station = await db(make.station)(identity="CP1", version=version)
    async with raw(url + "CP1", version) as socket:
        charger = Raw(socket)
        await charger.boot(version)
        for _ in range(1 + ENOUGH):
            stamp = datetime.now(UTC) - timedelta(seconds=400)
            assert (await charger.call("MeterValues", meter(version, stamp)))[0] == 3
        await db(station.refresh_from_db)()
        assert station.clock_offset_s == pytest.approx(-400, abs=1)
        await db(look)(0)
        assert await db(look)(1900) == ["clock-drift"]


def look(seconds: float) -> list[str]:
    with time_machine.travel(datetime.now(UTC) + timedelta(seconds=seconds), tick=False):
        alerts.evaluate()
    rows = Incident.objects.filter(state__in=["open", "acknowledged"], rule="clock-drift")
    return list(rows.values_list("rule", flat=True))
