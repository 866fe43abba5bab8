"""The group-commit writer: one thread a process commits what chargers send, then they are answered.

    unit = writer.Unit()                              # one per incoming call
    started = unit.add("starts", sessions.Start(...))  # facts, each for a lane
    unit.reply = lambda: {"transactionId": started.outcome.number}
    answer = await writer.commit(unit)                 # after COMMIT, never before

The thread takes whatever queued while it last committed (no timer), writes each lane's facts
set-based in one transaction and wakes all waiters at once. A failing batch is halved until the
poison unit is alone; a lost database fails the whole batch: chargers retry by specification.

    WriterError
    ├── DatabaseDown   nothing was stored: stay silent or close, the charger sends it again
    └── Stopped        the process is shutting down: likewise
"""

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from django.conf import settings
from django.db import (
    InterfaceError,
    OperationalError,
    close_old_connections,
    connection,
    transaction,
)

log = logging.getLogger(__name__)

MAX_BATCH = settings.WRITER_MAX_BATCH  # units a transaction
MAX_QUEUE = 5_000  # beyond it `commit` waits, and so its socket is not read
ANSWERED = 100  # lanes of this order and above are written after the units' replies are known
BUSY_BATCH, BUSY_S = 20, 0.2
THREAD = "writer"
STOPPED = "The writer is shutting down."
RETRIES = 5  # of a batch that met a deadlock with another process

type Write = Callable[[list[Any]], Sequence[Any] | None]


class WriterError(Exception):
    """A unit was not stored."""


class DatabaseDown(WriterError):
    """The database cannot be reached; nothing was stored."""


class Stopped(WriterError):
    """The writer no longer takes work."""


@dataclass(frozen=True, slots=True)
class Lane:
    """One table's way through the batch. `write(facts)` returns an outcome a fact."""

    name: str
    order: int
    write: Write


@dataclass(slots=True, eq=False)
class Slot:
    """A fact's place in its unit; `outcome` is what its lane made of it, once written."""

    lane: str
    fact: Any
    outcome: Any = None


@dataclass(slots=True, eq=False)
class Unit:
    """What one incoming call wants stored: all of it or nothing.

    `reply`, if given, is called in the writer's thread once the lanes below ANSWERED are written;
    what it returns is `answer`, which later lanes (the frame log) may store and the waiter gets.
    """

    slots: list[Slot] = field(default_factory=list)
    reply: Callable[[], Any] | None = None
    answer: Any = None

    def add(self, lane: str, fact: Any) -> Slot:
        """Put `fact` on a lane and return its slot."""
        slot = Slot(lane, fact)
        self.slots.append(slot)
        return slot


@dataclass(slots=True)
class Stats:
    """Counters of a writer since it started, for metrics."""

    units: int = 0
    batches: int = 0
    failed_units: int = 0
    lost_batches: int = 0
    largest_batch: int = 0
    last_batch: int = 0
    commit_seconds: float = 0.0  # in total, statements and COMMIT
    last_commit_seconds: float = 0.0
    last_commit_at: float = 0.0  # time.monotonic()


@dataclass(slots=True, eq=False)
class _Waiting:
    """A unit, or a function to run alone, with whoever waits for it."""

    future: "asyncio.Future[Any]"
    loop: asyncio.AbstractEventLoop
    unit: Unit | None = None
    work: Callable[[], Any] | None = None
    result: Any = None
    error: BaseException | None = None


_lanes: dict[str, Lane] = {}
_batch = threading.local()


def lane(name: str, order: int, write: Write) -> None:
    """Register a lane; lower orders are written first. A name may be registered once."""
    known = _lanes.get(name)
    if known and known.write is not write:
        raise ValueError(f"The lane {name} is taken.")
    _lanes[name] = Lane(name, order, write)


class Writer:
    """The thread and its queue. A process uses the module's functions, tests make their own."""

    def __init__(self) -> None:
        self.stats = Stats()
        self._queue: deque[_Waiting] = deque()
        self._ready = threading.Condition()
        self._thread: threading.Thread | None = None
        self._stopping = False
        self._pool: ThreadPoolExecutor | None = None
        self._room: deque[tuple[asyncio.AbstractEventLoop, asyncio.Future[None]]] = deque()
        self._gathered: dict[asyncio.AbstractEventLoop, list[_Waiting]] = {}

    # --- the callers' side, in an event loop ------------------------------------------------------

    def submit(self, unit: Unit) -> "asyncio.Future[Any]":
        """Queue `unit`; the future gives its answer after COMMIT, or raises what stopped it.

        What a loop submits in one of its rounds is handed over together at the round's end: one
        wake of the thread, and the first message of a crowd is not committed alone.
        """
        if self._stopping:
            raise Stopped(STOPPED)
        loop = asyncio.get_running_loop()
        waiting = _Waiting(loop.create_future(), loop, unit=unit)
        gathered = self._gathered.get(loop)
        if gathered is None:
            self._gathered[loop] = [waiting]
            loop.call_soon(self._hand_over, loop)
        else:
            gathered.append(waiting)
        return waiting.future

    def _hand_over(self, loop: asyncio.AbstractEventLoop) -> None:
        gathered = self._gathered.pop(loop, [])
        try:
            self._put(*gathered)
        except Stopped as stopped:
            for waiting in gathered:
                waiting.error = stopped
            _settle(gathered)

    async def commit(self, unit: Unit) -> Any:
        """Queue `unit` as soon as there is room and return its answer after COMMIT."""
        while len(self._queue) >= MAX_QUEUE:
            loop = asyncio.get_running_loop()
            freed = loop.create_future()
            self._room.append((loop, freed))
            await freed
        return await self.submit(unit)

    def run(self, work: Callable[[], Any]) -> "asyncio.Future[Any]":
        """Run rare transactional `work` off the loop, in a transaction of its own.

        SQLite has one writer, so there it is the writer's thread; elsewhere a small pool. The
        future gives what `work` returned or raises what it raised, DatabaseDown included.
        """
        loop = asyncio.get_running_loop()
        waiting = _Waiting(loop.create_future(), loop, work=work)
        if connection.vendor == "sqlite":
            self._put(waiting)
        else:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(4, thread_name_prefix="transactions")
            self._pool.submit(self._run_pooled, waiting)
        return waiting.future

    @property
    def depth(self) -> int:
        """How many units wait now."""
        return len(self._queue)

    def stop(self, timeout_s: float = 10) -> None:
        """Take no more, write what is queued, end the thread and close its connection."""
        with self._ready:
            self._stopping = True
            for loop in list(self._gathered):
                self._queue.extend(self._gathered.pop(loop, ()))
            self._run_thread()
            self._ready.notify()
            thread = self._thread
        if thread:
            thread.join(timeout_s)
        if self._pool:
            self._pool.shutdown(wait=True)

    def _put(self, *waiting: _Waiting) -> None:
        with self._ready:
            if self._stopping:
                raise Stopped(STOPPED)
            self._queue.extend(waiting)
            self._run_thread()
            self._ready.notify()

    def _run_thread(self) -> None:
        if self._thread is None and self._queue:
            self._thread = threading.Thread(target=self._main, name=THREAD, daemon=True)
            self._thread.start()

    # --- the thread -------------------------------------------------------------------------------

    def _main(self) -> None:
        try:
            while batch := self._take():
                if batch[0].work:
                    self._run_work(batch[0])
                else:
                    self._write_batch(batch)
                _wake(batch)
        finally:
            connection.close()

    def _take(self) -> list[_Waiting]:
        """Wait for work; return up to MAX_BATCH units, or one function; nothing when stopping."""
        with self._ready:
            while not self._queue and not self._stopping:
                self._ready.wait()
            batch: list[_Waiting] = []
            while self._queue and len(batch) < MAX_BATCH:
                if self._queue[0].work and batch:
                    break
                batch.append(self._queue.popleft())
                if batch[0].work:
                    break
        while self._room and len(self._queue) < MAX_QUEUE:
            loop, freed = self._room.popleft()
            _call(loop, _free, freed)
        return batch

    def _write_batch(self, batch: list[_Waiting], attempt: int = 0) -> None:
        """Write `batch`, halving it around poison; each unit ends with a result or an error."""
        began = time.perf_counter()
        try:
            _store([waiting.unit for waiting in batch if waiting.unit])
        except (OperationalError, InterfaceError) as error:
            if _is_deadlock(error) and attempt < RETRIES:
                return self._write_batch(batch, attempt + 1)
            if _is_poison(error):
                return self._split(batch, error)
            log.warning(
                "The database is not reachable, %d calls stay unanswered: %s", len(batch), error
            )
            connection.close()
            self.stats.lost_batches += 1
            for waiting in batch:
                waiting.error = DatabaseDown(str(error))
            return None
        except Exception as error:  # noqa: BLE001  whatever it is, only its own unit may fail
            return self._split(batch, error)
        took = time.perf_counter() - began
        stats = self.stats
        stats.batches += 1
        stats.units += len(batch)
        stats.last_batch = len(batch)
        stats.largest_batch = max(stats.largest_batch, len(batch))
        stats.last_commit_seconds = took
        stats.commit_seconds += took
        stats.last_commit_at = time.monotonic()
        for waiting in batch:
            waiting.result = waiting.unit.answer if waiting.unit else None
        return None

    def _split(self, batch: list[_Waiting], error: Exception) -> None:
        if len(batch) == 1:
            log.error("A call could not be stored.", exc_info=error)
            self.stats.failed_units += 1
            batch[0].error = error
            return
        half = len(batch) // 2
        self._write_batch(batch[:half])
        self._write_batch(batch[half:])

    def _run_work(self, waiting: _Waiting) -> None:
        assert waiting.work  # noqa: S101
        try:
            with transaction.atomic():
                waiting.result = waiting.work()
        except (OperationalError, InterfaceError) as error:
            connection.close()
            waiting.error = DatabaseDown(str(error))
        except Exception as error:  # noqa: BLE001  it is the caller's
            waiting.error = error

    def _run_pooled(self, waiting: _Waiting) -> None:
        close_old_connections()
        try:
            self._run_work(waiting)
        finally:
            close_old_connections()
            _wake([waiting])


def _store(units: list[Unit]) -> None:
    """Write all lanes of `units` in one transaction."""
    committed: list[bool] = []
    _batch.held = {}
    try:
        with transaction.atomic():
            transaction.on_commit(lambda: committed.append(True))
            by_lane: dict[str, list[Slot]] = {}
            for unit in units:
                for slot in unit.slots:
                    by_lane.setdefault(slot.lane, []).append(slot)
            waves = sorted((_lanes[name] for name in by_lane), key=lambda lane: lane.order)
            _write_lanes([lane for lane in waves if lane.order < ANSWERED], by_lane)
            for unit in units:
                if unit.reply:
                    unit.answer = unit.reply()
            _write_lanes([lane for lane in waves if lane.order >= ANSWERED], by_lane)
    except Exception:  # before COMMIT all is raised; after it, what is stored stays stored
        if not committed:
            raise
        log.exception("Something after COMMIT failed; what was stored stays stored.")
    finally:
        _batch.held = None


def held() -> dict[Any, Any] | None:
    """What the lanes of the batch being written share, empty at its beginning; else None."""
    return getattr(_batch, "held", None)


def _write_lanes(lanes: list[Lane], by_lane: dict[str, list[Slot]]) -> None:
    for one in lanes:
        slots = by_lane[one.name]
        outcomes = one.write([slot.fact for slot in slots])
        if outcomes is not None:
            for slot, outcome in zip(slots, outcomes, strict=True):
                slot.outcome = outcome


def _sqlstate(error: BaseException) -> str:
    return getattr(error.__cause__, "sqlstate", None) or ""


def _is_deadlock(error: BaseException) -> bool:
    """Two processes locked each other out (class 40): the same batch will do when repeated."""
    return _sqlstate(error).startswith("40")


def _is_poison(error: BaseException) -> bool:
    """The database works but refuses this content (22 data, 54 program limit)."""
    return _sqlstate(error)[:2] in ("22", "54")


def _wake(batch: list[_Waiting]) -> None:
    """Resolve all waiters with one call a loop."""
    by_loop: dict[asyncio.AbstractEventLoop, list[_Waiting]] = {}
    for waiting in batch:
        by_loop.setdefault(waiting.loop, []).append(waiting)
    for loop, waiters in by_loop.items():
        _call(loop, _settle, waiters)


def _settle(waiters: list[_Waiting]) -> None:
    for waiting in waiters:
        if waiting.future.done():  # the socket went away meanwhile
            continue
        if waiting.error:
            waiting.future.set_exception(waiting.error)
        else:
            waiting.future.set_result(waiting.result)


def _free(freed: "asyncio.Future[None]") -> None:
    if not freed.done():
        freed.set_result(None)


def _call(loop: asyncio.AbstractEventLoop, callback: Callable[[Any], None], value: Any) -> None:
    try:
        loop.call_soon_threadsafe(callback, value)
    except RuntimeError:  # the loop is closed: nobody waits any more
        log.debug("A waiter's event loop is gone.")


_default = Writer()
submit, commit, run, stop = _default.submit, _default.commit, _default.run, _default.stop
stats = _default.stats


def depth() -> int:
    """How many units wait in this process."""
    return _default.depth


def busy() -> bool:
    """Tell whether chargers keep this process's writer busy: batches of many, one after another."""
    return stats.last_batch >= BUSY_BATCH and time.monotonic() - stats.last_commit_at < BUSY_S


def writing() -> bool:
    """Tell whether this is a writer's thread, where everybody waits for the end."""
    return threading.current_thread().name == THREAD
