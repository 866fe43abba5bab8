"""Incidents in the back office: the inbox, and the page that tells one's story."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import F, Q, QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.template.loader import render_to_string
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from unfold.contrib.filters.admin import ChoicesDropdownFilter, DropdownFilter, RangeDateTimeFilter

from monitoring import incidents
from monitoring.admin.looks import playbook_words, severity_chip
from monitoring.grouping import UNRESOLVED
from monitoring.models import Alert, Incident
from monitoring.rules import RULES
from stations.admin import timeline
from stations.admin.base import Facts, StaffAdmin, described, in_scope, section
from stations.admin.filters import SiteFilter
from stations.looks import ago, chip, duration
from stations.models import Entry, Station, User
from stations.state import NotAllowed

STATE_TONES = {"open": "red", "acknowledged": "amber", "resolved": "green"}
RUN_TONES = {
    "running": "blue",
    "healed": "green",
    "failed": "red",
    "refused": "amber",
    "dry": "grey",
}
ALERT_TONES = {"firing": "red", "acked": "amber", "resolved": "green"}
BESIDE = ("connector.", "station.", "command.finished", "security.", "session.")
BEFORE, AFTER = timedelta(minutes=10), timedelta(minutes=5)


class OpenFilter(DropdownFilter):  # type: ignore[misc]  # unfold ships no types
    """Incidents that somebody must still do something about."""

    title = gettext_lazy("inbox")
    parameter_name = "inbox"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        """Return the choices."""
        return [
            ("open", gettext_lazy("To do")),
            ("mine", gettext_lazy("Mine")),
            ("snoozed", gettext_lazy("Snoozed")),
        ]

    def queryset(self, request: HttpRequest, rows: "QuerySet[Any]") -> "QuerySet[Any]":
        """Keep what the choice means."""
        now = timezone.now()
        todo = rows.filter(state__in=UNRESOLVED)
        if self.value() == "open":
            return todo.exclude(snoozed_until__gt=now)
        if self.value() == "mine":
            return todo.filter(assigned_to=request.user.pk)
        return todo.filter(snoozed_until__gt=now) if self.value() == "snoozed" else rows


@admin.register(Incident)
class IncidentAdmin(Facts, StaffAdmin):
    """Every incident: what is open first, by how much it matters and for how long it has."""

    site_path = "site"
    live = "incidents"
    ordering = (F("resolved_at").desc(nulls_first=True), "-severity", "opened_at")
    list_display = (
        "severity_chip", "what", "where", "state_chip", "opened", "owner", "healed"
    )  # fmt: skip
    list_display_links = ("what",)
    list_select_related = ("site", "station", "assigned_to")
    list_filter = (
        OpenFilter,
        ("state", ChoicesDropdownFilter),
        ("severity", ChoicesDropdownFilter),
        SiteFilter,
        ("opened_at", RangeDateTimeFilter),
    )
    list_before_template = "admin/monitoring/session/list_before.html"
    search_fields = ("summary", "station__identity", "rule")
    search_help_text = gettext_lazy("Station, rule or words of the summary")
    export_fields = (
        "id", "site__name", "station__identity", "rule", "family", "severity", "state", "opened_at",
        "acknowledged_at", "resolved_at", "resolver", "resolution", "summary",
    )  # fmt: skip
    empty_title = gettext_lazy("No incident")
    empty_text = gettext_lazy("Faults and silent stations appear here by themselves.")

    @described(gettext_lazy("severity"), order="severity")
    def severity_chip(self, incident: Incident) -> SafeString:
        """How much it matters."""
        return severity_chip(incident.severity)

    @described(gettext_lazy("what"), order="summary")
    def what(self, incident: Incident) -> str:
        """The summary."""
        return incident.summary

    @described(gettext_lazy("where"), order="site__name")
    def where(self, incident: Incident) -> str:
        """The site; the summary names the station."""
        return str(incident.site or incident.station or _("Fleet"))

    @described(gettext_lazy("state"), order="state")
    def state_chip(self, incident: Incident) -> SafeString:
        """Open, acknowledged, resolved."""
        return state_chip(incident)

    @described(gettext_lazy("opened"), order="opened_at")
    def opened(self, incident: Incident) -> SafeString:
        """When it began, and for how long it lasted or lasts."""
        return format_html(
            '<span class="stack">{}<span class="quiet nowrap">{}</span></span>',
            ago(incident.opened_at),
            _("for %(time)s") % {"time": duration(incident.opened_at, incident.resolved_at)},
        )

    @described(gettext_lazy("assigned to"), order="assigned_to")
    def owner(self, incident: Incident) -> str:
        """Whose it is."""
        return str(incident.assigned_to or "–")

    @described(gettext_lazy("what healed it"))
    def healed(self, incident: Incident) -> str:
        """What ended it."""
        return incident.resolution

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Show the list with its quick filters."""
        todo = self.get_queryset(request).filter(state__in=UNRESOLVED)
        quick = [
            ("", _("All"), None),
            ("inbox=open", _("To do"), todo.exclude(snoozed_until__gt=timezone.now()).count()),
            ("inbox=mine", _("Mine"), todo.filter(assigned_to=request.user.pk).count()),
            ("inbox=snoozed", _("Snoozed"), None),
        ]
        return super().changelist_view(request, {"quick": quick} | (extra_context or {}))

    # the page

    def get_urls(self) -> list[URLPattern]:
        """Add what staff do."""
        do = self.admin_site.admin_view(self.do_view)
        own = path("<int:pk>/do/<str:verb>/", do, name="monitoring_incident_do")
        return [own, *super().get_urls()]

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        """Tell one incident's story."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        rows = self.get_queryset(request).select_related(
            "station", "site", "connector__evse", "assigned_to", "acknowledged_by"
        )
        incident = get_object_or_404(rows, pk=object_id)
        bare = "X-Live" in request.headers
        context = {} if bare else self.admin_site.each_context(request)
        context |= page(request, incident)
        context |= {
            "opts": self.opts,
            "title": f"#{incident.pk}",
            "base": "admin/bare.html" if bare else "admin/base_site.html",
        }
        return render(request, "admin/monitoring/incident/page.html", context)

    def do_view(self, request: HttpRequest, pk: int, verb: str) -> HttpResponse:
        """Acknowledge, assign, note, snooze or resolve; then show the page again."""
        user: Any = request.user
        if request.method != "POST" or not user.has_perm("monitoring.handle_incident"):
            raise PermissionDenied
        incident = get_object_or_404(self.get_queryset(request), pk=pk)
        if verb not in VERBS:
            raise Http404
        try:
            messages.success(request, VERBS[verb](request, incident, user))
        except NotAllowed:
            messages.warning(request, _("Somebody else was faster: look at its state now."))
        except incidents.IncidentError as error:
            messages.error(request, str(error))
        return redirect("admin:monitoring_incident_change", pk)


def _acknowledge(request: HttpRequest, incident: Incident, user: User) -> str:
    incidents.acknowledge(incident, user)
    return _("It is yours now.")


def _assign(request: HttpRequest, incident: Incident, user: User) -> str:
    chosen = request.POST.get("to", "")
    to = staff().filter(pk=chosen).first() if chosen.isdigit() else None
    incidents.assign(incident, to, user)
    return _("Assigned to %(to)s.") % {"to": to} if to else _("Assigned to nobody.")


def _note(request: HttpRequest, incident: Incident, user: User) -> str:
    incidents.note(incident, request.POST.get("text", ""), user)
    return _("Noted.")


def _snooze(request: HttpRequest, incident: Incident, user: User) -> str:
    hours = request.POST.get("hours", "")
    if not hours.isdigit() or not 0 < int(hours) <= 24 * 14:
        raise incidents.IncidentError(_("Snooze for between one hour and two weeks."))
    incidents.snooze(incident, timezone.now() + timedelta(hours=int(hours)), user)
    return _("Snoozed.")


def _resolve(request: HttpRequest, incident: Incident, user: User) -> str:
    incidents.resolve(incident, user, request.POST.get("text", "").strip())
    return _("Resolved. Its rules stay quiet until the condition has been over once.")


VERBS: dict[str, Callable[[HttpRequest, Incident, User], str]] = {
    "acknowledge": _acknowledge,
    "assign": _assign,
    "note": _note,
    "snooze": _snooze,
    "resolve": _resolve,
}


def staff() -> "QuerySet[User]":
    """Return the people an incident may be given to."""
    return User.objects.filter(is_staff=True, is_active=True).order_by("email")


def state_chip(incident: Incident) -> SafeString:
    """Return the state of an incident in colour and words."""
    if incident.snoozed_until and incident.snoozed_until > timezone.now():
        return chip(_("Snoozed"), "grey", title=incident.snoozed_until.isoformat())
    return chip(incident.get_state_display(), STATE_TONES[incident.state])


def page(request: HttpRequest, incident: Incident) -> dict[str, Any]:
    """Return what an incident's page shows."""
    user: Any = request.user
    lines, _older = timeline.lines(story(incident))
    alerts = list(
        incident.alerts.select_related("station", "connector__evse__station").order_by("pk")[:100]
    )
    frames = ""
    if incident.station and user.has_perm("stations.view_frames"):
        since = incident.opened_at - BEFORE
        frames = (
            f"{reverse('admin:stations_message_changelist')}?station={incident.station.identity}"
            f"&since={since:%Y-%m-%dT%H:%M}"
        )
    return {
        "incident": incident,
        "severity": severity_chip(incident.severity),
        "state": state_chip(incident),
        "open": incident.state in UNRESOLVED,
        "may_handle": user.has_perm("monitoring.handle_incident"),
        "people": staff(),
        "alerts": [
            (
                alert,
                chip(alert.get_state_display(), ALERT_TONES.get(alert.state, "grey")),
                RULES[alert.rule].description if alert.rule in RULES else "",
            )
            for alert in alerts
        ],
        "actions": sorted({a.evidence["action"] for a in alerts if a.evidence.get("action")}),
        "runs": [
            (run, chip(run.get_state_display(), RUN_TONES[run.state]), playbook_words(run.playbook))
            for run in incident.runs.prefetch_related("steps").order_by("-pk")[:20]
        ],
        "notices": incident.notices.select_related("contact").order_by("-pk")[:50],
        "lines": lines,
        "frames_url": frames,
        "lasted": duration(incident.opened_at, incident.resolved_at),
    }


def story(incident: Incident) -> "QuerySet[Entry]":
    """Return the news of an incident, with what its station told around it."""
    told = Q(subject=f"incident-{incident.pk}")
    if incident.station_id is not None:
        kinds = Q()
        for prefix in BESIDE:
            kinds |= Q(kind__startswith=prefix)
        end = (incident.resolved_at or timezone.now()) + AFTER
        told |= kinds & Q(
            station=incident.station_id, at__gte=incident.opened_at - BEFORE, at__lte=end
        )
    return Entry.objects.filter(told)


@section("station")
def open_at_station(request: HttpRequest, station: Station) -> SafeString | str:
    """Show a station's open incidents on its page."""
    rows = in_scope(Incident.objects.filter(state__in=UNRESOLVED), request, "site")
    mine = Alert.objects.filter(station=station, incident__isnull=False).values("incident")
    here = rows.filter(Q(station=station) | Q(pk__in=mine)).order_by("-severity", "opened_at")[:10]
    found = [(one, severity_chip(one.severity), state_chip(one)) for one in here]
    if not found or not request.user.has_perm("monitoring.view_incident"):
        return ""
    return render_to_string("admin/monitoring/incident/section.html", {"found": found})
