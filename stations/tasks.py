"""Slow work of the stations app. Every task finds its work in rows and is idempotent."""

from datetime import timedelta

from celery import shared_task
from django.conf import settings
from django.utils import timezone

from stations import commands, journal, partitions, reservations

FRAMES = partitions.Table("stations_message", weekly=True)


@shared_task(name="stations.tasks.react")
def react(entry_ids: list[int]) -> None:
    """Run the reactions to these journal entries."""
    journal.react(entry_ids)


@shared_task(name="stations.tasks.sweep_journal")
def sweep_journal() -> None:
    """Run again the reactions a crash lost."""
    journal.react(journal.overdue())


@shared_task(name="stations.tasks.sweep_commands")
def sweep_commands() -> None:
    """End commands that expired or were never answered, and reservations that are over."""
    commands.sweep()
    reservations.sweep()


@shared_task(name="stations.tasks.keep_frames")
def keep_frames() -> None:
    """Make room for the next weeks' frames; let those older than FRAMES_KEPT_DAYS go."""
    partitions.ensure(FRAMES)
    partitions.prune(FRAMES, timezone.now() - timedelta(days=settings.FRAMES_KEPT_DAYS))
