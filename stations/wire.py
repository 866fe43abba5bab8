"""The frame log: every call from a charger with the answer it got, in the same commit.

    unit.add("frames", Frame(station_id, at, "Heartbeat", "17", "{}", unit))

The lane is written last: by then the unit's answer is known. Calls to chargers are rare, and are
written by whoever sends them (`stations/ocpp/dialect.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from stations import bulk, writer
from stations.models import Message


@dataclass(slots=True, eq=False)  # not frozen: that costs a microsecond a frame
class Frame:
    """One call from a charger. `unit.answer` is the JSON text it is answered with, if any."""

    station_id: int
    at: datetime
    action: str
    message_id: str
    payload: str  # JSON text, or what came instead
    unit: writer.Unit
    error: str = ""  # CALLERROR code and why


def write_frames(facts: Sequence[Frame]) -> None:
    """Write the frames of a batch. The latency is what the charger waits for: until now."""
    now = datetime.now(UTC)
    bulk.insert(
        Message,
        [
            {
                "at": fact.at,
                "station_id": fact.station_id,
                "direction": "in",
                "action": fact.action,
                "message_id": fact.message_id,
                "payload": fact.payload,
                "answer": fact.unit.answer or "",
                "error": fact.error,
                "latency_ms": round((now - fact.at).total_seconds() * 1000, 3),
            }
            for fact in facts
        ],
    )


writer.lane("frames", writer.ANSWERED, write_frames)
