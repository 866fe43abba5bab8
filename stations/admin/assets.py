"""Sites, stations, quirk profiles and variables in the back office."""

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.db.models import Count, Prefetch, Q, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from unfold.contrib.filters.admin import ChoicesDropdownFilter
from unfold.widgets import UnfoldAdminTextInputWidget

from monitoring.dashboard import doing
from stations import journal, live, onboarding, quirks, security
from stations.admin import device, logs, orders, power, sheets, station_page
from stations.admin.base import Facts, StaffAdmin, described, in_scope
from stations.admin.filters import (
    ConnectedFilter,
    ConnectorStatusFilter,
    FirmwareFilter,
    MakeFilter,
    SiteFilter,
    StationSiteFilter,
)
from stations.looks import connector_chips, presence, station_state_chip
from stations.models import Connector, QuirkProfile, Site, Station, Variable
from stations.state import NotAllowed


class StationForm(forms.ModelForm):  # type: ignore[type-arg]
    """A station's settings, with its password to set but never to read."""

    new_password = forms.CharField(
        label=gettext_lazy("New password"),
        required=False,
        min_length=16,
        max_length=40,
        widget=UnfoldAdminTextInputWidget(attrs={"autocomplete": "new-password"}),
        help_text=gettext_lazy(
            "For HTTP basic authentication (the charger's AuthorizationKey). Empty: unchanged."
        ),
    )

    class Meta:
        model = Station
        fields = "__all__"  # noqa: DJ007  the admin's fieldsets choose


@admin.register(Station)
class StationAdmin(StaffAdmin):
    """The list staff look at all day, and one live page a station."""

    form = StationForm
    site_path = "site"
    live = "fleet"
    list_display = ("who", "state_now", "connectors_now", "site", "make", "firmware", "ocpp")
    list_display_links = ("who",)
    list_select_related = ("site",)
    list_filter = (
        SiteFilter,
        ConnectedFilter,
        ConnectorStatusFilter,
        ("state", ChoicesDropdownFilter),
        MakeFilter,
        FirmwareFilter,
        ("version", ChoicesDropdownFilter),
        "public",
    )
    search_fields = ("identity", "name", "serial", "iccid")
    search_help_text = gettext_lazy("Identity, name, serial number, token or transaction")
    list_before_template = "admin/stations/station/list_before.html"
    change_form_template = "admin/stations/station/change_form.html"
    actions = ("order_selected", "print_sheets")
    readonly_fields = (
        "version", "vendor", "model", "serial", "firmware", "booted_at", "boot_reason",
        "clock_offset_s", "iccid", "imsi", "modem_firmware", "created_at",
    )  # fmt: skip
    fieldsets = (
        (None, {"fields": (("identity", "name"), ("site", "public"), "notes")}),
        (
            gettext_lazy("Connection"),
            {"fields": (("security_profile", "security_locked"), "new_password",
                        ("heartbeat_interval_s", "quirks"), "power_priority")},
        ),
        (
            gettext_lazy("What the station says of itself"),
            {"fields": (("vendor", "model"), ("serial", "firmware"), ("version", "boot_reason"),
                        ("booted_at", "clock_offset_s"), ("iccid", "imsi"),
                        ("modem_firmware", "created_at"))},
        ),
    )  # fmt: skip
    add_fieldsets = (
        (None, {"fields": (("identity", "name"), ("site", "public"))}),
        (gettext_lazy("Connection"), {"fields": (("security_profile", "new_password"),)}),
    )
    export_fields = (
        "identity", "name", "site__name", "state", "connected", "last_seen_at", "version",
        "vendor", "model", "serial", "firmware", "iccid", "public", "created_at",
    )  # fmt: skip
    empty_title = gettext_lazy("No station here")
    empty_text = gettext_lazy(
        "Point a charger at the address on the start page: it appears as pending, and one click "
        "takes it into service. Or add it here first."
    )

    def get_queryset(self, request: HttpRequest) -> "QuerySet[Any]":
        """Return stations with their connectors, ready for the list."""
        plugs = doing(Connector.objects.select_related("evse"))
        plugs = plugs.order_by("evse__number", "number")
        return super().get_queryset(request).prefetch_related(Prefetch("connectors", plugs))

    def get_search_results(
        self, request: HttpRequest, queryset: "QuerySet[Any]", search_term: str
    ) -> tuple["QuerySet[Any]", bool]:
        """Find stations also by the token or transaction of a session."""
        found, distinct = super().get_search_results(request, queryset, search_term)
        term = search_term.strip()
        if term and " " not in term:
            by_session = Q(sessions__token_uid__iexact=term) | Q(sessions__ref=term)
            ids = queryset.filter(by_session).order_by().values_list("pk", flat=True).distinct()
            more = list(ids[:200])
            if more:
                found = found | queryset.filter(pk__in=more)
        return found, distinct

    # the list

    @described(gettext_lazy("station"), order="identity")
    def who(self, station: Station) -> str:
        """Identity, and the name people use."""
        return format_html(
            '<span class="stack"><span class="strong">{}</span>{}</span>',
            station.identity,
            format_html('<span class="quiet">{}</span>', station.name) if station.name else "",
        )

    @described(gettext_lazy("now"), order="connected")
    def state_now(self, station: Station) -> str:
        """Online or since when not; pending and retired say so."""
        if station.state != Station.State.ACCEPTED:
            return format_html("<span class=row>{} {}</span>", station_state_chip(station),
                               presence(station))  # fmt: skip
        return presence(station)

    @described(gettext_lazy("connectors"))
    def connectors_now(self, station: Station) -> str:
        """Each connector's status in colour and words."""
        return format_html(
            '<span data-flash="plugs-{}">{}</span>',
            station.pk,
            connector_chips(station.connectors.all(), station.connected),
        )

    @described(gettext_lazy("make"), order="vendor")
    def make(self, station: Station) -> str:
        """Vendor and model."""
        return f"{station.vendor} {station.model}".strip() or "–"

    @described("OCPP", order="version")
    def ocpp(self, station: Station) -> str:
        """The protocol's version."""
        return station.version or "–"

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Show the list; stations that wait for approval stand above it."""
        rows = in_scope(Station.objects.all(), request, "site")
        pending = list(rows.filter(state=Station.State.PENDING).order_by("-created_at")[:20])
        counts = rows.filter(state=Station.State.ACCEPTED).aggregate(
            all=Count("pk"), online=Count("pk", filter=Q(connected=True))
        )
        user: Any = request.user
        more = {
            "pending": pending,
            "may_approve": user.has_perm("stations.change_station"),
            "quick": [
                ("", _("All"), None),
                ("online=1", _("Online"), counts["online"]),
                ("online=0", _("Offline"), counts["all"] - counts["online"]),
                ("connector=Charging", _("Charging"), None),
                ("connector=Faulted", _("Faulted"), None),
            ],
        }
        return super().changelist_view(request, more | (extra_context or {}))

    @admin.action(description=gettext_lazy("Send a command…"), permissions=["operate"])
    def order_selected(self, request: HttpRequest, queryset: "QuerySet[Any]") -> HttpResponse:
        """Open the confirm page for the chosen stations."""
        chosen: Any = request.POST.copy()
        ids = queryset.order_by().values_list("pk", flat=True)[: orders.MAX_BULK]
        chosen.setlist("station", [str(pk) for pk in ids])
        request.POST = chosen
        return orders.bulk_view(request, self.admin_site)

    @admin.action(description=gettext_lazy("QR sheets (PDF)"), permissions=["view"])
    def print_sheets(self, request: HttpRequest, queryset: "QuerySet[Any]") -> HttpResponse | None:
        """Print a page a connector, with the code of its pay page."""
        return sheets.answer(self, request, queryset)

    def has_operate_permission(self, request: HttpRequest) -> bool:
        """Tell whether this person may send everyday commands."""
        user: Any = request.user
        return bool(user.has_perm("stations.operate_station"))

    # the page

    def get_urls(self) -> list[URLPattern]:
        """Add commands, approval and retirement."""
        wrap = self.admin_site.admin_view
        return [
            path("bulk/", wrap(self.bulk_view), name="stations_station_bulk"),
            path("<int:object_id>/log/<int:entry>/", wrap(logs.log_view),
                 name="stations_station_log"),
            path("<path:object_id>/order/<slug:name>/", wrap(orders.order_view),
                 name="stations_station_order"),
            path("<path:object_id>/push/", wrap(device.push_view), name="stations_station_push"),
            path("<path:object_id>/admit/<slug:verdict>/", wrap(self.admit_view),
                 name="stations_station_admit"),
            *super().get_urls(),
        ]  # fmt: skip

    def bulk_view(self, request: HttpRequest) -> HttpResponse:
        """Confirm and send one command to many stations."""
        return orders.bulk_view(request, self.admin_site)

    def admit_view(self, request: HttpRequest, object_id: str, verdict: str) -> HttpResponse:
        """Approve, reject or retire a station: one POST."""
        user: Any = request.user
        verdicts = {"approve": onboarding.approve, "reject": onboarding.reject,
                    "retire": onboarding.retire}  # fmt: skip
        allowed = user.has_perm("stations.change_station") and verdict in verdicts
        if request.method != "POST" or not allowed:
            raise PermissionDenied
        rows = in_scope(Station.objects.all(), request, "site")
        station = get_object_or_404(rows, pk=object_id)
        try:
            verdicts[verdict](station)
        except NotAllowed:
            messages.warning(
                request,
                _("%(name)s is %(state)s by now; nothing was changed.")
                % {"name": station, "state": station.get_state_display()},
            )
        else:
            done = {
                "approve": _("%(name)s is in service."),
                "reject": _("%(name)s was turned away."),
                "retire": _("%(name)s is retired."),
            }[verdict]
            messages.success(request, done % {"name": station})
        return redirect(request.POST.get("next") or "admin:stations_station_changelist")

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        """Show the station's page; its details tab is the ordinary form."""
        tab = request.GET.get("tab", "now")
        if not self.has_view_or_change_permission(request):
            raise PermissionDenied
        rows = in_scope(Station.objects.select_related("site", "quirks"), request, "site")
        station = get_object_or_404(rows, pk=object_id)
        context = station_page.frame(request, station, tab)
        if tab not in dict(context["tabs"]):
            raise PermissionDenied
        if tab == "details":
            context |= {"title": station}
            return super().change_view(request, object_id, form_url, context)  # type: ignore[no-any-return]
        bare = "X-Live" in request.headers
        context |= {} if bare else self.admin_site.each_context(request)
        context |= station_page.body(request, station, tab)
        context |= {"opts": self.opts, "title": str(station), "original": station,
                    "base": "admin/bare.html" if bare else "admin/base_site.html"}  # fmt: skip
        return render(request, "admin/stations/station/page.html", context)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Stations are retired, never deleted: sessions and bills stand on them."""
        return False

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        """Save, journal what was changed, and hash a new password."""
        password = form.cleaned_data.get("new_password")
        with transaction.atomic():
            if password:
                obj.password_hash = security.hash_password(password)
            super().save_model(request, obj, form, change)
            if password:
                journal.record("station.password_set", obj)
            fields = [name for name in form.changed_data if name != "new_password"]
            if fields and change:
                journal.record("station.changed", obj, fields=fields)
            elif not change:
                journal.record("station.added", obj, identity=obj.identity)
            live.touch("fleet", f"station-{obj.pk}")

    def response_post_save_change(self, request: HttpRequest, obj: Any) -> HttpResponseRedirect:
        """Go back to the station's page."""
        return HttpResponseRedirect(reverse("admin:stations_station_change", args=[obj.pk]))

    response_post_save_add = response_post_save_change


@admin.register(Site)
class SiteAdmin(StaffAdmin):
    """Places with stations; the position is chosen on a map."""

    site_path = "pk"
    list_display = ("name", "city", "country", "time_zone", "stations_now", "positioned")
    list_filter = ("country",)
    search_fields = ("name", "address", "city", "postal_code")
    form = power.SiteForm
    change_form_after_template = "admin/stations/site/after.html"
    fieldsets = (
        (None, {"fields": (("name", "time_zone"), "address", ("postal_code", "city", "country"))}),
        (
            gettext_lazy("Power"),
            {"fields": (("power_limit_a", "power_minimum_a", "power_offline_a"),)},
        ),
        (gettext_lazy("For drivers"), {"fields": (("opening_hours", "support_phone"),)}),
        (gettext_lazy("Position"), {"fields": (("latitude", "longitude"),)}),
    )
    export_fields = ("name", "address", "postal_code", "city", "country", "latitude", "longitude",
                     "time_zone")  # fmt: skip
    empty_title = gettext_lazy("No site yet")
    empty_text = gettext_lazy("Add the first place with stations; its country decides VAT.")

    def get_urls(self) -> list[URLPattern]:
        """Add the live table of the site's power."""
        view = self.admin_site.admin_view(power.power_view)
        return [
            path("<int:object_id>/power/", view, name="stations_site_power"),
            *super().get_urls(),
        ]

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        """Show the site with how its power is shared now."""
        site = in_scope(Site.objects.all(), request, "pk").filter(pk=object_id).first()
        more = {"power": power.power_context(site)} if site else {}
        return super().change_view(  # type: ignore[no-any-return]
            request, object_id, form_url, more | (extra_context or {})
        )

    def get_queryset(self, request: HttpRequest) -> "QuerySet[Any]":
        """Return sites with how many stations they have and how many are online."""
        rows = super().get_queryset(request)
        online = Count("stations", filter=Q(stations__connected=True))
        counted: QuerySet[Any] = rows.annotate(n=Count("stations"), online=online)
        return counted

    actions = ("print_sheets",)

    @admin.action(description=gettext_lazy("QR sheets (PDF)"), permissions=["view"])
    def print_sheets(self, request: HttpRequest, queryset: "QuerySet[Any]") -> HttpResponse | None:
        """Print a page for each connector at these sites."""
        stations = Station.objects.filter(site__in=queryset.order_by().values("pk"))
        return sheets.answer(self, request, stations)

    @described(gettext_lazy("stations online"), order="n")
    def stations_now(self, site: Any) -> str:
        """How many of how many."""
        url = reverse("admin:stations_station_changelist")
        return format_html('<a class="num plain" href="{}?site={}">{} / {}</a>',
                           url, site.pk, site.online, site.n)  # fmt: skip

    @described(gettext_lazy("on the map"))
    def positioned(self, site: Site) -> str:
        """Whether the map shows it."""
        return _("yes") if site.latitude is not None and site.longitude is not None else _("no")


@admin.register(QuirkProfile)
class QuirkProfileAdmin(StaffAdmin):
    """How makes of chargers misbehave."""

    list_display = ("name", "vendor", "model_pattern", "firmware", "does", "times", "built_in")
    list_filter = ("built_in",)
    search_fields = ("name", "vendor", "model_pattern")
    readonly_fields = ("built_in", "tolerated")

    @described(gettext_lazy("firmware"))
    def firmware(self, profile: QuirkProfile) -> str:
        """Which firmware it is for."""
        if not profile.firmware_from and not profile.firmware_to:
            return _("any")
        return f"{profile.firmware_from or '…'} – {profile.firmware_to or '…'}"

    @described(gettext_lazy("settings"))
    def does(self, profile: QuirkProfile) -> str:
        """What it changes, in a line."""
        return ", ".join(
            f"{name}: {', '.join(value) if isinstance(value, list) else value}"
            for name, value in profile.settings.items()
        )

    @described(gettext_lazy("tolerated"))
    def times(self, profile: QuirkProfile) -> str:
        """How often something was tolerated."""
        return str(sum(profile.tolerated.values()))

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        """Save, and let this process read the profiles anew."""
        super().save_model(request, obj, form, change)
        quirks.forget()


@admin.register(Variable)
class VariableAdmin(Facts, StaffAdmin):
    """Reported configuration of all stations; it is changed on a station's page, by command."""

    site_path = "station__site"
    list_display = ("station", "component", "name", "value", "wanted", "reported_at")
    list_display_links = ("name",)
    list_filter = (StationSiteFilter, "read_only", "reboot_required")
    list_select_related = ("station",)
    search_fields = ("station__identity", "component", "name")
    export_fields = (
        "station__identity", "component", "component_instance", "evse", "connector", "name",
        "instance", "attribute", "value", "wanted", "unit", "reported_at",
    )  # fmt: skip
    empty_title = gettext_lazy("No configuration was read yet")
    empty_text = gettext_lazy("Open a station's Configuration tab and choose “Read”.")
