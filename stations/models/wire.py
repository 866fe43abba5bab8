"""The wire: every frame, and every order to a charger."""

from django.conf import settings
from django.db import models
from django.utils.translation import gettext_lazy as _

from stations.models.assets import Station
from stations.state import Lifecycle


class Message(models.Model):
    """A call on the wire with its answer. Text as it came: payloads are never re-serialised.

    Written by the group commit in the same transaction as what the call caused. No foreign key
    constraint: the frame log is pruned and must not slow the hot path.
    """

    class Direction(models.TextChoices):
        IN = "in", _("from the charger")
        OUT = "out", _("to the charger")

    at = models.DateTimeField(_("at"))
    station = models.ForeignKey(  # message_of_station is its index
        Station, models.DO_NOTHING, related_name="messages", db_constraint=False, db_index=False
    )
    direction = models.CharField(_("direction"), max_length=3, choices=Direction)
    action = models.CharField(_("action"), max_length=50, blank=True)
    message_id = models.CharField(_("message id"), max_length=64, blank=True)
    payload = models.TextField(_("payload"), blank=True)
    answer = models.TextField(_("answer"), blank=True)
    error = models.CharField(
        _("error"),
        max_length=60,
        blank=True,
        help_text=_("CALLERROR code, or what is wrong."),
    )
    latency_ms = models.FloatField(_("latency (ms)"), null=True)

    class Meta:
        verbose_name = _("OCPP message")
        verbose_name_plural = _("OCPP messages")
        ordering = ["-id"]
        indexes = [models.Index(fields=["station", "-at"], name="message_of_station")]

    def __str__(self) -> str:
        return f"{self.action} {self.message_id}"


class CommandBatch(models.Model):
    """The same order to many stations."""

    name = models.CharField(_("command"), max_length=40)
    args = models.JSONField(_("arguments"), default=dict)
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.SET_NULL, null=True, blank=True)
    created_at = models.DateTimeField(_("created"), auto_now_add=True)

    class Meta:
        verbose_name = _("bulk command")
        verbose_name_plural = _("bulk commands")
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"{self.name} #{self.pk}"


class Command(models.Model):
    """An order to a charger, durable: the row is the truth, the nudge may be lost."""

    class Status(Lifecycle):
        QUEUED = "queued", _("Waiting")
        SENT = "sent", _("Sent")
        ACCEPTED = "accepted", _("Accepted")
        SCHEDULED = "scheduled", _("Accepted for later")
        REJECTED = "rejected", _("Refused by the charger")
        FAILED = "failed", _("Failed")
        TIMED_OUT = "timed_out", _("No answer")
        EXPIRED = "expired", _("Expired unsent")
        CANCELED = "canceled", _("Taken back")

    station = models.ForeignKey(Station, models.CASCADE, related_name="commands")
    name = models.CharField(_("command"), max_length=40)
    args = models.JSONField(_("arguments"), default=dict)
    status = models.CharField(_("status"), max_length=10, choices=Status, default=Status.QUEUED)
    subject = models.CharField(
        _("for"), max_length=60, blank=True, help_text=_("What ordered it: payment-…, job-….")
    )
    batch = models.ForeignKey(
        CommandBatch, models.SET_NULL, null=True, blank=True, related_name="commands"
    )
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.SET_NULL, null=True, blank=True, verbose_name=_("by")
    )
    created_at = models.DateTimeField(_("created"))
    expires_at = models.DateTimeField(_("expires"))
    sent_at = models.DateTimeField(_("sent"), null=True)
    answered_at = models.DateTimeField(_("answered"), null=True)
    epoch = models.BigIntegerField(null=True, help_text=_("The connection it was sent on."))
    message_id = models.CharField(max_length=36, blank=True)
    action = models.CharField(_("OCPP action"), max_length=50, blank=True)
    request = models.JSONField(_("request"), null=True)
    response = models.JSONField(_("answer"), null=True)
    error = models.CharField(_("error"), max_length=500, blank=True)

    class Meta:
        verbose_name = _("command")
        verbose_name_plural = _("commands")
        ordering = ["-id"]
        indexes = [
            models.Index(
                fields=["station", "id"], name="command_open", condition=models.Q(status="queued")
            ),
            models.Index(
                fields=["expires_at"],
                name="command_due",
                condition=models.Q(status__in=["queued", "sent"]),
            ),
            models.Index(fields=["subject"], name="command_subject"),
        ]

    def __str__(self) -> str:
        return f"{self.name} → {self.station_id} ({self.status})"


Command.Status.TRANSITIONS = {
    Command.Status.QUEUED: {
        Command.Status.SENT,
        Command.Status.EXPIRED,
        Command.Status.CANCELED,
        Command.Status.FAILED,
    },
    Command.Status.SENT: {
        Command.Status.ACCEPTED,
        Command.Status.SCHEDULED,
        Command.Status.REJECTED,
        Command.Status.FAILED,
        Command.Status.TIMED_OUT,
    },
}
