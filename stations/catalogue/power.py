"""Reservations and smart charging (1.6 Reservation and SmartCharging, 2.x H and K)."""

import re
from datetime import timedelta
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from stations.catalogue.fields import hidden_number
from stations.catalogue.spec import Group, Spec, in_2x, in_21, in_all

PURPOSES = [
    ("TxDefaultProfile", _("For every new session")),
    ("TxProfile", _("For the running session")),
    ("ChargingStationMaxProfile", _("For the station as a whole")),
    ("PriorityCharging", _("For priority charging (2.1)")),
    ("LocalGeneration", _("For locally generated power (2.1)")),
]
KINDS = [(one, one) for one in ("Absolute", "Recurring", "Relative", "Dynamic")]
UNITS = [("A", _("Amperes per phase")), ("W", _("Watts"))]


class PeriodsField(forms.CharField):
    """A schedule: one `start limit [phases]` a line, start in seconds or HH:MM[:SS]; a list of
    {"start_s", "limit", "phases"} in code and JSON.
    """

    widget = forms.Textarea

    def to_python(self, value: Any) -> Any:
        """Return list[dict]; raises ValidationError for a line that is none."""
        if isinstance(value, list | tuple):
            return [self._checked(dict(one)) for one in value]
        text = super().to_python(value) or ""
        lines = [line.split() for line in re.split(r"[\n;]", text) if line.strip()]
        return [self._line(line) for line in lines]

    def _line(self, words: list[str]) -> dict[str, Any]:
        if len(words) not in (2, 3):
            raise ValidationError(_("Write each line as “start limit”, e.g. “08:00 16”."))
        try:
            start = _seconds(words[0])
            period: dict[str, Any] = {"start_s": start, "limit": float(words[1])}
            if len(words) == 3:
                period["phases"] = int(words[2])
        except ValueError:
            raise ValidationError(
                _("“%(line)s” is no line of a schedule."), params={"line": " ".join(words)}
            ) from None
        return self._checked(period)

    def _checked(self, period: dict[str, Any]) -> dict[str, Any]:
        known = {"start_s", "limit", "phases"}
        if not {"start_s", "limit"} <= set(period) <= known:
            raise ValidationError(_("A period has start_s, limit and perhaps phases."))
        if period["start_s"] < 0 or not 0 <= period["limit"] <= 10_000_000:
            raise ValidationError(
                _("A period begins at 0 s or later and its limit is not negative.")
            )
        if period.get("phases") not in (None, 1, 2, 3):
            raise ValidationError(_("A period uses 1, 2 or 3 phases."))
        period["limit"] = round(float(period["limit"]), 1)  # both versions: one digit
        return period


def _seconds(text: str) -> int:
    hours, *rest = text.split(":")
    if not rest:
        return int(hours)
    minutes, seconds = int(rest[0]), int(rest[1]) if len(rest) > 1 else 0
    return int(hours) * 3600 + minutes * 60 + seconds


def _evse() -> forms.IntegerField:
    return forms.IntegerField(
        label=_("EVSE"), min_value=0, required=False, help_text=_("Empty: the station.")
    )


class ReserveNow(forms.Form):
    """ReserveNow."""

    evse = forms.IntegerField(
        label=_("EVSE"), min_value=1, required=False, help_text=_("Empty: any that is free.")
    )
    token_uid = forms.CharField(label=_("Token"), max_length=36)
    token_type = forms.CharField(max_length=20, required=False, widget=forms.HiddenInput)
    group = forms.CharField(label=_("Group"), max_length=36, required=False)
    until = forms.DateTimeField(label=_("Until"))
    reservation_id = hidden_number()

    def clean_until(self) -> Any:
        """A reservation ends in the future, within a week."""
        until = self.cleaned_data["until"]
        now = timezone.now()
        if not now < until <= now + timedelta(days=7):
            raise ValidationError(_("A reservation ends in the future, within seven days."))
        return until


class CancelReservation(forms.Form):
    """CancelReservation."""

    reservation_id = forms.IntegerField(label=_("Reservation"))


class SetChargingProfile(forms.Form):
    """SetChargingProfile; `profile_id` is made from the command's where it is not given."""

    evse = _evse()
    purpose = forms.ChoiceField(label=_("What for"), choices=PURPOSES)
    unit = forms.ChoiceField(label=_("Unit"), choices=UNITS, required=False)
    periods = PeriodsField(
        label=_("Schedule"),
        help_text=_("A line each: start (seconds or HH:MM), limit and, if it matters, phases."),
    )
    kind = forms.ChoiceField(label=_("Kind"), choices=[("", "Absolute"), *KINDS], required=False)
    recurrency = forms.ChoiceField(
        label=_("Repeats"),
        choices=[("", _("no")), ("Daily", _("daily")), ("Weekly", _("weekly"))],
        required=False,
    )
    stack_level = forms.IntegerField(label=_("Stack level"), min_value=0, required=False)
    start_at = forms.DateTimeField(label=_("Schedule begins"), required=False)
    duration_s = forms.IntegerField(label=_("Length (s)"), min_value=1, required=False)
    valid_from = forms.DateTimeField(label=_("Valid from"), required=False)
    valid_to = forms.DateTimeField(label=_("Valid until"), required=False)
    min_rate = forms.FloatField(label=_("Least useful rate"), min_value=0, required=False)
    update_every_s = forms.IntegerField(
        label=_("Asks for updates every (s)"), min_value=1, required=False,
        help_text=_("Dynamic profiles of OCPP 2.1."),
    )  # fmt: skip
    ref = forms.CharField(label=_("Transaction"), max_length=64, required=False)
    profile_id = hidden_number()

    def clean(self) -> dict[str, Any]:
        """Refuse what no station can take."""
        cleaned = super().clean() or {}
        periods, kind = cleaned.get("periods") or [], cleaned.get("kind")
        starts = [period["start_s"] for period in periods]
        if periods and (starts[0] != 0 or sorted(set(starts)) != starts):
            self.add_error("periods", _("The first line begins at 0, later ones rise."))
        if cleaned.get("purpose") == "TxProfile" and not (
            cleaned.get("evse") and cleaned.get("ref")
        ):
            self.add_error("ref", _("A profile of a session needs its EVSE and transaction."))
        if kind == "Recurring" and not (cleaned.get("recurrency") and cleaned.get("start_at")):
            self.add_error("recurrency", _("Say how often it repeats and when it begins."))
        if kind == "Dynamic" and len(periods) != 1:
            self.add_error("periods", _("A dynamic profile has one line."))
        return cleaned


class ClearChargingProfile(forms.Form):
    """ClearChargingProfile: one by its id, or all that fit; nothing given: all."""

    profile_id = forms.IntegerField(label=_("Profile"), required=False)
    evse = _evse()
    purpose = forms.ChoiceField(
        label=_("What for"), choices=[("", _("any")), *PURPOSES], required=False
    )
    stack_level = forms.IntegerField(label=_("Stack level"), min_value=0, required=False)


class GetChargingProfiles(forms.Form):
    """GetChargingProfiles (2.x); the profiles follow in ReportChargingProfiles."""

    evse = _evse()
    purpose = forms.ChoiceField(
        label=_("What for"),
        choices=[
            ("", _("any")),
            *PURPOSES,
            ("ChargingStationExternalConstraints", _("From outside")),
        ],
        required=False,
    )
    stack_level = forms.IntegerField(label=_("Stack level"), min_value=0, required=False)
    profile_id = forms.IntegerField(label=_("Profile"), required=False)
    source = forms.ChoiceField(
        label=_("Set by"),
        choices=[("", _("anybody")), *[(one, one) for one in ("CSO", "EMS", "SO", "Other")]],
        required=False,
    )
    request_id = hidden_number()


class GetCompositeSchedule(forms.Form):
    """GetCompositeSchedule: what all profiles together mean."""

    evse = _evse()
    duration_s = forms.IntegerField(label=_("Length (s)"), min_value=1, max_value=604_800)
    unit = forms.ChoiceField(label=_("Unit"), choices=[("", _("the station's")), *UNITS],
                             required=False)  # fmt: skip


class UpdateDynamicSchedule(forms.Form):
    """UpdateDynamicSchedule (2.1): a new value for a dynamic profile."""

    profile_id = forms.IntegerField(label=_("Profile"))
    limit = forms.FloatField(label=_("Limit"), required=False)
    setpoint = forms.FloatField(label=_("Setpoint"), required=False)

    def clean(self) -> dict[str, Any]:
        """One of the two is given."""
        cleaned = super().clean() or {}
        if cleaned.get("limit") is None and cleaned.get("setpoint") is None:
            raise ValidationError(_("Give a limit or a setpoint."))
        return cleaned


class UsePriorityCharging(forms.Form):
    """UsePriorityCharging (2.1)."""

    ref = forms.CharField(label=_("Transaction"), max_length=36)
    activate = forms.BooleanField(label=_("Switch on"), required=False)


COMMANDS: dict[str, Spec] = {
    "reserve_now": Spec(
        _("Reserve"), "event_available", ReserveNow, ttl_s=120,
        group=Group.RESERVATION, says=in_all("ReserveNow"),
        expects=("ReservationStatusUpdate",), one_station=True,
    ),
    "cancel_reservation": Spec(
        _("Cancel a reservation"), "event_busy", CancelReservation,
        group=Group.RESERVATION, says=in_all("CancelReservation"), one_station=True,
    ),
    "set_charging_profile": Spec(
        _("Limit the power"), "speed", SetChargingProfile,
        group=Group.SMART, says=in_all("SetChargingProfile"),
    ),
    "clear_charging_profile": Spec(
        _("Remove power limits"), "layers_clear", ClearChargingProfile,
        group=Group.SMART, says=in_all("ClearChargingProfile"),
    ),
    "get_charging_profiles": Spec(
        _("Read power limits"), "layers", GetChargingProfiles,
        group=Group.SMART, says=in_2x("GetChargingProfiles"), expects=("ReportChargingProfiles",),
    ),
    "get_composite_schedule": Spec(
        _("Read the effective schedule"), "stacked_line_chart", GetCompositeSchedule,
        group=Group.SMART, says=in_all("GetCompositeSchedule"),
    ),
    "update_dynamic_schedule": Spec(
        _("Change a dynamic limit"), "tune", UpdateDynamicSchedule,
        group=Group.SMART, says=in_21("UpdateDynamicSchedule"), one_station=True,
    ),
    "use_priority_charging": Spec(
        _("Priority charging"), "priority_high", UsePriorityCharging,
        group=Group.SMART, says=in_21("UsePriorityCharging"), one_station=True,
    ),
}  # fmt: skip
