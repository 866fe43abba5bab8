"""A session's row as the writer's lanes hold it: loaded, changed and saved a batch at a time.

Plain slots instead of model instances: this is the hot path. Rows are locked while they are held
(PostgreSQL: by row, in the order of their ids; SQLite: the whole database).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime, timedelta
from operator import attrgetter
from typing import Any

from monitoring import metering
from monitoring.models import Session
from stations import bulk, writer
from stations.models import Connector

CLOSE_AFTER = timedelta(hours=12)  # a stopped session whose bay never reports free ends then
SETTLE_AFTER = timedelta(minutes=15)  # a bay reported free, but the stop has not come: wait so long


@dataclass(slots=True, eq=False)
class Row:
    """The columns of Session that the lanes read and write."""

    id: int
    station_id: int
    connector_id: int | None
    ref: str
    number: int | None
    natural_key: str | None
    state: str
    token_id: int | None
    token_uid: str
    token_type: str
    authorization: str
    remote_start_id: int | None
    started_at: datetime
    started_received_at: datetime
    meter_start_mwh: int | None
    stop_token_uid: str = ""
    stop_reason: str = ""
    stopped_at: datetime | None = None
    stopped_received_at: datetime | None = None
    closed_at: datetime | None = None
    close_by: datetime | None = None
    meter_stop_mwh: int | None = None
    streak_start_mwh: int | None = None
    last_register_mwh: int | None = None
    energy_wh: int = 0
    energy_source: str = ""
    power_w: float | None = None
    soc_percent: float | None = None
    last_reading_at: datetime | None = None
    charging_state: str = ""
    seq_no: int | None = None
    seq_seen: list[list[int]] = field(default_factory=list)
    offline: bool = False
    flags: list[str] = field(default_factory=list)
    review: str = ""
    stored: tuple[Any, ...] = ()  # the columns as the database has them; lists are never changed

    def flag(self, *words: str) -> None:
        """Add doubts."""
        self.flags = sorted({*self.flags, *words})

    def unflag(self, *words: str) -> None:
        """Take doubts away."""
        self.flags = [word for word in self.flags if word not in words]

    def see(self, seq_no: int | None) -> bool:
        """Note a sequence number; tell whether it is the next one. A gap is flagged till filled."""
        if seq_no is None:
            return False
        follows = self.seq_no is not None and seq_no == self.seq_no + 1
        ranges = sorted([*self.seq_seen, [seq_no, seq_no]])
        merged = ranges[:1]
        for low, high in ranges[1:]:
            if low <= merged[-1][1] + 1:
                merged[-1] = [merged[-1][0], max(merged[-1][1], high)]
            else:
                merged.append([low, high])
        self.seq_seen, self.seq_no = merged, merged[-1][1]
        if len(merged) > 1:
            self.flag("seq-gap")
        else:
            self.unflag("seq-gap", "lost-events")
        return follows and len(merged) == 1

    def close(self, at: datetime) -> None:
        """End the occupancy at `at`, not before the energy ended."""
        self.state = Session.State.CLOSED
        self.closed_at = max(at, self.stopped_at or self.started_at)
        self.close_by = None

    def streak(self) -> metering.Streak:
        """Return how far the registers are believed."""
        flags = metering.DERIVED.intersection(self.flags) - _OF_STOP
        start = self.meter_start_mwh
        start = self.streak_start_mwh if start is None else start
        return metering.Streak(start, self.last_register_mwh, flags)

    def measure(self, streak: metering.Streak) -> None:
        """Set energy and its doubts from `streak` and the stop register."""
        energy = metering.energy(streak, self.meter_stop_mwh)
        self.streak_start_mwh, self.last_register_mwh = streak.start_mwh, streak.last_mwh
        self.energy_wh, self.energy_source = energy.wh, energy.source
        self.flags = sorted({*self.flags} - metering.DERIVED | energy.flags)
        if self.review in ("", *_REVIEWS_OF_ENERGY):
            self.review = energy.review


_OF_STOP = frozenset({metering.NEGATIVE, metering.MISMATCH})
_REVIEWS_OF_ENERGY = ("negative-energy", "implausible-energy", "meter-mismatch")
COLUMNS = tuple(column.name for column in fields(Row) if column.name != "stored")
_values = attrgetter(*COLUMNS)


def by_ref(keys: Iterable[tuple[int, str]]) -> dict[tuple[int, str], Row]:
    """Return the sessions of these (station, ref), locked."""
    wanted = set(keys)
    shared = writer.held() or {}
    found = {key: shared[key] for key in wanted if key in shared}
    rest = bulk.select(Session, COLUMNS, ("station_id", "ref"), wanted - found.keys(), lock=True)
    for row in map(_row, rest):
        found[row.station_id, row.ref] = row
    return found


def by_natural_key(keys: Iterable[str]) -> dict[str, Row]:
    """Return the sessions of these natural keys (1.6), locked."""
    pairs = [(key,) for key in keys]
    found = bulk.select(Session, COLUMNS, ("natural_key",), pairs, lock=True)
    return {str(row.natural_key): row for row in map(_row, found)}


def by_id(ids: Iterable[int]) -> dict[int, Row]:
    """Return these sessions, locked."""
    found = bulk.select(Session, COLUMNS, ("id",), [(one,) for one in ids], lock=True)
    return {row.id: row for row in map(_row, found)}


def open_on(places: Iterable[tuple[int, int]]) -> list[Row]:
    """Return the sessions not yet closed at these (station, connector), oldest first, locked."""
    found = bulk.select(
        Session,
        COLUMNS,
        ("station_id", "connector_id"),
        places,
        where="t.closed_at IS NULL",
        lock=True,
    )
    return [_row(one) for one in found]


def open_at(station_ids: Iterable[int]) -> list[Row]:
    """Return the sessions still charging at these stations, oldest first, locked."""
    pairs = [(one,) for one in station_ids]
    found = bulk.select(
        Session,
        COLUMNS,
        ("station_id",),
        pairs,
        where="t.closed_at IS NULL AND t.state = 'active'",
        lock=True,
    )
    return [_row(one) for one in found]


def insert(new: Sequence[Row]) -> None:
    """Insert rows; one that another gateway inserted meanwhile takes over that one's content.

    Their ids, numbers and refs are then the stored ones: look at `row.id` afterwards.
    """
    inserted = bulk.insert_new(
        Session, [dict(zip(COLUMNS, _values(row), strict=True)) for row in new]
    )
    for row in new:
        row.stored = _values(row)
        if row.id not in inserted:
            theirs = (
                by_natural_key([row.natural_key])[row.natural_key]
                if row.natural_key
                else by_ref([(row.station_id, row.ref)])[row.station_id, row.ref]
            )
            for name in (*COLUMNS, "stored"):
                setattr(row, name, getattr(theirs, name))
        _share(row)


def save(changed: Iterable[Row]) -> None:
    """Write back what changed in the rows since they were read, each once.

    All rows get the columns that changed in any of them: one statement. What readings change is in
    no index, so PostgreSQL mostly updates in place (HOT).
    """
    unique = {row.id: row for row in changed}
    dirty: set[int] = set()
    written: list[tuple[Any, ...]] = []
    for _, row in sorted(unique.items()):
        values = _values(row)
        if values != row.stored:
            dirty.update(i for i, value in enumerate(values) if value != row.stored[i])
            row.stored = values
            written.append(values)
    columns = [0, *sorted(dirty)]
    names = [COLUMNS[i] for i in columns]
    bulk.update(
        Session, [dict(zip(names, [one[i] for i in columns], strict=True)) for one in written]
    )


def _row(values: tuple[Any, ...]) -> Row:
    """Return the row of these columns: within a batch always the same one for a session."""
    shared = writer.held()
    if shared is not None and values[0] in shared:
        known: Row = shared[values[0]]
        return known
    row = Row(*values)
    row.stored = tuple(values)
    return _share(row)


def _share(row: Row) -> Row:
    """Let later lanes of the batch find the row without reading it again."""
    shared = writer.held()
    if shared is not None:
        shared[row.id] = shared[row.station_id, row.ref] = row
    return row


# --- connectors -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Bay:
    """A connector as sessions need it: is a cable known to be in?"""

    id: int
    status: str
    status_at: datetime | None

    @property
    def occupied(self) -> bool:
        """Tell whether a vehicle may still be there."""
        return self.status not in (Connector.Status.AVAILABLE, Connector.Status.UNKNOWN)


def connectors(
    keys: Iterable[tuple[int, int, int | None]],
) -> dict[tuple[int, int, int | None], Bay]:
    """Return connectors by (station, EVSE, connector), unseen ones left out.

    A key may have None for its connector: the EVSE's first.
    """
    wanted = set(keys)
    if not wanted:
        return {}
    found: dict[tuple[int, int, int | None], Bay] = {}
    rows = Connector.objects.filter(
        station_id__in={key[0] for key in wanted}, evse__number__in={key[1] for key in wanted}
    ).order_by("-number")
    for pk, station, evse, number, status, at in rows.values_list(
        "id", "station_id", "evse__number", "number", "status", "status_at"
    ):
        if not wanted.isdisjoint({(station, evse, number), (station, evse, None)}):
            bay = Bay(pk, status, at)
            found[station, evse, number] = found[station, evse, None] = bay
    return found


def bays_of(connector_ids: Iterable[int | None]) -> dict[int | None, Bay]:
    """Return connectors by their id."""
    ids = {one for one in connector_ids if one is not None}
    found = bulk.select(Connector, ("id", "status", "status_at"), ("id",), [(i,) for i in ids])
    return {row[0]: Bay(*row) for row in found}
