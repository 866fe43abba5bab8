"""Power in the back office: a site's live shares, reservations, the profiles stations hold."""

from typing import Any

from django import forms
from django.contrib import admin
from django.core.exceptions import PermissionDenied, ValidationError
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from monitoring import load, sharing
from monitoring.models import Allotment, ChargingProfile
from stations.admin.base import Facts, StaffAdmin, described, in_scope, moment
from stations.admin.filters import StationSiteFilter
from stations.models import Evse, Reservation, Site, Station


class SiteForm(forms.ModelForm):  # type: ignore[type-arg]
    """A site's settings; what stations may draw offline must fit its limit."""

    class Meta:
        model = Site
        fields = "__all__"  # noqa: DJ007  the admin's fieldsets choose

    def clean(self) -> dict[str, Any]:
        """Refuse a fallback that all EVSEs together could not hold."""
        cleaned: dict[str, Any] = super().clean() or {}
        limit_a, offline_a = cleaned.get("power_limit_a"), cleaned.get("power_offline_a")
        if limit_a is not None and offline_a is not None and self.instance.pk:
            evses = Evse.objects.filter(
                station__site=self.instance, station__state=Station.State.ACCEPTED
            ).count()
            if evses * offline_a > limit_a:
                self.add_error(
                    "power_offline_a",
                    ValidationError(
                        _("%(n)d EVSEs of %(each)d A draw more than the limit. At most %(most)d A.")
                        % {"n": evses, "each": offline_a, "most": limit_a // evses}
                    ),
                )
        return cleaned


def power_view(request: HttpRequest, object_id: str) -> HttpResponse:
    """Return the live table of a site's shares."""
    user: Any = request.user
    if not user.has_perm("stations.view_site"):
        raise PermissionDenied
    site = get_object_or_404(in_scope(Site.objects.all(), request, "pk"), pk=object_id)
    return render(request, "admin/stations/site/power.html", power_context(site))


def power_context(site: Site) -> dict[str, Any]:
    """Return what the table of a site's shares shows."""
    if site.power_limit_a is None:
        return {"site": site, "rows": [], "shared": False}
    rows = list(
        Allotment.objects.filter(site=site)
        .select_related("station", "session__needs", "session__connector")
        .order_by("station__identity", "evse")
    )
    evses = sum(row.evse > 0 for row in rows)
    fed = [row for row in rows if row.session_id and row.evse]
    drawn_a = 0.0
    for row in fed:
        session = row.session
        if session is not None and session.power_w:
            phases = session.connector.phases if session.connector else load.PHASES
            drawn_a += session.power_w / (load.VOLTAGE_V * phases)
    return {
        "site": site,
        "shared": True,
        "rows": fed,
        "fallbacks": [row for row in rows if row.evse == 0],
        "offline_a": sharing.fallback_of(site, evses),
        "given_a": sum(row.confirmed_a or 0 for row in fed),
        "drawn_a": round(drawn_a, 1),
        "waiting": sum(row.target_a == 0 for row in fed),
    }


@admin.register(Reservation)
class ReservationAdmin(Facts, StaffAdmin):
    """Who reserved what; it is made and canceled on a station's page, by command."""

    site_path = "station__site"
    live = "fleet"
    list_display = ("number", "station", "evse", "token_uid", "state", "until_when", "made")
    list_filter = ("state", StationSiteFilter)
    list_select_related = ("station",)
    search_fields = ("station__identity", "token_uid", "number")
    export_fields = ("number", "station__identity", "evse", "token_uid", "group", "state",
                     "made_at", "until", "ended_at")  # fmt: skip
    empty_title = gettext_lazy("Nothing was reserved yet")
    empty_text = gettext_lazy("Open a station and choose Actions, then Reserve.")

    @described(gettext_lazy("until"), order="until")
    def until_when(self, row: Reservation) -> str:
        """When it ends."""
        return moment(row.until)

    @described(gettext_lazy("made"), order="made_at")
    def made(self, row: Reservation) -> str:
        """When it was made."""
        return moment(row.made_at)


@admin.register(ChargingProfile)
class ChargingProfileAdmin(Facts, StaffAdmin):
    """What limits stations hold: ours as accepted, others as reported."""

    site_path = "station__site"
    list_display = ("station", "evse", "purpose", "stack_level", "first_limit", "source", "since")
    list_filter = ("purpose", "source", StationSiteFilter)
    list_select_related = ("station",)
    search_fields = ("station__identity", "ref", "profile_id")
    export_fields = ("station__identity", "evse", "profile_id", "purpose", "kind", "stack_level",
                     "valid_from", "valid_to", "ref", "schedules", "source", "at")  # fmt: skip
    empty_title = gettext_lazy("No station holds a charging profile")
    empty_text = gettext_lazy("Give a site a limit, or send a station “Limit the power”.")

    @described(gettext_lazy("limit"))
    def first_limit(self, row: ChargingProfile) -> str:
        """The first period's limit, and whether there are more."""
        schedule = row.schedules[0] if row.schedules else {}
        periods = schedule.get("chargingSchedulePeriod") or [{}]
        text = f"{periods[0].get('limit', '–')} {schedule.get('chargingRateUnit', '')}"
        return f"{text} (+{len(periods) - 1})" if len(periods) > 1 else text

    @described(gettext_lazy("since"), order="at")
    def since(self, row: ChargingProfile) -> str:
        """Since when."""
        return moment(row.at)
