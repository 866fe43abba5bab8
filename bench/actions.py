"""`make bench-actions`: CPU microseconds of ours for each hot message, durable before the answer.

The dialect, the domain and the group commit in one process, without the websocket: a hundred
chargers at a time hand in one message each, as the socket would. CPU is the process's, all threads:
it does not depend on how fast the disk is. On SQLite, as `make run` has it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from bench import report

CHARGERS = 100
HEAD = ["message", "OCPP", "CPU µs a message", "messages"]
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

type Say = Callable[[int, int], dict[str, Any]]

running: dict[int, int] = {}  # charger → its transaction's number, 1.6


def now() -> str:
    """The time as OCPP wants it."""
    return datetime.now(UTC).isoformat()


def messages(version: str) -> list[tuple[str, str, Say]]:
    """Return (label, action, payload of charger i's n-th message), in the order of a session."""
    return _messages_16() if version == "1.6" else _messages_2x()


def _messages_16() -> list[tuple[str, str, Say]]:
    values = [
        {"value": "10980.5", "measurand": "Power.Active.Import", "unit": "W"},
        {"value": "15.9", "measurand": "Current.Import", "phase": "L1", "unit": "A"},
        {"value": "230.2", "measurand": "Voltage", "phase": "L1-N", "unit": "V"},
        {"value": "55", "measurand": "SoC", "unit": "Percent"},
    ]

    def meter(i: int, n: int) -> dict[str, Any]:
        register = {"value": str(1000 + n), "measurand": "Energy.Active.Import.Register"}
        sample = {"timestamp": now(), "sampledValue": [register, *values]}
        return {"connectorId": 1, "transactionId": running[i], "meterValue": [sample]}

    def status(i: int, n: int) -> dict[str, Any]:
        word = ("Preparing", "Available")[n % 2]
        return {"connectorId": 1, "errorCode": "NoError", "status": word, "timestamp": now()}

    def start(i: int, n: int) -> dict[str, Any]:
        return {"connectorId": 1, "idTag": "BENCH", "meterStart": n, "timestamp": now()}

    return [
        ("Heartbeat", "Heartbeat", lambda i, n: {}),
        ("StatusNotification", "StatusNotification", status),
        ("Authorize", "Authorize", lambda i, n: {"idTag": "BENCH"}),
        ("StartTransaction", "StartTransaction", start),
        ("MeterValues, five values", "MeterValues", meter),
        (
            "StopTransaction",
            "StopTransaction",
            lambda i, n: {"transactionId": running[i], "meterStop": n + 9, "timestamp": now()},
        ),
    ]


def _messages_2x() -> list[tuple[str, str, Say]]:
    values = [
        {"value": 10980.5, "measurand": "Power.Active.Import", "unitOfMeasure": {"unit": "W"}},
        {"value": 15.9, "measurand": "Current.Import", "phase": "L1"},
        {"value": 230.2, "measurand": "Voltage", "phase": "L1-N"},
        {"value": 55, "measurand": "SoC"},
    ]

    def event(kind: str, trigger: str, seq_no: int) -> Say:
        def say(i: int, n: int) -> dict[str, Any]:
            register = {"value": 1000 + n, "measurand": "Energy.Active.Import.Register"}
            return {
                "eventType": kind,
                "timestamp": now(),
                "triggerReason": trigger,
                "seqNo": seq_no,
                "transactionInfo": {"transactionId": f"b-{i}-{n}", "chargingState": "Charging"},
                "evse": {"id": 1, "connectorId": 1},
                "idToken": {"idToken": "BENCH", "type": "ISO14443"},
                "meterValue": [{"timestamp": now(), "sampledValue": [register, *values]}],
            }

        return say

    def status(i: int, n: int) -> dict[str, Any]:
        word = ("Occupied", "Available")[n % 2]
        return {"timestamp": now(), "connectorStatus": word, "evseId": 1, "connectorId": 1}

    token = {"idToken": "BENCH", "type": "ISO14443"}
    return [
        ("Heartbeat", "Heartbeat", lambda i, n: {}),
        ("StatusNotification", "StatusNotification", status),
        ("Authorize", "Authorize", lambda i, n: {"idToken": token}),
        (
            "TransactionEvent Started",
            "TransactionEvent",
            event("Started", "Authorized", 0),
        ),
        (
            "TransactionEvent Updated, five values",
            "TransactionEvent",
            event("Updated", "MeterValuePeriodic", 1),
        ),
        (
            "TransactionEvent Ended",
            "TransactionEvent",
            event("Ended", "EVDeparted", 2),
        ),
    ]


async def measure(version: str, rounds: int) -> list[list[str]]:
    """Hand in each message `rounds` times a charger; return the lines of the table."""
    from channels.db import database_sync_to_async as db

    from stations.models import Station
    from stations.ocpp.consumer import DIALECTS
    from stations.ocpp.delivery import Link
    from stations.ocpp.fastpath import dumps
    from stations.presence import Admitted
    from tests import make

    refused: list[str] = []

    async def closed(_code: int) -> None:
        return None

    def ear(i: int) -> Callable[[str], Any]:
        async def sent(text: str) -> None:
            if text[1] == "4":
                refused.append(text)
            elif "transactionId" in text:
                running[i] = json.loads(text)[2]["transactionId"]

        return sent

    def network() -> list[Station]:
        return [make.station(version=version, connected=True) for _ in range(CHARGERS)]

    chargers = []
    for i, station in enumerate(await db(network)()):
        admitted = Admitted(
            station.pk, station.identity, "accepted", version, "", 0, 300, "UTC", {}, None,
            booted=True,
        )  # fmt: skip
        chargers.append(DIALECTS[version](Link(admitted, 1, UTC, ear(i), closed)))
    took: dict[str, float] = {}
    for n in range(rounds + 1):
        for label, action, say in messages(version):
            texts = [
                dumps([2, f"{label}-{n}"[-36:], action, say(i, n)]) for i in range(len(chargers))
            ]
            began = time.process_time()
            await asyncio.gather(
                *(one.receive(text) for one, text in zip(chargers, texts, strict=True))
            )
            if n:  # the first round warms up
                took[label] = took.get(label, 0.0) + time.process_time() - began
    if refused:
        raise SystemExit(f"{len(refused)} messages were refused, the first: {refused[0]}")
    count = rounds * len(chargers)
    return [
        [label, version, f"{spent / count * 1e6:,.0f}", f"{count:,}"]
        for label, spent in took.items()
    ]


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--keep", action="store_true", help="print only, leave the page alone")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="csms-bench-") as directory:
        os.environ["DATABASE_URL"] = f"sqlite:///{directory}/bench.sqlite3"
        import django

        django.setup()
        from django.core.management import call_command

        from stations import writer
        from tests import make

        call_command("migrate", verbosity=0)
        make.token(uid="BENCH")
        rows = []
        for version in ("1.6", "2.0.1", "2.1"):
            rows += asyncio.run(measure(version, options.rounds))
        writer.stop()
    text = f"{report.conditions()}\n\n{report.table(HEAD, rows)}"
    if options.keep:
        sys.stdout.write(text + "\n")
    else:
        report.write("actions", text)


if __name__ == "__main__":
    main()
