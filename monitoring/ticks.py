"""Ticks: the heartbeat of every scheduled task, for `/readyz`, metrics and the health page.

Celery's schedule only ticks; whether it does is written in `Tick` rows by the base class of every
task (`config/celery.py`). `exclusive` keeps one tick from running twice at a time.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from celery import Task, current_app
from django.db import DatabaseError
from django.db.models import Q
from django.utils import timezone

from monitoring.models import Tick

STARTED_AT = timezone.now()
WRITE_EVERY_S = 5.0  # a task that ticks more often than this writes its heartbeat less often
_written: dict[str, float] = {}


@dataclass(frozen=True, slots=True)
class Age:
    """How one scheduled task is doing. `age_s` is None before its first tick."""

    name: str
    task: str
    every_s: float
    age_s: float | None
    seconds: float
    late: bool
    error: str


class Timed(Task[Any, Any]):
    """A task that, where it is on the schedule, notes each time it ends."""

    def before_start(self, task_id: str, args: Any, kwargs: Any) -> None:
        """Start the clock."""
        self.request.begun = time.monotonic()  # type: ignore[attr-defined]

    def after_return(
        self, status: str, retval: Any, task_id: str, args: Any, kwargs: Any, einfo: Any
    ) -> None:
        """Write the heartbeat."""
        if self.name in schedule().values():
            begun = getattr(self.request, "begun", time.monotonic())
            failed = isinstance(retval, BaseException)
            beat(self.name, time.monotonic() - begun, error=repr(retval) if failed else "")


def schedule() -> dict[str, str]:
    """Return the schedule: name → task."""
    return {name: entry["task"] for name, entry in current_app.conf.beat_schedule.items()}


def beat(name: str, seconds: float, error: str = "") -> None:
    """Note that a scheduled task ended now, after `seconds`, well or with an error."""
    last = _written.get(name)
    if last is not None and not error and time.monotonic() - last < WRITE_EVERY_S:
        return
    now = timezone.now()
    changes: dict[str, Any] = {"at": now, "seconds": seconds, "error": error[:300]}
    if not error:
        changes["failing_since"] = None
    try:
        if not Tick.objects.filter(pk=name).update(**changes):
            Tick.objects.update_or_create(name=name, defaults=changes)
        if error:
            Tick.objects.filter(pk=name, failing_since=None).update(failing_since=now)
    except DatabaseError:
        return  # the age will tell
    _written[name] = time.monotonic() if not error else 0.0


@contextmanager
def exclusive(name: str, ttl_s: float) -> Iterator[Tick | None]:
    """Hold a tick's lock, or get None while another process holds it. Saves `cursor` and `data`.

    Compare-and-set on a row: a holder that was killed loses it after `ttl_s`.
    """
    now = timezone.now()
    Tick.objects.get_or_create(name=name)
    free = Q(locked_until__isnull=True) | Q(locked_until__lte=now)
    until = now + timedelta(seconds=ttl_s)
    if not Tick.objects.filter(free, pk=name).update(locked_until=until):
        yield None
        return
    row = Tick.objects.get(pk=name)
    try:
        yield row
    finally:
        Tick.objects.filter(pk=name, locked_until=until).update(
            locked_until=None, cursor=row.cursor, data=row.data
        )


def ages(now: datetime | None = None) -> list[Age]:
    """Return how every scheduled task is doing; late ones missed several ticks in a row.

    A process that has just started gives the schedule time for its first ticks.
    """
    now = now or timezone.now()
    rows = {row.name: row for row in Tick.objects.all()}
    found = []
    for name, entry in current_app.conf.beat_schedule.items():
        row = rows.get(entry["task"])
        every_s = _seconds(entry["schedule"])
        last = row.at if row else None
        waited = (now - max(filter(None, [last, STARTED_AT]))).total_seconds()
        found.append(
            Age(
                name,
                entry["task"],
                every_s,
                (now - last).total_seconds() if last else None,
                row.seconds if row else 0.0,
                waited > max(3 * every_s, every_s + 60),
                row.error if row else "",
            )
        )
    return found


def _seconds(every: Any) -> float:
    """Return a schedule's period in seconds; a crontab is taken as a day."""
    if isinstance(every, timedelta):
        return every.total_seconds()
    return float(every) if isinstance(every, int | float) else 86_400.0
