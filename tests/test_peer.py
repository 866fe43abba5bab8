"""A charger built on somebody else's OCPP (ocpp-rpc on Node, strict) against our gateway.

Our simulator shares our reading of the specification; this one does not. Every message either side
sends is checked against that package's own schemas, so the tests end with "nothing was invalid".
"""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from monitoring.models import Session
from stations import commands, security
from stations.models import Command, Station
from tests import make
from tests.conftest import missing
from tests.gateway import ANSWER_S, db, gateway

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]
PEER = Path(__file__).parent / "peer"
VERSIONS = ["1.6", "2.0.1"]
BOOTS = {
    "1.6": {"chargePointVendor": "Peer", "chargePointModel": "Node", "firmwareVersion": "1"},
    "2.0.1": {
        "reason": "PowerUp",
        "chargingStation": {"vendorName": "Peer", "model": "Node", "firmwareVersion": "1"},
    },
}
NOW = datetime.now(UTC).replace(microsecond=0)


@pytest.fixture(scope="module", autouse=True)
def installed() -> None:
    if shutil.which("node") is None or not (PEER / "node_modules" / "ocpp-rpc").is_dir():
        missing("the peer is not installed: deploy/setup.sh peer (needs node and npm)")


@pytest.fixture
def url() -> Iterator[str]:
    with gateway() as address:
        yield address.removesuffix("/")


class Peer:
    """The charger's process."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.called: list[tuple[str, Any]] = []
        self.invalid: list[str] = []
        self.connections: list[str] = []
        self._answers: dict[int, asyncio.Future[Any]] = {}
        self._n = 0

    async def listen(self) -> None:
        """Sort what the process says."""
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            said = json.loads(line)
            if "called" in said:
                self.called.append((said["called"], said["payload"]))
            elif "invalid" in said:
                self.invalid.append(said["invalid"])
            elif "connected" in said:
                self.connections.append(said["connected"])
            else:
                self._answers.pop(said["id"]).set_result(said)

    async def do(self, **order: Any) -> Any:
        """Give the process an order; its result, or the [code, text] of an error."""
        assert self.process.stdin is not None
        self._n += 1
        answer = self._answers[self._n] = asyncio.get_running_loop().create_future()
        self.process.stdin.write(json.dumps({"id": self._n} | order).encode() + b"\n")
        said = await asyncio.wait_for(answer, ANSWER_S)
        return said["result"] if "result" in said else said["error"]

    async def call(self, action: str, **payload: Any) -> Any:
        """A call of the charger."""
        return await self.do(call=action, payload=payload)

    async def answers(self, action: str, **payload: Any) -> None:
        """What it will answer to this action from now on."""
        await self.do(answer=action, payload=payload)


@asynccontextmanager
async def charging(url: str, version: str, *password: str) -> AsyncIterator[Peer]:
    """Connect the other implementation as CP1, and boot it."""
    process = await asyncio.create_subprocess_exec(
        "node", str(PEER / "charger.mjs"), url, "CP1", f"ocpp{version}", *password,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    peer = Peer(process)
    listening = asyncio.create_task(peer.listen())
    try:
        await until(lambda: peer.connections, "it connects")
        booted = await peer.call("BootNotification", **BOOTS[version])
        assert (booted["status"], booted["interval"] > 0) == ("Accepted", True)
        yield peer
        await peer.do(close=True)
        assert peer.invalid == []
    finally:
        process.stdin.close()  # type: ignore[union-attr]
        try:
            await asyncio.wait_for(process.wait(), ANSWER_S)
        except TimeoutError:
            process.kill()
        await listening


async def until(true: Callable[[], Any], what: str) -> None:
    """Wait for something to become true."""
    async with asyncio.timeout(ANSWER_S):
        while not true():  # noqa: ASYNC110  it comes from another process
            await asyncio.sleep(0.01)
    assert true(), what


async def ordered(name: str, **args: Any) -> Command:
    """Give the station an order and wait for its end."""
    command = await db(lambda: commands.send(Station.objects.get(), name, **args))()
    async with asyncio.timeout(ANSWER_S):
        while (row := await db(Command.objects.get)(pk=command.pk)).status in ("queued", "sent"):  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    return row


def stamp(minutes: float) -> str:
    return (NOW - timedelta(minutes=60 - minutes)).isoformat().replace("+00:00", "Z")


def tag(version: str, uid: str = "TAG") -> dict[str, Any]:
    if version == "1.6":
        return {"idTag": uid}
    return {"idToken": {"idToken": uid, "type": "ISO14443"}}


def status_of(answer: dict[str, Any]) -> str:
    info = answer.get("idTagInfo") or answer["idTokenInfo"]
    return str(info["status"])


def event(kind: str, minute: float, seq: int, wh: float, ref: str = "tx-1", **more: Any) -> Any:
    """TransactionEvent's payload with a register."""
    triggers = {"Started": "Authorized", "Updated": "MeterValuePeriodic", "Ended": "StopAuthorized"}
    contexts = {"Started": "Transaction.Begin", "Ended": "Transaction.End"}
    info: dict[str, Any] = {"transactionId": ref, "chargingState": "Charging"}
    if kind == "Ended":
        info |= {"chargingState": "EVConnected", "stoppedReason": "Local"}
    info |= more.pop("info", {})
    return {
        "eventType": kind,
        "timestamp": stamp(minute),
        "triggerReason": triggers[kind],
        "seqNo": seq,
        "transactionInfo": info,
        "evse": {"id": 1, "connectorId": 1},
        "meterValue": [
            {
                "timestamp": stamp(minute),
                "sampledValue": [
                    {
                        "value": wh,
                        "context": contexts.get(kind, "Sample.Periodic"),
                        "measurand": "Energy.Active.Import.Register",
                        "unitOfMeasure": {"unit": "Wh"},
                    }
                ],
            }
        ],
    } | more


async def begin(peer: Peer, version: str, **more: Any) -> str:
    """Start a session at 1000 Wh; its ref."""
    if version == "2.0.1":
        info = {"remoteStartId": more["remote_start_id"]} if more else {}
        payload = event("Started", 0, 0, 1000, info=info) | tag(version)
        assert status_of(await peer.call("TransactionEvent", **payload)) == "Accepted"
        return "tx-1"
    start = {"connectorId": 1, "meterStart": 1000, "timestamp": stamp(0)} | tag(version)
    answer = await peer.call("StartTransaction", **start)
    assert status_of(answer) == "Accepted"
    return str(answer["transactionId"])


async def measure(peer: Peer, version: str, ref: str, minute: int, wh: int) -> None:
    """A periodic reading."""
    if version == "2.0.1":
        assert await peer.call("TransactionEvent", **event("Updated", minute, minute, wh)) == {}
        return
    sample = {"value": str(wh), "context": "Sample.Periodic", "unit": "Wh"}
    values = [{"timestamp": stamp(minute), "sampledValue": [sample]}]
    payload = {"connectorId": 1, "transactionId": int(ref), "meterValue": values}
    assert await peer.call("MeterValues", **payload) == {}


async def end(peer: Peer, version: str, ref: str, seq: int, wh: int) -> None:
    """Stop the session at minute 50."""
    if version == "2.0.1":
        payload = event("Ended", 50, seq, wh) | tag(version)
        assert status_of(await peer.call("TransactionEvent", **payload)) == "Accepted"
        return
    stop = {"transactionId": int(ref), "meterStop": wh, "timestamp": stamp(50)} | tag(version)
    assert status_of(await peer.call("StopTransaction", **stop)) == "Accepted"


def available(version: str) -> dict[str, Any]:
    if version == "1.6":
        return {"connectorId": 1, "errorCode": "NoError", "status": "Available"}
    place = {"evseId": 1, "connectorId": 1, "connectorStatus": "Available"}
    return place | {"timestamp": stamp(55)}


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_session_of_another_implementation(url: str, version: str) -> None:
    await db(make.station)(identity="CP1", version=version)
    await db(make.token)(uid="TAG")
    async with charging(url, version) as peer:
        assert "currentTime" in await peer.call("Heartbeat")
        assert status_of(await peer.call("Authorize", **tag(version))) == "Accepted"
        stranger = status_of(await peer.call("Authorize", **tag(version, "NOBODY")))
        assert stranger == ("Invalid" if version == "1.6" else "Unknown")
        ref = await begin(peer, version)
        for minute, wh in ((1, 1100), (2, 1200), (3, 1500)):
            await measure(peer, version, ref, minute, wh)
        await end(peer, version, ref, 4, 3000)
        assert await peer.call("StatusNotification", **available(version)) == {}
    session = await db(Session.objects.get)()
    assert (session.ref, session.energy_wh, session.energy_source) == (ref, 2000, "registers")
    assert (session.state, session.flags, session.review) == ("closed", [], "")
    assert await db(session.readings.count)() >= 3


@pytest.mark.parametrize("version", VERSIONS)
async def test_another_implementation_takes_our_orders(url: str, version: str) -> None:
    """Remote start, remote stop, reset; and an order it does not implement fails, no more."""
    await db(make.station)(identity="CP1", version=version)
    await db(make.token)(uid="TAG")
    start, stop = (
        ("RemoteStartTransaction", "RemoteStopTransaction")
        if version == "1.6"
        else ("RequestStartTransaction", "RequestStopTransaction")
    )
    async with charging(url, version) as peer:
        for action in (start, stop, "Reset"):
            await peer.answers(action, status="Accepted")
        begun = await ordered("remote_start", evse=1, token_uid="TAG", token_type="ISO14443")
        assert (begun.status, peer.called[-1][0]) == ("accepted", start)
        remote = peer.called[-1][1].get("remoteStartId")
        ref = await begin(peer, version, **({"remote_start_id": remote} if remote else {}))
        stopped = await ordered("remote_stop", ref=ref)
        told = peer.called[-1][1]["transactionId"]
        assert (stopped.status, str(told)) == ("accepted", ref)
        await end(peer, version, ref, 1, 1500)
        await peer.answers("Reset", status="Rejected")
        assert (await ordered("reset", hard=True)).status == "rejected"
        unknown = await ordered("unlock", evse=1)
        assert (unknown.status, unknown.error[:14]) == ("failed", "NotImplemented")
    session = await db(Session.objects.get)()
    assert (session.energy_wh, session.state) == (500, "closed")
    assert session.remote_start_id == remote


@pytest.mark.parametrize("version", VERSIONS)
async def test_another_implementation_goes_on_after_a_lost_network(url: str, version: str) -> None:
    """It reconnects with its password, resends what it is unsure of and finds its session."""
    password = "a long secret of the charger"
    await db(make.station)(
        identity="CP1",
        version=version,
        security_profile=1,
        password_hash=security.hash_password(password),
    )
    await db(make.token)(uid="TAG")
    async with charging(url, version, password) as peer:
        ref = await begin(peer, version)
        await measure(peer, version, ref, 1, 1100)
        await peer.do(drop=True)
        await until(lambda: len(peer.connections) == 2, "it reconnects")
        assert await begin(peer, version) == ref  # resent
        await measure(peer, version, ref, 1, 1100)
        await end(peer, version, ref, 2, 4000)
        await end(peer, version, ref, 2, 4000)
    session = await db(Session.objects.get)()
    assert (session.energy_wh, session.flags, session.review) == (3000, [], "")
    assert (await db(Station.objects.get)()).epoch == 2


@pytest.mark.parametrize("version", VERSIONS)
async def test_another_implementation_is_told_what_is_wrong_in_words_it_knows(
    url: str, version: str
) -> None:
    await db(make.station)(identity="CP1", version=version)
    async with charging(url, version) as peer:
        code, _ = await peer.call("ClearCache")  # a call that only a central system makes
        assert code == "NotSupported"
        assert (await peer.call("DataTransfer", vendorId="x"))["status"] == "UnknownVendorId"
