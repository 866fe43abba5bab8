"""A load client: many chargers, each with one call outstanding, as OCPP demands (a closed loop).

    python -m bench.load --url ws://127.0.0.1:8000/ocpp --count 100 --scenario meter --seconds 10

The next call leaves when the answer is in, so messages a second are what the server can do with so
many callers. Scenarios, after a boot and a status per charger:

    heartbeat  Heartbeat, again and again
    meter      a start, 100 readings of five values each, a stop; again
    session    Authorize, a start, 10 readings, a stop; again
    idle       nothing: what held connections cost
    echo       Heartbeats against a server that only sends frames back: the ceiling of the transport

It runs on uvloop and picows with ready-made JSON, so that the server saturates first; `own_cpu`
says
how much of a core the client itself took.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import time
import uuid
from collections import Counter
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import orjson
import uvloop
from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_connect

SCENARIOS = ("heartbeat", "meter", "session", "idle", "echo")
READINGS = {"meter": 100, "session": 10}
CONNECTING = 200  # handshakes under way at a time
TIMEOUT_S = 60.0

type Script = Generator[tuple[str, str], dict[str, Any], None]


def now() -> str:
    """The time as OCPP wants it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


class Words16:
    """OCPP 1.6's payloads as JSON text."""

    subprotocol = "ocpp1.6"
    start_name, meter_name, stop_name = "StartTransaction", "MeterValues", "StopTransaction"

    def boot(self, c: Charger) -> str:
        return (
            '{"chargePointVendor":"Bench","chargePointModel":"Load","firmwareVersion":"1.0",'
            f'"chargePointSerialNumber":"{c.identity[:25]}"}}'
        )

    def status(self, c: Charger) -> str:
        return (
            f'{{"connectorId":1,"errorCode":"NoError","status":"Available","timestamp":"{now()}"}}'
        )

    def authorize(self, c: Charger) -> str:
        return f'{{"idTag":"{c.tag}"}}'

    def start(self, c: Charger) -> str:
        return (
            f'{{"connectorId":1,"idTag":"{c.tag}","meterStart":{c.register_wh},'
            f'"timestamp":"{now()}"}}'
        )

    def started(self, c: Charger, answer: dict[str, Any]) -> str:
        c.transaction = answer.get("transactionId", 0)
        return str(answer.get("idTagInfo", {}).get("status"))

    def meter(self, c: Charger) -> str:
        common = '"context":"Sample.Periodic","location":"Outlet"'
        return (
            f'{{"connectorId":1,"transactionId":{c.transaction},"meterValue":[{{"timestamp":"{now()}",'
            f'"sampledValue":[{{"value":"{c.register_wh}",{common},'
            '"measurand":"Energy.Active.Import.Register","unit":"Wh"},'
            f'{{"value":"10980.5",{common},"measurand":"Power.Active.Import","unit":"W"}},'
            f'{{"value":"15.9",{common},"measurand":"Current.Import","phase":"L1","unit":"A"}},'
            f'{{"value":"230.2",{common},"measurand":"Voltage","phase":"L1-N","unit":"V"}},'
            f'{{"value":"{c.register_wh // 100 % 100}","context":"Sample.Periodic","location":"EV",'
            '"measurand":"SoC","unit":"Percent"}]}]}'
        )

    def stop(self, c: Charger) -> str:
        return (
            f'{{"transactionId":{c.transaction},"idTag":"{c.tag}","meterStop":{c.register_wh},'
            f'"timestamp":"{now()}","reason":"Local"}}'
        )


class Words201:
    """OCPP 2.0.1's payloads as JSON text."""

    subprotocol = "ocpp2.0.1"
    start_name = meter_name = stop_name = "TransactionEvent"

    def boot(self, c: Charger) -> str:
        return (
            '{"reason":"PowerUp","chargingStation":{"vendorName":"Bench","model":"Load",'
            f'"firmwareVersion":"1.0","serialNumber":"{c.identity[:25]}"}}}}'
        )

    def status(self, c: Charger) -> str:
        return f'{{"timestamp":"{now()}","connectorStatus":"Available","evseId":1,"connectorId":1}}'

    def authorize(self, c: Charger) -> str:
        return f'{{"idToken":{{"idToken":"{c.tag}","type":"ISO14443"}}}}'

    def _event(
        self, c: Charger, kind: str, trigger: str, context: str, info: str, token: str
    ) -> str:
        common = f'"context":"{context}","location":"Outlet"'
        c.seq += 1
        return (
            f'{{"eventType":"{kind}","timestamp":"{now()}","triggerReason":"{trigger}",'
            f'"seqNo":{c.seq - 1},"transactionInfo":{{"transactionId":"{c.transaction}",{info}}},'
            f'"evse":{{"id":1,"connectorId":1}},{token}"meterValue":[{{"timestamp":"{now()}",'
            f'"sampledValue":[{{"value":{c.register_wh},{common},'
            '"measurand":"Energy.Active.Import.Register","unitOfMeasure":{"unit":"Wh"}},'
            f'{{"value":10980.5,{common},"measurand":"Power.Active.Import",'
            '"unitOfMeasure":{"unit":"W"}},'
            f'{{"value":15.9,{common},"measurand":"Current.Import","phase":"L1",'
            '"unitOfMeasure":{"unit":"A"}},'
            f'{{"value":230.2,{common},"measurand":"Voltage","phase":"L1-N",'
            '"unitOfMeasure":{"unit":"V"}},'
            f'{{"value":{c.register_wh // 100 % 100},"context":"{context}","location":"EV",'
            '"measurand":"SoC","unitOfMeasure":{"unit":"Percent"}}]}]}'
        )

    def _token(self, c: Charger) -> str:
        return f'"idToken":{{"idToken":"{c.tag}","type":"ISO14443"}},'

    def start(self, c: Charger) -> str:
        c.transaction, c.seq = uuid.uuid4(), 0
        info = '"chargingState":"Charging"'
        return self._event(c, "Started", "Authorized", "Transaction.Begin", info, self._token(c))

    def started(self, c: Charger, answer: dict[str, Any]) -> str:
        return str(answer.get("idTokenInfo", {}).get("status", "Accepted"))

    def meter(self, c: Charger) -> str:
        info = '"chargingState":"Charging"'
        return self._event(c, "Updated", "MeterValuePeriodic", "Sample.Periodic", info, "")

    def stop(self, c: Charger) -> str:
        info = '"stoppedReason":"Local"'
        return self._event(c, "Ended", "StopAuthorized", "Transaction.End", info, self._token(c))


WORDS: dict[str, Any] = {"1.6": Words16, "2.0.1": Words201}


@dataclass
class Result:
    """What a run measured. Latencies in milliseconds, CPU in cores."""

    scenario: str
    version: str
    count: int
    seconds: float = 0.0
    messages: int = 0
    rate: float = 0.0
    p50_ms: float = 0.0
    p95_ms: float = 0.0
    p99_ms: float = 0.0
    max_ms: float = 0.0
    connected: int = 0
    connect_s: float = 0.0
    boot_s: float = 0.0
    own_cpu: float = 0.0
    server_cpu: float = 0.0
    errors: Counter[str] = field(default_factory=Counter)


class Load:
    """One run: its options and its measurements."""

    def __init__(
        self, url: str, version: str, count: int, scenario: str, tag: str, prefix: str
    ) -> None:
        self.url, self.tag, self.prefix = url.rstrip("/"), tag, prefix
        self.result = Result(scenario, version, count)
        self.words = WORDS[version]()
        self.measuring = False
        self.latencies: list[float] = []
        self.waiting = 0
        self.chargers: list[Charger] = []
        self.before_leaving: Callable[[], None] | None = None
        self.server_cpu_s: Callable[[], float] = lambda: 0.0

    async def run(self, seconds: float, warmup: float) -> Result:
        """Connect, boot, warm up, measure for `seconds`, leave."""
        result = self.result
        began = time.perf_counter()
        gate = asyncio.Semaphore(CONNECTING)
        await asyncio.gather(*(self._connect(n, gate) for n in range(result.count)))
        result.connect_s = time.perf_counter() - began
        result.connected = len(self.chargers)
        deadline = time.perf_counter() + TIMEOUT_S
        while self.waiting < len(self.chargers) and time.perf_counter() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
        result.boot_s = time.perf_counter() - began
        gc.collect()
        gc.freeze()
        for charger in self.chargers:
            charger.resume()
        await asyncio.sleep(warmup)
        cpu, began, server = time.process_time(), time.perf_counter(), self.server_cpu_s()
        self.measuring = True
        await asyncio.sleep(seconds)
        self.measuring = False
        result.seconds = time.perf_counter() - began
        result.server_cpu = (self.server_cpu_s() - server) / result.seconds
        result.own_cpu = (time.process_time() - cpu) / result.seconds
        result.messages = len(self.latencies)
        result.rate = result.messages / result.seconds
        self.latencies.sort()
        result.p50_ms, result.p95_ms, result.p99_ms, result.max_ms = (
            percentile(self.latencies, share) * 1000 for share in (0.5, 0.95, 0.99, 1.0)
        )
        stuck = time.perf_counter() - 10
        result.errors["no answer"] += sum(1 for c in self.chargers if 0 < c.sent_at < stuck)
        result.errors = +result.errors
        if self.before_leaving is not None:
            self.before_leaving()
        for charger in self.chargers:
            charger.leave()
        await asyncio.sleep(0.1)
        return result

    async def _connect(self, n: int, gate: asyncio.Semaphore) -> None:
        charger = Charger(self, f"{self.prefix}-{n:05d}")
        async with gate:
            try:
                async with asyncio.timeout(TIMEOUT_S):
                    await ws_connect(
                        lambda: charger,
                        f"{self.url}/{charger.identity}",
                        websocket_handshake_timeout=TIMEOUT_S,
                        extra_headers={"Sec-WebSocket-Protocol": self.words.subprotocol},
                    )
            except Exception as error:  # noqa: BLE001  any refusal is a figure of the report
                self.result.errors[f"connect: {type(error).__name__}"] += 1
            else:
                self.chargers.append(charger)


class Charger(WSListener):  # type: ignore[misc]
    """One connection; its script yields calls and is resumed with their answers."""

    def __init__(self, load: Load, identity: str) -> None:
        super().__init__()
        self.load, self.identity, self.tag = load, identity, load.tag
        self.register_wh, self.seq, self.ids = 1000, 0, 0
        self.transaction: Any = 0
        self.action, self.sent_at = "", 0.0
        self.parked = self.left = False
        self.script = self.boot() if load.result.scenario != "echo" else self.ready()

    # --- scripts --------------------------------------------------------------------------------

    def boot(self) -> Script:
        """BootNotification until accepted, and a status."""
        words = self.load.words
        answer = yield "BootNotification", words.boot(self)
        if answer.get("status") != "Accepted":
            self.load.result.errors[f"boot: {answer.get('status')}"] += 1
        yield "StatusNotification", words.status(self)
        yield from self.ready()

    def ready(self) -> Script:
        """Wait for all others, then what the scenario says."""
        self.load.waiting += 1
        self.parked = True
        yield "", ""
        scenario = self.load.result.scenario
        while scenario in {"heartbeat", "echo"}:
            yield "Heartbeat", "{}"
        while scenario in READINGS:
            yield from self.session(READINGS[scenario], authorize=scenario == "session")

    def session(self, readings: int, *, authorize: bool) -> Script:
        """One charging session."""
        words = self.load.words
        if authorize:
            yield "Authorize", words.authorize(self)
        status = words.started(self, (yield words.start_name, words.start(self)))
        if status != "Accepted":
            self.load.result.errors[f"start: {status}"] += 1
        for _ in range(readings):
            self.register_wh += 10
            yield words.meter_name, words.meter(self)
        yield words.stop_name, words.stop(self)

    # --- the connection -------------------------------------------------------------------------

    def on_ws_connected(self, transport: WSTransport) -> None:
        self.transport = transport
        self._send(next(self.script))

    def resume(self) -> None:
        """Go on after the start signal."""
        if self.parked:
            self.parked = False
            self._next({})

    def leave(self) -> None:
        """Close the connection."""
        self.left = True
        self.transport.send_close(1000)
        self.transport.disconnect()

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type != WSMsgType.TEXT:
            return
        took = time.perf_counter() - self.sent_at
        load = self.load
        message = orjson.loads(frame.get_payload_as_bytes())
        answer: dict[str, Any] = {}
        if load.result.scenario == "echo":
            pass  # our own call comes back
        elif message[0] == 2:
            refusal = [4, message[1], "NotSupported", "", {}]
            transport.send(WSMsgType.TEXT, orjson.dumps(refusal))
            return
        elif message[0] == 3:
            answer = message[2]
        else:
            load.result.errors[f"{self.action}: {message[2]}"] += 1
        if message[1] != str(self.ids):
            load.result.errors["answer to another call"] += 1
            return
        if load.measuring and not self.left:
            load.latencies.append(took)
        self._next(answer)

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        if not self.left:
            self.load.result.errors["disconnected"] += 1

    def _next(self, answer: dict[str, Any]) -> None:
        try:
            self._send(self.script.send(answer))
        except StopIteration:
            self.sent_at = 0.0

    def _send(self, call: tuple[str, str]) -> None:
        self.action = call[0]
        if not call[0] or self.left:
            self.sent_at = 0.0
            return
        self.ids += 1
        self.sent_at = time.perf_counter()
        self.transport.send(WSMsgType.TEXT, f'[2,"{self.ids}","{call[0]}",{call[1]}]'.encode())


def percentile(ordered: list[float], share: float) -> float:
    """The value below which `share` of an ordered list lies (nearest rank); 0 of an empty one."""
    if not ordered:
        return 0.0
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def measure(
    url: str,
    *,
    version: str = "1.6",
    count: int = 100,
    scenario: str = "meter",
    seconds: float = 10.0,
    warmup: float = 2.0,
    tag: str = "BENCH",
    prefix: str = "",
    server_cpu_s: Callable[[], float] = lambda: 0.0,
) -> Result:
    """Run one measurement on an event loop of its own.

    `server_cpu_s` tells the CPU seconds the server has used so far, where the caller can see it.
    """
    prefix = prefix or f"B{os.getpid() % 10000}{int(time.time()) % 10000}"

    async def go() -> Result:
        load = Load(url, version, count, scenario, tag, prefix)
        load.server_cpu_s = server_cpu_s
        return await load.run(seconds, warmup)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        result = runner.run(go())
    gc.unfreeze()
    return result


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--url", default="ws://127.0.0.1:8000/ocpp")
    parser.add_argument("--version", choices=list(WORDS), default="1.6")
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--scenario", choices=SCENARIOS, default="meter")
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--warmup", type=float, default=2)
    parser.add_argument("--tag", default="BENCH", help="a token the server accepts")
    parser.add_argument("--prefix", default="", help="what identities begin with")
    options = vars(parser.parse_args())
    print(json.dumps(vars(measure(options.pop("url"), **options)), indent=2))


if __name__ == "__main__":
    main()
