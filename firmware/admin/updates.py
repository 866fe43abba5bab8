"""Every station's updates, over all campaigns."""

from django.contrib import admin
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy

from firmware import failures
from firmware.admin.looks import job_tone
from firmware.models import (
    UpdateJob,
)
from stations.admin.base import Facts, StaffAdmin, ago, chip, described


@admin.register(UpdateJob)
class UpdateJobAdmin(Facts, StaffAdmin):
    """Every station's updates, over all campaigns."""

    site_path = "station__site"
    live = "fleet"
    list_display = ("station", "campaign", "state_chip", "version_before", "target", "finished")
    list_filter = ("state", "campaign")
    search_fields = ("station__identity", "campaign__name")
    list_select_related = ("station", "campaign", "image")
    export_fields = (
        "station__identity",
        "campaign__name",
        "state",
        "failure",
        "version_before",
        "image__version",
        "attempt",
        "finished_at",
    )

    @described(gettext_lazy("state"), order="state")
    def state_chip(self, job: UpdateJob) -> SafeString:
        """State in colour and words."""
        said = chip(job.get_state_display(), job_tone(job.state))
        if not job.failure:
            return said
        return format_html(
            '<span class="stack">{}<span class="quiet">{}</span></span>',
            said,
            failures.words(job.failure),
        )

    @described(gettext_lazy("target"), order="image__version")
    def target(self, job: UpdateJob) -> str:
        """The version it goes to."""
        return job.image.version

    @described(gettext_lazy("finished"), order="finished_at")
    def finished(self, job: UpdateJob) -> SafeString:
        """When it ended."""
        return ago(job.finished_at)
