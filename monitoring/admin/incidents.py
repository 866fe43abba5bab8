"""Incidents in the back office: the inbox."""

from django.contrib import admin
from django.utils.translation import gettext_lazy

from monitoring.models import Incident
from stations.admin.base import Facts, StaffAdmin, ago, chip, described


@admin.register(Incident)
class IncidentAdmin(Facts, StaffAdmin):
    """Every incident, the gravest open one first."""

    site_path = "site"
    live = "incidents"
    list_display = ("severity_chip", "summary", "state", "opened")
    list_display_links = ("summary",)
    list_select_related = ("site", "station")
    list_filter = ("state", "severity", "family")
    search_fields = ("summary", "station__identity")

    @described(gettext_lazy("severity"), order="severity")
    def severity_chip(self, incident: Incident) -> str:
        """How much it matters."""
        return chip(incident.get_severity_display())

    @described(gettext_lazy("opened"), order="opened_at")
    def opened(self, incident: Incident) -> str:
        """When it began."""
        return ago(incident.opened_at)
