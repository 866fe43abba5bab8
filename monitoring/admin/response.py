"""Who is told, what is kept quiet, what is planned, and what mends by itself."""

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from unfold.contrib.filters.admin import ChoicesDropdownFilter
from unfold.widgets import UnfoldAdminSelectWidget

from monitoring import notices
from monitoring.admin.incidents import ALERT_TONES, RUN_TONES
from monitoring.admin.looks import playbook_words, rule_choices, rule_words, severity_chip
from monitoring.models import (
    Alert,
    Contact,
    Exclusion,
    FaultCode,
    MaintenanceWindow,
    Notice,
    PlaybookRun,
    PlaybookSetting,
    RuleSetting,
    Silence,
)
from monitoring.playbooks import PLAYBOOKS
from stations.admin.base import Facts, StaffAdmin, described
from stations.looks import ago, chip, moment

NOTICE_TONES = {"queued": "blue", "sending": "blue", "sent": "green", "failed": "red"}


def _choices(form: Any, field: str, pairs: list[tuple[str, str]]) -> Any:
    """Offer a list where the column is a plain word."""
    form.base_fields[field] = forms.ChoiceField(
        label=form.base_fields[field].label,
        choices=pairs,
        required=form.base_fields[field].required,
        widget=UnfoldAdminSelectWidget,
    )
    return form


@described(gettext_lazy("rule"), order="rule")
def _rule(_admin: Any, row: Any) -> str:
    """The rule in words."""
    return rule_words(row.rule) if row.rule else _("Every rule")


@described(gettext_lazy("playbook"), order="playbook")
def _playbook(_admin: Any, row: Any) -> str:
    """The playbook in words."""
    return playbook_words(row.playbook)


@admin.register(Alert)
class AlertAdmin(Facts, StaffAdmin):
    """Every condition a rule has found, open or not."""

    site_path = "site"
    live = "incidents"
    list_display = ("summary", "rule_said", "severity_chip", "state_chip", "begun", "suppressed")
    list_display_links = ("summary",)
    list_filter = (("state", ChoicesDropdownFilter), ("severity", ChoicesDropdownFilter))
    search_fields = ("summary", "station__identity", "rule")

    rule_said = _rule

    @described(gettext_lazy("severity"), order="severity")
    def severity_chip(self, alert: Alert) -> str:
        """How much it matters."""
        return severity_chip(alert.severity)

    @described(gettext_lazy("state"), order="state")
    def state_chip(self, alert: Alert) -> str:
        """Where it is."""
        return chip(alert.get_state_display(), ALERT_TONES.get(alert.state, "grey"))

    @described(gettext_lazy("since"), order="since")
    def begun(self, alert: Alert) -> str:
        """When the condition began."""
        return ago(alert.since)


@admin.register(Contact)
class ContactAdmin(StaffAdmin):
    """Who is told."""

    list_display = ("name", "channel", "address", "told_from", "level", "active")
    list_filter = (("channel", ChoicesDropdownFilter), "active")
    search_fields = ("name", "email", "url")
    filter_horizontal = ("sites",)
    readonly_fields = ("signing_key",)
    actions = ("send_test",)
    empty_title = gettext_lazy("Nobody is told")
    empty_text = gettext_lazy("Add a contact, or incidents are only seen here.")

    @described(gettext_lazy("address"))
    def address(self, contact: Contact) -> str:
        """Where to."""
        return contact.email or contact.url

    @described(gettext_lazy("told at once from"), order="min_severity")
    def told_from(self, contact: Contact) -> str:
        """From which severity."""
        return severity_chip(contact.min_severity)

    @described(gettext_lazy("signing key"))
    def signing_key(self, contact: Contact) -> str:
        """What the receiver of a webhook checks signatures with."""
        return contact.secret if contact.channel == Contact.Channel.WEBHOOK else "–"

    @admin.action(description=gettext_lazy("Send a test"), permissions=["change"])
    def send_test(self, request: HttpRequest, contacts: "QuerySet[Contact]") -> None:
        """Send each a test message now and say what became of it."""
        for contact in contacts[:20]:
            error = notices.test(contact)
            if error:
                messages.error(request, f"{contact}: {error}")
            else:
                messages.success(request, _("%(contact)s: sent.") % {"contact": contact})


@admin.register(Notice)
class NoticeAdmin(Facts, StaffAdmin):
    """What was told to whom."""

    site_path = "incident__site"
    live = "incidents"
    list_display = ("incident", "contact", "event", "state_chip", "due", "attempts", "error")
    list_select_related = ("incident", "contact")
    list_filter = (("state", ChoicesDropdownFilter),)
    search_fields = ("incident__summary", "contact__name")

    @described(gettext_lazy("state"), order="state")
    def state_chip(self, notice: Notice) -> str:
        """Waiting, sent, failed."""
        return chip(notice.get_state_display(), NOTICE_TONES.get(notice.state, "grey"))

    @described(gettext_lazy("due"), order="due_at")
    def due(self, notice: Notice) -> str:
        """When it left, or is to leave."""
        return moment(notice.sent_at or notice.due_at)


@admin.register(Silence)
class SilenceAdmin(StaffAdmin):
    """What nobody is told of for a while."""

    list_display = ("reason", "rule_said", "site", "station", "until_when", "created_by")
    list_select_related = ("site", "station", "created_by")
    autocomplete_fields = ("station",)
    search_fields = ("reason", "rule")
    site_path = "site,station__site"

    rule_said = _rule

    @described(gettext_lazy("until"), order="until")
    def until_when(self, silence: Silence) -> str:
        """When it ends."""
        return moment(silence.until)

    def get_form(
        self, request: HttpRequest, obj: Any = None, change: bool = False, **kw: Any
    ) -> Any:
        """Offer the rules by name."""
        form = super().get_form(request, obj, change=change, **kw)
        return _choices(form, "rule", [("", _("Every rule")), *rule_choices()])

    def save_model(self, request: HttpRequest, obj: Silence, form: Any, change: bool) -> None:
        """Keep who did it."""
        obj.created_by = obj.created_by or request.user  # type: ignore[assignment]
        super().save_model(request, obj, form, change)


@admin.register(MaintenanceWindow)
class MaintenanceWindowAdmin(StaffAdmin):
    """Planned outages."""

    list_display = ("reason", "site", "station", "begins", "ends", "source")
    list_select_related = ("site", "station")
    autocomplete_fields = ("station",)
    search_fields = ("reason", "station__identity", "source")
    site_path = "site,station__site"
    readonly_fields = ("source",)

    @described(gettext_lazy("from"), order="starts_at")
    def begins(self, window: MaintenanceWindow) -> str:
        """When it begins."""
        return moment(window.starts_at)

    @described(gettext_lazy("to"), order="ends_at")
    def ends(self, window: MaintenanceWindow) -> str:
        """When it ends."""
        return moment(window.ends_at)


@admin.register(Exclusion)
class ExclusionAdmin(StaffAdmin):
    """Outages a policy may leave out, with evidence; they count once approved."""

    list_display = ("reason", "site", "station", "begins", "ends", "approved")
    list_select_related = ("site", "station", "approved_by")
    list_filter = (("reason", ChoicesDropdownFilter),)
    autocomplete_fields = ("station",)
    search_fields = ("evidence", "station__identity")
    site_path = "site,station__site"
    readonly_fields = ("approved_by",)
    actions = ("approve",)

    @described(gettext_lazy("from"), order="started_at")
    def begins(self, exclusion: Exclusion) -> str:
        """When it begins."""
        return moment(exclusion.started_at)

    @described(gettext_lazy("to"), order="ended_at")
    def ends(self, exclusion: Exclusion) -> str:
        """When it ends."""
        return moment(exclusion.ended_at)

    @described(gettext_lazy("approved"))
    def approved(self, exclusion: Exclusion) -> str:
        """Whether it counts."""
        return str(exclusion.approved_by) if exclusion.approved_by else chip(_("waits"), "amber")

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """What is approved stays as it was approved."""
        allowed: bool = super().has_change_permission(request, obj)
        return allowed and (obj is None or obj.approved_by_id is None)

    @admin.action(description=gettext_lazy("Approve"))
    def approve(self, request: HttpRequest, exclusions: "QuerySet[Exclusion]") -> None:
        """Let them count."""
        user: Any = request.user
        if not user.has_perm("monitoring.approve_exclusion"):
            raise PermissionDenied
        count = exclusions.filter(approved_by=None).update(approved_by=user)
        messages.success(request, _("%(count)d approved.") % {"count": count})


@admin.register(RuleSetting)
class RuleSettingAdmin(StaffAdmin):
    """What is different here from the rules as shipped."""

    list_display = ("rule_said", "enabled", "severity", "for_s", "clear_for_s")

    rule_said = _rule

    def get_form(
        self, request: HttpRequest, obj: Any = None, change: bool = False, **kw: Any
    ) -> Any:
        """Offer the rules by name."""
        form = super().get_form(request, obj, change=change, **kw)
        return _choices(form, "rule", rule_choices())


@admin.register(PlaybookSetting)
class PlaybookSettingAdmin(StaffAdmin):
    """How far playbooks may go."""

    list_display = ("playbook_said", "mode", "changed_by")

    playbook_said = _playbook

    def get_form(
        self, request: HttpRequest, obj: Any = None, change: bool = False, **kw: Any
    ) -> Any:
        """Offer the playbooks by name."""
        form = super().get_form(request, obj, change=change, **kw)
        pairs = [(one.key, one.title) for one in PLAYBOOKS.values()]
        return _choices(form, "playbook", pairs)

    def save_model(
        self, request: HttpRequest, obj: PlaybookSetting, form: Any, change: bool
    ) -> None:
        """Keep who did it."""
        obj.changed_by = request.user  # type: ignore[assignment]
        super().save_model(request, obj, form, change)


@admin.register(PlaybookRun)
class PlaybookRunAdmin(Facts, StaffAdmin):
    """What was tried, and whether it helped."""

    site_path = "station__site"
    live = "incidents"
    list_display = ("playbook_said", "station", "state_chip", "begun", "reason")
    list_select_related = ("station",)
    list_filter = (("state", ChoicesDropdownFilter),)
    search_fields = ("station__identity", "playbook")

    playbook_said = _playbook

    @described(gettext_lazy("state"), order="state")
    def state_chip(self, run: PlaybookRun) -> str:
        """Whether it helped."""
        return chip(run.get_state_display(), RUN_TONES[run.state])

    @described(gettext_lazy("started"), order="started_at")
    def begun(self, run: PlaybookRun) -> str:
        """When it began."""
        return ago(run.started_at)


@admin.register(FaultCode)
class FaultCodeAdmin(StaffAdmin):
    """Vendors' error codes: what they mean."""

    list_display = ("namespace", "code", "name", "fault_class", "staff_action")
    list_filter = (("fault_class", ChoicesDropdownFilter),)
    search_fields = ("code", "name", "namespace")
