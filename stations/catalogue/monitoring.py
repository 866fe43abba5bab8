"""What a 2.x station watches and reports: monitors, reports, event streams, customer data."""

from django import forms
from django.core.exceptions import ValidationError
from django.utils.translation import gettext_lazy as _

from stations.catalogue.fields import (
    ChoicesField,
    KeysField,
    NumbersField,
    hidden_number,
    one_of,
)
from stations.catalogue.spec import Group, Spec, in_2x, in_21

PERMISSION = "stations.configure_station"
SEVERITIES = [
    (0, _("0 · danger")),
    (1, _("1 · hardware failure")),
    (2, _("2 · system failure")),
    (3, _("3 · critical")),
    (4, _("4 · error")),
    (5, _("5 · alert")),
    (6, _("6 · warning")),
    (7, _("7 · notice")),
    (8, _("8 · informational")),
    (9, _("9 · debug")),
]


def severity_field(**more: object) -> forms.TypedChoiceField:
    """Return the field for a severity, 0 (danger) to 9 (debug)."""
    return forms.TypedChoiceField(label=_("Severity"), choices=SEVERITIES, coerce=int, **more)  # type: ignore[arg-type]


class CustomReport(forms.Form):
    """GetReport (B08)."""

    variables = KeysField(
        label=_("Variables"),
        required=False,
        help_text=_("Component or Component.Variable, one a line. Empty: all that fit."),
    )
    criteria = ChoicesField(
        label=_("Components that are"),
        required=False,
        choices=[(one, one) for one in ("Active", "Available", "Enabled", "Problem")],
    )
    request_id = hidden_number()


class MonitoringReport(forms.Form):
    """GetMonitoringReport (N02)."""

    variables = KeysField(
        label=_("Variables"),
        required=False,
        help_text=_("Component or Component.Variable, one a line. Empty: all."),
    )
    criteria = ChoicesField(
        label=_("Monitors"),
        required=False,
        choices=[
            ("ThresholdMonitoring", _("Thresholds")),
            ("DeltaMonitoring", _("Changes")),
            ("PeriodicMonitoring", _("Periodic")),
        ],
    )
    request_id = hidden_number()


class MonitoringBase(forms.Form):
    """SetMonitoringBase (N03)."""

    base = one_of(
        _("Monitors to activate"),
        [
            ("All", _("All preconfigured")),
            ("FactoryDefault", _("Factory default")),
            ("HardWiredOnly", _("Hard-wired only")),
        ],
        required=True,
    )


class MonitoringLevel(forms.Form):
    """SetMonitoringLevel (N05): events of this severity and graver are reported."""

    severity = severity_field(initial=5)


class SetMonitor(forms.Form):
    """SetVariableMonitoring (N04); 2.1 may stream what it sees."""

    variable = forms.CharField(
        label=_("Variable"), max_length=220, help_text=_("Component.Variable")
    )
    type = one_of(
        _("Report when"),
        [
            ("UpperThreshold", _("above the value")),
            ("LowerThreshold", _("below the value")),
            ("Delta", _("it changes by the value")),
            ("Periodic", _("every so many seconds")),
            ("PeriodicClockAligned", _("every so many seconds, from midnight on")),
            ("TargetDelta", _("it differs from its target by the value (2.1)")),
            ("TargetDeltaRelative", _("it differs from its target by so many percent (2.1)")),
        ],
        required=True,
    )
    value = forms.FloatField(label=_("Value"))
    severity = severity_field(initial=8)
    transaction = forms.BooleanField(label=_("Only during transactions"), required=False)
    number = forms.IntegerField(
        label=_("Monitor"), required=False, help_text=_("Its id, to replace one. Empty: a new one.")
    )
    stream_interval_s = forms.IntegerField(
        label=_("Stream every (s)"), min_value=0, required=False, help_text=_("OCPP 2.1.")
    )
    stream_values = forms.IntegerField(
        label=_("Values a frame"), min_value=1, required=False, help_text=_("OCPP 2.1.")
    )


class Numbers(forms.Form):
    """ClearVariableMonitoring (N06)."""

    numbers = NumbersField(label=_("Monitors"), help_text=_("Their ids, one a line."))


class CustomerInformation(forms.Form):
    """CustomerInformation (N09, N10): by token or by the customer's identifier."""

    token_uid = forms.CharField(label=_("Token"), max_length=36, required=False)
    token_type = one_of(
        _("Token type"),
        ("ISO14443", "ISO15693", "eMAID", "Central", "KeyCode", "Local", "MacAddress"),
    )
    customer = forms.CharField(label=_("Customer"), max_length=64, required=False)
    report = forms.BooleanField(label=_("Tell what is known"), required=False)
    clear = forms.BooleanField(label=_("Delete it on the station"), required=False)
    request_id = hidden_number()

    def clean(self) -> dict[str, object]:
        """One of the two names somebody; something must be asked for."""
        cleaned = super().clean() or {}
        if bool(cleaned.get("token_uid")) == bool(cleaned.get("customer")):
            raise ValidationError(_("Give a token or a customer, one of them."))
        if not (cleaned.get("report") or cleaned.get("clear")):
            raise ValidationError(_("Choose to be told, to delete, or both."))
        return cleaned


class AdjustStream(forms.Form):
    """AdjustPeriodicEventStream (N14)."""

    number = forms.IntegerField(label=_("Stream"), min_value=0)
    interval_s = forms.IntegerField(label=_("Every (s)"), min_value=0, required=False)
    values = forms.IntegerField(label=_("Values a frame"), min_value=1, required=False)


COMMANDS: dict[str, Spec] = {
    "get_custom_report": Spec(
        _("Read some variables"),
        "manage_search",
        CustomReport,
        PERMISSION,
        group=Group.CONFIGURATION,
        says=in_2x("GetReport"),
        expects=("NotifyReport",),
    ),
    "get_monitoring_report": Spec(
        _("Read the monitors"),
        "troubleshoot",
        MonitoringReport,
        PERMISSION,
        group=Group.MONITORING,
        says=in_2x("GetMonitoringReport"),
        expects=("NotifyMonitoringReport",),
    ),
    "set_monitoring_base": Spec(
        _("Set the monitoring base"),
        "rule_settings",
        MonitoringBase,
        PERMISSION,
        group=Group.MONITORING,
        says=in_2x("SetMonitoringBase"),
    ),
    "set_monitoring_level": Spec(
        _("Set the monitoring level"),
        "filter_alt",
        MonitoringLevel,
        PERMISSION,
        group=Group.MONITORING,
        says=in_2x("SetMonitoringLevel"),
    ),
    "set_monitor": Spec(
        _("Set a monitor"),
        "add_alert",
        SetMonitor,
        PERMISSION,
        group=Group.MONITORING,
        says=in_2x("SetVariableMonitoring"),
    ),
    "clear_monitors": Spec(
        _("Remove monitors"),
        "notifications_off",
        Numbers,
        PERMISSION,
        group=Group.MONITORING,
        says=in_2x("ClearVariableMonitoring"),
    ),
    "get_streams": Spec(
        _("Read the event streams"),
        "stream",
        permission=PERMISSION,
        group=Group.MONITORING,
        says=in_21("GetPeriodicEventStream"),
    ),
    "adjust_stream": Spec(
        _("Adjust an event stream"),
        "tune",
        AdjustStream,
        PERMISSION,
        group=Group.MONITORING,
        says=in_21("AdjustPeriodicEventStream"),
    ),
    "customer_information": Spec(
        _("Customer data on the station"),
        "person_search",
        CustomerInformation,
        PERMISSION,
        group=Group.TOKENS,
        says=in_2x("CustomerInformation"),
        expects=("NotifyCustomerInformation",),
    ),
}
