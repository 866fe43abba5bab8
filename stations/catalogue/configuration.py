"""What a station is set to: keys, variables, the device model; and vendor data."""

from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.utils.translation import gettext_lazy as _

from stations.catalogue.fields import KeysField, evse_field, hidden_number, one_of
from stations.catalogue.spec import Group, Spec, in_2x, in_16, in_21, in_all

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


class NetworkProfile(forms.Form):
    """SetNetworkProfile (B09), without passwords (VPN, APN): an order's row would show them."""

    slot = forms.IntegerField(label=_("Slot"), min_value=1)
    url = forms.CharField(
        label=_("Address"), max_length=512, help_text=_("wss://…/ocpp, without the identity.")
    )
    security_profile = forms.TypedChoiceField(
        label=_("Security profile"),
        choices=[(0, "0"), (1, "1"), (2, "2"), (3, "3")],
        coerce=int,
        empty_value=None,
    )
    interface = one_of(
        _("Interface"),
        (
            "Wired0",
            "Wired1",
            "Wired2",
            "Wired3",
            "Wireless0",
            "Wireless1",
            "Wireless2",
            "Wireless3",
        ),
        initial="Wired0",
    )
    message_timeout_s = forms.IntegerField(
        label=_("Message time-out (s)"), initial=30, min_value=1, required=False
    )
    identity = forms.CharField(
        label=_("Identity"), max_length=48, required=False, help_text=_("OCPP 2.1, if another.")
    )
    apn = forms.CharField(label="APN", max_length=512, required=False)
    apn_authentication = one_of(
        _("APN authentication"), ("NONE", "PAP", "CHAP", "AUTO"), initial="AUTO"
    )


class WebPayment(forms.Form):
    """NotifyWebPaymentStarted (C25): somebody pays by QR code; the station waits for it."""

    evse = evse_field(required=True)
    timeout_s = forms.IntegerField(label=_("For (s)"), min_value=1, initial=120, required=False)


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
    "set_network_profile": Spec(
        _("Set a network profile"),
        "lan",
        NetworkProfile,
        PERMISSION,
        group=Group.CONFIGURATION,
        says=in_2x("SetNetworkProfile"),
        danger=True,
    ),
    "web_payment_started": Spec(
        _("Announce a web payment"),
        "qr_code_2",
        WebPayment,
        group=Group.CHARGING,
        says=in_21("NotifyWebPaymentStarted"),
        ttl_s=30,
        one_station=True,
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
