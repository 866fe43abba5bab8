"""Tariffs in the back office: written in five numbers or as OCPI JSON, read back in words."""

from __future__ import annotations

import datetime as dt
import json
from decimal import Decimal
from fractions import Fraction
from typing import Any
from zoneinfo import ZoneInfo

from django import forms
from django.conf import settings
from django.contrib import admin
from django.core.exceptions import PermissionDenied, ValidationError
from django.db.models import Count, OuterRef, Subquery
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.text import slugify
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from unfold.widgets import (
    UnfoldAdminDecimalFieldWidget,
    UnfoldAdminSelectWidget,
    UnfoldAdminTextareaWidget,
    UnfoldAdminTextInputWidget,
    UnfoldBooleanSwitchWidget,
)

from billing import tariffs, words
from billing.admin import desk
from billing.models import DriverGroup, Tariff, TariffAssignment
from billing.ocpi import OcpiError, as_version, read_tariff
from billing.periods import Period, Usage
from billing.pricing import Plan, price
from stations.admin.base import StaffAdmin, chip, described, moment

FROZEN = ("name", "ocpi", "valid_from")
SAMPLES = ((20_000, 45, 0), (20_000, 45, 240), (50_000, 30, 0))  # Wh, minutes charging, parked


def number(places: int = 4) -> forms.DecimalField:
    """An optional price."""
    return forms.DecimalField(
        required=False,
        min_value=0,
        max_digits=10,
        decimal_places=places,
        widget=UnfoldAdminDecimalFieldWidget,
    )


class TariffForm(forms.ModelForm):  # type: ignore[type-arg]
    """A tariff by its prices, or as OCPI JSON (which wins)."""

    currency = forms.CharField(
        label=gettext_lazy("Currency"),
        required=False,
        max_length=3,
        initial=lambda: settings.DEFAULT_CURRENCY,
        widget=UnfoldAdminTextInputWidget,
    )
    kwh = number()
    minute = number()
    free_minutes = forms.IntegerField(
        required=False, min_value=0, widget=UnfoldAdminDecimalFieldWidget
    )
    start = number()
    vat = number(2)
    includes_vat = forms.BooleanField(
        required=False, initial=True, widget=UnfoldBooleanSwitchWidget
    )
    file = forms.FileField(
        label=gettext_lazy("From a file"),
        required=False,
        help_text=gettext_lazy("An OCPI 2.3.0 or 2.2.1 tariff object as JSON."),
    )
    ocpi = forms.JSONField(
        label=gettext_lazy("OCPI tariff"),
        required=False,
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 22, "spellcheck": "false"}),
        help_text=gettext_lazy(
            "An OCPI 2.3.0 or 2.2.1 tariff object, for prices by time, power or amount. "
            "Leave it empty to build it from the prices above."
        ),
    )

    class Meta:
        model = Tariff
        fields = ("name", "valid_from", "valid_until", "ocpi")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        labels = {
            "kwh": _("Per kWh"),
            "minute": _("Per minute of occupancy after charging"),
            "free_minutes": _("Occupancy costs from minute … of the session"),
            "start": _("Per session"),
            "vat": _("VAT %"),
            "includes_vat": _("These prices include VAT"),
        }
        for name, label in labels.items():
            if name in self.fields:
                self.fields[name].label = label
        if "ocpi" in self.fields:
            self.fields["ocpi"].widget.attrs["class"] += " mono"
            if self.initial.get("ocpi"):
                text = json.dumps(self.initial["ocpi"], indent=2, ensure_ascii=False)
                self.initial["ocpi"] = self.fields["ocpi"].initial = json.loads(text)

    def clean(self) -> dict[str, Any]:
        """Build or check the OCPI object; every problem is said with its path."""
        given: dict[str, Any] = super().clean() or {}
        if "ocpi" not in self.fields or "ocpi" in self.errors:
            return given
        try:
            ocpi = _loaded(given.get("file")) or given.get("ocpi") or self._built(given)
        except ValueError:
            self.add_error("file", _("This file is not JSON."))
            return given
        if not ocpi:
            raise ValidationError(_("Give at least one price, or an OCPI tariff object."))
        if isinstance(ocpi, dict):
            ocpi.setdefault("id", slugify(given.get("name") or "tariff"))
        try:
            plan = read_tariff(ocpi)
        except OcpiError as error:
            self.add_error("ocpi", [ValidationError(problem) for problem in error.problems])
            return given
        given["ocpi"] = ocpi
        self.instance.currency = plan.currency
        return given

    def _built(self, given: dict[str, Any]) -> dict[str, Any] | None:
        """The OCPI object of the prices above, or None where none was given."""
        vat = given.get("vat")
        rate = {} if vat is None else {"vat": float(vat)}

        def component(kind: str, value: Decimal) -> dict[str, Any]:
            return {"type": kind, "price": float(value), **rate, "step_size": 1}

        parts = []
        if given.get("kwh") is not None:
            parts.append(component("ENERGY", given["kwh"]))
        if given.get("start"):
            parts.append(component("FLAT", given["start"]))
        elements = [{"price_components": parts}] if parts else []
        if given.get("minute"):
            occupied: dict[str, Any] = {
                "price_components": [component("PARKING_TIME", given["minute"] * 60)]
            }
            if given.get("free_minutes"):
                occupied["restrictions"] = {"min_duration": given["free_minutes"] * 60}
            elements.append(occupied)
        if not elements:
            return None
        return {
            "id": slugify(given.get("name") or "tariff"),
            "currency": (given.get("currency") or settings.DEFAULT_CURRENCY).upper(),
            "tariff_alt_text": [{"language": "en", "text": given.get("name", "")}],
            "tax_included": "YES" if given.get("includes_vat") and vat is not None else "NO",
            "elements": elements,
            "last_updated": timezone.now().strftime("%Y-%m-%dT%H:%M:%SZ"),
        }


def _loaded(file: Any) -> Any:
    """The object in an uploaded file; raises ValueError."""
    return None if file is None else json.loads(file.read(1_000_000).decode("utf-8-sig"))


@admin.register(Tariff)
class TariffAdmin(StaffAdmin):
    """Tariff versions. A version that priced a session is frozen; a change is a new version."""

    form = TariffForm
    list_display = ("title", "state_chip", "in_words", "valid_from", "valid_until", "used")
    list_display_links = ("title",)
    list_filter = ("currency",)
    search_fields = ("name", "key")
    export_fields = ("key", "version", "name", "currency", "valid_from", "valid_until")
    ordering = ("key", "-version")
    readonly_fields = ("prices", "examples", "remarks", "desk", "key", "version", "used", "digest")

    @described(gettext_lazy("tariff"), order="name")
    def title(self, tariff: Tariff) -> str:
        """Name and version."""
        return f"{tariff.name} · v{tariff.version}"

    @described(gettext_lazy("state"))
    def state_chip(self, tariff: Tariff) -> SafeString:
        """In force, planned or over."""
        now = timezone.now()
        if tariff.valid_from > now:
            return chip(_("planned"), "blue")
        if tariff.valid_until is not None and tariff.valid_until <= now:
            return chip(_("over"))
        return chip(_("in force"), "green")

    @described(gettext_lazy("price"))
    def in_words(self, tariff: Tariff) -> str:
        """The first prices in words."""
        said = words.describe(tariff.ocpi)
        return "; ".join(said[:2]) + (" …" if len(said) > 2 else "")

    @described(gettext_lazy("first used"), order="first_used_at")
    def used(self, tariff: Tariff) -> SafeString:
        """When it first priced a session."""
        return moment(tariff.first_used_at)

    @described(gettext_lazy("Price in words"))
    def prices(self, tariff: Tariff) -> SafeString:
        """Every price as the driver reads it before the start."""
        if not tariff.ocpi:
            return SafeString("–")
        return format_html(
            '<ul class="stack">{}</ul>',
            format_html_join("", "<li>{}</li>", ((line,) for line in words.describe(tariff.ocpi))),
        )

    @described(gettext_lazy("What it comes to"))
    def examples(self, tariff: Tariff) -> SafeString:
        """A few sessions priced, taxes included."""
        if not tariff.ocpi:
            return SafeString("–")
        plan = read_tariff(tariff.ocpi, strict=False)
        return format_html(
            '<ul class="stack">{}</ul>',
            format_html_join("", "<li>{}: <b>{}</b></li>", (example(plan, *s) for s in SAMPLES)),
        )

    @described(gettext_lazy("Worth a look"))
    def remarks(self, tariff: Tariff) -> SafeString:
        """What `billing.lint` finds, for the places that use the tariff."""
        if not tariff.ocpi:
            return SafeString("–")
        found = desk.remarks(tariff)
        if not found:
            return chip(_("nothing odd"), "green")
        return format_html(
            '<ul class="stack">{}</ul>',
            format_html_join(
                "",
                "<li>{} {}{}</li>",
                (
                    (
                        chip(one.level, desk.TONES[one.level]),
                        "" if one.element is None else f"[{one.element}] ",
                        one.text,
                    )
                    for one in found
                ),
            ),
        )

    @described(gettext_lazy("Try and hand on"))
    def desk(self, tariff: Tariff) -> SafeString:
        """Simulation and OCPI files."""
        if not tariff.pk:
            return SafeString("–")
        links = [
            (reverse("admin:billing_tariff_simulate", args=[tariff.pk]), _("Past sessions")),
            (reverse("admin:billing_tariff_ocpi", args=[tariff.pk, "2.3.0"]), "OCPI 2.3.0"),
            (reverse("admin:billing_tariff_ocpi", args=[tariff.pk, "2.2.1"]), "OCPI 2.2.1"),
        ]
        return format_html_join(" ", '<a class="tool keep-word" href="{}">{}</a>', links)

    def get_urls(self) -> list[URLPattern]:
        """Simulation and export."""
        wrap = self.admin_site.admin_view
        return [
            path("<int:pk>/simulate/", wrap(self.simulate_view), name="billing_tariff_simulate"),
            path("<int:pk>/ocpi/<str:version>/", wrap(self.ocpi_view), name="billing_tariff_ocpi"),
            *super().get_urls(),
        ]

    def simulate_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """What past sessions would have cost with this tariff."""
        user: Any = request.user
        if not (self.has_view_permission(request) and user.has_perm("billing.view_charge")):
            raise PermissionDenied
        tariff = get_object_or_404(Tariff, pk=pk)
        context = self.admin_site.each_context(request) | desk.simulated(tariff, request.GET)
        context |= {"opts": self.opts, "title": str(tariff), "tariff": tariff}
        return render(request, "admin/billing/tariff/simulation.html", context)

    def ocpi_view(self, request: HttpRequest, pk: int, version: str) -> HttpResponse:
        """The tariff as an OCPI object in a file."""
        if not self.has_view_permission(request) or version not in ("2.3.0", "2.2.1"):
            raise PermissionDenied
        tariff = get_object_or_404(Tariff, pk=pk)
        text = json.dumps(as_version(tariff.ocpi, version), indent=2, ensure_ascii=False)
        answer = HttpResponse(text, content_type="application/json")
        name = f"{tariff.key}-v{tariff.version}-ocpi-{version}.json"
        answer["Content-Disposition"] = f'attachment; filename="{name}"'
        return answer

    @described(gettext_lazy("SHA-256"))
    def digest(self, tariff: Tariff) -> SafeString:
        """What a driver was shown can be proved by this."""
        return format_html('<span class="mono">{}</span>', tariff.sha256 if tariff.ocpi else "–")

    def get_fieldsets(self, request: HttpRequest, obj: Tariff | None = None) -> Any:
        """Prices first when adding; the words first afterwards."""
        if obj is None:
            simple = ("currency", "kwh", "start", "minute", "free_minutes", "vat", "includes_vat")
            return (
                (None, {"fields": ("name", ("valid_from", "valid_until"))}),
                (_("Prices"), {"fields": simple}),
                (_("Or as OCPI"), {"fields": ("file", "ocpi"), "classes": ("collapse",)}),
            )
        return (
            (None, {"fields": ("prices", "examples", "remarks", "desk")}),
            (_("Version"), {"fields": ("name", ("key", "version"), ("valid_from", "valid_until"))}),
            ("OCPI", {"fields": ("ocpi", "digest", "used")}),
        )

    def get_readonly_fields(self, request: HttpRequest, obj: Tariff | None = None) -> Any:
        """A used version keeps what it promised; only its end may still be set."""
        if obj is not None and obj.first_used_at is not None:
            return (*self.readonly_fields, *FROZEN)
        return self.readonly_fields

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        """Begin a new version with the tariff it follows (?version_of=ID)."""
        initial: dict[str, Any] = super().get_changeform_initial_data(request)
        given = request.GET.get("version_of", "")
        before = Tariff.objects.filter(pk=int(given)).first() if given.isdigit() else None
        if before is not None:
            initial |= {"name": before.name, "ocpi": before.ocpi}
        return initial

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any
    ) -> Any:
        """Offer the next version where this one is frozen."""
        tariff = kwargs.get("obj")
        if tariff is not None and tariff.first_used_at is not None:
            address = reverse("admin:billing_tariff_add") + f"?version_of={tariff.pk}"
            self.message_user(
                request,
                format_html(
                    '{} <a href="{}"><b>{}</b></a>',
                    _("Sessions were priced with this version, so its prices stay."),
                    address,
                    _("Make a new version"),
                ),
                level="info",
            )
        return super().render_change_form(request, context, *args, **kwargs)

    def save_model(self, request: HttpRequest, obj: Tariff, form: Any, change: bool) -> None:
        """A new tariff is published: it follows the version before."""
        if change:
            super().save_model(request, obj, form, change)
            return
        published = tariffs.publish(obj.ocpi, name=obj.name, valid_from=obj.valid_from)
        if obj.valid_until is not None:
            published.valid_until = obj.valid_until
            published.save()
        obj.pk = published.pk
        obj.refresh_from_db()

    def has_delete_permission(self, request: HttpRequest, obj: Tariff | None = None) -> bool:
        """A version that priced a session stays."""
        if obj is not None and obj.first_used_at is not None:
            return False
        return bool(super().has_delete_permission(request, obj))


def example(plan: Plan, wh: int, minutes: int, parked: int) -> tuple[str, str]:
    """What a session would cost at noon on a Wednesday, in words."""
    start = dt.datetime(2026, 7, 1, 12, tzinfo=dt.UTC)
    stop = start + dt.timedelta(minutes=minutes)
    power = Fraction(wh * 60, minutes * 1000)
    periods = [Period(start, stop, wh, minutes * 60, min_kw=power, max_kw=power)]
    if parked:
        periods.append(Period(stop, stop + dt.timedelta(minutes=parked), parking_s=parked * 60))
    bill = price(plan, Usage(tuple(periods), ZoneInfo("UTC"), started=start))
    said = _("%(kwh)s kWh in %(minutes)s min") % {"kwh": wh // 1000, "minutes": minutes}
    if parked:
        said += ", " + _("then parked %(hours)s h") % {"hours": parked // 60}
    return said, words.amount(bill.after, plan.currency, places=2)


class AssignmentForm(forms.ModelForm):  # type: ignore[type-arg]
    """A tariff, by its key, for one station, one site, a driver group, or everything else."""

    key = forms.ChoiceField(label=gettext_lazy("Tariff"), widget=UnfoldAdminSelectWidget)

    class Meta:
        model = TariffAssignment
        fields = ("key", "station", "site", "group", "is_default")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        rows = Tariff.objects.order_by("key", "-version").values_list("key", "name")
        names = {key: f"{name} ({key})" for key, name in reversed(list(rows))}
        field: Any = self.fields["key"]
        field.choices = sorted(names.items(), key=lambda pair: pair[1])


@admin.register(TariffAssignment)
class TariffAssignmentAdmin(StaffAdmin):
    """Which tariff applies: the station's own, its site's, the driver group's, the default."""

    form = AssignmentForm
    list_display = ("target", "tariff", "in_words")
    list_select_related = ("station", "site", "group")
    search_fields = ("key", "station__identity", "site__name")
    autocomplete_fields = ()

    @described(gettext_lazy("where"))
    def target(self, row: TariffAssignment) -> str:
        """Station, site or default."""
        return str(row.station or row.site or row.group or _("Everywhere else"))

    def get_queryset(self, request: HttpRequest) -> Any:
        """With the version in force now, in the same query."""
        current = (
            Tariff.objects.all()
            .valid_at(timezone.now())
            .filter(key=OuterRef("key"))
            .order_by("-version")
        )
        return (
            super()
            .get_queryset(request)
            .annotate(
                now_name=Subquery(current.values("name")[:1]),
                now_version=Subquery(current.values("version")[:1]),
                now_ocpi=Subquery(current.values("ocpi")[:1]),
            )
        )

    @described(gettext_lazy("tariff"), order="key")
    def tariff(self, row: Any) -> str:
        """The version in force now."""
        return f"{row.now_name} (v{row.now_version})" if row.now_name else row.key

    @described(gettext_lazy("price"))
    def in_words(self, row: Any) -> SafeString | str:
        """Its first prices; a hole in the validity is said."""
        if not row.now_ocpi:
            return chip(_("no version is valid now"), "red")
        return "; ".join(words.describe(row.now_ocpi)[:2])


@admin.register(DriverGroup)
class DriverGroupAdmin(StaffAdmin):
    """Drivers who share a tariff; assign it under tariff assignments."""

    list_display = ("name", "members", "tariff")
    search_fields = ("name", "drivers__email")
    filter_horizontal = ("drivers",)
    autocomplete_fields = ()
    list_select_related = ("tariff_assignment",)

    def get_queryset(self, request: HttpRequest) -> Any:
        """With the number of drivers."""
        return super().get_queryset(request).annotate(number=Count("drivers"))

    @described(gettext_lazy("drivers"), order="number")
    def members(self, group: Any) -> SafeString:
        """How many."""
        return format_html('<span class="num">{}</span>', group.number)

    @described(gettext_lazy("tariff"))
    def tariff(self, group: DriverGroup) -> str:
        """The key of its tariff."""
        row = getattr(group, "tariff_assignment", None)
        return row.key if row is not None else "–"
