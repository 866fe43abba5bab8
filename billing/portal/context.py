"""What every page may show: the operator's name and contact, and whether this is the sandbox."""

from typing import Any

from django.conf import settings
from django.core.cache import cache
from django.http import HttpRequest
from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop

from billing.models import Seller

KEEP_S = 60

# Labels of the stations app that drivers read: named here, so that the catalogue has them.
LABELS = (
    gettext_noop("Type 1"),
    gettext_noop("Type 2"),
    gettext_noop("Accepted"),
    gettext_noop("Blocked"),
    gettext_noop("Unknown, waiting to be enrolled"),
)


def brand_facts() -> dict[str, str]:
    """Return name, legal line, phone, e-mail and colour of the operator; kept for a minute.

    The name is empty where no operator is set up yet.
    """
    facts: dict[str, str] | None = cache.get("portal-brand")
    if facts is None:
        seller = Seller.objects.filter(is_default=True).first()
        facts = {"name": "", "legal": "", "phone": "", "email": "", "colour": ""}
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
        return brand_facts()[name] or (_("Charging") if name == "name" else "")
