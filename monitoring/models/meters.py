"""Meters whose public key is known: what signed readings are verified against."""

from __future__ import annotations

import datetime as dt

from django.db import models
from django.db.models import F, Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _


class MeterKey(models.Model):
    """The public key of a meter in a station for a time: a meter that is swapped gets a new row."""

    station = models.ForeignKey(
        "stations.Station",
        on_delete=models.CASCADE,
        related_name="meter_keys",
        verbose_name=_("station"),
    )
    serial = models.CharField(
        _("meter serial"), max_length=50, help_text=_("As in the signed records (OCMF: MS)")
    )
    public_key = models.TextField(
        _("public key"), help_text=_("DER as hex or base64, as printed on the meter")
    )
    valid_from = models.DateTimeField(_("valid from"), default=timezone.now)
    valid_until = models.DateTimeField(_("valid until"), null=True, blank=True)
    note = models.CharField(
        _("where it is from"), max_length=200, blank=True, help_text=_("Label, register, maker")
    )

    class Meta:
        verbose_name = _("meter key")
        verbose_name_plural = _("meter keys")
        ordering = ["station", "serial", "-valid_from"]
        constraints = [
            models.UniqueConstraint(
                fields=["station", "serial", "valid_from"], name="meter_key_once"
            ),
            models.CheckConstraint(
                condition=Q(valid_until=None) | Q(valid_until__gt=F("valid_from")),
                name="meter_key_ends_after_it_begins",
                violation_error_message=_("It must end after it begins."),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.station} · {self.serial}"

    def holds_at(self, at: dt.datetime) -> bool:
        """Whether the key is the meter's at a time."""
        return self.valid_from <= at and (self.valid_until is None or at < self.valid_until)
