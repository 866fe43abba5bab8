"""Tokens on the station: its cache, and the list it holds itself for when it is offline."""

from django import forms
from django.utils.translation import gettext_lazy as _

from stations.catalogue.fields import ObjectField
from stations.catalogue.spec import Group, Spec, in_all


class SendLocalList(forms.Form):
    """SendLocalList. The product keeps lists by itself (`stations/locallist.py`)."""

    version = forms.IntegerField(label=_("List version"), min_value=1)
    full = forms.BooleanField(label=_("Replace the whole list"), required=False)
    tokens = ObjectField(
        label=_("Tokens"),
        many=True,
        required=False,
        help_text=_(
            "uid, type and info: status, expiry and group. Without info the token is removed."
        ),
    )


COMMANDS: dict[str, Spec] = {
    "clear_cache": Spec(
        _("Clear the token cache"),
        "delete_sweep",
        group=Group.TOKENS,
        says=in_all("ClearCache"),
    ),
    "send_local_list": Spec(
        _("Send tokens to the station"),
        "playlist_add",
        SendLocalList,
        "stations.configure_station",
        group=Group.TOKENS,
        says=in_all("SendLocalList"),
        one_station=True,
    ),
    "get_local_list_version": Spec(
        _("Ask for the version of the token list"),
        "playlist_add_check",
        group=Group.TOKENS,
        says=in_all("GetLocalListVersion"),
    ),
}
