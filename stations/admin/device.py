"""What stations are to be set to, and what they told they hold."""

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied, ValidationError
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from stations import configuration, provisioning
from stations.admin.base import Facts, StaffAdmin, described, in_scope
from stations.admin.filters import StationSiteFilter
from stations.admin.timeline import sentence
from stations.looks import plain
from stations.models import ConfigurationTemplate, Entry, Holding, Station


class TemplateForm(forms.ModelForm):  # type: ignore[type-arg]
    """A template; its values are checked to be what a station can be told."""

    class Meta:
        model = ConfigurationTemplate
        fields = "__all__"  # noqa: DJ007  every field is for staff

    def clean_values(self) -> dict[str, str]:
        """Texts by key, without passwords."""
        values = self.cleaned_data["values"]
        if not isinstance(values, dict) or not values:
            raise ValidationError(_('Give key and value pairs, e.g. {"HeartbeatInterval": "300"}.'))
        for key, value in values.items():
            if configuration.is_secret(key):
                raise ValidationError(_("A password is set on a station's page, not for many."))
            if not isinstance(value, str | int | float):
                raise ValidationError(_("The value of %(key)s must be a text.") % {"key": key})
        return {key.strip(): _text(value) for key, value in values.items()}


def _text(value: str | float) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


@admin.register(ConfigurationTemplate)
class ConfigurationTemplateAdmin(StaffAdmin):
    """What makes of stations are wanted to be set to."""

    form = TemplateForm
    list_display = ("name", "vendor", "model_pattern", "version", "keys", "active", "push")
    list_filter = ("active", "push", "version")
    search_fields = ("name", "vendor", "model_pattern")

    @described(gettext_lazy("values"))
    def keys(self, template: ConfigurationTemplate) -> str:
        """Which keys it sets."""
        return ", ".join(template.values)[:120]


@admin.register(Holding)
class HoldingAdmin(Facts, StaffAdmin):
    """Monitors, display messages, tariffs, grid controls … of all stations."""

    site_path = "station__site"
    list_display = ("station", "kind", "key", "label", "told_at")
    list_display_links = ("key",)
    list_filter = (StationSiteFilter, "kind")
    list_select_related = ("station",)
    search_fields = ("station__identity", "key", "label")
    empty_title = gettext_lazy("No station told anything yet")
    empty_text = gettext_lazy("Ask one under Actions: monitors, messages, tariffs, grid controls.")

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Customer information can be deleted here; the rest is the station's to give up."""
        user: Any = request.user
        return bool(user.has_perm("stations.configure_station"))


def push_view(request: HttpRequest, object_id: str) -> HttpResponse:
    """Push what differs to one station: one POST."""
    user: Any = request.user
    if request.method != "POST" or not user.has_perm("stations.configure_station"):
        raise PermissionDenied
    station = get_object_or_404(in_scope(Station.objects.all(), request, "site"), pk=object_id)
    sent = len(provisioning.push(station, by=user))
    if sent:
        text = ngettext("%(n)d change was ordered.", "%(n)d changes were ordered.", sent)
        messages.success(request, text % {"n": sent})
    else:
        messages.info(request, _("Nothing differs, or it is under way."))
    page = reverse("admin:stations_station_change", args=[station.pk])
    return HttpResponseRedirect(f"{page}?tab=configuration")


# --- news ---------------------------------------------------------------------------------------


@sentence("monitors.reported", icon="troubleshoot")
def _monitors(news: Entry) -> str:
    return _("Monitors read: %(n)s") % {"n": news.data.get("monitors", "?")}


@sentence("display.reported", icon="forum")
def _messages(news: Entry) -> str:
    return _("Display messages read: %(n)s") % {"n": news.data.get("messages", "?")}


@sentence("configuration.pushed", icon="publish")
def _pushed(news: Entry) -> str:
    return _("Configuration pushed: %(keys)s") % {"keys": ", ".join(news.data.get("keys", []))}


@sentence("configuration.push_stopped", icon="error", tone="red")
def _push_stopped(news: Entry) -> str:
    return _("Kept restarting after a push: nothing is pushed by itself any more")


@sentence("configuration.push_resumed", icon="publish")
def _push_resumed(news: Entry) -> str:
    return _("Pushing goes on")


@sentence("network.profile_set", icon="lan", tone="amber")
def _network(news: Entry) -> str:
    return _("Network profile %(slot)s set to %(url)s") % {
        "slot": news.data.get("slot", "?"),
        "url": news.data.get("url", "?"),
    }


@sentence("stream.opened", icon="stream")
def _opened(news: Entry) -> str:
    return _("Event stream %(stream)s opened") % {"stream": news.data.get("stream", "?")}


@sentence("stream.closed", icon="stream")
def _stream_closed(news: Entry) -> str:
    return _("Event stream %(stream)s closed") % {"stream": news.data.get("stream", "?")}


@sentence("grid.alarm_reported", icon="bolt", tone="red")
def _alarm(news: Entry) -> str:
    data = news.data
    words = {"kind": data.get("kind", "?"), "fault": plain(data.get("fault") or "")}
    if data.get("ended"):
        return _("Grid alarm over: %(kind)s %(fault)s") % words
    return _("Grid alarm: %(kind)s %(fault)s") % words


@sentence("grid.control_started", icon="electric_meter", tone="amber")
def _control_started(news: Entry) -> str:
    return _("Grid control %(id)s began") % {"id": news.data.get("control", "?")}


@sentence("grid.control_stopped", icon="electric_meter")
def _control_stopped(news: Entry) -> str:
    return _("Grid control %(id)s ended") % {"id": news.data.get("control", "?")}


@sentence("grid.controls_reported", icon="electric_meter")
def _controls(news: Entry) -> str:
    return _("Grid controls read: %(n)s") % {"n": news.data.get("controls", "?")}


@sentence("battery.swapped", icon="battery_change")
def _swapped(news: Entry) -> str:
    data = news.data
    words = {"which": ", ".join(data.get("batteries", [])), "token": data.get("token_uid", "")}
    text = {
        "BatteryIn": _("Batteries in: %(which)s (%(token)s)"),
        "BatteryOut": _("Batteries out: %(which)s (%(token)s)"),
    }.get(str(data.get("event")), _("Battery was not taken: %(which)s (%(token)s)"))
    return text % words


@sentence("terminal.settled", icon="point_of_sale")
def _settled(news: Entry) -> str:
    data = news.data
    return _("Terminal: %(amount)s %(status)s, transaction %(ref)s, %(psp)s") % {
        "amount": data.get("amount", "?"),
        "status": plain(str(data.get("status", "?"))),
        "ref": data.get("ref") or "–",
        "psp": data.get("psp_ref", ""),
    }


@sentence("vat.asked", icon="receipt_long")
def _vat(news: Entry) -> str:
    data = news.data
    if data.get("valid"):
        return _("VAT number %(number)s accepted") % {"number": data.get("number", "")}
    return _("VAT number %(number)s refused") % {"number": data.get("number", "")}


@sentence("firmware.publish_reported", icon="publish")
def _published(news: Entry) -> str:
    return _("Firmware for others: %(status)s") % {"status": plain(news.data.get("status", "?"))}
