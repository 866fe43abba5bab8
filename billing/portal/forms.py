"""What a driver sends before paying."""

from django import forms
from django.utils.translation import gettext_lazy as _

from billing.models import Payment


class PayForm(forms.Form):
    """The chosen cap (minor units) and, if wanted, an address for the receipt."""

    cap = forms.IntegerField(label=_("Reserve"), min_value=1)
    email = forms.EmailField(label=_("E-mail for the receipt (optional)"), required=False)

    def __init__(self, *args: object, caps: list[int], **kwargs: object) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]
        self.caps = caps

    def clean_cap(self) -> int:
        """Only an offered cap."""
        cap: int = self.cleaned_data["cap"]
        if cap not in self.caps:
            raise forms.ValidationError(_("Choose one of the offered amounts."))
        return cap


def caps_for(max_power_w: int, currency_factor: int) -> list[int]:
    """Return the offered caps in minor units, the middle one first choice: AC 30, DC 60."""
    units = (30, 60, 90) if max_power_w >= 50_000 else (15, 30, 45)
    return [unit * currency_factor for unit in units]


def cookie_of(payment: Payment) -> str:
    """Return the name of the cookie that resumes a session from the same QR code."""
    return f"session-{payment.connector.code}"
