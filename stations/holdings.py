"""What a station told it holds beside its variables: kept, given up, looked up."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from django.db import transaction
from django.utils import timezone

from stations import bulk, journal, live, writer
from stations.models import Holding, StreamValue

Kind = Holding.Kind
STREAMS_KEPT: Final = timedelta(days=30)


@dataclass(frozen=True, slots=True)
class Held:
    """One thing, as the station names and tells it."""

    kind: str
    key: str
    label: str = ""
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class StreamSample:
    """One value of a periodic event stream, for the writer's lane `stream_values`."""

    station_id: int
    stream: int
    at: datetime
    value: str


def of(station_id: int, kind: str) -> list[Holding]:
    """Return what a station holds of a kind."""
    return list(Holding.objects.filter(station=station_id, kind=kind))


def find(station_id: int, kind: str, key: str) -> Holding | None:
    """Return one thing a station holds."""
    return Holding.objects.filter(station=station_id, kind=kind, key=key).first()


def keep(station_id: int, held: Sequence[Held], news: str = "", **data: Any) -> None:
    """Keep what a station told, each thing once; with `news`, record that it did."""
    now = timezone.now()
    with transaction.atomic():
        unique = {(one.kind, one.key[:80]): one for one in held}
        Holding.objects.bulk_create(
            [
                Holding(
                    station_id=station_id, kind=kind, key=key, label=one.label[:255],
                    data=dict(one.data), told_at=now,
                )
                for (kind, key), one in unique.items()
            ],
            update_conflicts=True,
            unique_fields=["station", "kind", "key"],
            update_fields=["label", "data", "told_at"],
        )  # fmt: skip
        _tell(station_id, news, data)


def give_up(
    station_id: int,
    kind: str,
    keys: Iterable[object] | None = None,
    *,
    before: datetime | None = None,
    news: str = "",
    **data: Any,
) -> int:
    """Forget things a station holds no more: of these keys, told before a moment, or all."""
    with transaction.atomic():
        rows = Holding.objects.filter(station=station_id, kind=kind)
        if keys is not None:
            rows = rows.filter(key__in=[str(key) for key in keys])
        if before is not None:
            rows = rows.filter(told_at__lt=before)
        gone, _ = rows.delete()
        _tell(station_id, news, data)
    return gone


def append_text(station_id: int, kind: str, key: str, text: str, *, first: bool) -> None:
    """Keep a part of a text that comes in parts; the first begins it anew."""
    with transaction.atomic():
        rows = Holding.objects.select_for_update()
        known = rows.filter(station=station_id, kind=kind, key=key).first()
        before = "" if first or known is None else str(known.data.get("text", ""))
        told = Held(kind, key, (before + text)[:255], {"text": before + text})
        keep(station_id, [told])


def _tell(station_id: int, news: str, data: Mapping[str, Any]) -> None:
    if news:
        journal.record(news, f"station-{station_id}", station_id=station_id, **data)
    live.touch(f"station-{station_id}")


# --- streams --------------------------------------------------------------------------------------


def write_stream_values(facts: Sequence[StreamSample]) -> None:
    """Write a batch of streamed values; a value that came already is one row."""
    bulk.insert(
        StreamValue,
        [
            {"station_id": one.station_id, "stream": one.stream, "at": one.at, "value": one.value}
            for one in {(one.station_id, one.stream, one.at): one for one in facts}.values()
        ],
        ignore=True,
    )
    live.touch(*{f"station-{one.station_id}" for one in facts})


def prune_streams() -> int:
    """Let streamed values go that are older than STREAMS_KEPT; return how many."""
    gone, _ = StreamValue.objects.filter(at__lt=datetime.now(UTC) - STREAMS_KEPT).delete()
    return gone


writer.lane("stream_values", 65, write_stream_values)
