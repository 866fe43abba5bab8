"""Evidence about a station's update, from the charger, our download log and clocks, moves its job.

Statuses come late, twice or never: a job moves forward to what the evidence says, never back, and a
boot with the new version outranks everything (A3.1 of the firmware notes).
"""

from datetime import datetime, timedelta
from typing import Any

from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from firmware import failures, images, planning
from firmware.models import (
    ACTIVE,
    BAD,
    FINISHED,
    Campaign,
    DownloadGrant,
    JobEvent,
    UpdateJob,
)
from monitoring import incidents
from monitoring.models import Severity
from stations import journal, live
from stations.models import Station
from stations.state import try_advance

State = UpdateJob.State
Source = JobEvent.Source

VERIFY_S = 900
BOOTS_IN_PROBATION = 3

STATUS_MEANS: dict[str, State] = {
    "DownloadScheduled": State.ACCEPTED,
    "Downloading": State.DOWNLOADING,
    "DownloadPaused": State.DOWNLOADING,
    "Downloaded": State.DOWNLOADED,
    "SignatureVerified": State.DOWNLOADED,
    "InstallScheduled": State.DOWNLOADED,
    "Installing": State.INSTALLING,
    "InstallRebooting": State.REBOOTING,
    "Installed": State.VERIFYING,
}
ENDS = {
    "InstallationFailed": "installation-failed",
    "InstallVerificationFailed": "verification-failed",
    "InvalidSignature": "invalid-signature",
}


# While it does this, a station may be silent or out of service: it was asked to.
QUIET = {
    State.DISPATCHING,
    State.ACCEPTED,
    State.DOWNLOADING,
    State.INSTALLING,
    State.REBOOTING,
    State.VERIFYING,
}


def note(job: UpdateJob, source: Source, text: str) -> None:
    """Keep a piece of evidence, whether or not it moves the job."""
    JobEvent.objects.create(job=job, source=source, text=text[:300])


def move(
    job: UpdateJob, target: State, source: Source, text: str, *, failure: str = "", **changes: Any
) -> bool:
    """Move a job forward with its evidence; False where it is there or further already."""
    now = timezone.now()
    changes["deadline_at"] = deadline(job.campaign, target, now)
    if failure:
        changes["failure"] = failure
    if target in FINISHED:
        changes["finished_at"] = now
    if target == State.RETRY_WAIT:
        changes["not_before"] = now + timedelta(seconds=job.campaign.retry_s)
    with transaction.atomic():
        note(job, source, text or str(State(target).label))
        moved = bool(try_advance(UpdateJob.objects.filter(pk=job.pk), target, **changes))
        if moved:
            job.refresh_from_db()
            if target in FINISHED or target in (State.RETRY_WAIT, State.VERIFYING):
                revoke(job)
            _tell_monitoring(job, target, now, text)
            if target in FINISHED or target == State.DISPATCHING:
                journal.record(
                    f"job.{target}",
                    job,
                    station_id=job.station_id,
                    campaign=job.campaign.name,
                    version=job.image.version,
                    failure=job.failure if target in BAD else "",
                    why=text,
                )
        live.touch(f"campaign-{job.campaign_id}", f"station-{job.station_id}")
    return moved


def _tell_monitoring(job: UpdateJob, target: State, now: datetime, text: str) -> None:
    """While a station updates, its silence is planned until the deadline; its failure is told."""
    source = f"job-{job.pk}-{job.attempt}"
    if target in QUIET and job.deadline_at is not None:
        incidents.announce_maintenance(
            station=job.station,
            starts_at=now,
            ends_at=job.deadline_at,
            reason=f"{job.campaign.name}: {job.image.version}",
            source=source,
        )
    else:
        incidents.end_maintenance(source, job.station)
    if target in BAD:
        brick = target == State.QUARANTINED
        incidents.raise_(
            "firmware-silent" if brick else "firmware-failed",
            _("%(station)s: update to %(version)s failed. %(why)s")
            % {
                "station": job.station.identity,
                "version": job.image.version,
                "why": failures.words(job.failure) or text,
            },
            severity=Severity.PAGE if brick else Severity.TICKET,
            family="firmware",
            station=job.station,
            evidence={"job": job.pk, "failure": job.failure},
        )
    elif target in (State.PROBATION, State.SUCCEEDED, State.ALREADY_CURRENT):
        why = _("Runs %(version)s.") % {"version": job.image.version}
        for rule in ("firmware-silent", "firmware-failed"):
            incidents.clear(rule, station=job.station, healed_by=why)


def deadline(campaign: Campaign, state: State, now: datetime) -> datetime | None:
    """Return when a job that enters `state` now must have left it; None where it may wait."""
    seconds = {
        State.DISPATCHING: 180,
        State.ACCEPTED: campaign.download_timeout_s,
        State.DOWNLOADING: campaign.download_timeout_s,
        State.DOWNLOADED: 86_400,  # a session may be in the way
        State.INSTALLING: campaign.install_timeout_s,
        State.REBOOTING: campaign.install_timeout_s,
        State.VERIFYING: min(VERIFY_S, campaign.install_timeout_s),
        State.PROBATION: campaign.probation_s,
    }.get(state)
    return None if seconds is None else now + timedelta(seconds=seconds)


def revoke(job: UpdateJob) -> int:
    """Take back the job's download grants; a station mid-file is cut off. Returns how many."""
    return job.grants.filter(revoked_at=None).update(revoked_at=timezone.now())


def active_of(station_id: int) -> UpdateJob | None:
    """Return the station's one active job."""
    return (
        UpdateJob.objects.filter(station_id=station_id, state__in=ACTIVE)
        .select_related("campaign", "image", "station")
        .first()
    )


def command_finished(job: UpdateJob, status: str, error: str, answer: str) -> None:
    """Take the station's answer to UpdateFirmware. `answer` is its status word, if it sent one."""
    if status in ("accepted", "scheduled"):
        move(job, State.ACCEPTED, Source.OCPP, f"station answered {answer or 'Accepted'}")
    elif answer in ("InvalidCertificate", "RevokedCertificate"):
        failure = "invalid-certificate" if answer[0] == "I" else "revoked-certificate"
        move(job, State.FAILED, Source.OCPP, f"station answered {answer}", failure=failure)
    elif status == "failed" and any(word in error for word in ("NotSupported", "NotImplemented")):
        if job.image.signature and not job.unsigned:
            UpdateJob.objects.filter(pk=job.pk).update(unsigned=True)
            why = "station knows no signed update; will use the plain one"
            move(job, State.RETRY_WAIT, Source.OCPP, why, failure="variant")
            UpdateJob.objects.filter(pk=job.pk, state=State.RETRY_WAIT).update(not_before=None)
        else:
            move(job, State.FAILED, Source.OCPP, error, failure="not-supported")
    else:
        failure = {"rejected": "rejected", "failed": "refused"}.get(status, "no-answer")
        _retry(job, failure, Source.OCPP)


def _retry(job: UpdateJob, failure: str, source: Source) -> None:
    decision = planning.retry_or_fail(job.campaign, job.pk, job.attempt, failure)
    move(job, State(decision.to), source, decision.why, failure=failure)


def status_reported(station: Station, status: str, request_id: int | None) -> None:
    """Take a FirmwareStatusNotification. Without a request id, or with 0, it is the active job's.

    A triggered Idle means the station has forgotten the job or has finished it (FR.28/29).
    """
    job = active_of(station.pk)
    if job is None or (request_id and request_id != job.request_id):
        return
    if status in ENDS:
        move(job, State.FAILED, Source.OCPP, f"station reports {status}", failure=ENDS[status])
    elif status == "DownloadFailed":
        note(job, Source.OCPP, "station reports DownloadFailed")
        _retry(job, "download-failed", Source.OCPP)
    elif status in STATUS_MEANS:
        if status == "Installed" and images.is_version(job.image, station.firmware):
            move(job, State.PROBATION, Source.OCPP, "installed, and reports the new version")
        else:
            move(job, STATUS_MEANS[status], Source.OCPP, f"station reports {status}")
    else:
        note(job, Source.OCPP, f"station reports {status}")


def booted(station: Station, version: str, previous: str, at: datetime | None = None) -> None:
    """Take a BootNotification. Success is the new version seen here, not a status word.

    News may be late: a boot `at` a time before the update was ordered says nothing of it.
    """
    job = active_of(station.pk) or _quarantined(station, version)
    if job is not None and at is not None and job.grants.filter(created_at__gt=at).exists():
        return
    if job is None:
        if changed(previous, version):
            with transaction.atomic():
                journal.record("firmware.changed_outside", station, was=previous, now=version)
        return
    if images.is_version(job.image, version):
        text = f"booted with {version}"
        if not move(job, State.PROBATION, Source.OCPP, text) and job.state == State.PROBATION:
            boots = job.events.filter(text__startswith="booted with").count()
            if boots > BOOTS_IN_PROBATION:
                move(job, State.FAILED, Source.OCPP, "boots again and again", failure="boot-loop")
    elif job.state in (State.INSTALLING, State.REBOOTING, State.VERIFYING):
        text = f"came back with {version}"
        move(job, State.FAILED, Source.OCPP, text, failure="reverted")
    else:
        note(job, Source.OCPP, f"booted with {version} in the middle of it")


def changed(previous: str, version: str) -> bool:
    """Tell whether a boot shows another firmware than the one before."""
    differ = images.normalise(previous) != images.normalise(version)
    return bool(previous and version) and differ


def _quarantined(station: Station, version: str) -> UpdateJob | None:
    """Return the job of a station given up as silent that comes back with the new version."""
    job = (
        UpdateJob.objects.filter(station=station, state=State.QUARANTINED)
        .select_related("campaign", "image", "station")
        .order_by("-pk")
        .first()
    )
    return job if job and images.is_version(job.image, version) else None


def download_progress(grant: DownloadGrant, sent: int) -> None:
    """Take what our own download log says: first bytes, and the whole file."""
    job = grant.job
    UpdateJob.objects.filter(pk=job.pk).update(bytes_sent=sent)
    if sent >= grant.image.size:
        move(job, State.DOWNLOADED, Source.HTTP, f"fetched all {sent} bytes")
    else:
        move(job, State.DOWNLOADING, Source.HTTP, "began to fetch the file")
