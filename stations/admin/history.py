"""The journal: who did what, when. Read only, for everyone."""

from typing import Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.utils.translation import gettext_lazy as _
from unfold.contrib.filters.admin import DropdownFilter

from stations.admin import timeline
from stations.admin.base import Facts, StaffAdmin, described, moment
from stations.models import Entry


class TopicFilter(DropdownFilter):  # type: ignore[misc]  # unfold ships no types
    """By what it is about."""

    title = _("about")
    parameter_name = "topic"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        """Return the timeline's topics."""
        return [(key, label) for key, (label, _prefixes) in timeline.TOPICS.items()]

    def queryset(self, request: HttpRequest, rows: Any) -> Any:
        """Keep the entries of the topic."""
        return timeline.about(rows, self.value() or "")


@admin.register(Entry)
class EntryAdmin(Facts, StaffAdmin):
    """News, timeline and audit trail."""

    site_path = "station__site"
    list_display = ("when", "what", "where", "actor", "kind")
    list_display_links = ("when",)
    list_filter = (TopicFilter,)
    list_select_related = ("station", "actor")
    search_fields = ("subject", "kind", "station__identity", "actor__email")
    search_help_text = _("Subject (session-17), kind, station or e-mail")
    export_fields = ("id", "at", "kind", "station__identity", "subject", "actor__email", "data")
    empty_title = _("Nothing happened yet")
    empty_text = _("Everything chargers, drivers and staff do is told here, and stays.")

    @described(_("when"), order="id")
    def when(self, entry: Entry) -> str:
        """The moment."""
        return moment(entry.at, "long")

    @described(_("what"))
    def what(self, entry: Entry) -> Any:
        """The sentence."""
        return timeline.told(entry).text

    @described(_("station"), order="station__identity")
    def where(self, entry: Entry) -> str:
        """The station's identity."""
        return entry.station.identity if entry.station else "–"

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        """Show one entry with everything it carries."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        rows = self.get_queryset(request).select_related("station", "actor")
        entry = get_object_or_404(rows, pk=object_id)
        context = {
            **self.admin_site.each_context(request),
            "title": entry.kind,
            "opts": self.opts,
            "entry": entry,
            "line": timeline.told(entry),
        }
        return render(request, "admin/stations/entry.html", context)
