"""Set-based statements for the writer's lanes: many rows, one statement, both databases.

Rows are dicts of column → Python value, all with the same keys. PostgreSQL gets them as one JSON
parameter (`json_to_recordset`: packed in C, bound by the server) and plans each batch anew, since a
plan made while a table was small is a trap once it has grown; SQLite by `executemany`. The model
gives table and types, so rows read like the model.
"""

# ruff: noqa: S608  (table and column names come from models, values are always bound)

import json
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from functools import cache
from typing import Any

import orjson
import psycopg
from django.db import connection, models

type Row = dict[str, Any]


def insert(model: type[models.Model], rows: Sequence[Row], *, ignore: bool = False) -> None:
    """Insert `rows`; with `ignore` those that break a unique key are left out."""
    if rows:
        _execute(_insert_sql(connection.vendor, model, tuple(rows[0]), ignore), model, rows)


def insert_new(model: type[models.Model], rows: Sequence[Row]) -> set[int]:
    """Insert `rows` but those that break a unique key; return the ids of the inserted.

    In SQLite the transaction has kept everybody else out since it began, so who looked before
    inserting meets no other: all are inserted.
    """
    if not rows:
        return set()
    if connection.vendor != "postgresql":
        insert(model, rows)
        return {row["id"] for row in rows}
    sql = _insert_sql("postgresql", model, tuple(rows[0]), True) + " RETURNING id"
    return {row[0] for row in _postgres(sql, [_packed(rows)])}


def update(model: type[models.Model], rows: Sequence[Row]) -> None:
    """Set the columns of each row by its `id`. No two rows may have the same id."""
    if rows:
        _execute(_update_sql(connection.vendor, model, tuple(rows[0])), model, rows)


def select(
    model: type[models.Model],
    columns: Sequence[str],
    by: Sequence[str],
    keys: Iterable[Sequence[Any]],
    *,
    where: str = "",
    lock: bool = False,
) -> list[tuple[Any, ...]]:
    """Return `columns` of the rows whose `by` columns equal one of `keys`, ordered by id.

    `where` is further SQL about the row `t`; `lock` locks the rows until the transaction ends
    (SQLite's transactions are exclusive from their beginning). Datetimes come back aware, in UTC.
    """
    rows = [dict(zip(by, key, strict=True)) for key in keys]
    if not rows:
        return []
    sql = _select_sql(connection.vendor, model, tuple(columns), tuple(by), where, lock)
    documents = [i for i, name in enumerate(columns) if _is_json(model, name)]
    if connection.vendor == "postgresql":
        found = _postgres(sql, [_packed(rows)]).fetchall()
        return [_unpacked(row, documents) for row in found] if documents else found
    with connection.cursor() as cursor:
        cursor.execute(sql, [json.dumps(rows)])
        found = cursor.fetchall()
    times = [i for i, name in enumerate(columns) if _is_time(model, name)]
    return [_unpacked(_with_times(row, times), documents) for row in found]


def next_ids(model: type[models.Model], count: int) -> list[int]:
    """Take `count` primary keys: rising, and never given again once committed."""
    table = model._meta.db_table
    if connection.vendor == "postgresql":
        rows = _postgres(
            "SELECT nextval(pg_get_serial_sequence(%s, 'id')) FROM generate_series(1, %s)",
            [table, count],
        )
        return [row[0] for row in rows]
    with connection.cursor() as cursor:
        cursor.execute("SELECT seq FROM sqlite_sequence WHERE name = %s", [table])
        found = cursor.fetchone()
    last = found[0] if found else 0
    return list(range(last + 1, last + count + 1))


def _execute(sql: str, model: type[models.Model], rows: Sequence[Row]) -> None:
    if connection.vendor == "postgresql":
        _postgres(sql, [_packed(rows)])
        return
    names = tuple(rows[0])
    kinds = [(i, _to_sqlite(model, name)) for i, name in enumerate(names)]
    converted = [(i, convert) for i, convert in kinds if convert]
    lines = [list(row.values()) for row in rows]
    for i, convert in converted:
        for line in lines:
            if line[i] is not None:
                line[i] = convert(line[i])
    connection.ensure_connection()
    with connection.wrap_database_errors:
        connection.connection.executemany(sql, lines)


def _postgres(sql: str, values: Sequence[Any]) -> "psycopg.Cursor[Any]":
    """Run `sql` with values bound by the server (Django's own cursor pastes them into the text)."""
    connection.ensure_connection()
    assert connection.connection is not None  # noqa: S101
    return psycopg.Cursor(connection.connection).execute(sql, values, prepare=False)


def _packed(rows: Sequence[Row]) -> str:
    """Return rows as JSON text. PostgreSQL's text has no NUL: a replacement character stands in."""
    packed = orjson.dumps(rows, option=orjson.OPT_NON_STR_KEYS)
    if b"\\u0000" in packed:
        cleaned = [{name: _without_nul(row[name]) for name in row} for row in rows]
        packed = orjson.dumps(cleaned, option=orjson.OPT_NON_STR_KEYS)
    return packed.decode()


def _without_nul(value: Any) -> Any:
    if isinstance(value, str):
        return value.replace("\x00", "\ufffd")
    if isinstance(value, dict):
        return {name: _without_nul(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_without_nul(one) for one in value]
    return value


# --- statements -----------------------------------------------------------------------------------


@cache
def _insert_sql(vendor: str, model: Any, names: tuple[str, ...], ignore: bool) -> str:
    table, columns = model._meta.db_table, ", ".join(f'"{name}"' for name in names)
    tail = " ON CONFLICT DO NOTHING" if ignore else ""
    if vendor == "postgresql":
        source = f"SELECT {columns} FROM {_recordset(model, names)}"
    else:
        source = f"VALUES ({', '.join('?' for _ in names)})"
    return f'INSERT INTO "{table}" ({columns}) {source}{tail}'


@cache
def _update_sql(vendor: str, model: Any, names: tuple[str, ...]) -> str:
    table, changed = model._meta.db_table, [name for name in names if name != "id"]
    if vendor == "postgresql":
        sets = ", ".join(f'"{name}" = x."{name}"' for name in changed)
        return f'UPDATE "{table}" t SET {sets} FROM {_recordset(model, names)} WHERE t.id = x.id'
    sets = ", ".join(f'"{name}" = ?{names.index(name) + 1}' for name in changed)
    return f'UPDATE "{table}" SET {sets} WHERE id = ?{names.index("id") + 1}'


@cache
def _select_sql(
    vendor: str,
    model: Any,
    columns: tuple[str, ...],
    by: tuple[str, ...],
    where: str,
    lock: bool,
) -> str:
    wanted = ", ".join(f't."{name}"' for name in columns)
    table, also = model._meta.db_table, f" AND {where}" if where else ""
    if vendor == "postgresql":
        source = f"(SELECT DISTINCT * FROM {_recordset(model, by)})"
        value = {name: f'x."{name}"' for name in by}
        tail = " FOR NO KEY UPDATE OF t" if lock else ""
    else:
        source = "(SELECT DISTINCT value FROM json_each(%s))"
        value = {name: f"json_extract(x.value, '$.{name}')" for name in by}
        tail = ""
    match = " AND ".join(f't."{name}" = {value[name]}' for name in by)
    return (
        f'SELECT {wanted} FROM {source} x CROSS JOIN "{table}" t WHERE {match}{also}'
        f" ORDER BY t.id{tail}"
    )


def _recordset(model: Any, names: tuple[str, ...]) -> str:
    types = ", ".join(f'"{name}" {_type(model, name)}' for name in names)
    return f"json_to_recordset(%s::json) AS x({types})"


def _field(model: Any, name: str) -> Any:
    return next(field for field in model._meta.concrete_fields if field.column == name)


def _type(model: Any, name: str) -> str:
    return str(_field(model, name).rel_db_type(connection))


@cache
def _is_time(model: Any, name: str) -> bool:
    return isinstance(_field(model, name), models.DateTimeField)


@cache
def _is_json(model: Any, name: str) -> bool:
    return isinstance(_field(model, name), models.JSONField)


@cache
def _to_sqlite(model: Any, name: str) -> Callable[[Any], str] | None:
    """Return what makes a column's value what Django stores in SQLite; None where it is that."""
    if _is_time(model, name):
        return _time_text
    return json.dumps if _is_json(model, name) else None


def _time_text(at: datetime) -> str:
    return str(at.astimezone(UTC).replace(tzinfo=None))


def _with_times(row: Sequence[Any], times: list[int]) -> list[Any]:
    """Return a row of SQLite with its texts made datetimes."""
    values = list(row)
    for i in times:
        if isinstance(at := values[i], str):
            at = datetime.fromisoformat(at)
        values[i] = at and at.replace(tzinfo=UTC)
    return values


def _unpacked(row: Sequence[Any], documents: list[int]) -> tuple[Any, ...]:
    """Return a row with its JSON decoded (Django keeps psycopg from doing it)."""
    values = list(row)
    for i in documents:
        if isinstance(values[i], str):
            values[i] = orjson.loads(values[i])
    return tuple(values)
