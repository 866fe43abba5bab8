"""Firmware's reactions to news, and the tick that drives campaigns."""

from celery import shared_task
from django.db.models import Exists, OuterRef

from firmware import campaigns, jobs
from firmware.models import ACTIVE, UpdateJob
from stations.models import Command, Entry, Station


@shared_task(name="firmware.tasks.tick")
def tick() -> None:
    """Drive every campaign one step."""
    campaigns.tick()


@shared_task(name="firmware.tasks.on_command_finished")
def on_command_finished(entry_id: int) -> None:
    """Take the charger's answer to an update order."""
    entry = Entry.objects.get(pk=entry_id)
    subject = str(entry.data.get("subject", ""))
    if not subject.startswith("job-") or entry.data.get("name") != "update_firmware":
        return
    job = (
        UpdateJob.objects.select_related("campaign", "image", "station")
        .filter(pk=subject.removeprefix("job-"))
        .first()
    )
    if job is None:
        return
    command = Command.objects.filter(pk=entry.data.get("command")).first()
    answer = command.response if command and isinstance(command.response, dict) else {}
    jobs.command_finished(
        job, entry.data["status"], entry.data.get("error", ""), str(answer.get("status", ""))
    )


@shared_task(name="firmware.tasks.on_status")
def on_status(entry_id: int) -> None:
    """Take a FirmwareStatusNotification."""
    entry = Entry.objects.select_related("station").get(pk=entry_id)
    if entry.station:
        jobs.status_reported(entry.station, entry.data["status"], entry.data.get("request_id"))


@shared_task(name="firmware.tasks.on_boot")
def on_boot(entry_id: int) -> None:
    """Take a BootNotification's firmware version. A storm boots thousands: one query says whether
    anything waits for this one.
    """
    waiting = UpdateJob.objects.filter(
        station=OuterRef("station"), state__in=[*ACTIVE, UpdateJob.State.QUARANTINED]
    )
    news = (
        Entry.objects.filter(pk=entry_id, station__isnull=False)
        .annotate(waiting=Exists(waiting))
        .values_list("station", "data", "at", "waiting")
        .first()
    )
    if news is None:
        return
    station_id, data, at, awaited = news
    version, previous = data.get("firmware") or "", data.get("previous_firmware") or ""
    if awaited or jobs.changed(previous, version):
        jobs.booted(Station.objects.get(pk=station_id), version, previous, at)
