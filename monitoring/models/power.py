"""Power: profiles a station holds, what a car asked for, and each session's share of its site."""

from django.db import models
from django.utils.translation import gettext_lazy as _

from monitoring.models.charging import Session
from stations.models import Site, Station


class ChargingProfile(models.Model):
    """A charging profile that a station accepted from us, or reported to have.

    `schedules` is 2.x's list of ChargingScheduleType as the wire has it; in 1.6 it has one entry.
    """

    station = models.ForeignKey(Station, models.CASCADE, related_name="charging_profiles")
    evse = models.PositiveIntegerField("EVSE", help_text=_("0: the station."))
    profile_id = models.BigIntegerField(_("profile"))
    stack_level = models.PositiveIntegerField(_("stack level"))
    purpose = models.CharField(_("what for"), max_length=40)
    kind = models.CharField(_("kind"), max_length=12)
    recurrency = models.CharField(_("repeats"), max_length=8, blank=True)
    valid_from = models.DateTimeField(_("valid from"), null=True)
    valid_to = models.DateTimeField(_("valid until"), null=True)
    ref = models.CharField(_("transaction"), max_length=64, blank=True)
    schedules = models.JSONField(_("schedule"), default=list)
    source = models.CharField(
        _("set by"), max_length=20, default="CSO", help_text=_("CSO: us. EMS, SO, Other: not us.")
    )
    at = models.DateTimeField(_("since"))

    class Meta:
        verbose_name = _("charging profile")
        verbose_name_plural = _("charging profiles")
        ordering = ["station", "evse", "purpose", "-stack_level"]
        constraints = [
            models.UniqueConstraint(fields=["station", "profile_id"], name="charging_profile_once")
        ]

    def __str__(self) -> str:
        return f"{self.purpose} {self.profile_id}"


class CarNeeds(models.Model):
    """What a car told of itself in one session (2.x NotifyEVChargingNeeds, priority charging)."""

    session = models.OneToOneField(Session, models.CASCADE, related_name="needs")
    at = models.DateTimeField(_("at"))
    max_a = models.PositiveIntegerField(_("takes at most (A)"), null=True)
    energy_wh = models.PositiveIntegerField(_("wants (Wh)"), null=True)
    departure_at = models.DateTimeField(_("leaves"), null=True)
    needs = models.JSONField(default=dict, help_text=_("ChargingNeedsType as sent."))
    schedule = models.JSONField(null=True, help_text=_("The car's own schedule, as sent."))
    prioritised = models.BooleanField(_("priority charging"), default=False)

    def __str__(self) -> str:
        return f"needs of session {self.session_id}"


class Allotment(models.Model):
    """A limit we keep at a station: an EVSE's share of its site; EVSE 0 is the offline fallback.

    `confirmed_a` is what the station accepted last, `ordered_a` what the order on its way says.
    """

    site = models.ForeignKey(Site, models.CASCADE, related_name="allotments")
    station = models.ForeignKey(Station, models.CASCADE, related_name="allotments")
    evse = models.PositiveIntegerField("EVSE")
    session = models.ForeignKey(Session, models.CASCADE, null=True, related_name="allotments")
    target_a = models.PositiveIntegerField(_("share (A)"), default=0)
    confirmed_a = models.PositiveIntegerField(_("accepted (A)"), null=True)
    confirmed_at = models.DateTimeField(null=True)
    ordered_a = models.PositiveIntegerField(null=True)
    ordered_at = models.DateTimeField(null=True)
    command_id = models.BigIntegerField(null=True, help_text=_("The order on its way."))
    valid_to = models.DateTimeField(null=True, help_text=_("Then the fallback applies."))
    refused = models.CharField(_("refused"), max_length=200, blank=True)

    class Meta:
        verbose_name = _("allotment")
        verbose_name_plural = _("allotments")
        ordering = ["site", "station", "evse"]
        constraints = [models.UniqueConstraint(fields=["station", "evse"], name="allotment_once")]

    def __str__(self) -> str:
        return f"{self.station_id}/{self.evse}: {self.target_a} A"
