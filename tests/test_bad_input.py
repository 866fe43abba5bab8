"""What bad input gets: the right answer in each version, the socket lives, nobody else suffers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.frames import Frame, Opcode

from monitoring.models import Session
from stations import quirks
from stations.models import Connector, Message, QuirkProfile, Station
from stations.ocpp import consumer
from tests import make
from tests.gateway import Raw, db, gateway, raw

pytestmark = pytest.mark.django_db(transaction=True)
VERSIONS = ["1.6", "2.0.1", "2.1"]
STAMP = "2026-11-22T10:00:00Z"


@pytest.fixture
def url() -> Iterator[str]:
    with gateway() as address:
        yield address


class Bench:
    """One booted charger with a token."""

    def __init__(self, url: str, version: str, identity: str = "CP1") -> None:
        self.url, self.version, self.identity = url, version, identity

    async def __aenter__(self) -> Raw:
        await db(make.station)(identity=self.identity, version=self.version)
        if self.identity == "CP1":
            await db(make.token)(uid="TAG")
        self.socket = await raw(self.url + self.identity, self.version)
        charger = Raw(self.socket)
        await charger.boot(self.version)
        return charger

    async def __aexit__(self, *_: object) -> None:
        await self.socket.close()


async def lives(charger: Raw) -> None:
    """The next good message works."""
    assert (await charger.call("Heartbeat", {}))[0] == 3


def status(version: str, **changes: Any) -> dict[str, Any]:
    if version == "1.6":
        base = {"connectorId": 1, "errorCode": "NoError", "status": "Available"}
    else:
        base = {"evseId": 1, "connectorId": 1, "connectorStatus": "Available"}
    return base | {"timestamp": STAMP} | changes


# --- frames -------------------------------------------------------------------------------------


UNREADABLE = [
    "not json",
    "not json, with \0 in it",
    "{}",
    "[2]",
    "[" * 20_000 + "]" * 20_000,
    '[2, 12, "Heartbeat", {}]',
    '[2, null, "Heartbeat", {}]',
    ' [\t2\n, {"id": "1"}, "Heartbeat", {}]',
    '[2, "", "Heartbeat", {}]',
    f'[2, "{"x" * 37}", "Heartbeat", {{}}]',
    '[2, "quote\\" and more", "Heartbeat", {"a": NaN}]',
]
BROKEN_FURTHER_ON = [
    '[2, "7", "Heartbeat", {"a": NaN}]',
    '[2, "7", "Heartbeat", {"a": Infinity}]',
    '[2, "7", "Heartbeat", {"a": -Infinity}]',
    '[2, "7", "Heartbeat", {"a": 1e999}]',
    '[2,"7","StopTransaction",{"transactionId":,"meterStop":1}]',
    '[2,"7","Heartbeat",{',
]
MISSHAPEN = [
    '[2, "7", "Heartbeat"]',
    '[2, "7", "Heartbeat", {}, {"fifth": 1}]',
    '[2, "7", {"a": 1}, {}]',
    '[2, "7", 12, {}]',
]


@pytest.mark.parametrize("version", VERSIONS)
async def test_what_cannot_be_read_is_told_so_or_dropped(url, version) -> None:
    async with Bench(url, version) as charger:
        for text in UNREADABLE:
            await charger.send(text)
            if version != "1.6":
                assert (await charger.receive())[:3] == [4, "-1", "RpcFrameworkError"], text
            elif text.replace("\t", "").startswith(("[2, ", " [2\n")):
                assert (await charger.receive())[:3] == [4, "-1", "FormationViolation"], text
            else:
                assert await charger.silent(0.1), text
            await lives(charger)


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_call_whose_payload_is_no_json_is_answered_with_its_id(url, version) -> None:
    code = "FormationViolation" if version == "1.6" else "RpcFrameworkError"
    async with Bench(url, version) as charger:
        for text in BROKEN_FURTHER_ON:
            await charger.send(text)
            assert (await charger.receive())[:3] == [4, "7", code], text
            await lives(charger)
        await charger.send('[3, "7", {"a": NaN}]')  # an answer: never refused with its own id
        if version == "1.6":
            assert await charger.silent()
        else:
            assert (await charger.receive())[:3] == [4, "-1", "RpcFrameworkError"]
        await lives(charger)
    kept = await db(Message.objects.filter(error__startswith=code).count)()
    assert kept == len(BROKEN_FURTHER_ON) + (version != "1.6") + (version == "1.6")


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_call_of_the_wrong_shape_is_answered_with_its_id(url, version) -> None:
    code = "FormationViolation" if version == "1.6" else "RpcFrameworkError"
    async with Bench(url, version) as charger:
        for text in MISSHAPEN:
            await charger.send(text)
            assert (await charger.receive())[:3] == [4, "7", code], text
        await lives(charger)
    assert await db(Message.objects.filter(action="Heartbeat").count)() == 1


@pytest.mark.parametrize("version", VERSIONS)
async def test_unknown_message_types(url, version) -> None:
    async with Bench(url, version) as charger:
        await charger.send('[9, "7", "Heartbeat", {}]')
        if version == "1.6":
            assert await charger.silent()
        else:
            assert (await charger.receive())[:3] == [4, "7", "MessageTypeNotSupported"]
        await charger.send('[6, "8", "NotifyPeriodicEventStream", {"id": 1}]')
        if version == "2.0.1":
            assert (await charger.receive())[:3] == [4, "8", "MessageTypeNotSupported"]
        else:
            assert await charger.silent()
        await lives(charger)


async def test_a_send_of_2_1_is_kept_and_never_answered(url) -> None:
    payload = {
        "id": 1,
        "pending": 0,
        "basetime": STAMP,
        "data": [{"t": 1.5, "v": "230"}],
    }
    async with Bench(url, "2.1") as charger:
        await charger.send(orjson.dumps([6, "s", "NotifyPeriodicEventStream", payload]).decode())
        assert await charger.silent()
        await lives(charger)
    assert await db(Message.objects.filter(action="NotifyPeriodicEventStream").count)() == 1


@pytest.mark.parametrize("version", VERSIONS)
async def test_answers_nobody_asked_for_are_ignored(url, version) -> None:
    async with Bench(url, version) as charger:
        for text in ('[3, "x", {}]', '[3, "x"]', '[4, "x", "GenericError", "", {}]', '[4, "x"]'):
            await charger.send(text)
        assert await charger.silent()
        await lives(charger)


async def test_binary_frames_and_bad_utf8_close_the_socket(url) -> None:
    await db(make.station)(identity="CP1")
    for frame, code in ((Frame(Opcode.BINARY, b"\x00"), 1003), (Frame(Opcode.TEXT, b"\xff"), 1007)):
        socket = await raw(url + "CP1")
        await Raw(socket).boot()
        socket.transport.write(frame.serialize(mask=True))
        with pytest.raises(ConnectionClosed) as caught:
            await asyncio.wait_for(socket.recv(), 5)
        assert caught.value.rcvd.code == code


async def test_a_frame_beyond_a_mebibyte_closes_the_socket_and_hurts_nobody(url) -> None:
    async with Bench(url, "1.6") as big, Bench(url, "1.6", "CP2") as other:
        payload = {"vendorId": "v", "data": "x" * (1024 * 1024 + 10)}
        await big.send(orjson.dumps([2, "1", "DataTransfer", payload]).decode())
        began = time.monotonic()
        await lives(other)
        assert time.monotonic() - began < 1
        with pytest.raises(ConnectionClosed) as caught:
            await big.receive()
        assert caught.value.rcvd.code == 1009


async def test_fragments_are_one_message(url) -> None:
    async with Bench(url, "1.6") as charger:
        await charger.socket.send(['[2,"frag",', '"Heart', 'beat",{}]'])
        assert (await charger.receive())[:2] == [3, "frag"]


# --- actions and payloads ------------------------------------------------------------------------


ACTIONS = {
    "Heartbeet": "NotImplemented",
    "heartbeat": "NotImplemented",
    "": "NotImplemented",
    "Reset": "NotSupported",
    "ClearCache": "NotSupported",
}


@pytest.mark.parametrize("version", VERSIONS)
async def test_unknown_and_unsupported_actions(url, version) -> None:
    async with Bench(url, version) as charger:
        answers = {action: (await charger.call(action, {}))[2] for action in ACTIONS}
        assert answers == ACTIONS
        await lives(charger)


PAYLOADS = [
    ([], "FormatViolation"),
    ("text", "FormatViolation"),
    (None, "FormatViolation"),
    ({"timestamp": None}, "TypeConstraintViolation"),
    ({"connectorId": "1"}, "TypeConstraintViolation"),
    ({"connectorId": ...}, "OccurrenceConstraintViolation"),
    ({"connectorId": -1}, "PropertyConstraintViolation"),
    ({"connectorId": 10**15}, "PropertyConstraintViolation"),
    ({"timestamp": "the day after"}, "PropertyConstraintViolation"),
]
IN_16 = {
    "FormatViolation": "FormationViolation",
    "OccurrenceConstraintViolation": "OccurenceConstraintViolation",
}


@pytest.mark.parametrize("version", VERSIONS)
async def test_each_violation_gets_its_code_in_each_version(url, version) -> None:
    async with Bench(url, version) as charger:
        for changes, code in PAYLOADS:
            payload = changes
            if isinstance(changes, dict):
                merged = status(version, **changes)
                payload = {key: value for key, value in merged.items() if value is not ...}
            answer = await charger.call("StatusNotification", payload)
            expected = IN_16.get(code, code) if version == "1.6" else code
            assert (answer[0], answer[2], len(answer)) == (4, expected, 5), changes
        await lives(charger)
    assert not await db(Connector.objects.exclude(status="Unknown").exists)()


@pytest.mark.parametrize("version", ["2.0.1", "2.1"])
async def test_an_unknown_property_is_a_format_violation_in_2_x(url, version) -> None:
    async with Bench(url, version) as charger:
        answer = await charger.call("StatusNotification", status(version, colour="red"))
        assert answer[2] == "FormatViolation"


async def test_an_unknown_enum_or_too_long_text_is_never_stored_truncated(url) -> None:
    async with Bench(url, "1.6") as charger:
        for payload in (status("1.6", status="Sleeping"), status("1.6", info="x" * 51)):
            answer = await charger.call("StatusNotification", payload)
            assert answer[2] == "PropertyConstraintViolation"
    assert not await db(Connector.objects.exclude(info="").exists)()


@pytest.mark.parametrize("version", VERSIONS)
async def test_data_of_an_unknown_vendor_is_answered(url, version) -> None:
    async with Bench(url, version) as charger:
        answer = await charger.call("DataTransfer", {"vendorId": "nobody", "data": "x"})
        assert answer[2] == {"status": "UnknownVendorId"}


# --- repetition and order ------------------------------------------------------------------------


def starting(**changes: Any) -> dict[str, Any]:
    now = datetime.now(UTC).isoformat()
    return {"connectorId": 1, "idTag": "TAG", "meterStart": 10, "timestamp": now} | changes


async def test_the_same_call_again_gets_the_stored_answer(url) -> None:
    async with Bench(url, "1.6") as charger:
        payload = starting()
        first = await charger.call("StartTransaction", payload, "same")
        again = await charger.call("StartTransaction", payload, "same")
        assert first == again
        other = await charger.call("Heartbeat", {}, "same")
        assert other[:2] == [3, "same"]
        assert "currentTime" in other[2]
        resent = await charger.call("StartTransaction", payload, "another id")
        assert resent[2]["transactionId"] == first[2]["transactionId"]
    assert await db(Session.objects.count)() == 1
    assert await db(Message.objects.filter(action="StartTransaction").count)() == 2


async def test_message_ids_that_start_again_after_a_reconnect_do_no_harm(url) -> None:
    async with Bench(url, "1.6") as charger:
        first = await charger.call("StartTransaction", starting(), "1")
        async with raw(url + "CP1") as socket:
            second = await Raw(socket).call("StartTransaction", starting(connectorId=2), "1")
            assert second[2]["transactionId"] != first[2]["transactionId"]


async def test_fifty_calls_at_once_are_all_answered_in_order(url) -> None:
    async with Bench(url, "1.6") as charger:
        for n in range(50):
            await charger.send(f'[2,"b{n}","Heartbeat",{{}}]')
        answers = [await charger.receive() for _ in range(50)]
        assert [answer[1] for answer in answers] == [f"b{n}" for n in range(50)]


@pytest.mark.slow
async def test_nobody_suffers_from_chargers_that_send_garbage(url) -> None:
    async with Bench(url, "1.6") as good:
        noisy = []
        for n in range(10):
            await db(make.station)(identity=f"NOISE{n}")
            socket = await raw(f"{url}NOISE{n}")
            await Raw(socket).boot()
            noisy.append(socket)

        async def shout(socket: Any) -> None:
            for _ in range(300):
                await socket.send('[2, "x", {"no": "action"}, {}]')

        shouting = [asyncio.create_task(shout(socket)) for socket in noisy]
        slowest = 0.0
        for _ in range(20):
            began = time.monotonic()
            await lives(good)
            slowest = max(slowest, time.monotonic() - began)
        assert slowest < 1
        await asyncio.gather(*shouting)
        for socket in noisy:
            await socket.close()


async def test_who_sends_garbage_is_slowed_down_and_named_once(url, monkeypatch, caplog) -> None:
    """Four refused frames at a cost of half a second each, from an allowance of one second."""
    monkeypatch.setattr(consumer, "REFUSED_COSTS", consumer.FRAMES_A_SECOND / 2)
    async with Bench(url, "1.6") as charger:
        began = time.monotonic()
        for n in range(4):
            await charger.send(f'[2,"{n}","MakeCoffee",{{}}]')
        answers = [(await charger.receive())[2] for _ in range(4)]
        assert answers == ["NotImplemented"] * 4
        await lives(charger)
        assert time.monotonic() - began > 0.9
    named = [one for one in caplog.messages if "refused" in one]
    assert named == ["CP1 sends frames that are refused."]


# --- content -------------------------------------------------------------------------------------


HOSTILE = ["<script>", "'; DROP TABLE x; --", "a\u0000b", "a\nb", "\u202eTAG", "ümläut"]
CLOCKS = [
    "1970-01-01T00:00:00Z",
    "2014-01-01T00:00:00Z",
    "2099-01-01T00:00:00Z",
    "2026-11-22T12:00:00+02:00",
    "2026-11-22T10:00:00",
]
REGISTERS = ["-5", "NaN", "1e400", "nonsense", "9" * 40, ""]


async def test_a_hostile_tag_is_text_and_not_accepted(url) -> None:
    async with Bench(url, "1.6") as charger:
        for tag in HOSTILE:
            answer = await charger.call("Authorize", {"idTag": tag})
            assert answer[2]["idTagInfo"]["status"] == "Invalid", tag
            answer = await charger.call("StartTransaction", starting(idTag=tag))
            assert answer[2]["idTagInfo"]["status"] == "Invalid", tag
            assert answer[2]["transactionId"] > 0
        await lives(charger)


async def test_strange_clocks_are_answered_and_not_believed(url) -> None:
    async with Bench(url, "1.6") as charger:
        for stamp in CLOCKS:
            answer = await charger.call("StatusNotification", status("1.6", timestamp=stamp))
            assert answer[0] == 3, stamp
            answer = await charger.call("StartTransaction", starting(timestamp=stamp))
            assert answer[2]["transactionId"] > 0, stamp
            station = await db(Station.objects.get)(identity="CP1")
            assert abs((datetime.now(UTC) - station.last_seen_at).total_seconds()) < 30


async def test_strange_registers_are_answered_and_never_billed(url) -> None:
    async with Bench(url, "1.6") as charger:
        for value in REGISTERS:
            number = (await charger.call("StartTransaction", starting()))[2]["transactionId"]
            meter = {
                "connectorId": 1,
                "transactionId": number,
                "meterValue": [{"timestamp": STAMP, "sampledValue": [{"value": value}]}],
            }
            assert (await charger.call("MeterValues", meter))[2] == {}, value
            empty = meter | {"meterValue": [{"timestamp": STAMP, "sampledValue": []}]}
            assert (await charger.call("MeterValues", empty))[2] == {}
            stop = {"transactionId": number, "meterStop": 10, "timestamp": STAMP}
            assert (await charger.call("StopTransaction", stop))[0] == 3
    energies = await db(lambda: set(Session.objects.values_list("energy_wh", flat=True)))()
    assert energies == {0}


async def test_huge_integers_overflow_nothing(url) -> None:
    async with Bench(url, "1.6") as charger:
        answer = await charger.call("StartTransaction", starting(meterStart=10**18))
        number = answer[2]["transactionId"]
        stop = {"transactionId": number, "meterStop": 10**18 + 5, "timestamp": STAMP}
        assert (await charger.call("StopTransaction", stop))[0] == 3
        unknown = {"transactionId": 10**17, "meterStop": 5, "timestamp": STAMP}
        assert (await charger.call("StopTransaction", unknown))[0] == 3
        await lives(charger)
    flags = await db(lambda: Session.objects.get(number=number).flags)()
    assert "bad-value" in flags


async def test_a_start_on_connector_0_is_refused(url) -> None:
    async with Bench(url, "1.6") as charger:
        for connector in (0, -1):
            answer = await charger.call("StartTransaction", starting(connectorId=connector))
            assert answer[0] == 4
        await lives(charger)
    assert not await db(Session.objects.exists)()


async def test_a_connector_never_seen_is_made(url) -> None:
    async with Bench(url, "1.6") as charger:
        assert (await charger.call("StatusNotification", status("1.6", connectorId=7)))[2] == {}
    assert await db(Connector.objects.filter(evse__number=7, status="Available").exists)()


async def test_an_old_status_replayed_does_not_overwrite_a_newer_one(url) -> None:
    async with Bench(url, "1.6") as charger:
        await charger.call("StatusNotification", status("1.6", status="Charging"))
        old = status("1.6", status="Preparing", timestamp="2026-11-22T09:00:00Z")
        assert (await charger.call("StatusNotification", old))[2] == {}
    assert (await db(Connector.objects.get)()).status == "Charging"


async def test_2_x_events_of_unknown_or_ended_transactions_are_answered(url) -> None:
    def event(kind: str, seq: int, transaction: str = "t1") -> dict[str, Any]:
        return {
            "eventType": kind,
            "timestamp": STAMP,
            "triggerReason": "Trigger",
            "seqNo": seq,
            "transactionInfo": {"transactionId": transaction},
            "evse": {"id": 1, "connectorId": 1},
        }

    async with Bench(url, "2.0.1") as charger:
        for kind, seq in (("Ended", 5), ("Started", 0), ("Updated", 3), ("Ended", 5)):
            assert (await charger.call("TransactionEvent", event(kind, seq)))[0] == 3
        assert (await charger.call("TransactionEvent", event("Updated", 1, "t2")))[0] == 3
    assert await db(Session.objects.count)() == 2


# --- quirks --------------------------------------------------------------------------------------


def event(kind: str, ref: str, seconds: int, **changes: Any) -> dict[str, Any]:
    trigger = {"Started": "Authorized", "Updated": "MeterValuePeriodic", "Ended": "StopAuthorized"}
    context = {"Started": "Transaction.Begin", "Ended": "Transaction.End"}
    at = f"2026-11-22T10:{seconds // 60:02}:{seconds % 60:02}Z"
    sample = {
        "value": 1000.0 + seconds,
        "measurand": "Energy.Active.Import.Register",
        "context": context.get(kind, "Sample.Periodic"),
    }
    return {
        "eventType": kind,
        "timestamp": at,
        "triggerReason": trigger[kind],
        "seqNo": seconds,
        "transactionInfo": {"transactionId": ref},
        "evse": {"id": 1, "connectorId": 1},
        "meterValue": [{"timestamp": at, "sampledValue": [sample]}],
    } | changes


@pytest.mark.parametrize("version", ["2.0.1", "2.1"])
async def test_a_transaction_id_that_no_database_can_hold_is_refused(url, version) -> None:
    async with Bench(url, version) as charger, Bench(url, version, "CP2") as other:
        for ref in ("a\0b", "\0", "line\nbreak", "\x1b[2J"):
            answers = await asyncio.gather(  # in one batch with another charger's good one
                charger.call("TransactionEvent", event("Started", ref, 0)),
                other.call("TransactionEvent", event("Started", f"T{len(ref)}", 0)),
            )
            assert answers[0][2] == "PropertyConstraintViolation"
            assert "transactionId" in answers[0][3]
            assert answers[1][0] == 3
        await lives(charger)
    assert await db(Session.objects.filter(station__identity="CP1").count)() == 0
    assert await db(Session.objects.filter(station__identity="CP2").count)() == 4


@pytest.mark.parametrize("version", ["2.0.1", "2.1"])
@pytest.mark.parametrize("ref", ["", "  "])
async def test_a_transaction_without_an_id_is_one_session_for_review(url, version, ref) -> None:
    token = {"idToken": {"idToken": "TAG", "type": "ISO14443"}}
    events = [
        event("Started", ref, 0, **token),
        event("Updated", ref, 60),
        event("Updated", ref, 120),
        event("Ended", ref, 180),
    ]
    async with Bench(url, version) as charger:
        for payload in [*events, events[0], events[3]]:  # and two of them resent
            assert (await charger.call("TransactionEvent", payload))[0] == 3
    session = await db(Session.objects.get)()
    assert (session.review, session.state) == ("no-transaction-id", "closed")
    assert (session.energy_wh, session.token_uid) == (180, "TAG")
    assert session.ref.startswith("nameless-")


async def test_events_without_an_id_or_a_start_are_one_session_for_review(url) -> None:
    async with Bench(url, "2.0.1") as charger:
        for payload in (event("Updated", "", 60), event("Updated", "", 90), event("Ended", "", 99)):
            assert (await charger.call("TransactionEvent", payload))[0] == 3
    session = await db(Session.objects.get)()
    assert session.review == "no-transaction-id"
    assert "no-start" in session.flags


def tolerated() -> dict[str, int]:
    return QuirkProfile.objects.get(built_in=False).tolerated


async def test_a_known_quirk_is_repaired_and_counted(url) -> None:
    quirks.forget()  # what an earlier test had
    await db(QuirkProfile.objects.create)(
        name="odd", vendor="Vendor", settings={"repairs": ["numeric_values", "other_error"]}
    )
    await db(make.station)(identity="CP1")
    meter = {
        "connectorId": 1,
        "meterValue": [{"timestamp": STAMP, "sampledValue": [{"value": 12.5}]}],
    }
    async with raw(url + "CP1") as socket:
        charger = Raw(socket)
        await charger.boot()
        assert (await charger.call("MeterValues", meter))[2] == {}
        broken = status("1.6", errorCode="Error", status="Faulted")
        assert (await charger.call("StatusNotification", broken))[2] == {}
        await lives(charger)
    assert (await db(Station.objects.get)()).quirks_id is not None
    connector = await db(Connector.objects.get)()
    assert (connector.error_code, connector.vendor_error_code) == ("OtherError", "Error")
    async with asyncio.timeout(5):  # counted soon, by nobody who waits
        while await db(tolerated)() != {"numeric_values": 1, "other_error": 1}:  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def test_a_profile_may_name_the_version_a_charger_speaks(url) -> None:
    profile = await db(QuirkProfile.objects.create)(
        name="mute", vendor="V", settings={"version": "1.6"}
    )
    await db(make.station)(identity="CP1", quirks=profile)
    await db(make.station)(identity="CP2", quirks=profile)
    async with raw(url + "CP1", None) as socket:
        assert (await Raw(socket).boot())["status"] == "Accepted"
    async with raw(url + "CP2", "2.0.1") as socket:
        assert (await Raw(socket).boot())["status"] == "Accepted"
