"""The uptime ledger: the journal folded into intervals, one line per station, connector and kind.

A tick follows the journal by its id and reads the last minute again each time, because on
PostgreSQL a smaller id may be committed later. Every interval is keyed by the entry or session
behind it and placed by time, so folding anything twice, or in another order, gives the same rows.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from monitoring import ticks
from monitoring.models import PortInterval, Session
from stations.models import Connector, Entry

TICK = "monitoring.tasks.write_ledger"
LINKS = {"station.connected": "connected", "station.disconnected": "disconnected"}
SESSIONS = ("session.started", "session.stopped", "session.closed", "session.corrected")
WHOLE = "station.status_changed"  # connector 0, EVSE 0: a line of the station's own
KINDS = (*LINKS, "connector.status_changed", WHOLE, *SESSIONS)
BATCH, MAX_BATCHES = 250, 160  # a transaction holds up chargers (SQLite): a short one each
SETTLED = timedelta(seconds=60)  # older entries are all committed

DELIVERING, NOTHING = "delivering", "nothing"

Line = tuple[int, int | None, str]


def tick(now: datetime | None = None) -> int:
    """Fold what is new in the journal; return how many entries were read."""
    now = now or timezone.now()
    read = 0
    with ticks.exclusive(TICK, ttl_s=300) as row:
        if row is None:
            return 0
        position = row.cursor
        for _ in range(MAX_BATCHES):
            entries = list(
                Entry.objects.filter(kind__in=KINDS, pk__gt=position).order_by("pk")[:BATCH]
            )
            if not entries:
                break
            fold(entries)
            read += len(entries)
            position = entries[-1].pk
            settled = [entry.pk for entry in entries if entry.at <= now - SETTLED]
            row.cursor = max([row.cursor, *settled])
            if len(entries) < BATCH:
                break
    return read


@transaction.atomic
def fold(entries: Sequence[Entry]) -> None:
    """Write the intervals these journal entries tell of. Idempotent, in any order."""
    _fold_lines([entry for entry in entries if entry.kind not in SESSIONS])
    _fold_sessions(
        {
            int(entry.subject.removeprefix("session-"))
            for entry in entries
            if entry.kind in SESSIONS and entry.subject.startswith("session-")
        }
    )


def _fold_lines(entries: Sequence[Entry]) -> None:
    fresh = _new_intervals(entries)
    if not fresh:
        return
    begin = min(row.started_at for row in fresh)
    lines: dict[Line, list[PortInterval]] = defaultdict(list)
    for row in fresh:
        lines[_line(row)].append(row)
    beside = PortInterval.objects.filter(
        Q(ended_at__isnull=True) | Q(ended_at__gte=begin),
        station__in={row.station_id for row in fresh},
        source__in=[PortInterval.Source.LINK, PortInterval.Source.STATUS],
    )
    for row in beside:
        if _line(row) in lines:
            lines[_line(row)].append(row)
    changed = []
    for line in lines.values():
        line.sort(key=lambda row: (row.started_at, row.order))
        for row, following in zip(line, [*line[1:], None], strict=True):
            end = following.started_at if following is not None else None
            if row.ended_at != end:
                row.ended_at = end
                if row.pk is not None:
                    changed.append(row)
    PortInterval.objects.bulk_create(fresh, batch_size=500)
    PortInterval.objects.bulk_update(changed, ["ended_at"], batch_size=500)


def _line(row: PortInterval) -> Line:
    return row.station_id, row.connector_id, row.source


def _new_intervals(entries: Sequence[Entry]) -> list[PortInterval]:
    """Return unsaved intervals of the entries that are not in the ledger yet."""
    keys = {f"entry-{entry.pk}": entry for entry in entries if entry.station_id is not None}
    known = set(PortInterval.objects.filter(key__in=keys).values_list("key", flat=True))
    named = {
        int(entry.subject.removeprefix("connector-"))
        for entry in keys.values()
        if entry.subject.startswith("connector-")
    }
    connectors = set(Connector.objects.filter(pk__in=named).values_list("pk", flat=True))
    fresh = []
    for key, entry in keys.items():
        if key in known:
            continue
        connector_id = None
        if entry.kind not in LINKS and entry.kind != WHOLE:
            connector_id = int(entry.subject.partition("-")[2] or 0)
            if connector_id not in connectors:
                continue
        fresh.append(
            PortInterval(
                key=key,
                order=entry.pk,
                station_id=entry.station_id or 0,
                connector_id=connector_id,
                source=PortInterval.Source.LINK
                if entry.kind in LINKS
                else PortInterval.Source.STATUS,
                state=LINKS.get(entry.kind) or entry.data.get("status", "")[:20],
                error_code=(entry.data.get("error_code") or "")[:50],
                started_at=entry.at,
            )
        )
    return fresh


def _fold_sessions(ids: Iterable[int]) -> None:
    """Write when each session charged: proof that the port worked, whatever the socket did."""
    rows = Session.objects.filter(pk__in=list(ids), connector__isnull=False)
    PortInterval.objects.bulk_create(
        [
            PortInterval(
                key=f"session-{session.pk}",
                order=session.pk,
                station_id=session.station_id,
                connector_id=session.connector_id,
                source=PortInterval.Source.SESSION,
                state=DELIVERING if session.energy_wh > 0 else NOTHING,
                started_at=session.started_at,
                ended_at=session.stopped_at or session.closed_at,
            )
            for session in rows
        ],
        update_conflicts=True,
        unique_fields=["key"],
        update_fields=["state", "started_at", "ended_at", "connector"],
    )
