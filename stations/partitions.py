"""Tables cut by time on PostgreSQL, so that old rows leave by dropping a partition.

A partitioned table has a DEFAULT partition for absurd dates and for the day the task did not run.
On SQLite the tables are plain, and old rows are deleted.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise

from django.db import connection, transaction
from django.utils import timezone

AHEAD = 3  # periods made before they begin
CHUNK = 20_000  # rows deleted at a time on SQLite, so that the writer is never kept waiting


@dataclass(frozen=True, slots=True)
class Table:
    """A table cut by the column `at`, into calendar months or into weeks that begin on Monday."""

    name: str
    weekly: bool = False

    def begin(self, at: datetime) -> datetime:
        """Return the beginning of the period that `at` is in."""
        day = at.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        return day - timedelta(days=day.weekday()) if self.weekly else day.replace(day=1)

    def following(self, begin: datetime) -> datetime:
        """Return the beginning of the next period."""
        return self.begin(begin + timedelta(days=7 if self.weekly else 32))

    def partition(self, begin: datetime) -> str:
        """Return the name of a period's partition."""
        return f"{self.name}_{begin:%Y%m%d}"


def ensure(table: Table, now: datetime | None = None) -> list[str]:
    """Make the partitions of this period and the next ones; return the names of the new ones."""
    if connection.vendor != "postgresql":
        return []
    begins = [table.begin(now or timezone.now())]
    for _ in range(AHEAD + 1):
        begins.append(table.following(begins[-1]))
    existing = {name for name, _ in _existing(table)}
    made = []
    for begin, end in pairwise(begins):
        if table.partition(begin) not in existing:
            _make(table, begin, end)
            made.append(table.partition(begin))
    return made


def prune(table: Table, before: datetime) -> int:
    """Drop what is wholly older than `before`; return the number of partitions or rows gone."""
    if connection.vendor == "postgresql":
        old = [name for name, end in _existing(table) if end <= before]
        with connection.cursor() as cursor:
            for name in old:
                cursor.execute(f'DROP TABLE "{name}"')
            cursor.execute(
                f'DELETE FROM "{table.name}_default" WHERE at < %s',  # noqa: S608
                [before],
            )
        return len(old)
    gone: int = 0
    while True:
        with connection.cursor() as cursor:
            cursor.execute(
                f'DELETE FROM "{table.name}" WHERE rowid IN'  # noqa: S608
                f' (SELECT rowid FROM "{table.name}" WHERE at < %s LIMIT {CHUNK})',
                [str(before.astimezone(UTC).replace(tzinfo=None))],
            )
            gone += cursor.rowcount
            if cursor.rowcount < CHUNK:
                return gone


def convert(table: Table, key: str, *, serial: bool = False) -> None:
    """Turn a plain table of PostgreSQL into a partitioned one with primary key `key`, rows kept.

    For migrations. `serial`: `id` counts by itself (an identity column cannot, before 17). Indexes
    other than the key and one on `at` are the caller's to make again.
    """
    name, plain = table.name, f"{table.name}_plain"
    statements = [
        f'ALTER TABLE "{name}" RENAME TO "{plain}"',
        f'CREATE TABLE "{name}" (LIKE "{plain}" INCLUDING DEFAULTS) PARTITION BY RANGE (at)',
        f'CREATE TABLE "{name}_default" PARTITION OF "{name}" DEFAULT',
        f'INSERT INTO "{name}" SELECT * FROM "{plain}"',  # noqa: S608
        f'DROP TABLE "{plain}"',
        f'ALTER TABLE "{name}" ADD PRIMARY KEY ({key})',
        f'CREATE INDEX "{name}_at" ON "{name}" USING brin (at)',
    ]
    if serial:
        statements += [
            f'CREATE SEQUENCE "{name}_id_seq" OWNED BY "{name}".id',
            f"ALTER TABLE \"{name}\" ALTER id SET DEFAULT nextval('{name}_id_seq')",
            f"SELECT setval('{name}_id_seq', COALESCE(MAX(id), 0) + 1, false) FROM \"{name}\"",  # noqa: S608
        ]
    with transaction.atomic(), connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)
    ensure(table)


def _existing(table: Table) -> list[tuple[str, datetime]]:
    """Return name and end of each partition but the default one."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid"
            " WHERE i.inhparent = %s::regclass",
            [table.name],
        )
        names = [row[0] for row in cursor.fetchall()]
    found = []
    for name in sorted(names):
        stamp = name.removeprefix(f"{table.name}_")
        if stamp.isdigit():
            begin = datetime.strptime(stamp, "%Y%m%d").replace(tzinfo=UTC)
            found.append((name, table.following(begin)))
    return found


def _make(table: Table, begin: datetime, end: datetime) -> None:
    """Make one partition, taking over rows that the default one holds for it."""
    name, default = table.partition(begin), f"{table.name}_default"
    bounds = [begin.isoformat(), end.isoformat()]
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(f'LOCK TABLE "{table.name}" IN ACCESS EXCLUSIVE MODE')
        cursor.execute(f'CREATE TABLE "{name}" (LIKE "{table.name}" INCLUDING DEFAULTS)')
        cursor.execute(
            f'WITH moved AS (DELETE FROM "{default}" WHERE at >= %s AND at < %s RETURNING *)'  # noqa: S608
            f' INSERT INTO "{name}" SELECT * FROM moved',
            bounds,
        )
        cursor.execute(
            f'ALTER TABLE "{table.name}" ATTACH PARTITION "{name}" FOR VALUES FROM (%s) TO (%s)',
            bounds,
        )
