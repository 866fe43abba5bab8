"""How a document bears VAT: gross or net rounding, and reverse charge.

Drivers see gross prices and keep their gross total (docs/adr/0010). A house account at net prices
gets net lines and the VAT once a rate. A dealer of electricity seated abroad owes the VAT itself.
"""

from __future__ import annotations

from typing import Any

from .models import HouseAccount, Seller
from .totals import vat_on_net


def kind_of(
    account: HouseAccount | None, seller: Seller, sessions: list[dict[str, Any]], currency: str
) -> dict[str, Any]:
    """The document's `rounding` (net, gross), whether it reverses the charge, its currency."""
    net = account is not None and not any(session["tax_included"] for session in sessions)
    return {
        "rounding": "net" if net else "gross",
        "reverse_charge": account is not None and reverses_charge(account, seller),
        "currency": currency,
    }


def lines_as(kind: dict[str, Any], lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The sessions' lines as a document of this `kind` (rounding, reverse_charge) has them."""
    if kind.get("reverse_charge"):
        return [_reversed(line) for line in lines]
    if kind.get("rounding") == "net":
        return vat_on_net(lines, kind["currency"])
    return lines


def reverses_charge(account: HouseAccount, seller: Seller) -> bool:
    """Whether the customer owes the VAT: a taxable dealer of electricity seated abroad.

    Directive 2006/112 art. 38 (place of supply to a dealer) and 195; other customers pay the VAT
    of the country the station stands in (art. 39, CJEU C-60/23).
    """
    abroad = account.country.upper() not in ("", seller.country.upper())
    return bool(account.reverse_charge and account.vat_id and abroad)


def _reversed(line: dict[str, Any]) -> dict[str, Any]:
    """A line without VAT that the customer accounts for; what the tariff had is kept."""
    return line | {
        "tariff_vat": line["vat"],
        "vat": "0",
        "category": "AE",
        "vat_minor": 0,
        "gross_minor": line["net_minor"],
    }
