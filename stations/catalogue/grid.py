"""Grid support of OCPP 2.1 (DER control, frequency reserve), energy transfer and battery swap."""

from django import forms
from django.core.exceptions import ValidationError
from django.utils.translation import gettext_lazy as _

from stations.catalogue.fields import ChoicesField, ObjectField, hidden_number, one_of
from stations.catalogue.spec import Group, Spec, in_21

PERMISSION = "stations.configure_station"
CURVES = (
    "FreqWatt", "HFMustTrip", "HFMayTrip", "HVMustTrip", "HVMomCess", "HVMayTrip", "LFMustTrip",
    "LVMustTrip", "LVMomCess", "LVMayTrip", "PowerMonitoringMustTrip", "VoltVar", "VoltWatt",
    "WattPF", "WattVar",
)  # fmt: skip
# control type → the field of SetDERControl that carries it
CARRIERS = {
    **dict.fromkeys(CURVES, "curve"),
    "EnterService": "enterService",
    "FreqDroop": "freqDroop",
    "FixedPFAbsorb": "fixedPFAbsorb",
    "FixedPFInject": "fixedPFInject",
    "FixedVar": "fixedVar",
    "Gradients": "gradient",
    "LimitMaxDischarge": "limitMaxDischarge",
}
MODES = ("AC_single_phase", "AC_two_phase", "AC_three_phase", "DC", "AC_BPT", "AC_BPT_DER",
         "AC_DER", "DC_BPT", "DC_ACDP", "DC_ACDP_BPT", "WPT")  # fmt: skip


class SetControl(forms.Form):
    """SetDERControl (R04)."""

    control_id = forms.CharField(label=_("Control"), max_length=36, help_text=_("Its id."))
    kind = one_of(_("Type"), sorted(CARRIERS), required=True)
    default = forms.BooleanField(label=_("This is the default control"), required=False)
    settings = ObjectField(
        label=_("Settings"),
        help_text=_("The object of this type as OCPP 2.1 writes it (curve, freqDroop …), as JSON."),
    )


class GetControl(forms.Form):
    """GetDERControl (R05)."""

    control_id = forms.CharField(label=_("Control"), max_length=36, required=False)
    kind = one_of(_("Type"), sorted(CARRIERS))
    default = forms.NullBooleanField(label=_("Default controls"), required=False)
    request_id = hidden_number()

    def clean(self) -> dict[str, object]:
        """A control is named by its id, or by its type and whether it is a default."""
        return _named(super().clean() or {})


class ClearControl(forms.Form):
    """ClearDERControl (R06)."""

    control_id = forms.CharField(label=_("Control"), max_length=36, required=False)
    kind = one_of(_("Type"), sorted(CARRIERS))
    default = forms.BooleanField(label=_("Default controls"), required=False)


def _named(cleaned: dict[str, object]) -> dict[str, object]:
    if cleaned.get("control_id") and cleaned.get("kind"):
        raise ValidationError(_("Give the control's id or a type, not both."))
    return cleaned


class Reserve(forms.Form):
    """AFRRSignal (K21)."""

    signal = forms.IntegerField(label=_("Signal"), help_text=_("As the grid operator sent it."))
    at = forms.DateTimeField(label=_("Sent at"), required=False)


class Transfer(forms.Form):
    """NotifyAllowedEnergyTransfer (Q01)."""

    ref = forms.CharField(label=_("Transaction"), max_length=36)
    modes = ChoicesField(label=_("Allowed"), choices=[(one, one) for one in MODES])


class Swap(forms.Form):
    """RequestBatterySwap (S02)."""

    token_uid = forms.CharField(label=_("Token"), max_length=255)
    token_type = forms.CharField(
        label=_("Token type"), max_length=20, initial="Central", required=False
    )
    request_id = hidden_number()


COMMANDS: dict[str, Spec] = {
    "set_der_control": Spec(
        _("Set a grid control"),
        "electric_meter",
        SetControl,
        PERMISSION,
        group=Group.GRID,
        says=in_21("SetDERControl"),
        danger=True,
    ),
    "get_der_control": Spec(
        _("Read the grid controls"),
        "query_stats",
        GetControl,
        PERMISSION,
        group=Group.GRID,
        says=in_21("GetDERControl"),
        expects=("ReportDERControl",),
    ),
    "clear_der_control": Spec(
        _("Remove grid controls"),
        "power_off",
        ClearControl,
        PERMISSION,
        group=Group.GRID,
        says=in_21("ClearDERControl"),
        danger=True,
    ),
    "afrr_signal": Spec(
        _("Send a frequency reserve signal"),
        "ssid_chart",
        Reserve,
        PERMISSION,
        group=Group.GRID,
        says=in_21("AFRRSignal"),
        ttl_s=10,
    ),
    "allow_energy_transfer": Spec(
        _("Allow energy transfer modes"),
        "swap_vert",
        Transfer,
        PERMISSION,
        group=Group.GRID,
        says=in_21("NotifyAllowedEnergyTransfer"),
        ttl_s=120,
        one_station=True,
    ),
    "request_battery_swap": Spec(
        _("Start a battery swap"),
        "battery_change",
        Swap,
        group=Group.GRID,
        says=in_21("RequestBatterySwap"),
        ttl_s=120,
        one_station=True,
    ),
}
