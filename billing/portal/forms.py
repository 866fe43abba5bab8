"""What a driver sends before paying."""

from __future__ import annotations

from babel import Locale
from django import forms
from django.core.exceptions import ValidationError
from django.utils.translation import gettext_lazy as _

from stations import vat

COUNTRIES = (
    "AT", "BE", "BG", "CH", "CY", "CZ", "DE", "DK", "EE", "ES", "FI", "FR", "GB", "GR", "HR", "HU",
    "IE", "IS", "IT", "LI", "LT", "LU", "LV", "MT", "NL", "NO", "PL", "PT", "RO", "SE", "SI", "SK",
)  # fmt: skip
DETAILS = ("company", "vat_id", "street", "postcode", "city", "country")


def country_names(language: str) -> list[tuple[str, str]]:
    """Return the countries an invoice may go to, by name in this language."""
    names = Locale.parse(language.replace("-", "_")).territories
    return sorted(((code, names.get(code, code)) for code in COUNTRIES), key=lambda one: one[1])


def check_vat_id(text: str) -> str:
    """Return a VAT number without spaces; raises ValidationError where its form is impossible."""
    number = vat.number_in(text)
    if number:
        return number
    raise ValidationError(_("This is no VAT number. Begin with the country: DE123456789."))


class PayForm(forms.Form):
    """The chosen cap (minor units); if wanted, where the receipt goes and whom it names."""

    cap = forms.IntegerField(label=_("Reserve"), min_value=1)
    email = forms.EmailField(label=_("E-mail for the receipt (optional)"), required=False)
    company = forms.CharField(label=_("Company"), required=False, max_length=120)
    vat_id = forms.CharField(label=_("VAT number"), required=False, max_length=20)
    street = forms.CharField(label=_("Street and number"), required=False, max_length=120)
    postcode = forms.CharField(label=_("Postcode"), required=False, max_length=16)
    city = forms.CharField(label=_("City"), required=False, max_length=80)
    country = forms.ChoiceField(
        label=_("Country"),
        required=False,
        choices=[(code, code) for code in ("", *COUNTRIES)],
    )

    def __init__(self, *args: object, caps: list[int], **kwargs: object) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]
        self.caps = caps

    def clean_cap(self) -> int:
        """Only an offered cap."""
        cap: int = self.cleaned_data["cap"]
        if cap not in self.caps:
            raise ValidationError(_("Choose one of the offered amounts."))
        return cap

    def clean_vat_id(self) -> str:
        """A possible VAT number, or none."""
        given: str = self.cleaned_data["vat_id"]
        return check_vat_id(given) if given else ""

    def clean(self) -> None:
        """An address or a VAT number needs the company it belongs to."""
        details = self.billing_details()
        if details and not details.get("company") and "vat_id" not in self.errors:
            self.add_error(
                "company", _("Type the company's name for the invoice, or clear the rest.")
            )

    def billing_details(self) -> dict[str, str]:
        """Return what was given for the invoice; the country alone says nothing."""
        given = {name: self.cleaned_data.get(name, "") for name in DETAILS}
        filled = {name: text for name, text in given.items() if text}
        return {} if filled.keys() <= {"country"} else filled


def caps_for(max_power_w: int, currency_factor: int) -> list[int]:
    """Return the offered caps in minor units, the middle one first choice: AC 30, DC 60."""
    units = (30, 60, 90) if max_power_w >= 50_000 else (15, 30, 45)
    return [unit * currency_factor for unit in units]
