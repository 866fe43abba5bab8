"""Images, campaigns, jobs, their evidence, and the grants that let a charger download."""

import secrets
from pathlib import Path

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.utils.translation import gettext_lazy as _

from stations.models import Station
from stations.state import Lifecycle


def grant_token() -> str:
    """Return a new download token: 22 characters, 128 bits."""
    return secrets.token_urlsafe(16)


def image_path(image: "FirmwareImage", filename: str) -> str:
    """Return where an image's file is kept: by its checksum, so that a name cannot collide."""
    return f"firmware/{image.sha256 or 'unchecked'}/{Path(filename).name}"


class FirmwareImage(models.Model):
    """A release: one file for the stations of a vendor (and model), with what proves it genuine."""

    class Scheme(models.TextChoices):
        """How the signature verifies (A2.6 of the firmware notes). Detected at upload."""

        NONE = "", _("unsigned")
        ECDSA = "ecdsa", "ECDSA"
        RSA_PSS = "rsa-pss", "RSA-PSS"
        RSA_PKCS1 = "rsa-pkcs1", "RSA PKCS#1 v1.5"

    vendor = models.CharField(_("vendor"), max_length=50)
    model = models.CharField(
        _("model"), max_length=50, blank=True, help_text=_("Empty: every model of the vendor.")
    )
    version = models.CharField(
        _("version"), max_length=50, help_text=_("As stations report it after the update.")
    )
    also_reported_as = models.JSONField(
        _("also reported as"),
        default=list,
        blank=True,
        help_text=_("Other texts a station may report for this release, as a JSON list."),
    )
    file = models.FileField(_("file"), upload_to=image_path, max_length=255)
    filename = models.CharField(_("file name"), max_length=120, editable=False)
    size = models.BigIntegerField(_("size (bytes)"), editable=False, default=0)
    sha256 = models.CharField("SHA-256", max_length=64, editable=False)
    md5 = models.CharField("MD5", max_length=32, editable=False)
    signature = models.TextField(_("signature"), blank=True, help_text=_("Base64."))
    certificate = models.TextField(_("signing certificate"), blank=True, help_text="PEM")
    signature_scheme = models.CharField(
        _("signed with"), max_length=10, choices=Scheme, blank=True, editable=False
    )
    notes = models.TextField(_("release notes"), blank=True)
    withdrawn = models.BooleanField(
        _("withdrawn"), default=False, help_text=_("No longer offered, nobody counts as behind it.")
    )
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.SET_NULL, null=True, blank=True, editable=False
    )
    created_at = models.DateTimeField(_("uploaded"), auto_now_add=True)

    class Meta:
        verbose_name = _("firmware release")
        verbose_name_plural = _("firmware releases")
        ordering = ["vendor", "model", "-id"]
        constraints = [
            models.UniqueConstraint(fields=["vendor", "model", "version"], name="image_once")
        ]

    def __str__(self) -> str:
        return f"{self.vendor} {self.model} {self.version}".replace("  ", " ")


def check_waves(waves: object) -> None:
    """Raise ValidationError unless `waves` is a list such as ["1", "25%", "100%"]."""
    if not isinstance(waves, list) or not waves:
        raise ValidationError(_("Write waves as 1, 25%, 100%."))
    for wave in waves:
        number = str(wave).removesuffix("%")
        if not number.isdigit() or not int(number) or (str(wave)[-1] == "%" and int(number) > 100):
            raise ValidationError(
                _("“%(wave)s” is no wave size: write a number of stations or a percentage."),
                params={"wave": wave},
            )


def default_waves() -> list[str]:
    """One station, then a quarter, then the rest."""
    return ["1", "25%", "100%"]


class Campaign(models.Model):
    """An update of many stations to one image, wave by wave, with a gate after each."""

    class State(Lifecycle):
        DRAFT = "draft", _("Draft, waits for approval")
        RUNNING = "running", _("Running")
        BAKING = "baking", _("Watching the finished wave")
        PAUSED = "paused", _("Paused")
        STOPPED = "stopped", _("Stopped")
        COMPLETED = "completed", _("Completed")

    name = models.CharField(_("name"), max_length=80, unique=True)
    image = models.ForeignKey(
        FirmwareImage, models.PROTECT, related_name="campaigns", verbose_name=_("release")
    )
    state = models.CharField(_("state"), max_length=10, choices=State, default=State.DRAFT)
    reason = models.TextField(_("why"), blank=True, editable=False)
    waves = models.JSONField(_("waves"), default=default_waves, validators=[check_waves])
    wave = models.PositiveSmallIntegerField(_("open wave"), default=0, editable=False)
    failures_accepted = models.PositiveIntegerField(
        _("failures of the open wave accepted when it was resumed"), default=0, editable=False
    )
    concurrency = models.PositiveIntegerField(
        _("stations at once"), default=20, validators=[MinValueValidator(1)]
    )
    site_concurrency = models.PositiveIntegerField(
        _("stations at once per site"), default=1, validators=[MinValueValidator(1)]
    )
    max_failures_percent = models.PositiveSmallIntegerField(
        _("failures tolerated (%)"),
        null=True,
        blank=True,
        validators=[MaxValueValidator(100)],
        help_text=_("Of a wave. Empty: none in a wave under 20 stations, one under 60, then 5 %."),
    )
    bake_s = models.PositiveIntegerField(
        _("watch a finished wave (s)"), default=86_400, help_text=_("Before the next one opens.")
    )
    probation_s = models.PositiveIntegerField(
        _("watch an updated station (s)"),
        default=600,
        help_text=_("It must stay connected and free of new faults this long."),
    )
    window_from = models.TimeField(
        _("only from"), null=True, blank=True, help_text=_("Local time of the site.")
    )
    window_to = models.TimeField(_("until"), null=True, blank=True)
    max_attempts = models.PositiveSmallIntegerField(_("attempts"), default=3)
    retry_s = models.PositiveIntegerField(_("retry after (s)"), default=900)
    install_timeout_s = models.PositiveIntegerField(
        _("longest installation (s)"), default=2_700, help_text=_("Silent longer: suspected brick.")
    )
    download_timeout_s = models.PositiveIntegerField(_("longest download (s)"), default=3_600)
    expires_at = models.DateTimeField(_("gives up at"), null=True, blank=True)
    reverses = models.ForeignKey(
        "self", models.SET_NULL, null=True, blank=True, editable=False, related_name="reversed_by"
    )
    baking_until = models.DateTimeField(null=True, editable=False)
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.SET_NULL, null=True, blank=True, editable=False
    )
    created_at = models.DateTimeField(_("created"), auto_now_add=True)
    started_at = models.DateTimeField(_("started"), null=True, editable=False)
    finished_at = models.DateTimeField(_("finished"), null=True, editable=False)

    class Meta:
        verbose_name = _("firmware campaign")
        verbose_name_plural = _("firmware campaigns")
        ordering = ["-id"]
        permissions = [("run_campaign", _("Can start, pause and stop campaigns"))]

    def __str__(self) -> str:
        return self.name


Campaign.State.TRANSITIONS = {
    Campaign.State.DRAFT: {Campaign.State.RUNNING, Campaign.State.STOPPED},
    Campaign.State.RUNNING: {
        Campaign.State.BAKING,
        Campaign.State.PAUSED,
        Campaign.State.STOPPED,
        Campaign.State.COMPLETED,
    },
    Campaign.State.BAKING: {
        Campaign.State.RUNNING,
        Campaign.State.PAUSED,
        Campaign.State.STOPPED,
        Campaign.State.COMPLETED,
    },
    Campaign.State.PAUSED: {Campaign.State.RUNNING, Campaign.State.STOPPED},
}


class UpdateJob(models.Model):
    """One station's part in a campaign. Moves forward by evidence only, and every state ends."""

    class State(Lifecycle):
        PENDING = "pending", _("Waits for its wave")
        QUEUED = "queued", _("Waits for a quiet moment")
        RETRY_WAIT = "retry_wait", _("Waits to try again")
        DISPATCHING = "dispatching", _("Order sent")
        ACCEPTED = "accepted", _("Accepted by the station")
        DOWNLOADING = "downloading", _("Downloading")
        DOWNLOADED = "downloaded", _("Downloaded")
        INSTALLING = "installing", _("Installing")
        REBOOTING = "rebooting", _("Restarting")
        VERIFYING = "verifying", _("Says installed, version not seen yet")
        PROBATION = "probation", _("New version runs, being watched")
        SUCCEEDED = "succeeded", _("Updated")
        ALREADY_CURRENT = "already_current", _("Was up to date")
        SKIPPED = "skipped", _("Left out")
        CANCELED = "canceled", _("Called off")
        FAILED = "failed", _("Failed")
        QUARANTINED = "quarantined", _("Silent after installing: suspected brick")

    campaign = models.ForeignKey(Campaign, models.CASCADE, related_name="jobs")
    station = models.ForeignKey(Station, models.CASCADE, related_name="update_jobs")
    image = models.ForeignKey(FirmwareImage, models.PROTECT, related_name="jobs")
    wave = models.PositiveSmallIntegerField(_("wave"))
    state = models.CharField(_("state"), max_length=16, choices=State, default=State.PENDING)
    version_before = models.CharField(_("version before"), max_length=50, blank=True)
    attempt = models.PositiveSmallIntegerField(_("attempt"), default=0)
    request_id = models.IntegerField(null=True)
    not_before = models.DateTimeField(null=True)
    deadline_at = models.DateTimeField(_("deadline"), null=True)
    failure = models.CharField(_("failure"), max_length=40, blank=True)
    bytes_sent = models.BigIntegerField(_("bytes sent"), default=0)
    unsigned = models.BooleanField(default=False, help_text=_("Use the plain UpdateFirmware."))
    faults_before = models.JSONField(default=list)
    finished_at = models.DateTimeField(_("finished"), null=True)

    class Meta:
        verbose_name = _("station update")
        verbose_name_plural = _("station updates")
        ordering = ["campaign", "wave", "id"]
        constraints = [
            models.UniqueConstraint(fields=["campaign", "station"], name="job_once"),
            models.UniqueConstraint(
                fields=["station"],
                name="job_one_active_per_station",
                condition=models.Q(
                    state__in=[
                        "dispatching",
                        "accepted",
                        "downloading",
                        "downloaded",
                        "installing",
                        "rebooting",
                        "verifying",
                        "probation",
                    ]
                ),
            ),
        ]
        indexes = [models.Index(fields=["campaign", "state"], name="job_state")]

    def __str__(self) -> str:
        return f"{self.campaign} · {self.station}"


_S = UpdateJob.State
WAITING = (_S.PENDING, _S.QUEUED, _S.RETRY_WAIT)
# In the order evidence moves a job; a status may skip steps, never go back.
ACTIVE = (
    _S.DISPATCHING,
    _S.ACCEPTED,
    _S.DOWNLOADING,
    _S.DOWNLOADED,
    _S.INSTALLING,
    _S.REBOOTING,
    _S.VERIFYING,
    _S.PROBATION,
)
FINISHED = (
    _S.SUCCEEDED,
    _S.ALREADY_CURRENT,
    _S.SKIPPED,
    _S.CANCELED,
    _S.FAILED,
    _S.QUARANTINED,
)
BAD = (_S.FAILED, _S.QUARANTINED)
_ENDS_ACTIVE = {_S.FAILED, _S.QUARANTINED, _S.CANCELED, _S.RETRY_WAIT}

_S.TRANSITIONS = {
    _S.PENDING: {_S.QUEUED, _S.SKIPPED, _S.CANCELED},
    _S.QUEUED: {_S.DISPATCHING, _S.ALREADY_CURRENT, _S.SKIPPED, _S.CANCELED},
    _S.RETRY_WAIT: {_S.QUEUED, _S.CANCELED, _S.FAILED, _S.PROBATION},
} | {state: {*ACTIVE[place + 1 :], *_ENDS_ACTIVE} for place, state in enumerate(ACTIVE)}
_S.TRANSITIONS[_S.PROBATION] = {_S.SUCCEEDED, _S.FAILED, _S.QUARANTINED, _S.CANCELED}
# A station that comes back with the new version after all is believed.
_S.TRANSITIONS[_S.QUARANTINED] = {_S.PROBATION}


class JobEvent(models.Model):
    """Evidence: what a charger, a download, a clock or a person said about a job. Append-only."""

    class Source(models.TextChoices):
        OCPP = "ocpp", _("charger")
        HTTP = "http", _("download")
        TIMER = "timer", _("deadline")
        USER = "user", _("person")

    job = models.ForeignKey(UpdateJob, models.CASCADE, related_name="events")
    at = models.DateTimeField(_("at"), auto_now_add=True)
    source = models.CharField(max_length=6, choices=Source)
    text = models.CharField(max_length=300)

    class Meta:
        ordering = ["id"]

    def __str__(self) -> str:
        return self.text


class DownloadGrant(models.Model):
    """Leave to download one image for one job. Revoking it stops the station mid-file."""

    token = models.CharField(max_length=32, unique=True, default=grant_token)
    job = models.ForeignKey(UpdateJob, models.CASCADE, related_name="grants")
    image = models.ForeignKey(FirmwareImage, models.PROTECT)
    created_at = models.DateTimeField(auto_now_add=True)
    expires_at = models.DateTimeField()
    revoked_at = models.DateTimeField(null=True)
    bytes_sent = models.BigIntegerField(default=0)
    fetches = models.PositiveIntegerField(default=0)
    first_ip = models.GenericIPAddressField(null=True)
    completed_at = models.DateTimeField(null=True)

    def __str__(self) -> str:
        return f"{self.job} · {self.image}"
