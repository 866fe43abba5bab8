"""Starting, stopping, unlocking; and the station as a whole: in and out of service, restarts."""

from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

from stations.catalogue.fields import connector_field, evse_field, hidden_number
from stations.catalogue.spec import Group, Spec, in_2x, in_16, in_all


class RemoteStart(forms.Form):
    """RequestStartTransaction / RemoteStartTransaction."""

    evse = evse_field(required=True)
    token_uid = forms.CharField(label=_("Token"), max_length=36)
    token_type = forms.CharField(max_length=20, required=False, widget=forms.HiddenInput)
    remote_start_id = hidden_number()


class RemoteStop(forms.Form):
    """RequestStopTransaction / RemoteStopTransaction."""

    ref = forms.CharField(
        label=_("Transaction"), max_length=64, help_text=_("The charger's transaction id.")
    )


class TransactionStatus(forms.Form):
    """GetTransactionStatus."""

    ref = forms.CharField(
        label=_("Transaction"),
        max_length=36,
        required=False,
        help_text=_("Empty: whether any messages of transactions still wait at the station."),
    )


class Unlock(forms.Form):
    """UnlockConnector."""

    evse = evse_field(required=True)
    connector = connector_field()


class Reset(forms.Form):
    """Reset: hard is 1.6 Hard / 2.x Immediate; otherwise 1.6 Soft / 2.x OnIdle."""

    hard = forms.BooleanField(label=_("At once, ending running sessions"), required=False)
    evse = evse_field()


class Availability(forms.Form):
    """ChangeAvailability."""

    operative = forms.TypedChoiceField(
        label=_("Set to"),
        choices=[("true", _("In service")), ("false", _("Out of service"))],
        coerce=lambda value: str(value).lower() == "true",
        empty_value=None,
    )
    evse = evse_field()
    connector = connector_field()

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
    evse = evse_field()


COMMANDS: dict[str, Spec] = {
    "remote_start": Spec(
        _("Start charging"),
        "play_arrow",
        RemoteStart,
        ttl_s=120,
        group=Group.CHARGING,
        says={**in_16("RemoteStartTransaction"), **in_2x("RequestStartTransaction")},
        one_station=True,
    ),
    "remote_stop": Spec(
        _("Stop charging"),
        "stop",
        RemoteStop,
        group=Group.CHARGING,
        says={**in_16("RemoteStopTransaction"), **in_2x("RequestStopTransaction")},
        one_station=True,
    ),
    "unlock": Spec(
        _("Unlock connector"),
        "lock_open",
        Unlock,
        group=Group.CHARGING,
        says=in_all("UnlockConnector"),
    ),
    "reset": Spec(_("Restart"), "restart_alt", Reset, danger=True, says=in_all("Reset")),
    "change_availability": Spec(
        _("Take in or out of service"),
        "block",
        Availability,
        says=in_all("ChangeAvailability"),
    ),
    "trigger_message": Spec(
        _("Ask for a message"),
        "campaign",
        Trigger,
        says={
            **in_16("TriggerMessage", "ExtendedTriggerMessage"),
            **in_2x("TriggerMessage"),
        },
    ),
    "get_transaction_status": Spec(
        _("Ask how a transaction is doing"),
        "pending_actions",
        TransactionStatus,
        group=Group.CHARGING,
        says=in_2x("GetTransactionStatus"),
        one_station=True,
    ),
}
