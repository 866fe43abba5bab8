"""The form of a new campaign: which stations, how carefully, when."""

from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.http import HttpRequest
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from unfold.widgets import (
    UnfoldAdminSelectWidget,
    UnfoldAdminTextareaWidget,
    UnfoldAdminTextInputWidget,
)

from firmware import images
from firmware.models import (
    Campaign,
    FirmwareImage,
)
from stations.admin.base import in_scope
from stations.models import Site, Station


class CampaignForm(forms.ModelForm):  # type: ignore[type-arg]
    """What a new campaign updates, and how carefully."""

    TARGETS = (
        ("behind", gettext_lazy("Every station behind this release")),
        ("site", gettext_lazy("The stations of one site")),
        ("chosen", gettext_lazy("The stations named below")),
    )
    target = forms.ChoiceField(
        label=gettext_lazy("Update"), choices=TARGETS, widget=UnfoldAdminSelectWidget
    )
    site = forms.ModelChoiceField(
        Site.objects.all(),
        label=gettext_lazy("Site"),
        required=False,
        widget=UnfoldAdminSelectWidget,
    )
    chosen = forms.CharField(
        label=gettext_lazy("Stations"),
        required=False,
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 3}),
        help_text=gettext_lazy("Identities, one a line or separated by commas."),
    )
    waves_text = forms.CharField(
        label=gettext_lazy("Waves"),
        initial="1, 25%, 100%",
        widget=UnfoldAdminTextInputWidget,
        help_text=gettext_lazy("A number of stations, or a share of all reached so far."),
    )
    approve = forms.BooleanField(
        label=gettext_lazy("Start now"),
        required=False,
        initial=True,
        help_text=gettext_lazy("Otherwise it waits as a draft for somebody's approval."),
    )

    class Meta:
        model = Campaign
        fields = (
            "name",
            "image",
            "concurrency",
            "site_concurrency",
            "max_failures_percent",
            "bake_s",
            "probation_s",
            "window_from",
            "window_to",
            "max_attempts",
            "retry_s",
            "expires_at",
        )

    staff: HttpRequest  # set by the admin: whose sites may be updated

    def clean(self) -> dict[str, Any]:
        """Find the stations; say how many fit."""
        cleaned = super().clean() or {}
        self.instance.waves = [
            one.strip() for one in cleaned.get("waves_text", "").split(",") if one.strip()
        ]
        image = cleaned.get("image")
        if image:
            cleaned["stations"] = fitting = self._stations(cleaned, image)
            if not fitting:
                raise ValidationError(
                    _("None of these stations is behind %(image)s and fits it.") % {"image": image}
                )
        return cleaned

    def _stations(self, cleaned: dict[str, Any], image: FirmwareImage) -> list[Station]:
        rows = in_scope(
            Station.objects.filter(state=Station.State.ACCEPTED), self.staff, "site"
        ).select_related("site")
        if cleaned.get("target") == "site":
            rows = rows.filter(site=cleaned.get("site"))
        elif cleaned.get("target") == "chosen":
            names = [one for one in cleaned["chosen"].replace(",", " ").split() if one]
            rows = rows.filter(identity__in=names)
            if missing := sorted(set(names) - {one.identity for one in rows}):
                raise ValidationError(
                    {"chosen": _("No such station: %(names)s.") % {"names": ", ".join(missing)}}
                )
        return [
            one
            for one in rows
            if images.fits(image, one) and not images.is_version(image, one.firmware)
        ]
