"""Sites that share their power: real chargers over real sockets obey, lose us, refuse."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from monitoring import sharing
from monitoring.models import Allotment, CarNeeds, Session
from monitoring.rules import RULES, Context
from stations import commands
from stations.models import Command, Connector, Site, Station
from tests import make
from tests.charger import VERSIONS, Charger
from tests.gateway import db, gateway

on_the_wire = pytest.mark.django_db(transaction=True)


@pytest.fixture
def url() -> Iterator[str]:
    with gateway() as address:
        yield address


def tick() -> int:
    return sharing.tick()


async def settled(tries: int = 40) -> None:
    """Tick until nothing more is ordered and nothing is on its way."""
    quiet = 0
    for _ in range(tries):
        quiet = 0 if await db(tick)() else quiet + 1
        if (
            quiet >= 2
            and not await db(Command.objects.filter(status__in=["queued", "sent"]).exists)()
        ):
            return
        await asyncio.sleep(0.05)
    raise AssertionError("the plan does not settle")


def shares(site: Site) -> dict[str, int | None]:
    rows = Allotment.objects.filter(site=site, session__isnull=False, evse__gt=0)
    return {
        f"{row.station.identity}/{row.evse}": row.confirmed_a
        for row in rows.select_related("station")
    }


def limits_w(charger: Charger) -> dict[int, float]:
    from stations.simulator.charging import limit_w

    station = charger.station
    found = {
        number: limit_w(station.profiles, connector, station.clock.now())
        for number, connector in station.connectors.items()
    }
    return {number: round(watts) for number, watts in found.items() if watts is not None}


@on_the_wire
@pytest.mark.parametrize("version", VERSIONS)
async def test_sessions_share_the_site_and_the_charger_holds_what_was_planned(
    url: str, version: str
) -> None:
    site = await db(make.site)(power_limit_a=32)
    await db(make.station)(2, identity="CP1", version=version, site=site)
    await db(make.token)(uid="A")
    await db(make.token)(uid="B")
    async with Charger(url, "CP1", version, connectors=2) as charger:
        await charger.boot()
        await settled()
        assert limits_w(charger) == {1: 16 * 690, 2: 16 * 690}  # the fallback: an equal part
        await charger.plug(1)
        await charger.start(1, "A")
        await settled()
        assert await db(shares)(site) == {"CP1/1": 32}
        assert limits_w(charger)[1] == 32 * 690
        await charger.plug(2)
        second = await charger.start(2, "B")
        await settled()
        assert await db(shares)(site) == {"CP1/1": 16, "CP1/2": 16}
        assert limits_w(charger) == {1: 16 * 690, 2: 16 * 690}
        await charger.stop(second, 1000)
        await charger.unplug(2)
        await settled()
        assert await db(shares)(site) == {"CP1/1": 32}
        before = await db(Command.objects.count)()
        await settled()
        assert await db(Command.objects.count)() == before  # only what differs is ordered


@on_the_wire
async def test_a_station_that_lost_us_keeps_its_share_until_it_runs_out_and_others_make_room(
    url: str,
) -> None:
    site = await db(make.site)(power_limit_a=40)
    for identity in ("CP1", "CP2"):
        await db(make.station)(1, identity=identity, version="1.6", site=site)
        await db(make.token)(uid=identity)
    async with (
        Charger(url, "CP1", "1.6", connectors=1) as one,
        Charger(url, "CP2", "1.6", connectors=1) as two,
    ):
        for charger in (one, two):
            await charger.boot()
            await charger.plug(1)
            await charger.start(1, charger.identity)
        await settled()
        assert await db(shares)(site) == {"CP1/1": 20, "CP2/1": 20}
        await one.offline()
        await db(Site.objects.filter(pk=site.pk).update)(power_limit_a=32)
        while (await db(Station.objects.get)(identity="CP1")).connected:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        await settled()
        assert (await db(shares)(site))["CP2/1"] == 12  # CP1 holds its 20 A still
        (profile,) = [p for p in one.station.profiles if p.purpose == "TxProfile"]
        assert profile.valid_to is not None
        left = profile.valid_to - timezone.now()
        assert timedelta(minutes=14) < left <= timedelta(minutes=15)
        await db(Allotment.objects.filter(station__identity="CP1", evse=1).update)(
            valid_to=timezone.now()
        )
        await settled()
        # its default profile, from before the limit was lowered, counts now: 20 A
        assert (await db(shares)(site))["CP2/1"] == 12
        await one.online()
        await settled()
        assert await db(shares)(site) == {"CP1/1": 16, "CP2/1": 16}


@on_the_wire
async def test_a_station_that_refuses_is_counted_in_full_and_told_to_staff(url: str) -> None:
    site = await db(make.site)(power_limit_a=48)
    await db(make.station)(1, identity="CP1", version="1.6", site=site)
    await db(make.station)(1, identity="CP2", version="1.6", site=site)
    for uid in ("A", "B"):
        await db(make.token)(uid=uid)
    async with (
        Charger(url, "CP1", "1.6", connectors=1) as deaf,
        Charger(url, "CP2", "1.6", connectors=1) as good,
    ):
        await deaf.boot()
        await good.boot()

        async def refuse(payload: Any) -> Any:
            from stations.simulator.dialect import Reply

            return Reply({"status": "NotSupported"})

        deaf.station.dialect.handlers["SetChargingProfile"] = refuse
        for charger, uid in ((deaf, "A"), (good, "B")):
            await charger.plug(1)
            await charger.start(1, uid)
        await settled()
        assert (await db(shares)(site)) == {"CP1/1": None, "CP2/1": 16}  # 48 less 32
        found = await db(lambda: list(RULES["power-refused"].find(Context(timezone.now()))))()
        assert [str(one.summary) for one in found] == ["CP1 refuses its power limit: NotSupported"]


# --- rows alone --------------------------------------------------------------------------------


def running(site: Site, count: int, **changes: Any) -> list[Session]:
    made = []
    for _ in range(count):
        station = make.station(site=site, connected=True, last_seen_at=timezone.now(), **changes)
        made.append(make.session(station, state="active", stopped_at=None, closed_at=None))
    return made


def accept_all() -> None:
    for command in Command.objects.filter(status="queued"):
        commands.claim(command, epoch=1, message_id=str(command.pk), action="x", request={})
        commands.finish(command.pk, Command.Status.ACCEPTED, response={"status": "Accepted"})


def settle() -> None:
    while tick():
        accept_all()
    tick()


@pytest.mark.django_db
def test_a_change_is_ordered_by_the_next_tick() -> None:
    from config.celery import app

    assert app.conf.beat_schedule["power sharing"]["schedule"] <= 5.0
    site = make.site(power_limit_a=32)
    one, two = running(site, 2)
    settle()
    assert set(shares(site).values()) == {16}
    Site.objects.filter(pk=site.pk).update(power_limit_a=20)
    settle()
    assert set(shares(site).values()) == {10}
    Session.objects.filter(pk=two.pk).update(state="stopped", stopped_at=timezone.now())
    settle()
    assert shares(site) == {f"{one.station.identity}/1": 20}


@pytest.mark.django_db
def test_priorities_of_stations_and_of_cars_decide_and_a_car_that_takes_less_leaves_the_rest() -> (
    None
):
    site = make.site(power_limit_a=40)
    plain, favoured, small = running(site, 3)
    Station.objects.filter(pk=favoured.station_id).update(power_priority=1)
    settle()
    assert shares(site) == {
        plain.station.identity + "/1": 6,
        favoured.station.identity + "/1": 28,
        small.station.identity + "/1": 6,
    }
    CarNeeds.objects.create(session=small, at=timezone.now(), max_a=16, prioritised=True)
    settle()
    assert shares(site) == {
        plain.station.identity + "/1": 6,
        favoured.station.identity + "/1": 18,
        small.station.identity + "/1": 16,
    }


@pytest.mark.django_db
def test_direct_current_is_limited_in_watts_and_one_phase_says_so() -> None:
    site = make.site(power_limit_a=100)
    (fast,) = running(site, 1)
    Connector.objects.filter(pk=fast.connector_id).update(
        type="IEC_62196_T2_COMBO", max_power_w=50_000
    )
    (single,) = running(site, 1)
    Connector.objects.filter(pk=single.connector_id).update(max_power_w=7_400, phases=1)
    settle()
    told = {
        row.station_id: (row.args["unit"], row.args["periods"][0])
        for row in Command.objects.filter(args__purpose="TxProfile").order_by("pk")
    }
    unit, period = told[fast.station_id]
    assert (unit, period["start_s"], period["limit"]) == ("W", 0, 46_920.0)
    assert told[single.station_id] == ("A", {"start_s": 0, "limit": 32.0, "phases": 1})


@pytest.mark.django_db
def test_a_share_is_renewed_before_it_runs_out() -> None:
    site = make.site(power_limit_a=32)
    running(site, 1)
    settle()
    assert tick() == 0
    Allotment.objects.filter(evse=1).update(valid_to=timezone.now() + timedelta(minutes=4))
    assert tick() == 1


@pytest.mark.django_db
def test_a_site_without_a_limit_any_more_takes_its_profiles_back() -> None:
    site = make.site(power_limit_a=32)
    running(site, 1)
    settle()
    Site.objects.filter(pk=site.pk).update(power_limit_a=None)
    Command.objects.all().delete()
    tick()
    assert set(Command.objects.values_list("name", flat=True)) == {"clear_charging_profile"}
    assert not Allotment.objects.exists()


@pytest.mark.django_db
def test_metered_power_above_the_share_is_a_finding_and_so_is_a_site_above_its_limit() -> None:
    site = make.site(power_limit_a=16)
    (session,) = running(site, 1)
    settle()
    now = timezone.now()
    Allotment.objects.filter(evse=1).update(confirmed_at=now - timedelta(minutes=5))

    def found(rule: str, power_w: float) -> list[Any]:
        Session.objects.filter(pk=session.pk).update(power_w=power_w, last_reading_at=now)
        return list(RULES[rule].find(Context(now)))

    assert found("power-disobeyed", 11_100) == []
    (finding,) = found("power-disobeyed", 15_000)
    assert finding.evidence == {"session": session.pk, "power_w": 15_000.0, "share_a": 16}
    (above,) = found("site-over-limit", 15_000)
    assert above.evidence == {"drawn_a": 21.7, "limit_a": 16}
    assert found("site-over-limit", 11_100) == []
