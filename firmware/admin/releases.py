"""Releases in the back office: upload, who is behind, start a campaign."""

import re
from typing import Any

from django import forms
from django.contrib import admin
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from unfold.decorators import action
from unfold.widgets import UnfoldAdminTextareaWidget

from firmware import images
from firmware.models import (
    FirmwareImage,
)
from stations.admin.base import StaffAdmin, chip, described

VERSION_CHARS = 50


class VersionsField(forms.CharField):
    """Version texts, one a line or between commas, kept as a list."""

    def prepare_value(self, value: Any) -> Any:
        """Show a list with one text a line."""
        return "\n".join(map(str, value)) if isinstance(value, list) else value

    def to_python(self, value: Any) -> Any:
        """Return the texts in the order given, each once."""
        given = re.split(r"[,\n]", str(super().to_python(value) or "").replace("\r", ""))
        return list(dict.fromkeys(text for one in given if (text := one.strip())))

    def validate(self, value: list[str]) -> None:
        """Refuse what no station can report (firmwareVersion: 50 characters)."""
        super().validate(value)
        for text in value:
            if len(text) > VERSION_CHARS:
                raise ValidationError(
                    _("“%(text)s…” is too long: stations report at most %(n)d characters.")
                    % {"text": text[:20], "n": VERSION_CHARS}
                )
            if text[0] in "[{" or text[-1] in "]}":
                raise ValidationError(
                    _("Write the bare version, without brackets: one a line, or commas between.")
                )

    def has_changed(self, initial: Any, data: Any) -> bool:
        """Compare as lists."""
        return bool((initial or []) != self.to_python(data))

    def run_validators(self, value: Any) -> None:
        """None beside `validate`: the value is a list."""


class ImageForm(forms.ModelForm):  # type: ignore[type-arg]
    """Upload of a release: the file is hashed and its signature checked before it is kept."""

    also_reported_as = VersionsField(
        label=gettext_lazy("Also reported as"),
        required=False,
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 2}),
        help_text=gettext_lazy(
            "Other texts a station may report for this release: one a line, or commas between."
        ),
    )

    class Meta:
        model = FirmwareImage
        fields = (
            "vendor",
            "model",
            "version",
            "also_reported_as",
            "file",
            "signature",
            "certificate",
            "notes",
            "withdrawn",
        )

    def clean(self) -> dict[str, Any]:
        """Check the signature now, so that its error stands in the form."""
        cleaned = super().clean() or {}
        file = cleaned.get("file")
        if self.instance.pk or not file:
            return cleaned
        try:
            images.verify(file, cleaned.get("signature", ""), cleaned.get("certificate", ""))
        except images.ImageError as error:
            raise ValidationError(str(error)) from error
        return cleaned


@admin.register(FirmwareImage)
class FirmwareImageAdmin(StaffAdmin):
    """Releases: upload, see who is behind, start a campaign."""

    form = ImageForm
    list_display = ("release", "version", "size_mb", "signed", "behind", "withdrawn", "created_at")
    list_filter = ("vendor", "withdrawn")
    search_fields = ("vendor", "model", "version", "sha256")
    readonly_fields = ("sha256", "md5", "size", "signature_scheme", "created_at", "created_by")
    export_fields = ("id", "vendor", "model", "version", "size", "sha256", "created_at")
    actions_row = ("campaign_for",)

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        """Ask for little on upload; show what was found out afterwards."""
        sets: list[Any] = [
            (None, {"fields": ["vendor", "model", "version", "also_reported_as", "file", "notes"]}),
            (_("Signature"), {"fields": ["signature", "certificate"]}),
        ]
        if obj:
            sets[0][1]["fields"].append("withdrawn")
            sets.append((_("Found out at upload"), {"fields": list(self.readonly_fields)}))
        return sets

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        """A release's file never changes; upload a new version."""
        fixed = ("vendor", "model", "version", "file", "signature", "certificate")
        return (*self.readonly_fields, *fixed) if obj else self.readonly_fields

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        """Take the file in through `images.add`, the one door."""
        if change:
            super().save_model(request, obj, form, change)
            return
        given = form.cleaned_data
        try:
            made = images.add(
                given["file"],
                vendor=given["vendor"],
                model=given["model"],
                version=given["version"],
                signature=given["signature"],
                certificate=given["certificate"],
                notes=given["notes"],
                also_reported_as=given["also_reported_as"] or [],
                by=request.user,  # type: ignore[arg-type]
            )
        except images.ImageError as error:  # another upload was faster
            raise ValidationError(str(error)) from error
        obj.__dict__.update(made.__dict__)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """A release stations have run stays; withdraw it instead."""
        return super().has_delete_permission(request, obj) and not (
            obj and (obj.jobs.exists() or obj.campaigns.exists())
        )

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Look up once who is behind."""
        self._behind = {image.pk: len(rows) for image, rows in images.behind().items()}
        return super().changelist_view(request, extra_context)

    @described(gettext_lazy("release"), order="vendor")
    def release(self, image: FirmwareImage) -> str:
        """Vendor and model."""
        return f"{image.vendor} {image.model or _('(every model)')}"

    @described(gettext_lazy("size"), order="size")
    def size_mb(self, image: FirmwareImage) -> str:
        """Size in MB."""
        return f"{image.size / 1_000_000:.1f} MB"

    @described(gettext_lazy("signature"))
    def signed(self, image: FirmwareImage) -> SafeString:
        """The signature's scheme."""
        if image.signature_scheme:
            return chip(image.get_signature_scheme_display(), "green")
        return chip(_("unsigned"))

    @described(gettext_lazy("stations behind"))
    def behind(self, image: FirmwareImage) -> SafeString | str:
        """How many stations this newest release would update; a link to do it."""
        count = self._behind.get(image.pk, 0)
        if not count:
            return "–"
        href = reverse("admin:firmware_campaign_add") + f"?image={image.pk}&target=behind"
        return chip(_("%(n)d behind") % {"n": count}, "amber", href=href)

    @action(  # type: ignore[untyped-decorator]
        description=gettext_lazy("Start a campaign"), icon="rocket_launch"
    )
    def campaign_for(self, request: HttpRequest, object_id: int) -> HttpResponse:
        """Open the campaign form with this release; changes nothing yet."""
        query = f"?image={object_id}&target=behind"
        return HttpResponseRedirect(reverse("admin:firmware_campaign_add") + query)
