"""What a station is set to: keys, variables, the device model; and vendor data."""

from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.utils.translation import gettext_lazy as _

from stations.catalogue.fields import KeysField, hidden_number
from stations.catalogue.spec import Group, Spec, in_2x, in_16, in_all

PERMISSION = "stations.configure_station"


class GetConfiguration(forms.Form):
    """GetConfiguration / GetVariables."""

    keys = KeysField(
        label=_("Keys"),
        required=False,
        help_text=_("One a line; Component.Variable in OCPP 2.x. Empty: all (1.6 only)."),
    )


class ChangeConfiguration(forms.Form):
    """ChangeConfiguration / SetVariables."""

    key = forms.CharField(
        label=_("Key"), max_length=110, help_text=_("Component.Variable in OCPP 2.x.")
    )
    value = forms.CharField(label=_("Value"), max_length=2500, required=False)

    def clean(self) -> dict[str, Any]:
        """Keep an empty value: it is a value."""
        cleaned = super().clean() or {}
        if "key" in cleaned and not cleaned["key"].strip("."):
            raise ValidationError(_("Name a key."))
        return cleaned


class GetReport(forms.Form):
    """GetBaseReport (2.x); 1.6 answers with its whole configuration."""

    base = forms.ChoiceField(
        label=_("Report"),
        choices=[
            (name, name) for name in ("FullInventory", "ConfigurationInventory", "SummaryInventory")
        ],
        required=False,
    )
    request_id = hidden_number()


class DataTransfer(forms.Form):
    """DataTransfer."""

    vendor_id = forms.CharField(label=_("Vendor"), max_length=255)
    message_id = forms.CharField(label=_("Message"), max_length=50, required=False)
    data = forms.CharField(  # type: ignore[assignment]  # OCPP's name; Form.data is not touched
        label=_("Data"), required=False, widget=forms.Textarea
    )


COMMANDS: dict[str, Spec] = {
    "get_configuration": Spec(
        _("Read configuration"),
        "tune",
        GetConfiguration,
        PERMISSION,
        group=Group.CONFIGURATION,
        says={**in_16("GetConfiguration"), **in_2x("GetVariables")},
    ),
    "change_configuration": Spec(
        _("Change configuration"),
        "settings",
        ChangeConfiguration,
        PERMISSION,
        group=Group.CONFIGURATION,
        says={**in_16("ChangeConfiguration"), **in_2x("SetVariables")},
    ),
    "get_report": Spec(
        _("Read the device model"),
        "inventory",
        GetReport,
        PERMISSION,
        group=Group.CONFIGURATION,
        says={**in_16("GetConfiguration"), **in_2x("GetBaseReport")},
        expects=("NotifyReport",),
    ),
    "data_transfer": Spec(
        _("Send vendor data"),
        "swap_horiz",
        DataTransfer,
        PERMISSION,
        group=Group.VENDOR,
        says=in_all("DataTransfer"),
    ),
}
