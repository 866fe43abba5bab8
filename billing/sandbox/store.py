"""The sandbox's books: one SQLite file, apart from ours, as Stripe's are.

Objects are JSON documents with an id, a kind, an account and an order. Keys beginning with `_`
belong to the sandbox and never leave it.
"""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

Obj = dict[str, Any]

SCHEMA = """
CREATE TABLE IF NOT EXISTS objects (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, kind TEXT NOT NULL,
    account TEXT NOT NULL, body TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS objects_kind ON objects (kind, account, seq);
CREATE TABLE IF NOT EXISTS answers (
    account TEXT NOT NULL, key TEXT NOT NULL, fingerprint TEXT NOT NULL, status INTEGER NOT NULL,
    body TEXT NOT NULL, at INTEGER NOT NULL, PRIMARY KEY (account, key));
CREATE TABLE IF NOT EXISTS deliveries (
    id INTEGER PRIMARY KEY AUTOINCREMENT, event TEXT NOT NULL, due REAL NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0, state TEXT NOT NULL DEFAULT 'waiting');
CREATE INDEX IF NOT EXISTS deliveries_due ON deliveries (state, due);
CREATE TABLE IF NOT EXISTS faults (
    id INTEGER PRIMARY KEY AUTOINCREMENT, operation TEXT NOT NULL, kind TEXT NOT NULL,
    remaining INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS calls (
    id INTEGER PRIMARY KEY AUTOINCREMENT, at INTEGER NOT NULL, operation TEXT NOT NULL,
    path TEXT NOT NULL, key TEXT NOT NULL, status INTEGER NOT NULL, replayed INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS settings (key TEXT PRIMARY KEY, value TEXT NOT NULL);
"""


class Store:
    """One connection, one lock, short IMMEDIATE transactions: safe for threads and processes."""

    def __init__(self, path: Path | str) -> None:
        if str(path) != ":memory:":
            Path(path).parent.mkdir(parents=True, exist_ok=True)
        self.path = str(path)
        self.lock = threading.RLock()
        self.db = sqlite3.connect(
            self.path, check_same_thread=False, isolation_level=None, timeout=15
        )
        self.db.execute("PRAGMA journal_mode=WAL")
        self.db.execute("PRAGMA synchronous=NORMAL")
        self.db.executescript(SCHEMA)

    def close(self) -> None:
        with self.lock:
            self.db.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing; the lock is held for the whole of it. Nests by joining."""
        with self.lock:
            if self.db.in_transaction:
                yield
                return
            self.db.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:  # rolled back here, raised again
                self.db.execute("ROLLBACK")
                raise
            self.db.execute("COMMIT")

    # --- time: the sandbox's clock may be moved forward -------------------------------------

    def now(self) -> int:
        """Unix seconds on the sandbox's clock."""
        return int(time.time()) + int(self.setting("clock_offset_s", 0))

    # --- settings ---------------------------------------------------------------------------

    def setting(self, key: str, default: Any = None) -> Any:
        with self.lock:
            row = self.db.execute("SELECT value FROM settings WHERE key = ?", (key,)).fetchone()
        return default if row is None else json.loads(row[0])

    def set_setting(self, key: str, value: Any) -> None:
        with self.transaction():
            self.db.execute(
                "INSERT INTO settings VALUES (?, ?) "
                "ON CONFLICT (key) DO UPDATE SET value = excluded.value",
                (key, json.dumps(value)),
            )

    # --- objects ----------------------------------------------------------------------------

    def put(self, obj: Obj, account: str) -> Obj:
        """Write an object, new or changed."""
        with self.transaction():
            self.db.execute(
                "INSERT INTO objects (id, kind, account, body) VALUES (?, ?, ?, ?) "
                "ON CONFLICT (id) DO UPDATE SET body = excluded.body",
                (obj["id"], obj["object"], account, json.dumps(obj)),
            )
        return obj

    def get(self, obj_id: str, account: str | None = None) -> Obj | None:
        """An object by id, seen only from its own account (None: from any)."""
        with self.lock:
            row = self.db.execute(
                "SELECT body, account FROM objects WHERE id = ?", (obj_id,)
            ).fetchone()
        if row is None or (account is not None and row[1] != account):
            return None
        obj: Obj = json.loads(row[0])
        return obj

    def account_of(self, obj_id: str) -> str:
        with self.lock:
            row = self.db.execute("SELECT account FROM objects WHERE id = ?", (obj_id,)).fetchone()
        return "" if row is None else str(row[0])

    def all(self, kind: str, account: str | None = None) -> list[Obj]:
        """Objects of a kind, newest first."""
        query = "SELECT body FROM objects WHERE kind = ?"
        args: tuple[str, ...] = (kind,)
        if account is not None:
            query, args = query + " AND account = ?", (kind, account)
        with self.lock:
            rows = self.db.execute(query + " ORDER BY seq DESC", args).fetchall()
        return [json.loads(row[0]) for row in rows]

    def having(self, kind: str, field: str, value: str) -> list[Obj]:
        """Objects of a kind with this value in a top-level field, of every account."""
        with self.lock:
            rows = self.db.execute(
                "SELECT body FROM objects WHERE kind = ? AND json_extract(body, ?) = ?",
                (kind, f"$.{field}", value),
            ).fetchall()
        return [json.loads(row[0]) for row in rows]

    # --- idempotency ------------------------------------------------------------------------

    def answer(self, account: str, key: str) -> tuple[str, int, Obj] | None:
        """(fingerprint, status, body) stored for an idempotency key in the last 24 hours."""
        with self.lock:
            row = self.db.execute(
                "SELECT fingerprint, status, body FROM answers "
                "WHERE account = ? AND key = ? AND at > ?",
                (account, key, self.now() - 86400),
            ).fetchone()
        return None if row is None else (row[0], row[1], json.loads(row[2]))

    def keep_answer(self, account: str, key: str, fingerprint: str, status: int, body: Obj) -> None:
        with self.transaction():
            self.db.execute(
                "INSERT OR REPLACE INTO answers VALUES (?, ?, ?, ?, ?, ?)",
                (account, key, fingerprint, status, json.dumps(body), self.now()),
            )

    def log_call(
        self, operation: str, path: str, key: str, status: int, *, replayed: bool = False
    ) -> None:
        with self.transaction():
            self.db.execute(
                "INSERT INTO calls (at, operation, path, key, status, replayed) "
                "VALUES (?, ?, ?, ?, ?, ?)",
                (self.now(), operation, path, key, status, int(replayed)),
            )

    def calls(self) -> list[Obj]:
        """Every request answered, oldest first: for tests that count them."""
        names = ("operation", "path", "key", "status", "replayed")
        with self.lock:
            rows = self.db.execute(f"SELECT {', '.join(names)} FROM calls ORDER BY id").fetchall()  # noqa: S608  constant names
        return [dict(zip(names, row, strict=True)) for row in rows]
