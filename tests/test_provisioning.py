"""Wanted configuration: whose wish goes first, what is pushed, and when pushing stops."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from stations import configuration, journal, provisioning, tasks
from stations.configuration import Key, Reported
from stations.models import Command, ConfigurationTemplate, Entry, Station, Variable
from tests import make
from tests.charger import VERSIONS, Charger
from tests.gateway import db, gateway

pytestmark = pytest.mark.django_db


def template(**fields: Any) -> ConfigurationTemplate:
    defaults = {"name": "House", "values": {"HeartbeatInterval": "300"}, "push": True}
    return ConfigurationTemplate.objects.create(**defaults | fields)


def told(station: Station, **values: str) -> None:
    configuration.store(station.pk, [Reported(Key(key), value) for key, value in values.items()])


def ordered(station: Station) -> list[dict[str, Any]]:
    rows = Command.objects.filter(station=station, name="change_configuration").order_by("pk")
    return list(rows.values_list("args", flat=True))


def test_only_differences_are_pushed_and_equal_values_are_no_difference() -> None:
    station = make.station(vendor="ACME", model="X1")
    template(values={"A": "300", "B": "true", "C": "x,y", "D": "new", "E": "1", "Unknown": "1"})
    told(station, A="300.0", B="True", C="X, Y", D="old")
    read_only = Reported(Key("E"), "2", read_only=True)
    configuration.store(station.pk, [read_only])
    assert len(provisioning.push(station)) == 1
    assert ordered(station) == [{"key": "D", "value": "new"}]
    assert Variable.objects.get(name="D").pushed_at is not None
    assert Entry.objects.get(kind="configuration.pushed").data["keys"] == ["D"]
    assert provisioning.push(station) == []  # it is under way


def test_the_stations_own_wish_goes_before_the_template_and_the_make_before_all() -> None:
    station = make.station(vendor="ACME", model="X1")
    template(name="All", values={"A": "1", "B": "1", "C": "1"})
    template(name="ACME", vendor="acme", model_pattern="X.*", values={"B": "2", "C": "2"})
    template(name="Other", vendor="Other", values={"A": "9"})
    template(name="Idle", values={"A": "8"}, active=False)
    Variable.objects.create(station=station, name="C", wanted="3")
    found = provisioning.wishes(station, station.variables.all())
    assert {key.name: (wish.value, wish.source) for key, wish in found.items()} == {
        "A": ("1", "All"),
        "B": ("2", "ACME"),
        "C": ("3", ""),
    }


def test_the_product_pushes_only_what_a_template_says_to_push() -> None:
    station = make.station()
    template(push=False)
    told(station, HeartbeatInterval="60")
    assert provisioning.push(station) == []
    assert len(provisioning.push(station, by=make.staff())) == 1


def test_a_refused_value_is_not_pushed_again_within_the_hour() -> None:
    station = make.station()
    template()
    told(station, HeartbeatInterval="60")
    provisioning.push(station)
    Command.objects.update(status=Command.Status.REJECTED)
    assert provisioning.push(station) == []
    Command.objects.update(created_at=timezone.now() - timedelta(hours=2))
    assert len(provisioning.push(station)) == 1


def boot(station: Station, **data: Any) -> None:
    from django.db import transaction

    with transaction.atomic():
        news = journal.record("station.booted", station, **data)
    tasks.booted(news.pk)


def test_a_reboot_loop_after_a_push_stops_pushing_until_a_person_pushes() -> None:
    station = make.station()
    template()
    told(station, HeartbeatInterval="60")
    provisioning.push(station)
    Command.objects.update(status=Command.Status.ACCEPTED, sent_at=timezone.now())
    boot(station)
    boot(station, reason="RemoteReset")
    boot(station)
    assert not provisioning.stopped(station)
    boot(station)
    assert provisioning.stopped(station)
    boot(station)
    assert Entry.objects.filter(kind=provisioning.STOPPED).count() == 1
    Command.objects.update(created_at=timezone.now() - timedelta(hours=2))
    assert provisioning.push(station) == []
    assert len(provisioning.push(station, by=make.staff())) == 1
    assert not provisioning.stopped(station)


def test_three_boots_without_a_push_are_no_loop_of_ours() -> None:
    station = make.station()
    for _ in range(5):
        boot(station)
    assert not provisioning.stopped(station)


def test_a_value_that_waits_for_a_restart_gets_one_where_the_template_says_so() -> None:
    station = make.station()
    row = template(restart=True)
    configuration.store(
        station.pk, [Reported(Key("HeartbeatInterval"), "300", reboot_required=True)]
    )
    order = provisioning.restart_where_needed(station)
    assert order is not None
    assert (order.name, order.args) == ("reset", {"hard": False})
    assert provisioning.restart_where_needed(station) is None  # one is under way
    boot(station, reason="RemoteReset")
    assert not Variable.objects.get().reboot_required
    Command.objects.all().delete()
    row.restart = False
    row.save()
    Variable.objects.update(reboot_required=True)
    assert provisioning.restart_where_needed(station) is None


def test_stations_that_told_nothing_are_asked_once_a_day_a_few_at_a_time() -> None:
    now = timezone.now()
    silent = make.station(connected=True, booted_at=now)
    make.station(connected=False, booted_at=now)
    make.station(connected=True)
    told(make.station(connected=True, booted_at=now), A="1")
    tasks.ask_configuration()
    tasks.ask_configuration()
    order = Command.objects.get()
    assert (order.station, order.name, order.subject) == (silent, "get_report", "configuration")
    Command.objects.update(created_at=now - timedelta(days=2), status=Command.Status.TIMED_OUT)
    tasks.ask_configuration()
    assert Command.objects.count() == 2


def test_other_firmware_is_asked_for_its_configuration() -> None:
    station = make.station()
    told(station, A="1")
    boot(station, firmware="1.0", previous_firmware="1.0")
    assert not Command.objects.exists()
    boot(station, firmware="1.1", previous_firmware="1.0")
    assert Command.objects.get().name == "get_report"


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("version", VERSIONS)
async def test_a_new_station_is_asked_told_otherwise_and_as_wanted(version: str) -> None:
    def wanted() -> Station:
        values = {"HeartbeatInterval": "77"}
        if version != "1.6":
            values = {"OCPPCommCtrlr.HeartbeatInterval": "77"}
        template(values=values, version=version)
        return make.station(identity="CP1", version=version)

    def differing() -> list[str]:
        return [one.wish.value for one in provisioning.differences(station)]

    def value() -> str | None:
        return Variable.objects.filter(name="HeartbeatInterval", attribute="Actual").first().value

    async def until(check: Any) -> None:
        async with asyncio.timeout(10):
            while not await db(check)():  # noqa: ASYNC110
                await asyncio.sleep(0.05)

    station = await db(wanted)()
    with gateway() as url:
        async with Charger(url.removesuffix("/"), "CP1", version) as charger:
            await charger.boot()
            await db(tasks.ask_configuration)()
            await until(
                lambda: Entry.objects.filter(kind="variables.reported", station=station).exists()
            )
            assert await db(differing)() == ["77"]
            news = await db(Entry.objects.filter(kind="variables.reported").latest)("pk")
            await db(tasks.configuration_told)(news.pk)
            await until(lambda: value() == "77")
            assert await db(differing)() == []


def test_the_page_shows_the_template_and_pushes_by_a_button(client: Client) -> None:
    client.force_login(make.staff())
    station = make.station(vendor="ACME")
    template(name="House rules", push=False)
    told(station, HeartbeatInterval="60")
    page = f"/admin/stations/station/{station.pk}/change/?tab=configuration"
    text = client.get(page).content.decode()
    assert "House rules" in text
    assert "Push 1 difference" in text
    client.post(f"/admin/stations/station/{station.pk}/push/")
    assert ordered(station) == [{"key": "HeartbeatInterval", "value": "300"}]


def test_a_template_takes_no_password(client: Client) -> None:
    client.force_login(make.staff())
    given = {"name": "T", "model_pattern": ".*", "values": '{"AuthorizationKey": "secret"}'}
    answer = client.post("/admin/stations/configurationtemplate/add/", given)
    assert "A password is set on a station" in answer.content.decode()
    assert not ConfigurationTemplate.objects.exists()
