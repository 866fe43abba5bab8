"""Keys of meters: which public key a meter's signed readings are verified against, and when."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin
from django.core.exceptions import ValidationError
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from pyocmf import PublicKey
from pyocmf.exceptions import PyOCMFError

from monitoring.models import MeterKey
from stations.admin.base import StaffAdmin, described, moment


class MeterKeyForm(forms.ModelForm):  # type: ignore[type-arg]
    """A key that can be read, in a time no other key of the meter has."""

    class Meta:
        model = MeterKey
        fields = ("station", "serial", "public_key", "valid_from", "valid_until", "note")

    def clean_public_key(self) -> str:
        """Refuse what is no elliptic-curve key."""
        text = "".join(str(self.cleaned_data["public_key"]).split())
        try:
            PublicKey.from_string(text)
        except (PyOCMFError, ValueError) as error:
            raise ValidationError(_("This is no public key in DER, as hex or base64.")) from error
        return text

    def clean(self) -> dict[str, Any]:
        """One key at a time."""
        found: dict[str, Any] = super().clean() or {}
        since, until = found.get("valid_from"), found.get("valid_until")
        if not (found.get("station") and found.get("serial") and since):
            return found
        others = MeterKey.objects.filter(
            station=found["station"], serial__iexact=found["serial"]
        ).exclude(pk=self.instance.pk)
        for other in others:
            begins_before_end = until is None or other.valid_from < until
            if begins_before_end and (other.valid_until is None or since < other.valid_until):
                raise ValidationError(
                    _("Another key of this meter is valid in that time: let it end first.")
                )
        return found


@admin.register(MeterKey)
class MeterKeyAdmin(StaffAdmin):
    """Which key belongs to which meter, and for how long."""

    form = MeterKeyForm
    site_path = "station__site"
    list_display = ("serial", "station", "since", "until", "note")
    list_select_related = ("station",)
    search_fields = ("serial", "station__identity", "note")
    autocomplete_fields = ("station",)
    export_fields = ("station__identity", "serial", "public_key", "valid_from", "valid_until")

    @described(gettext_lazy("valid from"), order="valid_from")
    def since(self, key: MeterKey) -> SafeString:
        """From when."""
        return moment(key.valid_from)

    @described(gettext_lazy("valid until"), order="valid_until")
    def until(self, key: MeterKey) -> SafeString | str:
        """Until when."""
        return moment(key.valid_until) if key.valid_until else "–"
