"""Firmware's reactions to news, and the tick that drives campaigns."""

from celery import shared_task

from firmware import campaigns, jobs
from firmware.models import UpdateJob
from stations.models import Command, Entry


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
    """Take a BootNotification's firmware version."""
    entry = Entry.objects.select_related("station").get(pk=entry_id)
    if entry.station:
        version = entry.data.get("firmware") or ""
        previous = entry.data.get("previous_firmware") or ""
        jobs.booted(entry.station, version, previous, entry.at)
