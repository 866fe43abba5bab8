"""What a station told it holds beside its variables; what kinds of stations are to be set to."""

from django.db import models
from django.utils.translation import gettext_lazy as _

from stations.models.assets import Station


class Holding(models.Model):
    """One thing a station said it holds: a monitor, a display message, a tariff, a grid control …

    `data` is as the station told it; `label` says it in a line. A thing it gave up is deleted.
    """

    class Kind(models.TextChoices):
        MONITOR = "monitor", _("Monitor")
        STREAM = "stream", _("Event stream")
        DISPLAY = "display", _("Display message")
        TARIFF = "tariff", _("Tariff")
        DER = "der", _("Grid control")
        CUSTOMER = "customer", _("Customer information")
        NETWORK = "network", _("Network profile")
        FIRMWARE = "firmware", _("Published firmware")
        BATTERY = "battery", _("Battery")

    station = models.ForeignKey(Station, models.CASCADE, related_name="holdings")
    kind = models.CharField(_("kind"), max_length=10, choices=Kind)
    key = models.CharField(_("id"), max_length=80, help_text=_("As the station numbers it."))
    label = models.CharField(_("what"), max_length=255, blank=True)
    data = models.JSONField(_("details"), default=dict)
    told_at = models.DateTimeField(_("told"))

    class Meta:
        verbose_name = _("holding")
        verbose_name_plural = _("holdings")
        ordering = ["station", "kind", "id"]
        constraints = [
            models.UniqueConstraint(fields=["station", "kind", "key"], name="holding_once")
        ]

    def __str__(self) -> str:
        return f"{self.get_kind_display()} {self.key}"


class StreamValue(models.Model):
    """One value of a periodic event stream (2.1 N15): many, written by the group commit."""

    station = models.ForeignKey(
        Station, models.DO_NOTHING, related_name="stream_values", db_constraint=False,
        db_index=False,
    )  # fmt: skip
    stream = models.BigIntegerField(_("stream"))
    at = models.DateTimeField(_("at"))
    value = models.TextField(_("value"))

    class Meta:
        verbose_name = _("stream value")
        verbose_name_plural = _("stream values")
        constraints = [
            models.UniqueConstraint(fields=["station", "stream", "at"], name="stream_value_once")
        ]
        indexes = [models.Index(fields=["at"], name="stream_value_at")]

    def __str__(self) -> str:
        return f"{self.stream}: {self.value}"


class ConfigurationTemplate(models.Model):
    """What all stations of a make are wanted to be set to; a station's own wish goes first."""

    name = models.CharField(_("name"), max_length=100, unique=True)
    vendor = models.CharField(
        _("vendor"), max_length=50, blank=True, help_text=_("As at boot. Empty: any.")
    )
    model_pattern = models.CharField(
        _("model"), max_length=100, default=".*", help_text=_("A regular expression.")
    )
    version = models.CharField(
        "OCPP",
        max_length=8,
        blank=True,
        choices=[("1.6", "1.6"), ("2.0.1", "2.0.1"), ("2.1", "2.1")],
        help_text=_("Empty: any."),
    )
    values = models.JSONField(
        _("values"),
        default=dict,
        help_text=_("Key → value: HeartbeatInterval in 1.6, Component.Variable in 2.x."),
    )
    active = models.BooleanField(_("active"), default=True)
    push = models.BooleanField(
        _("push by itself"),
        default=False,
        help_text=_("Send what differs as soon as a station has told its configuration."),
    )
    restart = models.BooleanField(
        _("restart where needed"),
        default=False,
        help_text=_("Restart the station, when idle, where a value waits for it."),
    )

    class Meta:
        verbose_name = _("configuration template")
        verbose_name_plural = _("configuration templates")
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name
