"""The websocket of a charger: handshake, admission, fencing, drain."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Iterator

import pytest
import websockets
from websockets.exceptions import ConnectionClosed, InvalidStatus

from stations import live, onboarding, presence, security, writer
from stations.models import Entry, Message, Station
from stations.ocpp import consumer as consumers
from stations.ocpp import gateway as gateways
from stations.ocpp.gateway import gateway as registry
from tests import make
from tests.gateway import Raw, db, gateway, raw

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def url() -> Iterator[str]:
    consumers.attempts = security.Attempts()
    with gateway() as address:
        yield address


def station_named(identity: str) -> Station:
    return Station.objects.get(identity=identity)


async def until(true, seconds: float = 5.0) -> None:
    async with asyncio.timeout(seconds):
        while not await db(true)():  # noqa: ASYNC110  the database may change anyhow
            await asyncio.sleep(0.02)


async def refused(url: str, **options) -> int:
    with pytest.raises(InvalidStatus) as caught:
        async with raw(url, **options):
            pass
    return caught.value.response.status_code


async def test_a_boot_is_kept_and_answered(url: str) -> None:
    await db(make.station)(identity="CP1", booted_at=None)
    async with raw(url + "CP1") as socket:
        answer = await Raw(socket).boot(firmwareVersion="1.2.3")
    assert answer["status"] == "Accepted"
    assert answer["currentTime"].endswith("Z")
    assert 270 <= answer["interval"] <= 330
    station = await db(station_named)("CP1")
    assert (station.vendor, station.model, station.firmware) == ("Vendor", "Model", "1.2.3")
    assert station.version == "1.6"
    news = await db(Entry.objects.get)(kind="station.booted")
    assert (news.data["firmware"], news.data["previous_firmware"]) == ("1.2.3", "")
    frame = await db(Message.objects.get)(action="BootNotification")
    assert '"status":"Accepted"' in frame.answer
    assert frame.direction == "in"
    assert frame.latency_ms > 0


async def test_the_first_known_subprotocol_is_chosen(url) -> None:
    for offered, chosen in (
        (["ocpp1.6"], "ocpp1.6"),
        (["ocpp2.0.1", "ocpp1.6"], "ocpp2.0.1"),
        (["ocpp2.1"], "ocpp2.1"),
        (["ocpp9", "something", "ocpp1.6"], "ocpp1.6"),
    ):
        async with websockets.connect(url + "CP1", subprotocols=offered) as socket:
            assert socket.subprotocol == chosen


async def test_without_a_known_subprotocol_the_socket_is_closed_at_once(url) -> None:
    for offered in (None, ["ocpp3.0"]):
        async with websockets.connect(url + "CP1", subprotocols=offered) as socket:
            assert socket.subprotocol is None
            with pytest.raises(ConnectionClosed):
                await asyncio.wait_for(socket.recv(), 5)


async def test_what_is_no_identity_is_refused(url) -> None:
    expected = {
        "": 404,
        "a/b": 404,
        "a%2Fb": 400,
        "a%3Ab": 400,
        "%zz": 400,
        "%": 400,
        "%ff%fe": 400,
        "a%00b": 400,
        "x" * 49: 400,
        "%20": 400,
    }
    assert {path: await refused(url + path) for path in expected} == expected


async def test_an_identity_is_percent_decoded_once(url) -> None:
    async with raw(url + "RDAM%20123") as socket:
        await Raw(socket).boot()
    async with raw(url + "RDAM%2520123") as socket:
        await Raw(socket).boot()
    names = await db(lambda: set(Station.objects.values_list("identity", flat=True)))()
    assert names == {"RDAM 123", "RDAM%20123"}


async def test_a_websocket_elsewhere_is_not_found(url) -> None:
    assert await refused(url.replace("/ocpp/", "/other/") + "CP1") == 404


async def test_unknown_stations_are_rejected_by_policy(url, settings) -> None:
    settings.OCPP_UNKNOWN_STATIONS = "reject"
    assert await refused(url + "NEW") == 404
    assert not await db(Station.objects.exists)()


async def test_unknown_stations_are_kept_pending_by_policy(url, settings) -> None:
    settings.OCPP_UNKNOWN_STATIONS = "pending"
    async with raw(url + "NEW") as socket:
        charger = Raw(socket)
        answer = await charger.boot()
        assert (answer["status"], answer["interval"] <= 63) == ("Pending", True)
        refusal = await charger.call("Heartbeat", {})
        assert refusal[:3] == [4, "m2", "SecurityError"]
        await db(Station.objects.filter(identity="NEW").update)(state="accepted")
        assert (await charger.boot())["status"] == "Accepted"
        assert (await charger.call("Heartbeat", {}))[0] == 3
    assert await db(Message.objects.filter(action="Heartbeat").count)() == 1
    assert await db(Entry.objects.filter(kind="station.appeared").count)() == 1


async def test_unknown_stations_are_taken_into_service_by_policy(url, settings) -> None:
    settings.OCPP_UNKNOWN_STATIONS = "accept"
    async with raw(url + "NEW") as socket:
        assert (await Raw(socket).boot())["status"] == "Accepted"


async def test_a_rejected_station_is_answered_rejected_and_nothing_else(url) -> None:
    await db(make.station)(identity="CP1", state="rejected")
    async with raw(url + "CP1") as socket:
        charger = Raw(socket)
        assert (await charger.boot())["status"] == "Rejected"
        assert (await charger.call("Heartbeat", {}))[2] == "SecurityError"


async def test_a_retired_station_is_not_let_in(url) -> None:
    await db(make.station)(identity="CP1", state="retired")
    assert await refused(url + "CP1") == 404


def basic(user: str, password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


async def test_wrong_credentials_get_401_before_the_upgrade(url) -> None:
    stored = security.hash_password("right")
    await db(make.station)(identity="CP1", password_hash=stored, security_profile=1)
    await db(make.station)(identity="CP2", password_hash=security.hash_password("other"))
    assert await refused(url + "CP1") == 401
    assert await refused(url + "CP1", additional_headers=basic("CP1", "wrong")) == 401
    assert await refused(url + "CP1", additional_headers=basic("CP2", "other")) == 401
    async with raw(url + "CP1", additional_headers=basic("CP1", "right")) as socket:
        assert (await Raw(socket).boot())["status"] == "Accepted"


async def test_attempts_are_limited(url) -> None:
    await db(make.station)(identity="CP1", password_hash=security.hash_password("right"))
    answers = [
        await refused(url + "CP1", additional_headers=basic("CP1", f"guess{n}"))
        for n in range(security.ATTEMPTS + 1)
    ]
    assert answers == [401] * security.ATTEMPTS + [429]
    await db(make.station)(identity="CP2", password_hash=security.hash_password("right"))
    async with raw(url + "CP2", additional_headers=basic("CP2", "right")):
        pass


async def test_the_newest_socket_wins_and_the_old_close_changes_nothing(url) -> None:
    await db(make.station)(identity="CP1")
    async with raw(url + "CP1") as old:
        await Raw(old).boot()
        async with raw(url + "CP1") as new:
            with pytest.raises(ConnectionClosed):
                await asyncio.wait_for(old.recv(), 5)
            await asyncio.sleep(0.3)
            station = await db(station_named)("CP1")
            assert (station.connected, station.epoch) == (True, 2)
            assert (await Raw(new).call("Heartbeat", {}))[0] == 3
    await until(lambda: not station_named("CP1").connected)
    closed = await db(Entry.objects.filter(kind="station.disconnected").count)()
    assert closed == 1
    assert registry.sockets == {}


async def test_a_station_accepted_before_may_speak_without_booting(url) -> None:
    await db(make.station)(identity="CP1")
    async with raw(url + "CP1") as socket:
        charger = Raw(socket)
        assert (await charger.call("Heartbeat", {}))[2] == "SecurityError"
        await charger.boot()
    async with raw(url + "CP1") as socket:
        assert (await Raw(socket).call("Heartbeat", {}))[0] == 3


async def test_shutting_down_tells_chargers_to_come_back() -> None:
    await db(make.station)(identity="CP1")
    with gateway() as url:
        socket = await raw(url + "CP1")
        await Raw(socket).boot()
    with pytest.raises(ConnectionClosed) as caught:
        await asyncio.wait_for(socket.recv(), 5)
    assert caught.value.rcvd.code == 1012
    assert not (await db(station_named)("CP1")).connected


async def test_any_frame_is_a_sign_of_life(url) -> None:
    await db(make.station)(identity="CP1")
    async with raw(url + "CP1") as socket:
        await Raw(socket).boot()
        await db(Station.objects.update)(last_seen_at=None)
        await asyncio.sleep(1.1)
        await Raw(socket).call("Heartbeat", {})
        assert (await db(station_named)("CP1")).last_seen_at is not None


async def test_while_the_database_is_down_a_charger_hears_nothing_and_may_try_again(
    url, monkeypatch
) -> None:
    await db(make.station)(identity="CP1")
    commit = writer.commit

    async def down(unit: writer.Unit) -> None:
        raise writer.DatabaseDown("gone")

    async with raw(url + "CP1") as socket:
        charger = Raw(socket)
        await charger.boot()
        monkeypatch.setattr(writer, "commit", down)
        await charger.send('[2,"h","Heartbeat",{}]')
        await charger.send('[2,"u","NoSuchAction",{}]')
        assert await charger.silent()
        assert await refused(url + "CP2") == 503
        monkeypatch.setattr(writer, "commit", commit)
        assert (await charger.call("Heartbeat", {}, "h"))[:2] == [3, "h"]


def retire(identity: str) -> None:
    onboarding.retire(station_named(identity))


@pytest.mark.parametrize("told", [True, False])
async def test_retiring_a_station_closes_its_socket_at_once(
    url, monkeypatch, settings, told
) -> None:
    """Told by the bus, or found by the sweep where another process's bus does not reach us."""
    within_s = 2 if told or settings.EMBEDDED else gateways.EVERY_S + 2
    if not told:
        monkeypatch.setattr(live.bus, "publish", lambda topics: None)
    await db(make.station)(identity="CP1")
    async with raw(url + "CP1") as socket:
        charger = Raw(socket)
        await charger.boot()
        await db(retire)("CP1")
        with pytest.raises(ConnectionClosed) as caught:
            await asyncio.wait_for(socket.recv(), within_s)
        assert (caught.value.rcvd.code, caught.value.rcvd.reason) == (
            1008,
            "this station was retired",
        )
    assert await refused(url + "CP1") == 404
    await until(lambda: not station_named("CP1").connected)
    gone = await db(Entry.objects.get)(kind="station.disconnected")
    assert gone.data["code"] == 1008


async def test_a_socket_admitted_before_its_station_was_retired_never_opens(
    url, monkeypatch
) -> None:
    admit = consumers.presence.admit

    def late(identity: str) -> presence.Admitted:
        admitted = admit(identity)
        retire(identity)
        return admitted

    await db(make.station)(identity="CP1")
    monkeypatch.setattr(consumers.presence, "admit", late)
    assert await refused(url + "CP1") == 404
    station = await db(station_named)("CP1")
    assert (station.connected, station.epoch) == (False, 0)
    assert not await db(Entry.objects.filter(kind="station.connected").exists)()
