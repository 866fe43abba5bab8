"""Slow work of the stations app. Every task finds its work in rows and is idempotent."""

from celery import shared_task

from stations import commands, journal


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
    """End commands that expired or were never answered."""
    commands.sweep()
