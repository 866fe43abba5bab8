"""Changing a station's password: tried, taken, rolled back; and the profile a station may use."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone
from websockets.exceptions import InvalidStatus

from stations import commands, passwords, security
from stations.models import Command, Entry, Station
from stations.ocpp import delivery
from tests import make
from tests.gateway import Raw, db, gateway, raw
from tests.test_commands_delivery import answer, ended, take

on_the_wire = pytest.mark.django_db(transaction=True)
OLD, NEW = "old-password-0123456789", "new-password-0123456789"


@pytest.fixture
def url() -> Iterator[str]:
    with gateway() as address:
        yield address


def basic(password: str, user: str = "CP1") -> dict[str, str]:
    import base64

    word = base64.b64encode(f"{user}:{password}".encode()).decode()
    return {"Authorization": f"Basic {word}"}


async def opens(url: str, password: str) -> bool:
    try:
        async with raw(url + "CP1", additional_headers=basic(password)) as socket:
            await Raw(socket).boot()
    except InvalidStatus as refused:
        return refused.response.status_code != 401
    return True


def station_with_password(**fields: Any) -> Station:
    return make.station(
        identity="CP1", security_profile=1, password_hash=security.hash_password(OLD), **fields
    )


async def told(url: str, reply: str = "Accepted") -> None:
    station = await db(Station.objects.get)(identity="CP1")
    async with raw(url + "CP1", additional_headers=basic(OLD)) as socket:
        await Raw(socket).boot()
        command = await db(commands.send)(station, "rotate_password", value=NEW)
        call = await take(socket, "ChangeConfiguration")
        assert call[3] == {"key": "AuthorizationKey", "value": NEW}
        await answer(socket, call, {"status": reply})
        await ended(command)


def kinds() -> list[str]:
    rows = Entry.objects.filter(kind__startswith="password.").order_by("pk")
    return list(rows.values_list("kind", flat=True))


@on_the_wire
async def test_the_new_password_counts_once_the_station_came_with_it(url: str) -> None:
    await db(station_with_password)()
    await told(url)
    assert await opens(url, NEW)
    assert not await opens(url, OLD)
    assert await db(kinds)() == ["password.on_trial", "password.changed"]


@on_the_wire
async def test_a_station_that_comes_back_with_the_old_one_is_let_in_and_not_locked_out_later(
    url: str,
) -> None:
    await db(station_with_password)()
    await told(url)
    assert await opens(url, OLD)
    assert await opens(url, OLD)
    assert await db(kinds)() == ["password.on_trial", "password.rolled_back"]
    assert await opens(url, NEW)  # it applied it late
    assert not await opens(url, OLD)


@on_the_wire
async def test_a_station_that_does_not_come_back_in_time_keeps_the_old_one(url: str) -> None:
    station = await db(station_with_password)()
    await told(url)
    late = timezone.now() + passwords.TRIAL + timedelta(seconds=1)
    assert await db(passwords.sweep)() == 0
    assert await db(passwords.sweep)(late) == 1
    assert await db(passwords.sweep)(late) == 0
    assert await opens(url, OLD)
    await db(station.refresh_from_db)()
    assert security.verify_password(OLD, station.password_hash)
    assert await db(kinds)() == ["password.on_trial", "password.not_seen"]


@on_the_wire
async def test_a_refused_password_changes_nothing(url: str) -> None:
    await db(station_with_password)()
    await told(url, "Rejected")
    assert not await opens(url, NEW)
    assert await opens(url, OLD)
    assert await db(kinds)() == []


@on_the_wire
async def test_a_station_that_keeps_its_socket_is_asked_to_come_back(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery, "RENEW_S", 0.1)
    station = await db(station_with_password)()
    async with raw(url + "CP1", additional_headers=basic(OLD)) as socket:
        await Raw(socket).boot()
        await db(commands.send)(station, "rotate_password", value=NEW)
        await answer(socket, await take(socket, "ChangeConfiguration"), {"status": "Accepted"})
        async with asyncio.timeout(5):
            await socket.wait_closed()
        assert socket.close_code == 1012


@on_the_wire
async def test_a_socket_that_dies_before_the_answer_leaves_both_passwords_valid(url: str) -> None:
    station = await db(station_with_password)()
    async with raw(url + "CP1", additional_headers=basic(OLD)) as socket:
        await Raw(socket).boot()
        command = await db(commands.send)(station, "rotate_password", value=NEW)
        await take(socket, "ChangeConfiguration")
    assert (await ended(command)).status == "timed_out"
    assert await opens(url, NEW)


@pytest.mark.django_db
def test_a_gateway_that_died_with_the_order_leaves_both_passwords_valid() -> None:
    station = station_with_password()
    command = commands.send(station, "rotate_password", value=NEW)
    commands.claim(command, epoch=1, message_id="m", action="ChangeConfiguration", request=None)
    Command.objects.update(sent_at=timezone.now() - timedelta(minutes=5))
    assert commands.sweep() == 1
    station.refresh_from_db()
    assert security.verify_password(NEW, station.next_password_hash)
    assert NEW not in str(Command.objects.values())


def test_every_station_of_a_bulk_order_gets_a_password_of_its_own() -> None:
    made = {commands.check("rotate_password", {})["value"] for _ in range(5)}
    assert len(made) == 5
    assert {len(one) for one in made} == {40}


# --- what a connection proves -------------------------------------------------------------------

HASH = security.hash_password("p" * 16)
RIGHT = basic("p" * 16)["Authorization"].encode()


@pytest.mark.parametrize(
    ("profile", "shown", "proof"),
    [
        (0, security.Shown(), None),
        (0, security.Shown(RIGHT), (1, 0)),
        (1, security.Shown(RIGHT, tls=True), (2, 0)),
        (2, security.Shown(RIGHT), None),
        (2, security.Shown(RIGHT, tls=True), (2, 0)),
        (3, security.Shown(RIGHT, tls=True), None),
        (3, security.Shown(None, True, "CP1"), (3, -1)),
        (3, security.Shown(None, True, "CP2"), None),
        (0, security.Shown(RIGHT, True, "CP2"), None),
        (3, security.Shown(None, False, "CP1"), None),
        (2, security.Shown(None, True, "CP1"), (3, -1)),
    ],
)
def test_each_profile_wants_its_proof(profile: int, shown: Any, proof: Any) -> None:
    assert security.proven("CP1", [HASH, ""], profile, shown) == proof


@on_the_wire
async def test_a_locked_station_rises_with_the_best_profile_it_connects_with(url: str) -> None:
    station = await db(station_with_password)(security_locked=True)
    await db(Station.objects.filter(pk=station.pk).update)(security_profile=0)
    assert await opens(url, OLD)
    await db(station.refresh_from_db)()
    assert (station.security_profile, station.connected_profile) == (1, 1)
    news = await db(Entry.objects.get)(kind="security.profile_raised")
    assert news.data["profile"] == 1
