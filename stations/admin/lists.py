"""The lists of tokens that stations hold themselves, in the back office."""

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from stations import locallist
from stations.admin.base import StaffAdmin, ago, chip, described
from stations.admin.filters import StationSiteFilter
from stations.models import LocalList


@admin.register(LocalList)
class LocalListAdmin(StaffAdmin):
    """Which stations keep tokens for when they are offline, and how far that is."""

    site_path = "station__site"
    list_display = ("station", "state", "entries", "left_out", "version", "since")
    list_filter = ("wanted", StationSiteFilter)
    list_select_related = ("station",)
    search_fields = ("station__identity", "station__name")
    autocomplete_fields = ("station",)
    readonly_fields = ("state", "entries", "left_out", "version", "synced_at", "error")
    actions = ("send_whole",)
    fieldsets = (
        (None, {"fields": (("station", "wanted"),)}),
        (
            gettext_lazy("On the station"),
            {"fields": (("state", "version"), ("entries", "left_out"), ("synced_at", "error"))},
        ),
    )
    empty_title = gettext_lazy("No station keeps a list yet")
    empty_text = gettext_lazy(
        "Add a station: it then knows its drivers' tokens also while it is offline."
    )

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        """A list stays its station's."""
        own = super().get_readonly_fields(request, obj)
        return own if obj is None else (*own, "station")

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """A list is switched off, so that it is emptied on the station too."""
        return False

    @described(gettext_lazy("state"))
    def state(self, row: LocalList) -> str:
        """How far the station's list is."""
        if row.error:
            return chip(_("Refused: %(why)s") % {"why": row.error[:40]}, "red")
        if row.version is None:
            return chip(_("To be sent whole"), "amber")
        if not row.wanted:
            return chip(_("Switched off"))
        if row.synced_at is None:
            return chip(_("Being sent"), "blue")
        return chip(_("Complete"), "green")

    @described(gettext_lazy("complete since"), order="synced_at")
    def since(self, row: LocalList) -> str:
        """When it was last found complete."""
        return ago(row.synced_at, _("never"))

    @admin.action(description=gettext_lazy("Send whole again"), permissions=["change"])
    def send_whole(self, request: HttpRequest, queryset: "QuerySet[Any]") -> None:
        """Forget what the stations hold, and send everything."""
        done = locallist.resend(queryset)
        self.message_user(request, _("%(n)d lists are sent whole.") % {"n": done})
