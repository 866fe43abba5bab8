"""When a session's bay is free again: `closed_at`, the end of occupancy.

A connector that becomes available ends the session that stood there. Deadlines close the rest, so
that money is never held for ever.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from django.db import transaction
from django.utils import timezone

from monitoring import news, readings, rows
from monitoring.facts import Bay
from monitoring.metering import Sampled, effective
from monitoring.models import Session
from monitoring.rows import Row
from stations import journal, writer
from stations.models import Connector, Entry

SILENT_AFTER = timedelta(hours=24)  # a station not heard for so long: its sessions end
CLOSE_LIMIT = 500  # sessions a sweep closes at once
NO_STOP = "no-stop"


def follow(facts: Sequence[Bay]) -> list[None]:
    """Follow the connectors' statuses: an available one ends the session that stood there."""
    keys = {(fact.station_id, fact.evse, fact.connector) for fact in facts}
    connectors = rows.connectors(keys)
    held: dict[int | None, list[Row]] = {}
    for row in rows.open_on({(key[0], bay.id) for key, bay in connectors.items()}):
        held.setdefault(row.connector_id, []).append(row)
    if not held:
        return [None] * len(facts)
    closed: list[Row] = []
    states: list[Sampled] = []
    for fact in facts:
        bay = connectors.get((fact.station_id, fact.evse, fact.connector))
        at = effective(fact.at, fact.received_at)
        for row in held.get(bay.id, []) if bay else []:
            if at < row.started_at or row.closed_at is not None:
                continue  # an old status replayed
            if fact.status != Connector.Status.AVAILABLE:
                states += _state_of(row, fact)
            elif row.state == Session.State.STOPPED:
                row.close(at)
                closed.append(row)
            elif row.close_by is None:
                row.close_by = fact.received_at + rows.SETTLE_AFTER
    rows.save(row for found in held.values() for row in found)
    if states:
        readings.write(states)
    journal.record_many([news.closed(row) for row in closed])
    news.touch(closed)
    return [None] * len(facts)


_STATES: dict[str, str] = {  # 1.6 says the charging state by the connector's status
    Connector.Status.CHARGING: "Charging",
    Connector.Status.SUSPENDED_EV: "SuspendedEV",
    Connector.Status.SUSPENDED_EVSE: "SuspendedEVSE",
}


def _state_of(row: Row, fact: Bay) -> list[Sampled]:
    """Return the reading that a status makes for a running session."""
    state = _STATES.get(fact.status)
    if state is None or row.state != Session.State.ACTIVE or state == row.charging_state:
        return []
    return [
        Sampled(
            row.station_id,
            row.ref,
            None,
            fact.at,
            fact.received_at,
            context="State",
            charging_state=state,
        )
    ]


def close(session_ids: Iterable[int]) -> int:
    """Close stopped sessions now, at their stop: nothing after it can cost. Return how many."""
    with transaction.atomic():
        found = [
            row
            for row in rows.by_id(session_ids).values()
            if row.state == Session.State.STOPPED and row.stopped_at
        ]
        for row in found:
            row.close(row.stopped_at or row.started_at)
        rows.save(found)
        journal.record_many([news.closed(row) for row in found])
        news.touch(found)
    return len(found)


def close_due(now: datetime | None = None) -> int:
    """Close sessions whose deadline passed or whose station fell silent; return how many.

    One without a stop ends provisionally at the last proof that the vehicle was there. A stop that
    still comes corrects it.
    """
    now = now or timezone.now()
    open_ones = Session.objects.filter(closed_at=None)
    silent = open_ones.filter(
        state=Session.State.ACTIVE,
        close_by=None,
        started_received_at__lt=now - SILENT_AFTER,
        station__last_seen_at__lt=now - SILENT_AFTER,
    ).values_list("pk", flat=True)
    due = open_ones.filter(close_by__lte=now).values_list("pk", flat=True)
    with transaction.atomic():
        chosen = {*due[:CLOSE_LIMIT], *silent[:CLOSE_LIMIT]}
        found = [row for row in rows.by_id(chosen).values() if row.closed_at is None]
        told: list[Entry] = []
        for row in found:
            if row.state == Session.State.ACTIVE:
                row.stopped_at = max(row.started_at, row.last_reading_at or row.started_at)
                row.power_w = 0.0
                row.flag(NO_STOP)
                told.append(news.of("session.stopped", row, energy_wh=row.energy_wh))
            row.close(row.stopped_at or row.started_at)
            told.append(news.closed(row))
        rows.save(found)
        journal.record_many(told)
        news.touch(found)
    return len(found)


writer.lane("bays", 70, follow)
