"""Lists of tokens on stations: the difference, in pieces, and the whole where in doubt."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as st

from stations import journal, locallist
from stations.models import Command, LocalList, Station, Token, Variable
from tests import make
from tests.charger import VERSIONS, Charger
from tests.gateway import db, gateway

UIDS = st.sampled_from([f"T{n}" for n in range(12)])
LISTS = st.dictionaries(UIDS, st.sampled_from([["accepted", "", "", "ISO14443"],
                                               ["blocked", "", "", "ISO14443"]]))  # fmt: skip


@given(LISTS, LISTS, st.sampled_from([None, 4]), st.integers(1, 5))
def test_message_by_message_a_station_comes_to_hold_what_it_should(
    wanted: Any, held: Any, version: int | None, chunk: int
) -> None:
    """Played as a station would: never more than a chunk, versions rise by one, and it ends."""
    station = dict(held)
    for _ in range(40):
        message = locallist.following(wanted, held, version, chunk)
        if message is None:
            break
        assert len(message.entries) <= chunk
        assert message.version == (version or 0) + 1
        held = {} if message.full else dict(held)
        station = {} if message.full else station
        for uid, info in message.entries.items():
            for one in (held, station):
                one.pop(uid, None) if info is None else one.__setitem__(uid, info)
        version = message.version
    assert station == held == wanted


@pytest.mark.django_db
def test_what_belongs_in_a_list() -> None:
    now = timezone.now()
    make.token(uid="GOOD", group="FLEET", expires_at=now + timedelta(days=1))
    make.token(uid="BLOCKED", status=Token.Status.BLOCKED)
    make.token(uid="STRANGER", status=Token.Status.UNKNOWN)
    make.token(uid="OLD", expires_at=now - timedelta(days=1))
    make.token(uid="PAYMENT", type=Token.Type.CENTRAL)
    assert {uid: info[0] for uid, info in locallist.tokens().items()} == {
        "GOOD": "accepted",
        "BLOCKED": "blocked",
    }
    long = make.token(uid="x" * 30)
    known = locallist.tokens()
    assert long.uid not in locallist.fitting(known, locallist.Limits(uid=20))
    assert list(locallist.fitting(known, locallist.Limits(room=1))) == [long.uid]  # the newest


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("version", "rows"),
    [
        (
            "1.6",
            [
                {"name": "SendLocalListMaxLength", "value": "7"},
                {"name": "LocalAuthListMaxLength", "value": "90"},
            ],
        ),
        (
            "2.0.1",
            [
                {"component": "LocalAuthListCtrlr", "name": "ItemsPerMessage", "value": "7"},
                {
                    "component": "LocalAuthListCtrlr",
                    "name": "Entries",
                    "value": "3",
                    "characteristics": {"maxLimit": 90.0},
                },
            ],
        ),
    ],
)
def test_a_stations_own_limits_hold(version: str, rows: list[dict[str, Any]]) -> None:
    station = make.station(version=version)
    assert locallist.limits(station).chunk == locallist.CHUNK
    for row in rows:
        Variable.objects.create(station=station, **row)
    limits = locallist.limits(station)
    assert (limits.chunk, limits.room) == (7, 90)


# --- with a charger -------------------------------------------------------------------------------


@pytest.fixture
def url() -> Iterator[str]:
    with gateway() as address:
        yield address.removesuffix("/")


def _moved_on(true: Callable[[LocalList], Any]) -> bool:
    journal.catch_up()
    locallist.tick()
    return bool(true(LocalList.objects.get()))


async def until(true: Callable[[LocalList], Any]) -> None:
    """Let the news be reacted to and the schedule tick until the list is so."""
    async with asyncio.timeout(15):
        while not await db(_moved_on)(true):  # noqa: ASYNC110  the database cannot wake us
            await asyncio.sleep(0.05)


def complete(count: int) -> Callable[[LocalList], bool]:
    return lambda row: row.synced_at is not None and row.entries == count and not row.error


def _place(version: str) -> Station:
    station = make.station(identity="CP1", version=version)
    key = ("", "SendLocalListMaxLength") if version == "1.6" else (
        "LocalAuthListCtrlr", "ItemsPerMessage")  # fmt: skip
    Variable.objects.create(station=station, component=key[0], name=key[1], value="4")
    for n in range(10):
        make.token(uid=f"T{n}")
    LocalList.objects.create(station=station)
    return station


def _sent() -> list[tuple[bool, int, int, str]]:
    rows = Command.objects.filter(name=locallist.SEND).order_by("pk")
    return [
        (one.args.get("full", False), one.args["version"], len(one.args["tokens"]), one.status)
        for one in rows
    ]


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("version", VERSIONS)
async def test_a_charger_holds_the_tokens_and_follows_their_changes(url: str, version: str) -> None:
    await db(_place)(version)
    async with Charger(url, "CP1", version) as charger:
        await charger.boot()
        await until(complete(10))
        assert sorted(charger.station.local_list) == [f"T{n}" for n in range(10)]
        assert await db(_sent)() == [
            (True, 1, 4, "accepted"),
            (False, 2, 4, "accepted"),
            (False, 3, 2, "accepted"),
        ]
        await db(Token.objects.filter(uid="T3").update)(status=Token.Status.BLOCKED)
        await db(Token.objects.filter(uid="T4").delete)()
        await until(complete(9))
        assert charger.station.local_list["T3"]["status"] == "Blocked"
        assert "T4" not in charger.station.local_list
        # another machine in its place: after its boot its version is asked for, and all is sent
        charger.station.local_list.clear()
        charger.station.local_list_version = 0
        charger.station.restart("PowerUp", away_s=0)
        await charger.boot()
        await until(lambda row: row.version == 3 and len(charger.station.local_list) == 9)
        # somebody else wrote its list: it refuses the difference, and gets the whole
        charger.station.local_list_version = 70
        await db(Token.objects.filter(uid="T5").delete)()
        await until(lambda row: len(charger.station.local_list) == 8 and row.entries == 8)
        assert "rejected" in [one[3] for one in await db(_sent)()]
        await db(LocalList.objects.update)(wanted=False)
        await until(complete(0))
        assert charger.station.local_list == {}


@pytest.mark.django_db
def test_a_station_that_cannot_keep_a_list_says_so_and_is_asked_again_later() -> None:
    station = make.station(connected=True)
    make.token()
    row = LocalList.objects.create(station=station)
    assert locallist.tick() == 1
    assert locallist.tick() == 0  # one at a time
    command = Command.objects.get()
    Command.objects.update(status=Command.Status.REJECTED, error="NotSupported")
    command.refresh_from_db()
    locallist.answered(command)
    row.refresh_from_db()
    assert (row.error, row.version) == ("NotSupported", None)
    assert locallist.tick() == 0
    LocalList.objects.update(retry_at=timezone.now())
    assert locallist.tick() == 1


@pytest.mark.django_db
def test_an_answer_taken_twice_changes_nothing() -> None:
    station = make.station(connected=True)
    for n in range(30):
        make.token(uid=f"T{n}")
    LocalList.objects.create(station=station)
    locallist.tick()
    first = Command.objects.get()
    Command.objects.update(status=Command.Status.ACCEPTED)
    first.refresh_from_db()
    locallist.answered(first)
    locallist.answered(first)
    row = LocalList.objects.get()
    assert (row.version, row.entries, Command.objects.count()) == (1, 20, 2)


@pytest.mark.django_db
def test_nothing_more_is_sent_before_an_answer_is_taken_into_account() -> None:
    """The charger has answered, our reaction has not run yet: the next would be the same again."""
    station = make.station(connected=True)
    make.token()
    LocalList.objects.create(station=station)
    locallist.tick()
    Command.objects.update(status=Command.Status.ACCEPTED)
    assert locallist.tick() == 0
    locallist.answered(Command.objects.get())
    assert LocalList.objects.get().synced_at is not None
    assert Command.objects.count() == 1


@pytest.mark.django_db
def test_staff_see_how_far_a_list_is_and_send_it_again(client: Any) -> None:
    station = make.station(identity="CP1")
    LocalList.objects.create(
        station=station, version=4, held={"T": []}, entries=1, synced_at=timezone.now()
    )
    client.force_login(make.staff())
    page = client.get("/admin/stations/locallist/").content.decode()
    assert "Complete" in page
    client.post(
        "/admin/stations/locallist/", {"action": "send_whole", "_selected_action": [station.pk]}
    )
    row = LocalList.objects.get()
    assert (row.version, row.held) == (None, {})
    assert client.get(f"/admin/stations/locallist/{station.pk}/change/").status_code == 200
    assert client.get("/admin/stations/locallist/add/").status_code == 200
