"""Slow work of the stations app. Every task finds its work in rows and is idempotent."""

from datetime import timedelta

from celery import shared_task
from django.conf import settings
from django.utils import timezone

from stations import (
    certificates,
    commands,
    holdings,
    journal,
    locallist,
    partitions,
    passwords,
    provisioning,
    reservations,
)
from stations.models import Command, Entry

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
    passwords.sweep()


@shared_task(name="stations.tasks.keep_local_lists")
def keep_local_lists() -> None:
    """Bring the lists of tokens on stations nearer to what they should be."""
    locallist.tick()


@shared_task(name="stations.tasks.list_answered")
def list_answered(entry_id: int) -> None:
    """Take what became of an order about a list into account."""
    entry = Entry.objects.filter(pk=entry_id).values_list("data", flat=True).first() or {}
    if entry.get("name") in (locallist.SEND, locallist.ASK):
        command = Command.objects.filter(pk=entry["command"]).first()
        if command is not None and command.subject.startswith("locallist-"):
            locallist.answered(command)


@shared_task(name="stations.tasks.ask_list_version")
def ask_list_version(entry_id: int) -> None:
    """After a boot: ask which version of its list the station has."""
    station_id = Entry.objects.filter(pk=entry_id).values_list("station", flat=True).first()
    if station_id is not None:
        locallist.booted(station_id)


@shared_task(name="stations.tasks.keep_frames")
def keep_frames() -> None:
    """Make room for the next weeks' frames; let those older than FRAMES_KEPT_DAYS go."""
    partitions.ensure(FRAMES)
    partitions.prune(FRAMES, timezone.now() - timedelta(days=settings.FRAMES_KEPT_DAYS))
    holdings.prune_streams()


@shared_task(name="stations.tasks.ask_configuration")
def ask_configuration() -> None:
    """Ask stations that told nothing yet for their configuration, a few at a time."""
    provisioning.ask_the_silent()


@shared_task(name="stations.tasks.booted")
def booted(entry_id: int) -> None:
    """React to a boot: ask again after other firmware, see a reboot loop."""
    news = Entry.objects.select_related("station").get(pk=entry_id)
    if news.station is not None:
        provisioning.booted(news.station, news)


@shared_task(name="stations.tasks.configuration_told")
def configuration_told(entry_id: int) -> None:
    """React to what a station told: push what templates want otherwise."""
    news = Entry.objects.select_related("station").get(pk=entry_id)
    if news.station is not None:
        provisioning.push(news.station)


@shared_task(name="stations.tasks.configuration_answered")
def configuration_answered(entry_id: int) -> None:
    """React to the answer to a push: restart where a template wants that."""
    news = Entry.objects.select_related("station").get(pk=entry_id)
    if news.station is not None and news.data.get("subject") == provisioning.SUBJECT:
        provisioning.restart_where_needed(news.station)


@shared_task(name="stations.tasks.certificate_answered")
def certificate_answered(entry_id: int) -> None:
    """Note that a station did not take the certificate that we signed for it."""
    entry = Entry.objects.get(pk=entry_id)
    name, status = entry.data.get("name"), entry.data.get("status")
    if name != "certificate_signed" or status in (
        Command.Status.ACCEPTED,
        Command.Status.SCHEDULED,
    ):
        return
    word, _, number = str(entry.data.get("subject", "")).partition("-")
    if word == "certificate" and number.isdigit():
        certificates.answered(int(number), False)
