"""The forms of the commands: what each order needs, for dialogs, the command line and code."""

from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.utils.translation import gettext_lazy as _


class KeysField(forms.CharField):
    """A list of texts: one a line or comma-separated in a form, a list in code and JSON."""

    widget = forms.Textarea

    def to_python(self, value: Any) -> Any:
        """Return list[str]."""
        if isinstance(value, list | tuple):
            return [str(one).strip() for one in value if str(one).strip()]
        text = super().to_python(value) or ""
        return [one.strip() for one in text.replace(",", "\n").splitlines() if one.strip()]


def _evse(required: bool = False) -> forms.IntegerField:
    return forms.IntegerField(
        label=_("EVSE"),
        min_value=1,
        required=required,
        help_text=_("In OCPP 1.6 the connector's number.")
        if required
        else _("Empty: the station."),
    )


class RemoteStart(forms.Form):
    """RequestStartTransaction / RemoteStartTransaction."""

    evse = _evse(required=True)
    token_uid = forms.CharField(label=_("Token"), max_length=36)
    token_type = forms.CharField(max_length=20, required=False, widget=forms.HiddenInput)
    remote_start_id = forms.IntegerField(required=False, widget=forms.HiddenInput)


class RemoteStop(forms.Form):
    """RequestStopTransaction / RemoteStopTransaction."""

    ref = forms.CharField(
        label=_("Transaction"), max_length=64, help_text=_("The charger's transaction id.")
    )


class Unlock(forms.Form):
    """UnlockConnector."""

    evse = _evse(required=True)
    connector = forms.IntegerField(label=_("Connector"), min_value=1, required=False)


class Reset(forms.Form):
    """Reset: hard is 1.6 Hard / 2.x Immediate; otherwise 1.6 Soft / 2.x OnIdle."""

    hard = forms.BooleanField(label=_("At once, ending running sessions"), required=False)
    evse = _evse()


class Availability(forms.Form):
    """ChangeAvailability."""

    operative = forms.TypedChoiceField(
        label=_("Set to"),
        choices=[("true", _("In service")), ("false", _("Out of service"))],
        coerce=lambda value: str(value).lower() == "true",
        empty_value=None,
    )
    evse = _evse()
    connector = forms.IntegerField(label=_("Connector"), min_value=1, required=False)

    def __init__(self, data: dict[str, Any] | None = None, **kwargs: Any) -> None:
        if data is not None and isinstance(data.get("operative"), bool):
            data = {**data, "operative": str(data["operative"]).lower()}
        super().__init__(data, **kwargs)


class Trigger(forms.Form):
    """TriggerMessage (1.6 names; 2.x names that differ are mapped by the dialect)."""

    message = forms.ChoiceField(
        label=_("Message"),
        choices=[
            (name, name)
            for name in (
                "BootNotification",
                "Heartbeat",
                "StatusNotification",
                "MeterValues",
                "FirmwareStatusNotification",
                "LogStatusNotification",
                "DiagnosticsStatusNotification",
                "TransactionEvent",
                "SignChargingStationCertificate",
            )
        ],
    )
    evse = _evse()


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
    request_id = forms.IntegerField(required=False, widget=forms.HiddenInput)


class GetLog(forms.Form):
    """GetLog / GetDiagnostics. Without a location the product's own upload door is used."""

    log_type = forms.ChoiceField(
        label=_("Log"),
        choices=[("DiagnosticsLog", _("Diagnostics")), ("SecurityLog", _("Security"))],
        required=False,
    )
    location = forms.CharField(label=_("Upload to"), max_length=512, required=False)
    since = forms.DateTimeField(label=_("From"), required=False)
    until = forms.DateTimeField(label=_("To"), required=False)
    request_id = forms.IntegerField(required=False, widget=forms.HiddenInput)


class UpdateFirmware(forms.Form):
    """UpdateFirmware / SignedUpdateFirmware (2.x: with certificate and signature)."""

    location = forms.CharField(label=_("Download from"), max_length=512)
    retrieve_at = forms.DateTimeField(label=_("Download at"), required=False)
    install_at = forms.DateTimeField(label=_("Install at"), required=False)
    retries = forms.IntegerField(label=_("Retries"), min_value=0, required=False)
    retry_interval_s = forms.IntegerField(label=_("Retry after (s)"), min_value=0, required=False)
    request_id = forms.IntegerField(required=False, widget=forms.HiddenInput)
    certificate = forms.CharField(max_length=5500, required=False, widget=forms.Textarea)
    signature = forms.CharField(max_length=800, required=False, widget=forms.Textarea)


class DataTransfer(forms.Form):
    """DataTransfer."""

    vendor_id = forms.CharField(label=_("Vendor"), max_length=255)
    message_id = forms.CharField(label=_("Message"), max_length=50, required=False)
    data = forms.CharField(  # type: ignore[assignment]  # OCPP's name; Form.data is not touched
        label=_("Data"), required=False, widget=forms.Textarea
    )
