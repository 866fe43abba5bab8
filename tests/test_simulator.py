"""The simulated charge point against a small server that checks every frame by the OCPP schemas."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from itertools import pairwise
from threading import Thread
from typing import Any

import jsonschema_rs
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from websockets.asyncio.server import ServerConnection, serve

from stations.simulator import fleet
from stations.simulator.clock import Clock
from stations.simulator.model import CallError, Connector, Fate, Quirks, Reason, Status, Vehicle
from stations.simulator.scenarios import SCENARIOS, Pace, charging
from tests.charger import VERSIONS, Charger

pytestmark = pytest.mark.slow

FOLDERS = {"ocpp1.6": "v16", "ocpp2.0.1": "v201", "ocpp2.1": "v21"}


@lru_cache
def validator(subprotocol: str, action: str, answer: bool) -> Any:
    """The schema of a request or of an answer, from the ocpp package."""
    suffix = "Response" if answer else "" if subprotocol == "ocpp1.6" else "Request"
    path = files(f"ocpp.{FOLDERS[subprotocol]}") / "schemas" / f"{action}{suffix}.json"
    return jsonschema_rs.validator_for(json.loads(path.read_text("utf-8-sig")))


class Csms:
    """Answers what a charge point needs, keeps what it said, and fails on any invalid frame."""

    def __init__(self) -> None:
        self.url = ""
        self.socket: ServerConnection | None = None
        self.said: list[tuple[str, dict[str, Any]]] = []
        self.invalid: list[str] = []
        self.connections = 0
        self.silent: set[str] = set()
        self.errors: dict[str, int] = {}
        self.ids: list[str] = []
        self._waiting: dict[str, asyncio.Future[Any]] = {}
        self._orders = 0

    async def handle(self, socket: ServerConnection) -> None:
        self.socket, self.connections = socket, self.connections + 1
        async for text in socket:
            frame = json.loads(text)
            if frame[0] == 2:
                await self._called(socket, *frame[1:])
            else:
                self._waiting.pop(frame[1]).set_result(frame)

    async def _called(
        self, socket: ServerConnection, message_id: str, action: str, payload: dict[str, Any]
    ) -> None:
        self._check(socket.subprotocol or "ocpp1.6", action, payload, answer=False)
        self.said.append((action, payload))
        self.ids.append(message_id)
        if action in self.silent:
            return
        if self.errors.get(action, 0) > 0:
            self.errors[action] -= 1
            await socket.send(json.dumps([4, message_id, "InternalError", "", {}]))
            return
        await socket.send(json.dumps([3, message_id, self._answer(socket, action, payload)]))

    def _answer(
        self, socket: ServerConnection, action: str, payload: dict[str, Any]
    ) -> dict[str, Any]:
        info = {"status": "Accepted"}
        if "BAD" in json.dumps(payload):
            info = {"status": "Invalid"}
        if action == "BootNotification":
            return {
                "status": "Accepted",
                "interval": 60,
                "currentTime": datetime.now(UTC).isoformat(),
            }
        if action == "Authorize":
            return {"idTagInfo" if socket.subprotocol == "ocpp1.6" else "idTokenInfo": info}
        if action == "StartTransaction":
            return {"transactionId": 7, "idTagInfo": info}
        if action == "TransactionEvent" and "idToken" in payload:
            return {"idTokenInfo": info}
        return {}

    def _check(self, protocol: str, action: str, payload: Any, *, answer: bool) -> None:
        for error in validator(protocol, action, answer).iter_errors(payload):
            self.invalid.append(f"{protocol} {action}: {error.message}")

    async def order(self, action: str, payload: dict[str, Any], *, check: bool = True) -> Any:
        """Call the charge point; its answer's payload, or the CALLERROR frame."""
        assert self.socket is not None
        protocol = self.socket.subprotocol or "ocpp1.6"
        if check:
            self._check(protocol, action, payload, answer=False)
        self._orders += 1
        future = self._waiting[f"o{self._orders}"] = asyncio.get_running_loop().create_future()
        await self.socket.send(json.dumps([2, f"o{self._orders}", action, payload]))
        frame = await asyncio.wait_for(future, 5)
        if frame[0] == 4:
            return frame
        self._check(protocol, action, frame[2], answer=True)
        return frame[2]

    def all(self, action: str) -> list[dict[str, Any]]:
        return [payload for name, payload in self.said if name == action]

    async def until(self, action: str, count: int = 1, **has: Any) -> dict[str, Any]:
        """Wait for the `count`-th message of that name with these fields."""
        async with asyncio.timeout(10):
            while True:
                found = [p for p in self.all(action) if p.items() >= has.items()]
                if len(found) >= count:
                    return found[count - 1]
                await asyncio.sleep(0.005)


@asynccontextmanager
async def csms() -> AsyncIterator[Csms]:
    server = Csms()
    async with serve(
        server.handle,
        "127.0.0.1",
        0,
        select_subprotocol=lambda _, offered: next(iter(offered), None),
    ) as listening:
        port = listening.sockets[0].getsockname()[1]
        server.url = f"ws://127.0.0.1:{port}/ocpp"
        yield server
    assert server.invalid == []


def fast() -> Clock:
    return Clock(speed=200)


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_session_is_told_in_valid_frames_in_each_version(version: str) -> None:
    async with csms() as server, Charger(server.url, "CP-1", version) as c:
        assert (await c.boot())["status"] == "Accepted"
        await c.plug(1)
        assert await c.authorize("TAG") == "Accepted"
        tx = await c.start(1, "TAG", register_wh=1000)
        await c.meter(tx, 500, power_w=11_000)
        await c.stop(tx, 1500)
        await c.unplug(1)
        assert tx.accepted is True
        if version == "1.6":
            assert tx.transaction_id == 7
            assert server.all("StartTransaction")[0]["meterStart"] == 1000
            assert (
                server.all("MeterValues")[0]["meterValue"][0]["sampledValue"][0]["value"] == "1500"
            )
            assert server.all("StopTransaction")[0]["meterStop"] == 2500
            states = [
                p["status"] for p in server.all("StatusNotification") if p["connectorId"] == 1
            ]
            assert states == ["Available", "Preparing", "Charging", "Finishing", "Available"]
        else:
            events = server.all("TransactionEvent")
            assert [e["eventType"] for e in events] == ["Started", "Updated", "Ended"]
            assert [e["seqNo"] for e in events] == [0, 1, 2]
            registers = [e["meterValue"][0]["sampledValue"][0]["value"] for e in events]
            assert registers == [1000, 1500, 2500]
            states = [
                p["connectorStatus"] for p in server.all("StatusNotification") if p["evseId"] == 1
            ]
            assert states == ["Available", "Occupied", "Available"]


@pytest.mark.parametrize("version", VERSIONS)
async def test_what_happens_offline_is_sent_later_in_order_with_its_own_time(version: str) -> None:
    async with csms() as server, Charger(server.url, "CP-1", version) as c:
        await c.boot()
        await c.offline()
        before = datetime.now(UTC)
        tx = await c.start(1, "TAG")
        await c.meter(tx, 100)
        await c.stop(tx, 200)
        after = datetime.now(UTC)
        assert server.all("StartTransaction") + server.all("TransactionEvent") == []
        await c.online()
        kept = [
            (action, payload)
            for action, payload in server.said
            if action in {"StartTransaction", "MeterValues", "StopTransaction", "TransactionEvent"}
        ]
        assert len(kept) == 3
        slack = timedelta(milliseconds=2)
        for _, payload in kept:
            text = payload.get("timestamp") or payload["meterValue"][0]["timestamp"]
            assert before - slack <= datetime.fromisoformat(text) <= after
        if version == "1.6":
            assert kept[2][1]["transactionId"] == 7
        else:
            assert [p["offline"] for _, p in kept] == [True] * 3
        assert server.connections == 2
        assert len(server.all("BootNotification")) == 1


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_transactional_message_is_retried_until_it_is_answered(version: str) -> None:
    async with csms() as server, Charger(server.url, "CP-1", version) as c:
        await c.boot()
        stop = "StopTransaction" if version == "1.6" else "TransactionEvent"
        tx = await c.start(1, "TAG")
        server.errors[stop] = 2
        await c.stop(tx, 200)
        stops = [p for p in server.all(stop) if p.get("eventType", "Ended") == "Ended"]
        assert len(stops) == 3
        assert stops[0] == stops[1] == stops[2]


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_remote_start_and_stop_do_what_they_say(version: str) -> None:
    async with csms() as server, Charger(server.url, "CP-1", version) as c:
        await c.boot()
        if version == "1.6":
            start, stop = "RemoteStartTransaction", "RemoteStopTransaction"
            order: dict[str, Any] = {"connectorId": 1, "idTag": "APP"}
        else:
            start, stop = "RequestStartTransaction", "RequestStopTransaction"
            order = {
                "evseId": 1,
                "remoteStartId": 9,
                "idToken": {"idToken": "APP", "type": "Central"},
            }
        assert await server.order(start, order) == {"status": "Accepted"}
        assert await server.order(start, order) == {"status": "Rejected"}
        if version == "1.6":
            await server.until("StartTransaction", idTag="APP")
            await c.settled()
            ref: Any = 7
        else:
            event = await server.until("TransactionEvent", eventType="Started")
            assert event["transactionInfo"]["remoteStartId"] == 9
            assert event["triggerReason"] == "RemoteStart"
            ref = event["transactionInfo"]["transactionId"]
        assert await server.order(stop, {"transactionId": 999 if version == "1.6" else "x"}) == {
            "status": "Rejected"
        }
        assert await server.order(stop, {"transactionId": ref}) == {"status": "Accepted"}
        if version == "1.6":
            assert (await server.until("StopTransaction"))["reason"] == "Remote"
        else:
            ended = await server.until("TransactionEvent", eventType="Ended")
            assert ended["transactionInfo"]["stoppedReason"] == "Remote"


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_reset_drops_the_socket_and_boots_again(version: str) -> None:
    async with csms() as server, Charger(server.url, "CP-1", version, clock=fast()) as c:
        await c.boot()
        await c.start(1, "TAG")
        kind = "Soft" if version == "1.6" else "OnIdle"
        answer = await server.order("Reset", {"type": kind})
        assert answer["status"] == ("Accepted" if version == "1.6" else "Scheduled")
        if version != "1.6":
            await c.stop(c.station.transactions[0])
        second = await server.until("BootNotification", count=2)
        assert server.connections == 2
        if version == "1.6":
            assert (await server.until("StopTransaction"))["reason"] == "SoftReset"
        else:
            assert second["reason"] == "ScheduledReset"
        await c.accepted()
        tx = await c.start(2, "TAG")
        hard = {"type": "Hard" if version == "1.6" else "Immediate"}
        assert await server.order("Reset", hard) == {"status": "Accepted"}
        await server.until("BootNotification", count=3)
        assert tx.reason == Reason.IMMEDIATE_RESET
        await c.settled()


async def test_a_busy_connector_becomes_unavailable_after_its_session() -> None:
    async with csms() as server, Charger(server.url, "CP-1", "2.0.1") as c:
        await c.boot()
        tx = await c.start(1, "TAG")
        order = {"operationalStatus": "Inoperative", "evse": {"id": 1}}
        assert await server.order("ChangeAvailability", order) == {"status": "Scheduled"}
        await c.stop(tx)
        await c.unplug(1)
        assert c.station.connectors[1].status == Status.UNAVAILABLE
        order["operationalStatus"] = "Operative"
        assert await server.order("ChangeAvailability", order) == {"status": "Accepted"}
        await c.settled()
        assert c.station.connectors[1].status == Status.AVAILABLE


async def test_configuration_is_read_and_changed_in_1_6() -> None:
    async with csms() as server, Charger(server.url, "CP-1", "1.6") as c:
        await c.boot()
        answer = await server.order("GetConfiguration", {"key": ["HeartbeatInterval", "Nothing"]})
        assert answer == {
            "configurationKey": [{"key": "HeartbeatInterval", "readonly": False, "value": "60"}],
            "unknownKey": ["Nothing"],
        }
        for key, value, status in [
            ("MeterValueSampleInterval", "10", "Accepted"),
            ("MeterValueSampleInterval", "-1", "Rejected"),
            ("NumberOfConnectors", "5", "Rejected"),
            ("DisplayLanguage", "de", "RebootRequired"),
            ("Nothing", "1", "NotSupported"),
        ]:
            order = {"key": key, "value": value}
            assert await server.order("ChangeConfiguration", order) == {"status": status}
        everything = await server.order("GetConfiguration", {})
        values = {e["key"]: e.get("value") for e in everything["configurationKey"]}
        assert values["MeterValueSampleInterval"] == "10"
        assert values["AuthorizationKey"] is None
        assert (await server.order("Dance", {}, check=False))[2] == "NotImplemented"


@pytest.mark.parametrize("version", ["2.0.1", "2.1"])
async def test_variables_are_reported_read_and_set_in_2_x(version: str) -> None:
    async with csms() as server, Charger(server.url, "CP-1", version) as c:
        await c.boot()
        order = {"requestId": 5, "reportBase": "FullInventory"}
        assert await server.order("GetBaseReport", order) == {"status": "Accepted"}
        await server.until("NotifyReport", tbc=False)
        parts = server.all("NotifyReport")
        assert [p["seqNo"] for p in parts] == list(range(len(parts)))
        named = [
            (d["component"]["name"], d["variable"]["name"]) for p in parts for d in p["reportData"]
        ]
        assert ("OCPPCommCtrlr", "HeartbeatInterval") in named
        assert len(named) == len(c.station.configuration.variables)
        interval = {
            "component": {"name": "SampledDataCtrlr"},
            "variable": {"name": "TxUpdatedInterval"},
        }
        unknown = {"component": {"name": "Toaster"}, "variable": {"name": "Crunch"}}
        answer = await server.order(
            "SetVariables",
            {
                "setVariableData": [
                    interval | {"attributeValue": "10"},
                    unknown | {"attributeValue": "1"},
                ]
            },
        )
        states = [r["attributeStatus"] for r in answer["setVariableResult"]]
        assert states == ["Accepted", "UnknownComponent"]
        answer = await server.order("GetVariables", {"getVariableData": [interval]})
        assert answer["getVariableResult"][0]["attributeValue"] == "10"


@pytest.mark.parametrize("version", VERSIONS)
async def test_messages_can_be_triggered(version: str) -> None:
    async with csms() as server, Charger(server.url, "CP-1", version) as c:
        await c.boot()
        for action in ("BootNotification", "Heartbeat", "FirmwareStatusNotification"):
            answer = await server.order("TriggerMessage", {"requestedMessage": action})
            assert answer == {"status": "Accepted"}
            await server.until(action, count=2 if action == "BootNotification" else 1)
        assert server.all("FirmwareStatusNotification") == [{"status": "Idle"}]
        where = {"connectorId": 1} if version == "1.6" else {"evse": {"id": 1}}
        answer = await server.order("TriggerMessage", {"requestedMessage": "MeterValues", **where})
        assert answer == {"status": "Accepted"}
        await server.until("MeterValues")


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_fault_ends_the_session_and_is_cleared(version: str) -> None:
    async with csms() as server, Charger(server.url, "CP-1", version) as c:
        await c.boot()
        tx = await c.start(1, "TAG")
        await c.fault(1, "GroundFailure", "residual current")
        assert tx.over()
        if version == "1.6":
            fault = await server.until("StatusNotification", status="Faulted")
            assert (fault["errorCode"], fault["info"]) == ("GroundFailure", "residual current")
        else:
            assert server.all("NotifyEvent")[0]["eventData"][0]["techCode"] == "GroundFailure"
        await c.clear_fault(1)
        await c.unplug(1)
        assert c.station.connectors[1].status == Status.AVAILABLE


@pytest.mark.parametrize("version", VERSIONS)
async def test_power_profiles_limit_what_flows(version: str) -> None:
    async with csms() as server, Charger(server.url, "CP-1", version) as c:
        await c.boot()
        schedule: dict[str, Any] = {
            "chargingRateUnit": "A",
            "chargingSchedulePeriod": [{"startPeriod": 0, "limit": 10}],
        }
        common = {
            "stackLevel": 0,
            "chargingProfilePurpose": "TxDefaultProfile",
            "chargingProfileKind": "Relative",
        }
        if version == "1.6":
            profile = {**common, "chargingProfileId": 1, "chargingSchedule": schedule}
            order: dict[str, Any] = {"connectorId": 1, "csChargingProfiles": profile}
            asked = {"connectorId": 1, "duration": 600, "chargingRateUnit": "W"}
        else:
            profile = {**common, "id": 1, "chargingSchedule": [{**schedule, "id": 1}]}
            order = {"evseId": 1, "chargingProfile": profile}
            asked = {"evseId": 1, "duration": 600, "chargingRateUnit": "W"}
        assert await server.order("SetChargingProfile", order) == {"status": "Accepted"}
        answer = await server.order("GetCompositeSchedule", asked)
        found = answer["chargingSchedule" if version == "1.6" else "schedule"]
        assert found["chargingSchedulePeriod"] == [{"startPeriod": 0, "limit": 6900.0}]
        assert await server.order("ClearChargingProfile", {}) == {"status": "Accepted"}
        assert await server.order("ClearChargingProfile", {}) == {"status": "Unknown"}


# --- firmware and logs: a real HTTP server -------------------------------------------------------


class Files(BaseHTTPRequestHandler):
    """Serves `image`, breaking off the first download in the middle; takes uploads."""

    image = b"version=2.3.4\n" + bytes(range(256)) * 400
    ranges: list[str | None] = []
    uploads: dict[str, bytes] = {}
    break_off = True

    def do_GET(self) -> None:
        asked = self.headers.get("Range")
        Files.ranges.append(asked)
        if not self.path.startswith("/good"):
            self.send_error(404)
            return
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0
        body = self.image[start:]
        self.send_response(206 if asked else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if Files.break_off:
            Files.break_off = False
            self.wfile.write(body[:5000])
            self.close_connection = True
            return
        self.wfile.write(body)

    def do_PUT(self) -> None:
        Files.uploads[self.path] = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(201)
        self.end_headers()

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def http() -> Iterator[str]:
    Files.ranges, Files.uploads, Files.break_off = [], {}, True
    server = ThreadingHTTPServer(("127.0.0.1", 0), Files)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def signed(image: bytes) -> tuple[str, str]:
    """A certificate in PEM and its signature of `image` in base64."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Demo Works")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(datetime(2026, 1, 1))
        .not_valid_after(datetime(2036, 1, 1))
        .sign(key, SHA256())
    )
    signature = key.sign(image, ec.ECDSA(SHA256()))
    return certificate.public_bytes(Encoding.PEM).decode(), base64.b64encode(signature).decode()


def update_order(version: str, location: str, *, sign: bool = False, wrong: bool = False) -> Any:
    now = datetime.now(UTC).isoformat()
    if version == "1.6" and not sign:
        return "UpdateFirmware", {"location": location, "retrieveDate": now, "retries": 1}
    image: dict[str, Any] = {"location": location, "retrieveDateTime": now}
    if sign:
        certificate, signature = signed(b"another" if wrong else Files.image)
        image |= {"signingCertificate": certificate, "signature": signature}
    order = {"requestId": 77, "retries": 1, "retryInterval": 1, "firmware": image}
    return ("SignedUpdateFirmware" if version == "1.6" else "UpdateFirmware"), order


def reported(server: Csms) -> list[str]:
    return [
        p["status"]
        for action, p in server.said
        if action in {"FirmwareStatusNotification", "SignedFirmwareStatusNotification"}
    ]


@pytest.mark.parametrize("version", VERSIONS)
async def test_an_update_downloads_resumes_verifies_installs_and_boots(
    version: str, http: str
) -> None:
    async with csms() as server, Charger(server.url, "CP-1", version, clock=fast()) as c:
        await c.boot()
        action, order = update_order(version, f"{http}/good/fw.bin", sign=True)
        assert await server.order(action, order) == {"status": "Accepted"}
        boot = await server.until("BootNotification", count=2)
        shown = boot if version == "1.6" else boot["chargingStation"]
        assert shown["firmwareVersion"] == "2.3.4"
        assert Files.ranges == [None, "bytes=5000-"]
        await c.accepted()
        await c.settled()
        assert reported(server) == [
            "Downloading",
            "Downloaded",
            "SignatureVerified",
            "Installing",
            "InstallRebooting",
            "Installed",
        ]


@pytest.mark.parametrize("version", VERSIONS)
async def test_updates_fail_in_each_way(version: str, http: str) -> None:
    async with csms() as server, Charger(server.url, "CP-1", version, clock=fast()) as c:
        await c.boot()
        Files.break_off = False
        action, order = update_order(version, f"{http}/good/fw.bin", sign=True, wrong=True)
        await server.order(action, order)
        await server.until("SecurityEventNotification", type="InvalidFirmwareSignature")
        assert reported(server) == ["Downloading", "Downloaded", "InvalidSignature"]
        server.said.clear()
        await server.order(*update_order(version, f"{http}/missing.bin"))
        await server.until("FirmwareStatusNotification", status="DownloadFailed")
        assert reported(server) == ["Downloading", "DownloadFailed"]
        server.said.clear()
        c.station.fate = Fate.INSTALLATION_FAILED
        await server.order(*update_order(version, f"{http}/good/fw.bin"))
        await server.until("FirmwareStatusNotification", status="InstallationFailed")
        c.station.fate = Fate.WRONG_VERSION
        await server.order(*update_order(version, f"{http}/good/fw.bin"))
        await server.until("FirmwareStatusNotification", status="Installed")
        boot = await server.until("BootNotification")
        assert (boot if version == "1.6" else boot["chargingStation"])["firmwareVersion"] == "1.0.0"
        await c.accepted()
        c.station.fate = Fate.BRICKED
        connections = server.connections
        await server.order(*update_order(version, f"{http}/good/fw.bin"))
        await server.until("FirmwareStatusNotification", status="Installing", count=3)
        assert c.station.link is not None
        await asyncio.wait_for(c.station.link.closed.wait(), 5)
        await asyncio.sleep(0.2)
        assert server.connections == connections


@pytest.mark.parametrize("version", VERSIONS)
async def test_logs_are_uploaded(version: str, http: str) -> None:
    async with csms() as server, Charger(server.url, "CP-1", version) as c:
        await c.boot()
        order = {
            "logType": "DiagnosticsLog",
            "requestId": 3,
            "log": {"remoteLocation": f"{http}/l/"},
        }
        answer = await server.order("GetLog", order)
        assert answer == {"status": "Accepted", "filename": "CP-1-DiagnosticsLog.log"}
        await server.until("LogStatusNotification", status="Uploaded")
        assert b"GetLog" in Files.uploads["/l/CP-1-DiagnosticsLog.log"]
        if version == "1.6":
            await server.order("GetDiagnostics", {"location": f"{http}/d/"})
            await server.until("DiagnosticsStatusNotification", status="Uploaded")
            assert "/d/CP-1-diagnostics.log" in Files.uploads


# --- quirks --------------------------------------------------------------------------------------


async def test_quirks_do_what_they_are_named_after() -> None:
    quirks = Quirks(
        restart_message_ids=True, duplicate_sends=True, resend_start=True, falling_register=True
    )
    async with csms() as server, Charger(server.url, "CP-1", "1.6", quirks=quirks) as c:
        await c.boot()
        tx = await c.start(1, "TAG")
        for wh in (1000, 2000, 3000):
            await c.meter(tx, wh)
        await c.stop(tx, 3000)
        assert server.ids == [str(n + 1) for n in range(len(server.ids))]
        starts = server.all("StartTransaction")
        assert len(starts) == 3
        assert starts[0] == starts[1] == starts[2]
        values = [m["meterValue"][0]["sampledValue"][0]["value"] for m in server.all("MeterValues")]
        assert values == ["1000", "1000", "2000", "2000", "2500", "2500"]
        assert len(server.all("StopTransaction")) == 2


async def test_an_orphan_stop_an_unset_clock_and_no_subprotocol() -> None:
    quirks = Quirks(orphan_stop=True, never_set_clock=True, no_subprotocol=True)
    async with csms() as server, Charger(server.url, "CP-1", "1.6", quirks=quirks) as c:
        await c.boot()
        stop = await server.until("StopTransaction")
        assert stop["idTag"] == "ORPHAN"
        assert stop["timestamp"].startswith("1970-01-01T")
        assert server.socket is not None
        assert server.socket.subprotocol is None


async def test_a_deaf_charger_never_answers_and_an_override_answers_instead() -> None:
    async with csms() as server, Charger(server.url, "CP-1", "1.6", quirks=Quirks(deaf=True)) as c:
        await c.boot()
        task = asyncio.create_task(server.order("ClearCache", {}))
        await asyncio.sleep(0.1)
        assert not task.done()
        task.cancel()
        c.station.quirks.deaf = False
        c.station.overrides["Reset"] = {"status": "Rejected"}
        assert await server.order("Reset", {"type": "Hard"}) == {"status": "Rejected"}
        c.station.overrides["Reset"] = CallError("InternalError", "out of order")
        assert (await server.order("Reset", {"type": "Hard"}))[2] == "InternalError"
        assert await c.expect("Reset") == {"type": "Hard"}


# --- physics and lives ---------------------------------------------------------------------------


def test_energy_follows_the_vehicles_curve_and_never_jumps() -> None:
    connector = Connector(1, max_w=150_000, dc=True)
    connector.vehicle = Vehicle(battery_wh=60_000, soc=0.75, max_w=120_000, target_soc=0.95)
    assert connector.power_w() == 0
    connector.transaction = object()  # type: ignore[assignment]
    powers, registers = [], []
    for _ in range(60):
        connector.advance(60)
        powers.append(connector.power_w())
        registers.append(connector.register_wh)
    assert registers == sorted(registers)
    assert registers[-1] == pytest.approx(60_000 * 0.20, abs=1)
    assert max(b - a for a, b in pairwise(registers)) <= 120_000 / 60
    assert powers[-1] == 0
    assert powers[0] > powers[1] > powers[2]


@pytest.mark.parametrize("version", VERSIONS)
async def test_drivers_come_charge_and_leave_by_themselves(version: str) -> None:
    async with csms() as server:
        member = fleet.build(
            server.url, versions=[version], count=1, scenario="busy", connectors=1, speed=1000,
            seed=3, tags=["TAG"],
        )[0]  # fmt: skip
        member.pace = Pace(stay_s=(300, 600), free_s=(1, 2))
        task = asyncio.create_task(member.live())
        if version == "1.6":
            stop = await server.until("StopTransaction", count=2)
            assert stop["meterStop"] > 0
        else:
            await server.until("TransactionEvent", count=2, eventType="Ended")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert fleet.summary([member]).startswith("0 of 1 connected, ")


async def test_a_refused_driver_leaves_without_a_session() -> None:
    async with csms() as server, Charger(server.url, "CP-1", "1.6", clock=fast()) as c:
        await c.boot()
        task = asyncio.create_task(charging(c.station, ["BAD"], Pace((60, 60), (1, 2))))
        await server.until("Authorize", count=2)
        task.cancel()
        assert server.all("StartTransaction") == []


def test_every_scenario_has_words_and_the_same_seed_gives_the_same_fleet() -> None:
    assert set(SCENARIOS) == {
        "quiet", "charging", "busy", "faulty", "flaky-network", "firmware", "deaf", "storm",
    }  # fmt: skip
    draws = []
    for _ in range(2):
        members = fleet.build(
            "ws://h", versions=["1.6", "2.1"], count=3, scenario="firmware", seed=5
        )
        assert [m.station.identity for m in members] == ["SIM-001", "SIM-002", "SIM-003"]
        assert [m.station.version for m in members] == ["1.6", "2.1", "1.6"]
        assert [m.station.fate for m in members] == list(Fate)[:3]
        draws.append([m.station.random.random() for m in members])
    assert draws[0] == draws[1]
