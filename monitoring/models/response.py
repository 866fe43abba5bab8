"""The response to incidents: who is told and how, and what is tried to mend them."""

import secrets

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import models
from django.utils.translation import gettext_lazy as _

from monitoring.models.health import Alert, Incident, Severity
from stations.models import Command, Connector, Site, Station
from stations.models.assets import check_time_zone
from stations.state import Lifecycle


def webhook_secret() -> str:
    """Return a new key for signing webhooks (HMAC-SHA256)."""
    return secrets.token_urlsafe(32)


class Contact(models.Model):
    """Somebody, or some program, that is told of incidents."""

    class Channel(models.TextChoices):
        EMAIL = "email", _("E-mail")
        WEBHOOK = "webhook", _("Webhook")

    name = models.CharField(_("name"), max_length=80)
    channel = models.CharField(_("channel"), max_length=8, choices=Channel, default=Channel.EMAIL)
    email = models.EmailField(_("e-mail"), blank=True)
    url = models.URLField(_("webhook address"), max_length=500, blank=True)
    secret = models.CharField(
        _("signing key"), max_length=80, default=webhook_secret, editable=False
    )
    sites = models.ManyToManyField(
        Site, blank=True, verbose_name=_("sites"), help_text=_("None chosen: every site.")
    )
    min_severity = models.PositiveSmallIntegerField(
        _("told at once from"), choices=Severity, default=Severity.PAGE
    )
    digest = models.BooleanField(
        _("tickets in a daily mail"), default=True, help_text=_("At eight in the morning.")
    )
    level = models.PositiveSmallIntegerField(
        _("escalation level"),
        default=1,
        help_text=_(
            "1 is told first; 2 after 15 minutes without acknowledgement; 3 after 30 more."
        ),
    )
    quiet_from = models.TimeField(_("quiet from"), null=True, blank=True)
    quiet_to = models.TimeField(
        _("quiet to"), null=True, blank=True, help_text=_("Critical incidents ignore it.")
    )
    time_zone = models.CharField(
        _("time zone"), max_length=40, default="Europe/Berlin", validators=[check_time_zone]
    )
    active = models.BooleanField(_("active"), default=True)

    class Meta:
        verbose_name = _("contact")
        verbose_name_plural = _("contacts")
        ordering = ["level", "name"]

    def __str__(self) -> str:
        return self.name

    def clean(self) -> None:
        """Require the address of the channel."""
        if self.channel == self.Channel.EMAIL and not self.email:
            raise ValidationError({"email": _("Give an e-mail address.")})
        if self.channel == self.Channel.WEBHOOK and not self.url:
            raise ValidationError({"url": _("Give the address the webhook is sent to.")})
        if (self.quiet_from is None) != (self.quiet_to is None):
            raise ValidationError(_("Quiet hours need a beginning and an end."))


class Notice(models.Model):
    """One message about one event of one incident to one contact: the outbox and its log."""

    class State(Lifecycle):
        QUEUED = "queued", _("Waiting")
        SENDING = "sending", _("Being sent")
        SENT = "sent", _("Sent")
        FAILED = "failed", _("Failed")
        DROPPED = "dropped", _("Not needed any more")

    incident = models.ForeignKey(Incident, models.CASCADE, related_name="notices")
    contact = models.ForeignKey(Contact, models.CASCADE, related_name="notices")
    event = models.CharField(_("event"), max_length=20)
    state = models.CharField(_("state"), max_length=8, choices=State, default=State.QUEUED)
    digest = models.BooleanField(_("in the daily mail"), default=False)
    created_at = models.DateTimeField(_("created"))
    due_at = models.DateTimeField(_("due"))
    claimed_at = models.DateTimeField(null=True, editable=False)
    sent_at = models.DateTimeField(_("sent"), null=True)
    attempts = models.PositiveSmallIntegerField(_("attempts"), default=0)
    error = models.CharField(_("error"), max_length=300, blank=True)

    class Meta:
        verbose_name = _("notice")
        verbose_name_plural = _("notices")
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(fields=["incident", "contact", "event"], name="notice_once")
        ]
        indexes = [
            models.Index(
                fields=["due_at"],
                name="notice_due",
                condition=models.Q(state__in=["queued", "sending"]),
            )
        ]

    def __str__(self) -> str:
        return f"{self.event} → {self.contact_id} ({self.state})"


Notice.State.TRANSITIONS = {
    Notice.State.QUEUED: {Notice.State.SENDING, Notice.State.DROPPED},
    Notice.State.SENDING: {Notice.State.SENT, Notice.State.QUEUED, Notice.State.FAILED},
    Notice.State.FAILED: {Notice.State.QUEUED},
}


class PlaybookSetting(models.Model):
    """How far one playbook may go here. Without a row: harmless steps only."""

    class Mode(models.TextChoices):
        OFF = "off", _("Off")
        DRY_RUN = "dry_run", _("Dry run: only say what it would do")
        HARMLESS = "harmless", _("Ask the charger, change nothing")
        ON = "on", _("On")

    playbook = models.CharField(_("playbook"), max_length=10, unique=True)
    mode = models.CharField(_("mode"), max_length=8, choices=Mode, default=Mode.HARMLESS)
    changed_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.SET_NULL, null=True, blank=True, editable=False
    )

    class Meta:
        verbose_name = _("playbook setting")
        verbose_name_plural = _("playbook settings")
        ordering = ["playbook"]

    def __str__(self) -> str:
        return f"{self.playbook}: {self.mode}"


class PlaybookRun(models.Model):
    """One attempt to mend one alert, step by step; `alert` says whether it worked."""

    class State(Lifecycle):
        RUNNING = "running", _("Running")
        HEALED = "healed", _("Healed")
        FAILED = "failed", _("Did not help")
        REFUSED = "refused", _("Stopped by a guard")
        DRY = "dry", _("Dry run")

    playbook = models.CharField(_("playbook"), max_length=10)
    alert = models.ForeignKey(Alert, models.CASCADE, related_name="runs")
    incident = models.ForeignKey(Incident, models.CASCADE, related_name="runs")
    station = models.ForeignKey(Station, models.CASCADE, related_name="playbook_runs")
    connector = models.ForeignKey(Connector, models.SET_NULL, null=True, blank=True)
    state = models.CharField(_("state"), max_length=8, choices=State, default=State.RUNNING)
    step = models.PositiveSmallIntegerField(_("step"), default=0)
    next_at = models.DateTimeField(_("next step"))
    started_at = models.DateTimeField(_("started"))
    ended_at = models.DateTimeField(_("ended"), null=True, blank=True)
    reason = models.CharField(_("why"), max_length=200, blank=True)

    class Meta:
        verbose_name = _("playbook run")
        verbose_name_plural = _("playbook runs")
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(
                fields=["alert"], name="playbook_run_once", condition=models.Q(state="running")
            )
        ]
        indexes = [
            models.Index(
                fields=["next_at"], name="playbook_due", condition=models.Q(state="running")
            )
        ]

    def __str__(self) -> str:
        return f"{self.playbook} #{self.pk} ({self.state})"


PlaybookRun.State.TRANSITIONS = {
    PlaybookRun.State.RUNNING: {
        PlaybookRun.State.HEALED,
        PlaybookRun.State.FAILED,
        PlaybookRun.State.REFUSED,
        PlaybookRun.State.DRY,
    },
}


class PlaybookStep(models.Model):
    """One step of a run: the order it gave, or would have given."""

    run = models.ForeignKey(PlaybookRun, models.CASCADE, related_name="steps")
    station = models.ForeignKey(Station, models.CASCADE)
    number = models.PositiveSmallIntegerField()
    command_name = models.CharField(_("command"), max_length=40)
    args = models.JSONField(_("arguments"), default=dict)
    harmful = models.BooleanField(_("changes something"), default=False)
    dry = models.BooleanField(_("only said"), default=False)
    command = models.ForeignKey(Command, models.SET_NULL, null=True)
    outcome = models.CharField(_("outcome"), max_length=20, blank=True)
    at = models.DateTimeField(_("at"))

    class Meta:
        verbose_name = _("playbook step")
        verbose_name_plural = _("playbook steps")
        ordering = ["run", "number"]
        constraints = [models.UniqueConstraint(fields=["run", "number"], name="playbook_step_once")]
        indexes = [
            models.Index(
                fields=["at"],
                name="playbook_budget",
                condition=models.Q(harmful=True, dry=False),
            )
        ]

    def __str__(self) -> str:
        return f"{self.run_id}.{self.number} {self.command_name}"
