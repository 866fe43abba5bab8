"""Orders on the wire: said in each version, answered, refused, unanswered, late, lost and found."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
from django.utils import timezone

from stations import commands, security
from stations.catalogue import COMMANDS
from stations.models import Command, Entry, Message, QuirkProfile, Station, Variable
from stations.ocpp import fastpath
from stations.ocpp.consumer import DIALECTS
from stations.ocpp.delivery import Link
from stations.presence import Admitted
from tests import make
from tests.gateway import Raw, db, gateway, raw

VERSIONS = list(DIALECTS)

# name → arguments, the action and payload expected in 1.6, and in 2.x (None: cannot be said)
SAID: dict[str, tuple[dict, tuple[str, dict] | None, tuple[str, dict] | None]] = {
    "remote_start": (
        {"evse": 1, "token_uid": "TAG", "remote_start_id": 7},
        ("RemoteStartTransaction", {"idTag": "TAG", "connectorId": 1}),
        (
            "RequestStartTransaction",
            {"idToken": {"idToken": "TAG", "type": "Central"}, "remoteStartId": 7, "evseId": 1},
        ),
    ),
    "remote_stop": (
        {"ref": "42"},
        ("RemoteStopTransaction", {"transactionId": 42}),
        ("RequestStopTransaction", {"transactionId": "42"}),
    ),
    "unlock": (
        {"evse": 2},
        ("UnlockConnector", {"connectorId": 2}),
        ("UnlockConnector", {"evseId": 2, "connectorId": 1}),
    ),
    "reset": (
        {"hard": True},
        ("Reset", {"type": "Hard"}),
        ("Reset", {"type": "Immediate"}),
    ),
    "change_availability": (
        {"operative": False, "evse": 1},
        ("ChangeAvailability", {"connectorId": 1, "type": "Inoperative"}),
        ("ChangeAvailability", {"operationalStatus": "Inoperative", "evse": {"id": 1}}),
    ),
    "trigger_message": (
        {"message": "MeterValues", "evse": 1},
        ("TriggerMessage", {"requestedMessage": "MeterValues", "connectorId": 1}),
        ("TriggerMessage", {"requestedMessage": "MeterValues", "evse": {"id": 1}}),
    ),
    "get_configuration": (
        {"keys": ["HeartbeatInterval"]},
        ("GetConfiguration", {"key": ["HeartbeatInterval"]}),
        (
            "GetVariables",
            {
                "getVariableData": [
                    {
                        "component": {"name": "OCPPCommCtrlr"},
                        "variable": {"name": "HeartbeatInterval"},
                    }
                ]
            },
        ),
    ),
    "change_configuration": (
        {"key": "HeartbeatInterval", "value": "60"},
        ("ChangeConfiguration", {"key": "HeartbeatInterval", "value": "60"}),
        (
            "SetVariables",
            {
                "setVariableData": [
                    {
                        "component": {"name": "OCPPCommCtrlr"},
                        "variable": {"name": "HeartbeatInterval"},
                        "attributeValue": "60",
                    }
                ]
            },
        ),
    ),
    "get_report": (
        {"request_id": 3},
        ("GetConfiguration", {}),
        ("GetBaseReport", {"requestId": 3, "reportBase": "FullInventory"}),
    ),
    "clear_cache": ({}, ("ClearCache", {}), ("ClearCache", {})),
    "get_log": (
        {"location": "https://x/y", "request_id": 5},
        ("GetDiagnostics", {"location": "https://x/y"}),
        (
            "GetLog",
            {
                "log": {"remoteLocation": "https://x/y"},
                "logType": "DiagnosticsLog",
                "requestId": 5,
            },
        ),
    ),
    "update_firmware": (
        {
            "location": "https://x/f",
            "retrieve_at": "2026-01-01T00:00:00Z",
            "request_id": 6,
            "retries": 2,
        },
        (
            "UpdateFirmware",
            {
                "location": "https://x/f",
                "retrieveDate": "2026-01-01T00:00:00+00:00",
                "retries": 2,
            },
        ),
        (
            "UpdateFirmware",
            {
                "requestId": 6,
                "firmware": {
                    "location": "https://x/f",
                    "retrieveDateTime": "2026-01-01T00:00:00+00:00",
                },
                "retries": 2,
            },
        ),
    ),
    "data_transfer": (
        {"vendor_id": "v", "data": "d"},
        ("DataTransfer", {"vendorId": "v", "data": "d"}),
        ("DataTransfer", {"vendorId": "v", "data": "d"}),
    ),
}


def dialect_of(version: str) -> Any:
    async def nothing(_: Any) -> None:
        return None

    admitted = Admitted(1, "CP", "accepted", version, "", 0, 300, "UTC", {}, None, booted=True)
    return DIALECTS[version](Link(admitted, 1, UTC, nothing, nothing))


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", SAID)
def test_each_order_says_exactly_this(version: str, name: str) -> None:
    args, in_16, in_2x = SAID[name]
    command = Command(pk=9, name=name, args=commands.check(name, args))
    said = dialect_of(version)._request(command)
    assert said == (in_16 if version == "1.6" else in_2x)


@pytest.mark.parametrize(
    ("version", "name", "args", "why"),
    [
        ("1.6", "reset", {"evse": 1}, "whole station"),
        ("1.6", "remote_stop", {"ref": "abc"}, "no transaction number"),
        ("1.6", "remote_start", {"evse": 1, "token_uid": "x" * 21}, "at most 20"),
        ("2.0.1", "get_configuration", {}, "Name the variables"),
        ("2.0.1", "change_configuration", {"key": "Nowhere", "value": "1"}, "Component.Variable"),
    ],
)
def test_what_a_version_cannot_say_is_told_in_words(version, name, args, why) -> None:
    command = Command(pk=9, name=name, args=args)
    with pytest.raises(Exception, match=why):
        dialect_of(version)._request(command)


def test_a_security_log_and_signed_firmware_use_the_security_extension_of_1_6() -> None:
    dialect = dialect_of("1.6")
    log = Command(pk=9, name="get_log", args={"log_type": "SecurityLog", "location": "https://x"})
    assert dialect._request(log) == (
        "GetLog",
        {"log": {"remoteLocation": "https://x"}, "logType": "SecurityLog", "requestId": 9},
    )
    args = {"location": "https://x", "signature": "sig", "certificate": "pem", "request_id": 4}
    action, payload = dialect._request(Command(pk=9, name="update_firmware", args=args))
    assert action == "SignedUpdateFirmware"
    assert payload["firmware"]["signature"] == "sig"
    trigger = {"message": "LogStatusNotification"}
    assert dialect._request(Command(pk=9, name="trigger_message", args=trigger)) == (
        "ExtendedTriggerMessage",
        {"requestedMessage": "LogStatusNotification"},
    )


# --- on a real socket ---------------------------------------------------------------------------

on_the_wire = pytest.mark.django_db(transaction=True)


@pytest.fixture
def url() -> Iterator[str]:
    with gateway() as address:
        yield address


async def order(identity: str, name: str, **args: Any) -> Command:
    def send() -> Command:
        return commands.send(Station.objects.get(identity=identity), name, **args)

    return await db(send)()


async def ended(command: Command, seconds: float = 8.0) -> Command:
    async with asyncio.timeout(seconds):
        while True:
            row = await db(Command.objects.get)(pk=command.pk)
            if row.status not in ("queued", "sent"):
                return row
            await asyncio.sleep(0.02)


async def take(socket: Any, action: str) -> list[Any]:
    """Read the next call of that action."""
    while True:
        frame = orjson.loads(await asyncio.wait_for(socket.recv(), 8))
        if frame[0] == 2 and frame[2] == action:
            return frame


async def answer(socket: Any, frame: list[Any], payload: Any) -> None:
    await socket.send(orjson.dumps([3, frame[1], payload]).decode())


@on_the_wire
@pytest.mark.parametrize("version", VERSIONS)
async def test_an_order_is_sent_answered_and_logged(url: str, version: str) -> None:
    await db(make.station)(identity="CP1", version=version)
    async with raw(url + "CP1", version) as socket:
        await Raw(socket).boot(version)
        command = await order("CP1", "clear_cache", subject="job-7")
        call = await take(socket, "ClearCache")
        await answer(socket, call, {"status": "Accepted"})
        row = await ended(command)
    assert (row.status, row.response, row.error) == ("accepted", {"status": "Accepted"}, "")
    assert row.sent_at <= row.answered_at
    assert (row.message_id, row.action, row.epoch) == (call[1], "ClearCache", 1)
    logged = await db(Message.objects.get)(direction="out")
    assert (logged.action, logged.payload, logged.answer) == (
        "ClearCache",
        "{}",
        '{"status":"Accepted"}',
    )
    news = await db(Entry.objects.get)(kind="command.finished")
    assert (news.data["status"], news.data["subject"]) == ("accepted", "job-7")


@on_the_wire
@pytest.mark.parametrize(
    ("reply", "status", "error"),
    [
        ([3, "", {"status": "Rejected"}], "rejected", "Rejected"),
        ([4, "", "NotImplemented", "no such thing", {}], "failed", "NotImplemented: no such thing"),
        ([3, "", {"status": "Perhaps"}], "failed", "Invalid answer"),
        ([3, "", {}], "failed", "Invalid answer"),
        ([3, "", "text"], "failed", "Invalid answer"),
        ([3, ""], "failed", "Invalid answer"),
        ([4, ""], "failed", ""),
    ],
)
async def test_every_answer_ends_the_order_once(url, reply, status, error) -> None:
    await db(make.station)(identity="CP1")
    async with raw(url + "CP1") as socket:
        charger = Raw(socket)
        await charger.boot()
        first = await order("CP1", "clear_cache")
        call = await take(socket, "ClearCache")
        reply[1] = call[1]
        await charger.send(orjson.dumps(reply).decode())
        row = await ended(first)
        assert row.status == status
        assert error in row.error
        second = await order("CP1", "clear_cache")
        await answer(socket, await take(socket, "ClearCache"), {"status": "Accepted"})
        assert (await ended(second)).status == "accepted"
        assert (await charger.call("Heartbeat", {}))[0] == 3


@on_the_wire
async def test_the_charger_may_speak_while_an_order_waits_for_its_answer(url) -> None:
    await db(make.station)(identity="CP1")
    async with raw(url + "CP1") as socket:
        await Raw(socket).boot()
        first, second = await order("CP1", "clear_cache"), await order("CP1", "reset")
        call = await take(socket, "ClearCache")
        for _ in range(5):
            assert (await Raw(socket).call("Heartbeat", {}))[0] == 3
        assert (await db(Command.objects.get)(pk=second.pk)).status == "queued"
        await answer(socket, call, {"status": "Accepted"})
        await answer(socket, await take(socket, "Reset"), {"status": "Accepted"})
        assert (await ended(first)).status == (await ended(second)).status == "accepted"


@on_the_wire
async def test_an_unanswered_order_times_out_and_a_late_answer_is_kept(url) -> None:
    quirks = await db(QuirkProfile.objects.create)(
        name="slow", vendor="V", settings={"timeout_s": 0.3, "deaf_after": 3}
    )
    await db(make.station)(identity="CP1", quirks=quirks)
    async with raw(url + "CP1") as socket:
        await Raw(socket).boot()
        slow = await order("CP1", "clear_cache")
        call = await take(socket, "ClearCache")
        row = await ended(slow)
        assert (row.status, row.response) == ("timed_out", None)
        await answer(socket, call, {"status": "Accepted"})
        next_one = await order("CP1", "clear_cache")
        await answer(socket, await take(socket, "ClearCache"), {"status": "Rejected"})
        assert (await ended(next_one)).status == "rejected"
        row = await db(Command.objects.get)(pk=slow.pk)
        assert (row.status, row.response) == ("timed_out", {"status": "Accepted"})


@on_the_wire
async def test_a_charger_deaf_to_orders_is_disconnected(url) -> None:
    quirks = await db(QuirkProfile.objects.create)(
        name="deaf", vendor="V", settings={"timeout_s": 0.1, "deaf_after": 2}
    )
    await db(make.station)(identity="CP1", quirks=quirks)
    async with raw(url + "CP1") as socket:
        await Raw(socket).boot()
        for _ in range(2):
            await ended(await order("CP1", "clear_cache"))
        await asyncio.wait_for(socket.wait_closed(), 5)
    assert socket.close_code == 1011


@on_the_wire
async def test_an_order_waits_for_an_offline_station_and_for_its_boot(url) -> None:
    await db(make.station)(identity="CP1", booted_at=timezone.now())
    waiting = await order("CP1", "clear_cache")
    async with raw(url + "CP1") as socket:
        charger = Raw(socket)
        assert await charger.silent(0.6)  # held: a boot may be coming
        await charger.boot()
        await answer(socket, await take(socket, "ClearCache"), {"status": "Accepted"})
        assert (await ended(waiting)).status == "accepted"


@on_the_wire
async def test_a_rejected_station_is_sent_nothing_and_a_pending_one_only_questions(url) -> None:
    await db(make.station)(identity="CP1", state="rejected")
    await db(make.station)(identity="CP2", state="pending")
    await order("CP1", "trigger_message", message="Heartbeat")
    await order("CP2", "clear_cache")
    await order("CP2", "trigger_message", message="StatusNotification")
    async with raw(url + "CP1") as rejected, raw(url + "CP2") as pending:
        await Raw(rejected).boot()
        await Raw(pending).boot()
        call = await take(pending, "TriggerMessage")
        await answer(pending, call, {"status": "NotImplemented"})
        assert await Raw(pending).silent(0.5)
        assert await Raw(rejected).silent(0.1)


@on_the_wire
async def test_losing_the_connection_ends_the_order_and_the_next_socket_does_not_repeat_it(
    url,
) -> None:
    await db(make.station)(identity="CP1")
    async with raw(url + "CP1") as socket:
        await Raw(socket).boot()
        lost = await order("CP1", "reset", hard=True)
        await take(socket, "Reset")
    row = await ended(lost)
    assert (row.status, "closed" in row.error) == ("timed_out", True)
    async with raw(url + "CP1") as socket:
        await Raw(socket).boot()
        assert await Raw(socket).silent(0.5)


@on_the_wire
async def test_an_order_nobody_was_told_of_is_found(url) -> None:
    station = await db(make.station)(identity="CP1")
    async with raw(url + "CP1") as socket:
        await Raw(socket).boot()
        now = timezone.now()
        hidden = await db(Command.objects.create)(
            station=station, name="clear_cache", created_at=now, expires_at=now.replace(year=2099)
        )
        await answer(socket, await take(socket, "ClearCache"), {"status": "Accepted"})
        assert (await ended(hidden)).status == "accepted"


@on_the_wire
async def test_what_cannot_be_said_fails_without_a_frame(url) -> None:
    await db(make.station)(identity="CP1")
    async with raw(url + "CP1") as socket:
        await Raw(socket).boot()
        row = await ended(await order("CP1", "reset", evse=1))
        assert row.status == "failed"
        assert "whole station" in row.error
        assert await Raw(socket).silent(0.2)


@on_the_wire
async def test_reported_configuration_is_kept_in_1_6(url) -> None:
    await db(make.station)(identity="CP1")
    async with raw(url + "CP1") as socket:
        await Raw(socket).boot()
        command = await order("CP1", "get_report")
        keys = [
            {"key": "HeartbeatInterval", "readonly": False, "value": "300"},
            {"key": "AuthorizationKey", "readonly": False, "value": "secret"},
        ]
        call = await take(socket, "GetConfiguration")
        await answer(socket, call, {"configurationKey": keys, "unknownKey": []})
        await ended(command)
        kept = await db(lambda: list(Variable.objects.values_list("name", "value")))()
        assert kept == [("HeartbeatInterval", "300")]
        change = await order("CP1", "change_configuration", key="HeartbeatInterval", value="60")
        call = await take(socket, "ChangeConfiguration")
        await answer(socket, call, {"status": "RebootRequired"})
        assert (await ended(change)).status == "accepted"
        row = await db(Variable.objects.get)()
        assert (row.value, row.reboot_required) == ("60", True)


@on_the_wire
async def test_a_device_model_report_is_kept_in_2_0_1(url) -> None:
    await db(make.station)(identity="CP1", version="2.0.1")
    async with raw(url + "CP1", "2.0.1") as socket:
        charger = Raw(socket)
        await charger.boot("2.0.1")
        command = await order("CP1", "get_report")
        call = await take(socket, "GetBaseReport")
        await answer(socket, call, {"status": "Accepted"})
        await ended(command)
        line = {
            "component": {"name": "Connector", "evse": {"id": 1, "connectorId": 1}},
            "variable": {"name": "Available"},
            "variableAttribute": [{"value": "true", "mutability": "ReadOnly"}],
            "variableCharacteristics": {"dataType": "boolean", "supportsMonitoring": True},
        }
        report = {
            "requestId": call[3]["requestId"],
            "generatedAt": "2026-01-01T00:00:00Z",
            "seqNo": 0,
            "reportData": [line],
        }
        assert (await charger.call("NotifyReport", report))[2] == {}
        assert (await charger.call("NotifyReport", report | {"seqNo": 1}))[2] == {}
        row = await db(Variable.objects.get)()
        assert (row.component, row.evse, row.connector, row.name, row.value) == (
            "Connector",
            1,
            1,
            "Available",
            "true",
        )
        refused = await order(
            "CP1", "change_configuration", key="Connector@1.1.Available", value="x"
        )
        call = await take(socket, "SetVariables")
        item = call[3]["setVariableData"][0]
        assert item["component"] == line["component"]
        result = {
            "attributeStatus": "Rejected",
            "component": item["component"],
            "variable": item["variable"],
        }
        await answer(socket, call, {"setVariableResult": [result]})
        row = await ended(refused)
        assert (row.status, row.error) == ("rejected", "Rejected")


@on_the_wire
async def test_a_new_password_is_kept_as_its_hash_and_shown_nowhere(url) -> None:
    await db(make.station)(identity="CP1", password_hash="")
    key = "0123456789abcdef0123456789abcdef01234567"
    async with raw(url + "CP1") as socket:
        await Raw(socket).boot()
        command = await order("CP1", "change_configuration", key="AuthorizationKey", value=key)
        call = await take(socket, "ChangeConfiguration")
        assert call[3]["value"] == key
        await answer(socket, call, {"status": "Accepted"})
        row = await ended(command)
    assert row.status == "accepted"
    assert key not in str((row.args, row.request, row.response))
    logged = await db(Message.objects.get)(direction="out")
    assert key not in logged.payload
    station = await db(Station.objects.get)(identity="CP1")
    assert security.verify_password(key, station.next_password_hash)
    assert not await db(Variable.objects.exists)()


PASSWORD = "0123456789abcdef0123456789abcdef01234567"


def everywhere() -> str:
    """Everything that was kept of orders, frames, news and variables, as text."""
    rows = [
        *Command.objects.values_list("args", "request", "response", "error"),
        *Message.objects.values_list("payload", "answer", "error"),
        *Entry.objects.values_list("data"),
        *Variable.objects.values_list("value", "wanted"),
    ]
    return str(rows)


@on_the_wire
async def test_a_password_change_that_fails_or_is_never_sent_is_forgotten_too(url) -> None:
    station = await db(make.station)(identity="CP1")
    args = {"key": " authorizationkey", "value": PASSWORD}
    await order("CP1", "change_configuration", **args)
    await db(Command.objects.update)(expires_at=datetime.now(UTC))
    assert await db(commands.sweep)() == 1
    async with raw(url + "CP1") as socket:
        await Raw(socket).boot()
        refused = await order("CP1", "change_configuration", **args)
        await answer(socket, await take(socket, "ChangeConfiguration"), {"status": "Rejected"})
        await ended(refused)
    assert PASSWORD not in await db(everywhere)()
    assert await db(lambda: {one["value"] for one in Command.objects.values_list(
        "args", flat=True)})() == {"(hidden)"}  # fmt: skip
    await db(station.refresh_from_db)()
    assert station.password_hash == ""


@on_the_wire
async def test_a_password_taken_late_does_not_lock_the_station_out(url, monkeypatch) -> None:
    station = await db(make.station)(identity="CP1")
    spec = COMMANDS["change_configuration"]
    monkeypatch.setitem(COMMANDS, "change_configuration", dataclasses.replace(spec, timeout_s=0.2))
    async with raw(url + "CP1") as socket:
        await Raw(socket).boot()
        late = await order("CP1", "change_configuration", key="AuthorizationKey", value=PASSWORD)
        call = await take(socket, "ChangeConfiguration")
        assert (await ended(late)).status == "timed_out"
        await answer(socket, call, {"status": "Accepted"})
        await Raw(socket).call("Heartbeat", {}, "after")
        await asyncio.sleep(0.3)
    await db(station.refresh_from_db)()
    assert security.verify_password(PASSWORD, station.next_password_hash)
    assert PASSWORD not in await db(everywhere)()


@on_the_wire
async def test_a_password_that_a_charger_tells_is_kept_nowhere(url) -> None:
    await db(make.station)(identity="CP1")
    await db(make.station)(identity="CP2", version="2.0.1")
    async with raw(url + "CP1") as socket:
        await Raw(socket).boot()
        asked = await order("CP1", "get_configuration")
        keys = [
            {"key": "AUTHORIZATIONKEY", "readonly": False, "value": PASSWORD},
            {"key": "HeartbeatInterval", "readonly": False, "value": "300"},
        ]
        call = await take(socket, "GetConfiguration")
        await answer(socket, call, {"configurationKey": keys})
        row = await ended(asked)
        assert row.response["configurationKey"] == [keys[0] | {"value": "(hidden)"}, keys[1]]
    where = {"component": {"name": "SecurityCtrlr"}, "variable": {"name": "BasicAuthPassword"}}
    async with raw(url + "CP2", "2.0.1") as socket:
        charger = Raw(socket)
        await charger.boot("2.0.1")
        report = where | {"variableAttribute": [{"value": PASSWORD, "mutability": "WriteOnly"}]}
        told = {"requestId": 1, "generatedAt": "2026-11-22T10:00:00Z", "seqNo": 0}
        assert (await charger.call("NotifyReport", told | {"reportData": [report]}))[0] == 3
        event = where | {
            "eventId": 1, "timestamp": "2026-11-22T10:00:00Z", "trigger": "Delta",
            "actualValue": PASSWORD, "eventNotificationType": "HardWiredNotification",
        }  # fmt: skip
        told = {"generatedAt": "2026-11-22T10:00:00Z", "seqNo": 0, "eventData": [event]}
        assert (await charger.call("NotifyEvent", told))[0] == 3
    kept = await db(everywhere)()
    assert PASSWORD not in kept
    assert kept.count("(hidden)") >= 4
    assert await db(Variable.objects.filter(name="HeartbeatInterval").exists)()


def test_our_orders_fit_the_schemas_of_their_version() -> None:
    for version in VERSIONS:
        for name, (args, *_) in SAID.items():
            command = Command(pk=9, name=name, args=commands.check(name, args))
            action, payload = dialect_of(version)._request(command)
            assert fastpath.validate_request(version, action, payload) is None, (version, name)
