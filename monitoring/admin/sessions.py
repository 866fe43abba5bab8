"""Sessions in the back office: the list, the review queue, and the page that tells one's story."""

from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from unfold.contrib.filters.admin import (
    ChoicesDropdownFilter,
    DropdownFilter,
)

from monitoring import evidence, review
from monitoring.models import Reading, Session
from stations.admin import timeline
from stations.admin.base import (
    Facts,
    StaffAdmin,
    chip,
    described,
    duration,
    kw,
    kwh,
    moment,
    sections,
)
from stations.admin.filters import BetweenFilter, StationSiteFilter
from stations.looks import dot
from stations.models import Entry

CHART_POINTS = 1_500
TABLE_ROWS = 100
STATE_TONES = {"active": "blue", "stopped": "amber", "closed": "grey"}

FLAGS = {
    "seq-gap": gettext_lazy("Messages of the station are missing in between."),
    "lost-events": gettext_lazy("The station has no more to tell: what is missing is lost."),
    "stopped-by-other": gettext_lazy("Another token stopped it, of no group with the driver's."),
    "matched-by-tag": gettext_lazy("The stop named no transaction; it was found by its token."),
    "reattached": gettext_lazy("Readings named another transaction; they were found by the EVSE."),
    "clock": gettext_lazy("The station's clock was wrong; times are ours."),
    "falling": gettext_lazy("The meter ran backwards; the fall was not counted."),
    "implausible": gettext_lazy("The meter jumped further than the connector can deliver."),
    "negative": gettext_lazy("The stop register is below the start register."),
    "mismatch": gettext_lazy("The stop register and the readings disagree."),
    "stop-differs": gettext_lazy("The stop was reported again with another register."),
    "no-begin": gettext_lazy("No start register was reported; the first reading serves."),
    "no-start": gettext_lazy("The start was never reported."),
    "no-stop": gettext_lazy("The stop was never reported; the session was closed for it."),
    "bad-value": gettext_lazy("A meter value could not be read."),
    "negative-value": gettext_lazy("A meter value was negative."),
    "huge": gettext_lazy("A meter value was too large to be true."),
    "unit": gettext_lazy("A meter value came in a unit that does not fit."),
    "phases": gettext_lazy("The values of the phases do not add up."),
    "offline": gettext_lazy("It ran while the station was offline."),
}
REVIEWS = {
    "orphan-stop": gettext_lazy(
        "A stop arrived for a start we never saw. Compare the registers with the frames before "
        "releasing it."
    ),
    "no-transaction-id": gettext_lazy(
        "The station gave this transaction no id. Check that energy and driver belong together "
        "before it is billed."
    ),
    "refused-start": gettext_lazy(
        "The station charged although the token was refused. Decide who pays before releasing it."
    ),
    "unknown-token": gettext_lazy("The token belongs to nobody. Give it an owner, then release."),
    "negative-energy": gettext_lazy("The stop register is below the start register: check both."),
    "implausible-energy": gettext_lazy(
        "The energy is more than the connector can deliver in that time: check the registers."
    ),
    "meter-mismatch": gettext_lazy("The stop register and the readings disagree: compare them."),
}


class ReviewFilter(DropdownFilter):  # type: ignore[misc]  # unfold ships no types
    """Sessions that wait for a person."""

    title = gettext_lazy("review")
    parameter_name = "review"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        """Return the choices."""
        return [("open", gettext_lazy("Needs review")), ("none", gettext_lazy("No doubts"))]

    def queryset(self, request: HttpRequest, rows: "QuerySet[Any]") -> "QuerySet[Any]":
        """Keep what needs review, or what does not."""
        if self.value() == "open":
            return rows.exclude(review="")
        return rows.filter(review="") if self.value() == "none" else rows


@admin.register(Session)
class SessionAdmin(Facts, StaffAdmin):
    """Every charging session."""

    site_path = "station__site"
    live = "fleet"
    list_display = ("started", "where", "who", "energy", "power", "lasted", "state_chip", "doubts")
    list_display_links = ("started",)
    list_select_related = ("station", "connector__evse", "token__user")
    list_filter = (
        ("state", ChoicesDropdownFilter),
        ReviewFilter,
        StationSiteFilter,
        ("started_at", BetweenFilter),
        ("energy_source", ChoicesDropdownFilter),
    )
    list_before_template = "admin/monitoring/session/list_before.html"
    search_fields = ("station__identity", "ref", "token_uid")
    search_help_text = gettext_lazy("Station, transaction or token")
    export_fields = (
        "id", "ref", "station__identity", "connector__evse__number", "token_uid", "started_at",
        "stopped_at", "closed_at", "state", "energy_wh", "energy_source", "stop_reason", "review",
    )  # fmt: skip
    empty_title = gettext_lazy("No session yet")
    empty_text = gettext_lazy("The first appears when a driver plugs in and is let to charge.")

    def get_search_results(
        self, request: HttpRequest, queryset: "QuerySet[Any]", search_term: str
    ) -> tuple["QuerySet[Any]", bool]:
        """Find exactly, by indexes: a transaction, a token, a station's identity."""
        term = search_term.strip()
        if not term:
            return queryset, False
        for exact in ({"ref": term}, {"token_uid": term}, {"station__identity": term}):
            found = queryset.filter(**exact)
            if found.exists():
                return found, False
        if term.isdigit():
            return queryset.filter(pk=int(term)), False
        return super().get_search_results(request, queryset, term)  # type: ignore[no-any-return]

    # the list

    @described(gettext_lazy("started"), order="started_at")
    def started(self, session: Session) -> str:
        """When it began."""
        return moment(session.started_at)

    @described(gettext_lazy("where"), order="station__identity")
    def where(self, session: Session) -> str:
        """Station and connector."""
        number = f" · {session.connector.evse.number}" if session.connector else ""
        return f"{session.station.identity}{number}"

    @described(gettext_lazy("who"), order="token_uid")
    def who(self, session: Session) -> str:
        """Driver, label or token."""
        token = session.token
        name = (token.user or token.label) if token else ""
        if name:
            return str(name)
        return format_html('<span class="mono">{}</span>', session.token_uid or "–")

    @described(gettext_lazy("energy"), order="energy_wh")
    def energy(self, session: Session) -> str:
        """Energy so far."""
        return format_html('<span class="num" data-flash="wh-{}">{}</span>', session.pk,
                           kwh(session.energy_wh))  # fmt: skip

    @described(gettext_lazy("power"))
    def power(self, session: Session) -> str:
        """Power now."""
        if session.stopped_at:
            return ""
        return format_html('<span class="num">{}</span>', kw(session.power_w))

    @described(gettext_lazy("lasted"))
    def lasted(self, session: Session) -> str:
        """How long energy flowed."""
        return format_html('<span class="num">{}</span>',
                           duration(session.started_at, session.stopped_at))  # fmt: skip

    @described(gettext_lazy("state"), order="state")
    def state_chip(self, session: Session) -> Any:
        """Charging, plugged in, ended."""
        return state_chip(session)

    @described(gettext_lazy("doubts"))
    def doubts(self, session: Session) -> str:
        """What a person should look at."""
        if session.review:
            return chip(_("needs review"), "amber", title=session.review)
        return chip(", ".join(session.flags)) if session.flags else ""

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Show the list with its quick filters."""
        rows = self.get_queryset(request)
        quick = [
            ("", _("All"), None),
            ("state__exact=active", _("Charging"), rows.filter(state="active").count()),
            ("state__exact=stopped", _("Plugged in"), None),
            ("review=open", _("Needs review"), rows.exclude(review="").count()),
        ]
        return super().changelist_view(request, {"quick": quick} | (extra_context or {}))

    # the page

    def get_urls(self) -> list[URLPattern]:
        """Add the chart's data and the review."""
        wrap = self.admin_site.admin_view
        return [
            path("<int:pk>/readings.json", wrap(self.readings_view),
                 name="monitoring_session_readings"),
            path("<int:pk>/release/", wrap(self.release_view), name="monitoring_session_release"),
            *super().get_urls(),
        ]  # fmt: skip

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        """Tell one session's story."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        rows = self.get_queryset(request).select_related(
            "station__site", "connector__evse", "token__user"
        )
        session = get_object_or_404(rows, pk=object_id)
        bare = "X-Live" in request.headers
        context = {} if bare else self.admin_site.each_context(request)
        context |= page(request, session)
        context |= {"opts": self.opts, "title": f"{session.station} · {session.ref}",
                    "base": "admin/bare.html" if bare else "admin/base_site.html"}  # fmt: skip
        return render(request, "admin/monitoring/session/page.html", context)

    def readings_view(self, request: HttpRequest, pk: int) -> JsonResponse:
        """Return the curve of a session for the chart: seconds, W, Wh, state of charge."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        session = get_object_or_404(self.get_queryset(request), pk=pk)
        return JsonResponse(curve(session))

    def release_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Say that a person has looked: the session goes its way to the bill."""
        user: Any = request.user
        if request.method != "POST" or not user.has_perm("monitoring.change_session"):
            raise PermissionDenied
        session = get_object_or_404(self.get_queryset(request), pk=pk)
        review.release(session)
        messages.success(request, _("Released. It is billed now like any other."))
        return redirect("admin:monitoring_session_change", pk)


def state_chip(session: Session) -> Any:
    """Return the state of a session in colour and words."""
    tone = STATE_TONES.get(session.state, "grey")
    return format_html(
        '<span class="chip {}" data-flash="state-{}">{}{}</span>',
        tone,
        session.pk,
        dot(tone, pulse=True) if session.state == "active" else "",
        session.get_state_display(),
    )


def page(request: HttpRequest, session: Session) -> dict[str, Any]:
    """Return what a session's page shows."""
    user: Any = request.user
    readings = list(Reading.objects.filter(session=session).order_by("-at", "-n")[: TABLE_ROWS + 1])
    news = Entry.objects.filter(subject=f"session-{session.pk}")
    lines, _older = timeline.lines(news)
    frames = (
        f"{reverse('admin:stations_message_changelist')}?station={session.station.identity}"
        f"&since={session.started_received_at:%Y-%m-%dT%H:%M}"
    )
    end = session.closed_at or session.stopped_received_at
    if end is not None:
        frames += f"&until={end:%Y-%m-%dT%H:%M}"
    return {
        "session": session,
        "chip": state_chip(session),
        "flags": [(flag, FLAGS.get(flag, "")) for flag in session.flags],
        "review_text": REVIEWS.get(session.review, session.review),
        "may_release": user.has_perm("monitoring.change_session"),
        "witnesses": evidence.witnesses(session) if session.review or session.flags else [],
        "readings": readings[:TABLE_ROWS],
        "more_readings": len(readings) > TABLE_ROWS,
        "lines": lines,
        "frames_url": frames if user.has_perm("stations.view_frames") else "",
        "sections": sections("session", request, session),
        "lasted": duration(session.started_at, session.stopped_at),
        "plugged": duration(session.started_at, session.closed_at),
    }


def curve(session: Session) -> dict[str, Any]:
    """Return the session's readings thinned to CHART_POINTS: times in Unix seconds, W, Wh, %."""
    rows = list(
        Reading.objects.filter(session=session)
        .order_by("at", "n")
        .values_list("at", "power_w", "register_mwh", "soc_percent")
    )
    step = max(1, -(-len(rows) // CHART_POINTS))
    kept = rows[::step] + ([rows[-1]] if rows and (len(rows) - 1) % step else [])
    first = session.meter_start_mwh
    if first is None:
        first = next((mwh for _at, _w, mwh, _soc in rows if mwh is not None), 0)
    return {
        "at": [at.timestamp() for at, _w, _mwh, _soc in kept],
        "power_w": [w for _at, w, _mwh, _soc in kept],
        "energy_wh": [None if mwh is None else (mwh - first) / 1000 for _at, _w, mwh, _soc in kept],
        "soc_percent": [soc for _at, _w, _mwh, soc in kept],
        "count": len(rows),
    }
