"""Campaigns: make one, start, pause, stop, brake, reverse it, and the tick that drives all.

CampaignError
 ├── NothingToUpdate    no chosen station fits the release
 ├── NotReady           the release's file or certificate would fail at the stations
 └── NoWayBack          no previous release to reverse to
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from cryptography import x509
from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _

from firmware import images, jobs, planning
from firmware.models import (
    ACTIVE,
    BAD,
    WAITING,
    Campaign,
    DownloadGrant,
    FirmwareImage,
    JobEvent,
    UpdateJob,
)
from monitoring.models import Session
from stations import commands, journal, live
from stations.models import Connector, Station
from stations.state import NotAllowed, advance

if TYPE_CHECKING:
    from stations.models import User

State = Campaign.State
Job = UpdateJob.State
IN_USE = (  # a cable is in, or somebody is on the way
    Connector.Status.PREPARING,
    Connector.Status.CHARGING,
    Connector.Status.SUSPENDED_EV,
    Connector.Status.SUSPENDED_EVSE,
    Connector.Status.FINISHING,
    Connector.Status.OCCUPIED,
    Connector.Status.RESERVED,
)
CERTIFICATE_MARGIN = timedelta(days=14)


class CampaignError(Exception):
    """A campaign cannot do this; the text says why and what to do."""


class NothingToUpdate(CampaignError):
    """No chosen station fits the release."""


class NotReady(CampaignError):
    """The release would fail at the stations."""


class NoWayBack(CampaignError):
    """There is no previous release to reverse to."""


def create(
    name: str,
    image: FirmwareImage,
    stations: Iterable[Station],
    *,
    by: "User | None" = None,
    **settings_of: Any,
) -> Campaign:
    """Make a draft over the stations that fit; those that do not are left out, visibly.

    `settings_of` are Campaign's fields (waves, bake_s, …). Raises NothingToUpdate, or
    ValidationError for a wrong setting.
    """
    chosen = list(stations)
    fitting = [one for one in chosen if images.fits(image, one)]
    if not fitting:
        raise NothingToUpdate(
            _("None of the %(n)d stations is a %(vendor)s %(model)s.")
            % {"n": len(chosen), "vendor": image.vendor, "model": image.model}
        )
    campaign = Campaign(name=name, image=image, created_by=by, **settings_of)
    campaign.full_clean()
    with transaction.atomic():
        campaign.save()
        UpdateJob.objects.bulk_create(
            [
                UpdateJob(
                    campaign=campaign,
                    station=one,
                    image=image,
                    wave=wave,
                    version_before=one.firmware,
                )
                for one, wave in zip(
                    _canaries_first(fitting),
                    planning.wave_of(campaign.waves, len(fitting)),
                    strict=True,
                )
            ]
        )
        journal.record(
            "campaign.created", campaign, stations=len(fitting), left_out=len(chosen) - len(fitting)
        )
    return campaign


def _canaries_first(stations: list[Station]) -> list[Station]:
    """Return the stations so that early waves cover every kind: one of each make in turn."""
    kinds: dict[tuple[str, ...], list[Station]] = defaultdict(list)
    for one in sorted(stations, key=lambda s: hashlib.sha256(s.identity.encode()).digest()):
        kinds[one.model, one.firmware, one.version].append(one)
    rounds: list[Station] = []
    queues = sorted(kinds.values(), key=len, reverse=True)
    while queues:
        rounds += [queue.pop(0) for queue in queues]
        queues = [queue for queue in queues if queue]
    return rounds


def preflight(image: FirmwareImage) -> None:
    """Raise NotReady where the stored file or its certificate would fail at the stations."""
    digest = hashlib.sha256()
    try:
        with image.file.open("rb") as file:
            for chunk in file.chunks(images.CHUNK):
                digest.update(chunk)
    except OSError as error:
        raise NotReady(
            _("The file of %(image)s is gone. Upload it again.") % {"image": image}
        ) from error
    if digest.hexdigest() != image.sha256:
        raise NotReady(_("The file of %(image)s has changed since its upload.") % {"image": image})
    if image.certificate:
        expires = x509.load_pem_x509_certificate(image.certificate.encode()).not_valid_after_utc
        if expires < timezone.now() + CERTIFICATE_MARGIN:
            raise NotReady(
                _("The signing certificate ends on %(day)s; stations would refuse it.")
                % {"day": f"{expires:%Y-%m-%d}"}
            )


def start(campaign: Campaign) -> None:
    """Approve a draft: wave 1 opens. Raises NotReady or NotAllowed."""
    preflight(campaign.image)
    _set(campaign, State.RUNNING, "campaign.started", started_at=timezone.now(), reason="")


def pause(campaign: Campaign, reason: str = "") -> None:
    """Hold: no new station begins; what runs goes on. Raises NotAllowed."""
    _set(campaign, State.PAUSED, "campaign.paused", reason=reason or _("Paused by hand."))


def resume(campaign: Campaign, reason: str = "") -> None:
    """Go on with the open wave, its failures so far accepted. Raises NotAllowed.

    Somebody has looked and decides over the gate; the next failure pauses again. A draft is not
    resumed: it has yet to be approved.
    """
    if campaign.state != State.PAUSED:
        raise NotAllowed(_("Only a paused campaign is resumed."))
    failed = planning.failures(campaign, facts(campaign))
    _set(campaign, State.RUNNING, "campaign.resumed", reason=reason, failures_accepted=failed)


def brake(campaign: Campaign, reason: str = "") -> int:
    """Hold, and cut off every station that has not finished its download. Returns how many."""
    with transaction.atomic():
        if campaign.state in (State.RUNNING, State.BAKING):
            pause(campaign, reason or _("Braked by hand."))
        cut = 0
        for job in _jobs(campaign).filter(
            state__in=(Job.DISPATCHING, Job.ACCEPTED, Job.DOWNLOADING)
        ):
            jobs.revoke(job)
            cut += jobs.move(job, Job.RETRY_WAIT, JobEvent.Source.USER, "braked: download cut off")
    return cut


def stop(campaign: Campaign, reason: str = "") -> None:
    """End it: brake, and call off every station that waits. Raises NotAllowed."""
    with transaction.atomic():
        brake(campaign, reason)
        for job in _jobs(campaign).filter(state__in=WAITING):
            jobs.move(job, Job.CANCELED, JobEvent.Source.USER, "campaign stopped")
        _set(
            campaign,
            State.STOPPED,
            "campaign.stopped",
            reason=reason or _("Stopped by hand."),
            finished_at=timezone.now(),
        )


def reverse(campaign: Campaign, *, by: "User | None" = None) -> Campaign:
    """Stop it and start the way back: each updated station to the release it ran before.

    Raises NoWayBack where none of those releases is in the library.
    """
    updated = list(
        _jobs(campaign)
        .filter(state__in=(Job.SUCCEEDED, Job.PROBATION, *BAD))
        .exclude(version_before="")
    )
    library = list(FirmwareImage.objects.filter(vendor__iexact=campaign.image.vendor))
    ways = {
        job: image
        for job in updated
        for image in library
        if images.is_version(image, job.version_before) and images.fits(image, job.station)
    }
    if not ways:
        raise NoWayBack(
            _("No release with the stations' previous version is here. Upload it first.")
        )
    with transaction.atomic():
        if campaign.state not in State.terminal():
            stop(campaign, _("Being reversed."))
        back = create(
            f"{campaign.name} reversed"[:80],
            next(iter(ways.values())),
            [job.station for job in ways],
            by=by,
            waves=["100%"],
            bake_s=0,
            probation_s=campaign.probation_s,
            retry_s=campaign.retry_s,
            concurrency=campaign.concurrency,
            reverses=campaign,
        )
        for job, image in ways.items():
            back.jobs.filter(station=job.station).update(image=image)
        start(back)
    return back


def _set(campaign: Campaign, target: State, news: str, **changes: Any) -> None:
    with transaction.atomic():
        advance(Campaign.objects.filter(pk=campaign.pk), target, **changes)
        campaign.refresh_from_db()
        journal.record(news, campaign, name=campaign.name, reason=campaign.reason)
        live.touch(f"campaign-{campaign.pk}", "fleet")


def _jobs(campaign: Campaign) -> "QuerySet[UpdateJob]":
    return campaign.jobs.select_related("campaign", "image", "station__site")


# --- the tick -------------------------------------------------------------------------------------


def tick(now: datetime | None = None) -> int:
    """Drive every campaign one step; return how many steps were taken. Two ticks never collide."""
    now = now or timezone.now()
    alive = Campaign.objects.filter(state__in=(State.RUNNING, State.BAKING)).values_list("pk")
    working = UpdateJob.objects.filter(state__in=ACTIVE).values_list("campaign_id")
    taken = 0
    for (pk,) in set(alive) | set(working):
        with transaction.atomic():
            campaign = (
                Campaign.objects.select_for_update(skip_locked=True, of=("self",))
                .select_related("image")
                .filter(pk=pk)
                .first()
            )
            if campaign is None:
                continue
            decisions = planning.plan(campaign, facts(campaign), now)
            for decision in decisions:
                _apply(campaign, decision, now)
            taken += len(decisions)
    return taken


def facts(campaign: Campaign) -> list[planning.JobFacts]:
    """Return what is true of each job and its station now, in four queries."""
    rows = list(_jobs(campaign))
    stations = [job.station_id for job in rows]
    busy = set(
        Session.objects.filter(station__in=stations, stopped_at=None, closed_at=None).values_list(
            "station_id", flat=True
        )
    )
    faults: dict[int, set[str]] = defaultdict(set)
    for station_id, evse, status in Connector.objects.filter(station__in=stations).values_list(
        "station_id", "evse__number", "status"
    ):
        if status in IN_USE:
            busy.add(station_id)
        if status == Connector.Status.FAULTED:
            faults[station_id].add(str(evse))
    taken = set(
        UpdateJob.objects.filter(station__in=stations, state__in=ACTIVE)
        .exclude(campaign=campaign)
        .values_list("station_id", flat=True)
    )
    window = (campaign.window_from, campaign.window_to)
    now = timezone.now()
    return [
        planning.JobFacts(
            id=job.pk,
            wave=job.wave,
            state=Job(job.state),
            site_id=job.station.site_id,
            online=job.station.connected,
            idle=job.station_id not in busy,
            in_window=planning.within(window, now.astimezone(job.station.zone).time()),
            current=images.is_version(job.image, job.station.firmware),
            healthy=faults[job.station_id] <= set(job.faults_before),
            taken=job.station_id in taken,
            attempt=job.attempt,
            not_before=job.not_before,
            deadline_at=job.deadline_at,
        )
        for job in rows
    ]


def _apply(campaign: Campaign, decision: planning.Decision, now: datetime) -> None:
    if decision.job_id is None:
        _apply_to_campaign(campaign, State(decision.to), decision.why, now)
        return
    job = _jobs(campaign).get(pk=decision.job_id)
    if decision.to == Job.DISPATCHING:
        _dispatch(job, now)
    else:
        jobs.move(
            job, Job(decision.to), JobEvent.Source.TIMER, decision.why, failure=decision.failure
        )


def _apply_to_campaign(campaign: Campaign, target: State, why: str, now: datetime) -> None:
    if target == State.PAUSED:
        brake(campaign, why)
    elif target == State.BAKING:
        until = now + timedelta(seconds=campaign.bake_s)
        _set(campaign, target, "campaign.wave_done", reason=why, baking_until=until)
    elif target == State.RUNNING:
        wave = campaign.wave + 1
        _set(campaign, target, "campaign.wave_opened", reason=why, wave=wave, failures_accepted=0)
    else:
        _set(campaign, target, "campaign.completed", reason=why, finished_at=now)


def _dispatch(job: UpdateJob, now: datetime) -> None:
    """Order the update, if the station is still idle: checked again inside this transaction."""
    if _in_use(job.station_id):
        return
    faults = [
        str(evse)
        for evse in Connector.objects.filter(
            station=job.station_id, status=Connector.Status.FAULTED
        ).values_list("evse__number", flat=True)
    ]
    attempt = job.attempt + 1
    request_id = job.pk * 16 + attempt % 16
    try:
        with transaction.atomic():
            moved = jobs.move(
                job,
                Job.DISPATCHING,
                JobEvent.Source.TIMER,
                f"attempt {attempt}",
                attempt=attempt,
                request_id=request_id,
                faults_before=faults,
                failure="",
            )
            if moved:
                _order(job, request_id, now)
    except IntegrityError:
        return  # another campaign has just begun on this station: job_one_active_per_station


def _in_use(station_id: int) -> bool:
    return (
        Session.objects.filter(station=station_id, stopped_at=None, closed_at=None).exists()
        or Connector.objects.filter(station=station_id, status__in=IN_USE).exists()
    )


def _order(job: UpdateJob, request_id: int, now: datetime) -> None:
    image = job.image
    grant = DownloadGrant.objects.create(
        job=job,
        image=image,
        expires_at=now + timedelta(seconds=job.campaign.download_timeout_s + 600),
    )
    signed = bool(image.signature) and not job.unsigned
    commands.send(
        job.station,
        "update_firmware",
        subject=f"job-{job.pk}",
        expires_in_s=120,
        location=f"{settings.PUBLIC_URL}/f/{grant.token}/{image.filename}",
        retrieve_at=now,
        request_id=request_id,
        retries=0,
        certificate=image.certificate if signed else "",
        signature=image.signature if signed else "",
    )
