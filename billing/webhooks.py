"""The provider's events: kept once by their id, then applied as hints to read again.

The body of an event is never believed: it says which payment to look at, and a fresh read says
what became of it. So events may be lost, doubled, late and in any order.
"""

from __future__ import annotations

import datetime as dt
import logging
import uuid
from typing import Any

from django.db import IntegrityError, transaction
from django.utils import timezone

from billing import refunds, steps
from billing.models import Payment, ProviderEvent
from billing.transitions import COLLECTED, alert
from stations import journal

log = logging.getLogger(__name__)

HEARD = (
    "payment_intent.", "charge.", "refund.", "setup_intent.", "radar.early_fraud_warning.",
)  # fmt: skip
KEPT = ("id", "object", "payment_intent", "charge", "status", "amount", "reason")


def keep(event: dict[str, Any]) -> ProviderEvent | None:
    """Write the event down, once, and have it applied after commit; None if it is none of ours.

    Only what leads to our payment is kept: an event's body holds the client secret and the
    driver's details, which have no business in our database.
    """
    if not event["type"].startswith(HEARD):
        return None
    body = event["data"]["object"]
    payload = {name: body[name] for name in KEPT if isinstance(body.get(name), str | int)}
    metadata = body.get("metadata") or {}
    payload["payment"] = metadata.get("payment", "")
    row = ProviderEvent(
        id=event["id"],
        provider="stripe",
        account=event.get("account") or "",
        type=event["type"],
        livemode=event["livemode"],
        created_at=dt.datetime.fromtimestamp(event["created"], dt.UTC),
        payload=payload,
    )
    try:
        with transaction.atomic():
            row.save(force_insert=True)
            journal.record("payment.event_received", "", event=row.pk, type=row.type)
    except IntegrityError:
        return ProviderEvent.objects.get(pk=event["id"])
    return row


def apply(event_id: str) -> None:
    """Read the payment the event is about, and mark the event as applied. Idempotent."""
    row = ProviderEvent.objects.filter(pk=event_id, applied_at__isnull=True).first()
    if row is None:
        return
    payment = _payment_of(row)
    if payment is not None:
        payment = steps.refresh(payment.pk, row.type)
        if payment.state in COLLECTED and row.type.startswith(("refund.", "charge.refund")):
            refunds.sync(payment)
        if row.type.startswith("radar.early_fraud_warning."):
            alert(payment, "early_fraud_warning")
    ProviderEvent.objects.filter(pk=event_id).update(applied_at=timezone.now(), error="")


def _payment_of(row: ProviderEvent) -> Payment | None:
    body = row.payload
    ref = body.get("id") if body.get("object") == "payment_intent" else body.get("payment_intent")
    rows = Payment.objects.filter(provider=row.provider)
    payment = rows.filter(provider_ref=ref).first() if ref else None
    if payment is None and body.get("payment"):
        try:
            payment = rows.filter(pk=uuid.UUID(body["payment"])).first()
        except ValueError:
            return None
        if payment is not None and ref and payment.provider_ref is None:
            Payment.objects.filter(pk=payment.pk, provider_ref__isnull=True).update(
                provider_ref=ref
            )
    if payment is not None and payment.provider_account != row.account:
        log.error("Event %s is of account %r, its payment is not", row.pk, row.account)
        return None
    return payment
