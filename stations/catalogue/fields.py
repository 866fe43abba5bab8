"""Fields that several orders have."""

import json
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.utils.translation import gettext_lazy as _


class KeysField(forms.CharField):
    """A list of texts: one a line or comma-separated in a form, a list in code and JSON."""

    widget = forms.Textarea

    def to_python(self, value: Any) -> Any:
        """Return list[str]."""
        if isinstance(value, list | tuple):
            return [str(one).strip() for one in value if str(one).strip()]
        text = super().to_python(value) or ""
        return [one.strip() for one in text.replace(",", "\n").splitlines() if one.strip()]


class NumbersField(KeysField):
    """A list of whole numbers, written like a list of texts."""

    def to_python(self, value: Any) -> Any:
        """Return list[int]."""
        try:
            return [int(one) for one in super().to_python(value)]
        except ValueError:
            raise ValidationError(_("Give whole numbers, one a line.")) from None


class ObjectField(forms.CharField):
    """A JSON object, or list of objects, as the specification writes it (camelCase)."""

    widget = forms.Textarea

    def __init__(self, *, many: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.kind: type = list if many else dict

    def to_python(self, value: Any) -> Any:
        """Return the object or the list."""
        if value in (None, ""):
            return None
        if isinstance(value, str):
            try:
                value = json.loads(value)
            except ValueError:
                raise ValidationError(_("This is no JSON.")) from None
        if not isinstance(value, self.kind):
            raise ValidationError(
                _("Give a JSON list.") if self.kind is list else _("Give a JSON object.")
            )
        return value

    def prepare_value(self, value: Any) -> Any:
        """Show what was given as JSON."""
        return json.dumps(value, indent=2) if isinstance(value, dict | list) else value


class ChoicesField(forms.MultipleChoiceField):
    """Several of a few words; in code and JSON a list."""

    widget = forms.CheckboxSelectMultiple


def evse_field(*, required: bool = False) -> forms.IntegerField:
    """Return the field for an EVSE's number."""
    return forms.IntegerField(
        label=_("EVSE"),
        min_value=1,
        required=required,
        help_text=_("In OCPP 1.6 the connector's number.")
        if required
        else _("Empty: the station."),
    )


def connector_field() -> forms.IntegerField:
    """Return the field for a connector of an EVSE."""
    return forms.IntegerField(label=_("Connector"), min_value=1, required=False)


def hidden_number() -> forms.IntegerField:
    """Return a number that code gives and people do not."""
    return forms.IntegerField(required=False, widget=forms.HiddenInput)


def one_of(
    label: Any,
    words: "tuple[Any, ...] | list[Any]",
    *,
    required: bool = False,
    **more: Any,
) -> forms.ChoiceField:
    """Return a choice of OCPP's own words, or of (word, label)."""
    choices = [word if isinstance(word, tuple) else (word, word) for word in words]
    if not required and not more.get("initial"):
        choices.insert(0, ("", "–"))
    return forms.ChoiceField(label=label, choices=choices, required=required, **more)
