"""What a price was computed from, kept beside the document: content-addressed, never changed.

A charge may be priced again (a late stop); the inputs of what was billed before stay under their
SHA-256, which the document's snapshot names.
"""

from __future__ import annotations

import hashlib
from typing import Any

from .models import Charge, PriceInputs
from .models.tariffs import canonical
from .ocpi import read_tariff
from .pricing import Bill, Plan, price
from .totals import Totals, total_up
from .usage import from_json


def keep(charge: Charge) -> dict[str, Any]:
    """Keep the charge's inputs and return what the document says of them."""
    content = {"usage": charge.usage, "tariff": (charge.tariff_snapshot or {}).get("ocpi")}
    digest = digest_of(content)
    PriceInputs.objects.get_or_create(sha256=digest, defaults={"content": content})
    payment = charge.payment
    at_most = None
    if payment is not None:
        at_most = min(payment.hold_minor, payment.captured_minor or payment.hold_minor)
    tax = (content["tariff"] or {}).get("tax_included") or "NO"
    return {
        "sha256": digest,
        "engine": charge.engine,
        "at_most_minor": at_most,
        "net": charge.house_account_id is not None and payment is None and str(tax) == "NO",
    }


def kept(sha256: str) -> dict[str, Any] | None:
    """The inputs under this hash; None where they are not there or no longer hash to it."""
    row = PriceInputs.objects.filter(pk=sha256).first()
    return row.content if row is not None and digest_of(row.content) == sha256 else None


def digest_of(content: dict[str, Any]) -> str:
    """SHA-256 over the canonical JSON."""
    return hashlib.sha256(canonical(content)).hexdigest()


def computed(session: dict[str, Any], content: dict[str, Any]) -> tuple[Plan, Bill, Totals]:
    """Tariff, bill and totals of a document's session, from its kept inputs."""
    said = session["inputs"]
    plan = read_tariff(content["tariff"], strict=False)
    bill = price(plan, from_json(content["usage"]))
    return plan, bill, total_up(plan, bill, said["at_most_minor"], net=said["net"])
