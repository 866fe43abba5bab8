"""SQLite has one writer: a process's transactions wait for each other here, not in SQLite.

SQLite's own waiting sleeps and looks again, up to 100 ms at a time, and is unfair: with a few
threads beside the group-commit writer it stalled for seconds. A lock hands over at once.
"""

import threading
from typing import Any

from django.db.backends.sqlite3 import base

TURN_S = 20.0  # as long as SQLite itself would wait; then it is left to SQLite

_turn = threading.Lock()


class DatabaseWrapper(base.DatabaseWrapper):
    """A connection that begins a transaction when it is its turn."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._has_turn = False

    @property
    def queries_logged(self) -> bool:
        """Keep statements only for who asks (tests that count them): DEBUG is the default here."""
        return bool(self.force_debug_cursor)

    def _start_transaction_under_autocommit(self) -> None:
        self._has_turn = _turn.acquire(timeout=TURN_S)
        try:
            super()._start_transaction_under_autocommit()  # type: ignore[misc]
        except BaseException:  # the turn is passed on, the error raised again
            self._pass_on()
            raise

    def _commit(self) -> None:
        super()._commit()  # type: ignore[misc]
        self._pass_on()

    def _rollback(self) -> None:
        try:
            super()._rollback()  # type: ignore[misc]
        finally:
            self._pass_on()

    def _close(self) -> None:
        try:
            super()._close()  # type: ignore[misc]
        finally:
            self._pass_on()

    def _pass_on(self) -> None:
        if self._has_turn:
            self._has_turn = False
            _turn.release()
