"""Firmware and logs."""

from django import forms
from django.utils.translation import gettext_lazy as _

from stations.catalogue.fields import hidden_number
from stations.catalogue.spec import Group, Spec, in_2x, in_16


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
    request_id = hidden_number()


class UpdateFirmware(forms.Form):
    """UpdateFirmware / SignedUpdateFirmware (2.x: with certificate and signature)."""

    location = forms.CharField(label=_("Download from"), max_length=512)
    retrieve_at = forms.DateTimeField(label=_("Download at"), required=False)
    install_at = forms.DateTimeField(label=_("Install at"), required=False)
    retries = forms.IntegerField(label=_("Retries"), min_value=0, required=False)
    retry_interval_s = forms.IntegerField(label=_("Retry after (s)"), min_value=0, required=False)
    request_id = hidden_number()
    certificate = forms.CharField(max_length=5500, required=False, widget=forms.Textarea)
    signature = forms.CharField(max_length=800, required=False, widget=forms.Textarea)


class PublishFirmware(forms.Form):
    """PublishFirmware (L03): a local controller fetches it once for its stations."""

    location = forms.CharField(label=_("Download from"), max_length=512)
    checksum = forms.RegexField(
        r"^[0-9a-fA-F]{32}$", label=_("MD5 checksum"), help_text=_("32 hexadecimal digits.")
    )
    retries = forms.IntegerField(label=_("Retries"), min_value=0, required=False)
    retry_interval_s = forms.IntegerField(label=_("Retry after (s)"), min_value=0, required=False)
    request_id = hidden_number()


class UnpublishFirmware(forms.Form):
    """UnpublishFirmware (L04)."""

    checksum = forms.RegexField(r"^[0-9a-fA-F]{32}$", label=_("MD5 checksum"))


COMMANDS: dict[str, Spec] = {
    "get_log": Spec(
        _("Fetch a log"),
        "description",
        GetLog,
        ttl_s=86_400,
        group=Group.FIRMWARE,
        says={**in_16("GetDiagnostics", "GetLog"), **in_2x("GetLog")},
        expects=("LogStatusNotification", "DiagnosticsStatusNotification"),
    ),
    "update_firmware": Spec(
        _("Update firmware"),
        "system_update",
        UpdateFirmware,
        "stations.update_firmware",
        danger=True,
        ttl_s=3_600,
        group=Group.FIRMWARE,
        says={**in_16("UpdateFirmware", "SignedUpdateFirmware"), **in_2x("UpdateFirmware")},
        expects=("FirmwareStatusNotification", "SignedFirmwareStatusNotification"),
    ),
    "publish_firmware": Spec(
        _("Publish firmware locally"),
        "publish",
        PublishFirmware,
        "stations.update_firmware",
        group=Group.FIRMWARE,
        says=in_2x("PublishFirmware"),
        expects=("PublishFirmwareStatusNotification",),
    ),
    "unpublish_firmware": Spec(
        _("Unpublish firmware"),
        "unpublished",
        UnpublishFirmware,
        "stations.update_firmware",
        group=Group.FIRMWARE,
        says=in_2x("UnpublishFirmware"),
    ),
}
