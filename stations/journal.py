"""News: one row for everything that happened, and the tasks that react to it.

    with transaction.atomic():
        ...                                    # do it
        journal.record("session.stopped", session, energy_wh=1200)

The same rows are the station's timeline, the audit trail and what alert rules read. Reactions
(`settings.JOURNAL_REACTIONS`: kind → task names) run after commit in a Celery worker; a sweep runs
again what a crash lost, so every reaction is idempotent. No Django signals.
"""

import logging
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import timedelta
from functools import cache
from typing import TYPE_CHECKING, Any

from celery import current_app
from django.conf import settings
from django.db import models, transaction
from django.utils import timezone
from django.utils.module_loading import import_string

from stations import bulk, writer
from stations.models import Entry, Station

if TYPE_CHECKING:
    from stations.models import User

log = logging.getLogger(__name__)
_COLUMNS = [field.attname for field in Entry._meta.concrete_fields]
_actor: ContextVar["User | None"] = ContextVar("actor", default=None)

SWEEP_AFTER_S = 5  # a reaction is queued at commit; later than this it was lost
SWEEP_LIMIT = 500
PAUSE_S = 0.05  # the writer's dispatches of so long become one
DISPATCHED = 100  # entries a task
RESTS = 20  # times as long as a reaction took
LEASE_S = 60  # a worker that took an entry on and is not done by then was killed


@cache
def reactions() -> dict[str, list[str]]:
    """Return kind → names of the Celery tasks that react to it."""
    table: dict[str, list[str]] = import_string(settings.JOURNAL_REACTIONS)
    return table


@contextmanager
def acting_as(user: "User | None") -> Iterator[None]:
    """Entries recorded inside carry `user` as the one who did it."""
    mark = _actor.set(user)
    try:
        yield
    finally:
        _actor.reset(mark)


def subject_of(thing: models.Model) -> str:
    """Return the journal's name of a row, e.g. `session-17`."""
    return f"{thing._meta.model_name}-{thing.pk}"


def entry(
    kind: str,
    subject: models.Model | str = "",
    /,
    *,
    station_id: int | None = None,
    **data: Any,
) -> Entry:
    """Return an unsaved entry. `data` must be JSON. The station is taken from the subject."""
    if isinstance(subject, models.Model):
        if station_id is None:
            station_id = (
                subject.pk if isinstance(subject, Station) else getattr(subject, "station_id", None)
            )
        subject = subject_of(subject)
    actor = _actor.get()
    return Entry(
        at=timezone.now(),
        kind=kind,
        subject=subject,
        station_id=station_id,
        actor_id=actor.pk if actor else None,
        data=data,
        pending=kind in reactions(),
    )


def record(
    kind: str, subject: models.Model | str = "", /, *, station_id: int | None = None, **data: Any
) -> Entry:
    """Write one piece of news in the current transaction and return it.

    `kind` is past tense with a dot (`session.stopped`). Raises RuntimeError outside a transaction:
    news and what it tells of must stand or fall together.
    """
    news = entry(kind, subject, station_id=station_id, **data)
    record_many([news])
    return news


def record_many(news: list[Entry]) -> None:
    """Write many entries at once (the writer's lanes). Same rules as `record`."""
    if not news:
        return
    if not transaction.get_connection().in_atomic_block:
        raise RuntimeError("journal.record must run inside transaction.atomic().")
    for one, pk in zip(news, bulk.next_ids(Entry, len(news)), strict=True):
        one.pk, one._state.adding = pk, False
    bulk.insert(Entry, [{name: getattr(one, name) for name in _COLUMNS} for one in news])
    waiting = [one.pk for one in news if one.pending]
    if waiting:
        transaction.on_commit(lambda: (_outbox.add if writer.writing() else dispatch)(waiting))


def dispatch(entry_ids: list[int]) -> None:
    """Queue the reactions to these entries. A broker that is down loses nothing: the sweep."""
    try:
        current_app.send_task("stations.tasks.react", args=[entry_ids])
    except Exception:  # noqa: BLE001  any broker error: the rows are the truth
        log.warning("The broker refused %d reactions; the sweep will queue them.", len(entry_ids))


class _Outbox:
    """Takes the writer's dispatches off its thread: chargers wait for that one, reactions do not.

    What a crash leaves in here the sweep finds.
    """

    def __init__(self) -> None:
        self._waiting: list[int] = []
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def add(self, entry_ids: list[int]) -> None:
        """Dispatch these within a moment."""
        with self._lock:
            self._waiting += entry_ids
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="dispatch", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        time.sleep(PAUSE_S)
        with self._lock:
            waiting, self._waiting, self._thread = self._waiting, [], None
        for n in range(0, len(waiting), DISPATCHED):
            dispatch(waiting[n : n + DISPATCHED])


_outbox = _Outbox()


def react(entry_ids: Iterable[int]) -> None:
    """Run the reactions to these entries here and now; those that fail stay pending.

    Each entry is claimed first: a queue and a sweep that name the same one run it once.
    """
    for news in Entry.objects.filter(pk__in=list(entry_ids), pending=True).order_by("pk"):
        if not _claim(news):
            continue
        began = time.monotonic()
        try:
            for name in reactions().get(news.kind, []):
                _task(name).run(news.pk)
        except Exception:  # kept pending: the sweep tries again
            log.exception("A reaction to %s (entry %s) failed.", news.kind, news.pk)
            Entry.objects.filter(pk=news.pk).update(
                attempts=models.F("attempts") + 1, claimed_at=None
            )
        else:
            Entry.objects.filter(pk=news.pk).update(pending=False)
        _give_way(time.monotonic() - began)


def _give_way(took_s: float) -> None:
    """Where gateway and worker share a process and the chargers keep it busy, they go first.

    A worker thread then rests after each reaction for a multiple of what it took: under load its
    share stays small, and the backlog goes when the load does.
    """
    if settings.EMBEDDED and writer.busy():
        time.sleep(min(took_s * RESTS, 2.0))


def _claim(news: Entry) -> bool:
    """Take an entry on, unless somebody has since it was read or within the lease."""
    now = timezone.now()
    free = models.Q(claimed_at=None) | models.Q(claimed_at__lt=now - timedelta(seconds=LEASE_S))
    mine = Entry.objects.filter(free, pk=news.pk, pending=True, attempts=news.attempts)
    return mine.update(claimed_at=now) == 1


def _task(name: str) -> Any:
    """Return a Celery task; outside a worker nobody has imported the apps' tasks yet."""
    if name not in current_app.tasks:
        current_app.loader.import_default_modules()
    return current_app.tasks[name]


def overdue() -> list[int]:
    """Return ids of pending entries whose reaction was lost or is due again (backing off)."""
    now = timezone.now()
    free = models.Q(claimed_at=None) | models.Q(claimed_at__lt=now - timedelta(seconds=LEASE_S))
    pending = Entry.objects.filter(
        free, pending=True, at__lt=now - timedelta(seconds=SWEEP_AFTER_S)
    ).order_by("pk")[:SWEEP_LIMIT]
    return [
        one.pk
        for one in pending
        if one.at + timedelta(seconds=min(SWEEP_AFTER_S * 2**one.attempts, 3600)) < now
    ]


def catch_up() -> None:
    """Run every pending reaction here until none is left or none succeeds (shell and tests)."""
    while waiting := list(
        Entry.objects.filter(pending=True).order_by("pk").values_list("pk", flat=True)[:SWEEP_LIMIT]
    ):
        react(waiting)
        if Entry.objects.filter(pk__in=waiting, pending=True).count() == len(waiting):
            return
