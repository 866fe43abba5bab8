"""What every page may show: the operator's name and contact, and whether this is the sandbox."""

from typing import Any

from django.conf import settings
from django.core.cache import cache
from django.http import HttpRequest
from django.utils.translation import gettext as _

from billing.models import Seller

KEEP_S = 60


def brand_facts() -> dict[str, str]:
    """Return name, legal line, phone, e-mail and colour of the operator; kept for a minute."""
    facts: dict[str, str] | None = cache.get("portal-brand")
    if facts is None:
        seller = Seller.objects.filter(is_default=True).first()
        facts = {"name": str(_("Charging")), "legal": "", "phone": "", "email": "", "colour": ""}
        if seller:
            place = f"{seller.street}, {seller.postcode} {seller.city}"
            facts = {
                "name": seller.name,
                "legal": f"{seller.legal_name}, {place}",
                "phone": seller.phone,
                "email": seller.email,
                "colour": seller.colour,
            }
        cache.set("portal-brand", facts, KEEP_S)
    return facts


def brand(request: HttpRequest) -> dict[str, Any]:
    """Give templates `brand` and `sandbox`; asked only where a template uses them."""
    return {"brand": _Lazy(), "sandbox": settings.PAYMENT_SANDBOX}


class _Lazy:
    """Looks the facts up at first use: the admin's pages do not pay for it."""

    def __getitem__(self, name: str) -> str:
        return brand_facts()[name]
