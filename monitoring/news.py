"""What the journal and the pages hear about sessions."""

from collections.abc import Iterable

from monitoring.rows import Row
from stations import journal, live
from stations.models import Entry


def of(kind: str, row: Row, **data: object) -> Entry:
    """Return an unsaved entry about a session."""
    return journal.entry(kind, f"session-{row.id}", station_id=row.station_id, **data)


def started(row: Row, kind: str = "session.started") -> Entry:
    """A session began, or learned who it belongs to."""
    return of(
        kind,
        row,
        ref=row.ref,
        token_uid=row.token_uid,
        remote_start_id=row.remote_start_id,
        connector=row.connector_id,
        authorization=row.authorization,
    )


def closed(row: Row) -> Entry:
    """The bay is free: the session can be settled."""
    return of("session.closed", row, energy_wh=row.energy_wh)


def corrected(row: Row, before_wh: int) -> Entry:
    """The energy of a closed session is another after all."""
    return of("session.corrected", row, energy_wh=row.energy_wh, previous_wh=before_wh)


def stopped(row: Row, before_wh: int, was_closed: bool) -> list[Entry]:
    """Energy ended: and where the bay is free too, that. A late stop corrects."""
    if was_closed:
        return [corrected(row, before_wh)]
    found = [of("session.stopped", row, energy_wh=row.energy_wh, reason=row.stop_reason)]
    return [*found, closed(row)] if row.closed_at else found


def touch(changed: Iterable[Row]) -> None:
    """Tell the pages, after commit."""
    topics = {
        topic
        for row in changed
        for topic in (
            f"session-{row.id}",
            f"station-{row.station_id}",
            f"connector-{row.connector_id}",
        )
    }
    if topics:
        live.touch("fleet", *topics)
