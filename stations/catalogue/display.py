"""What a driver reads at the station: messages, the running cost, and 2.1's tariffs."""

from django import forms
from django.utils.translation import gettext_lazy as _

from stations.catalogue.fields import KeysField, NumbersField, ObjectField, hidden_number, one_of
from stations.catalogue.spec import Group, Spec, in_2x, in_16, in_21

PERMISSION = "stations.configure_station"
PRIORITIES = (
    ("AlwaysFront", _("Always in front")),
    ("InFront", _("In front")),
    ("NormalCycle", _("In turn with others")),
)
STATES = (
    ("Charging", _("Charging")),
    ("Faulted", _("Faulted")),
    ("Idle", _("Idle")),
    ("Unavailable", _("Unavailable")),
    ("Suspended", _("Suspended (2.1)")),
    ("Discharging", _("Discharging (2.1)")),
)
ANY_STATION = _("Empty: the whole station.")


class SetMessage(forms.Form):
    """SetDisplayMessage (O01, O02, O06)."""

    number = forms.IntegerField(
        label=_("Message id"), min_value=0, help_text=_("The same id replaces a message.")
    )
    text = forms.CharField(label=_("Text"), max_length=1024, widget=forms.Textarea)
    format = one_of(_("Format"), ("UTF8", "ASCII", "HTML", "URI", "QRCODE"), initial="UTF8")
    language = forms.CharField(label=_("Language"), max_length=8, required=False)
    priority = one_of(_("Priority"), PRIORITIES, initial="NormalCycle")
    state = one_of(_("While the station is"), STATES)
    starts_at = forms.DateTimeField(label=_("From"), required=False)
    ends_at = forms.DateTimeField(label=_("Until"), required=False)
    ref = forms.CharField(label=_("Only during transaction"), max_length=36, required=False)
    evse = forms.IntegerField(label=_("On the display of EVSE"), min_value=1, required=False)


class GetMessages(forms.Form):
    """GetDisplayMessages (O03, O04)."""

    numbers = NumbersField(label=_("Message ids"), required=False, help_text=_("Empty: all."))
    priority = one_of(_("Priority"), PRIORITIES)
    state = one_of(_("State"), STATES)
    request_id = hidden_number()


class ClearMessage(forms.Form):
    """ClearDisplayMessage (O05)."""

    number = forms.IntegerField(label=_("Message id"), min_value=0)


class Cost(forms.Form):
    """CostUpdated (I02), or RunningCost and FinalCost of the 1.6 cost extension."""

    ref = forms.CharField(label=_("Transaction"), max_length=64)
    total = forms.DecimalField(
        label=_("Cost so far"), max_digits=12, decimal_places=4, help_text=_("With tax.")
    )
    final = forms.BooleanField(label=_("This is the final cost"), required=False)
    text = forms.CharField(
        label=_("Text"), max_length=512, required=False, help_text=_("OCPP 1.6, final cost.")
    )
    energy_wh = forms.IntegerField(required=False, widget=forms.HiddenInput)
    at = forms.DateTimeField(required=False, widget=forms.HiddenInput)
    idle = forms.BooleanField(required=False, widget=forms.HiddenInput)


class UserPrice(forms.Form):
    """SetUserPrice of the 1.6 cost extension: a price text for one token."""

    token_uid = forms.CharField(label=_("Token"), max_length=20)
    text = forms.CharField(label=_("Price"), max_length=512)


class DefaultTariff(forms.Form):
    """SetDefaultTariff (I07)."""

    evse = forms.IntegerField(label=_("EVSE"), min_value=0, required=False, help_text=ANY_STATION)
    tariff = ObjectField(
        label=_("Tariff"), help_text=_("A TariffType as OCPP 2.1 writes it, as JSON.")
    )


class TransactionTariff(forms.Form):
    """ChangeTransactionTariff (I11)."""

    ref = forms.CharField(label=_("Transaction"), max_length=36)
    tariff = ObjectField(
        label=_("Tariff"), help_text=_("A TariffType as OCPP 2.1 writes it, as JSON.")
    )


class ReadTariffs(forms.Form):
    """GetTariffs (I09)."""

    evse = forms.IntegerField(label=_("EVSE"), min_value=0, required=False, help_text=ANY_STATION)


class ClearTariffs(forms.Form):
    """ClearTariffs (I10)."""

    tariffs = KeysField(
        label=_("Tariffs"), required=False, help_text=_("Their ids, one a line. Empty: all.")
    )
    evse = forms.IntegerField(label=_("EVSE"), min_value=0, required=False)


COMMANDS: dict[str, Spec] = {
    "set_display_message": Spec(
        _("Show a message"),
        "sms",
        SetMessage,
        group=Group.DISPLAY,
        says=in_2x("SetDisplayMessage"),
        ttl_s=3_600,
    ),
    "get_display_messages": Spec(
        _("Read the messages"),
        "forum",
        GetMessages,
        group=Group.DISPLAY,
        says=in_2x("GetDisplayMessages"),
        expects=("NotifyDisplayMessages",),
    ),
    "clear_display_message": Spec(
        _("Remove a message"),
        "speaker_notes_off",
        ClearMessage,
        group=Group.DISPLAY,
        says=in_2x("ClearDisplayMessage"),
    ),
    "cost_updated": Spec(
        _("Show the cost"),
        "payments",
        Cost,
        group=Group.DISPLAY,
        says={**in_16("DataTransfer"), **in_2x("CostUpdated")},
        ttl_s=60,
        one_station=True,
    ),
    "set_user_price": Spec(
        _("Show a token's price"),
        "price_check",
        UserPrice,
        group=Group.DISPLAY,
        says=in_16("DataTransfer"),
        ttl_s=60,
    ),
    "set_default_tariff": Spec(
        _("Set the default tariff"),
        "sell",
        DefaultTariff,
        PERMISSION,
        group=Group.DISPLAY,
        says=in_21("SetDefaultTariff"),
        ttl_s=86_400,
    ),
    "change_transaction_tariff": Spec(
        _("Change a transaction's tariff"),
        "currency_exchange",
        TransactionTariff,
        PERMISSION,
        group=Group.DISPLAY,
        says=in_21("ChangeTransactionTariff"),
        one_station=True,
    ),
    "get_tariffs": Spec(
        _("Read the tariffs"),
        "request_quote",
        ReadTariffs,
        group=Group.DISPLAY,
        says=in_21("GetTariffs"),
    ),
    "clear_tariffs": Spec(
        _("Remove tariffs"),
        "money_off",
        ClearTariffs,
        PERMISSION,
        group=Group.DISPLAY,
        says=in_21("ClearTariffs"),
    ),
}
