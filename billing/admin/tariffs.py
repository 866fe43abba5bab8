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
from django.core.exceptions import ValidationError
from django.db.models import OuterRef, Subquery
from django.http import HttpRequest
from django.urls import reverse
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
from billing.models import Tariff, TariffAssignment
from billing.ocpi import OcpiError, read_tariff
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
        ocpi = given.get("ocpi") or self._built(given)
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
    readonly_fields = ("prices", "examples", "key", "version", "used", "digest")

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
                (_("Or as OCPI"), {"fields": ("ocpi",), "classes": ("collapse",)}),
            )
        return (
            (None, {"fields": ("prices", "examples")}),
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
    """A tariff, by its key, for one station, one site, or everything else."""

    key = forms.ChoiceField(label=gettext_lazy("Tariff"), widget=UnfoldAdminSelectWidget)

    class Meta:
        model = TariffAssignment
        fields = ("key", "station", "site", "is_default")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        rows = Tariff.objects.order_by("key", "-version").values_list("key", "name")
        names = {key: f"{name} ({key})" for key, name in reversed(list(rows))}
        field: Any = self.fields["key"]
        field.choices = sorted(names.items(), key=lambda pair: pair[1])


@admin.register(TariffAssignment)
class TariffAssignmentAdmin(StaffAdmin):
    """Which tariff applies where: the station's own, else its site's, else the default."""

    form = AssignmentForm
    list_display = ("target", "tariff", "in_words")
    list_select_related = ("station", "site")
    search_fields = ("key", "station__identity", "site__name")
    autocomplete_fields = ()

    @described(gettext_lazy("where"))
    def target(self, row: TariffAssignment) -> str:
        """Station, site or default."""
        return str(row.station or row.site or _("Everywhere else"))

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
