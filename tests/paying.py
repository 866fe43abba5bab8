"""What a driver, a bank and a charger do in tests of payments."""

from __future__ import annotations

from typing import Any

from django.test import Client
from django.utils import timezone

from billing import payments, start
from billing.models import Payment
from billing.sandbox import control, events
from billing.sandbox.engine import Sandbox
from monitoring.models import Session
from stations import journal
from stations.models import Connector
from tests import make

SNAPSHOT: dict[str, Any] = {"currency": "EUR"}


def connector(**fields: Any) -> Connector:
    """A free connector of a public station that is online."""
    station = make.station(connected=True, public=True, **fields)
    row = station.connectors.get()
    row.status = Connector.Status.AVAILABLE
    row.save()
    return row


def begin(at: Connector | None = None, hold_minor: int = 3000, **fields: Any) -> payments.Begun:
    """A driver presses pay."""
    fields = {"tariff_snapshot": SNAPSHOT, "currency": "EUR"} | fields
    return payments.begin(at or connector(), hold_minor=hold_minor, **fields)


def held(box: Sandbox, at: Connector | None = None, hold_minor: int = 3000) -> Payment:
    """A payment whose money is reserved."""
    begun = begin(at, hold_minor)
    control.pay(box, intent_of(begun.payment))
    payment = payments.returned(begun.payment)
    assert payment.state == Payment.State.AUTHORIZED
    return payment


def session_of(payment: Payment, **fields: Any) -> Session:
    """The charger starts the session that was ordered; the payment is bound to it."""
    payment.refresh_from_db()
    now = timezone.now()
    session = make.session(
        payment.connector.station,
        **{
            "connector": payment.connector,
            "token_uid": payment.start_token or "",
            "token_type": "Central",
            "remote_start_id": start.remote_start_id(payment.pk),
            "state": Session.State.ACTIVE,
            "started_at": now,
            "stopped_at": None,
            "closed_at": None,
        }
        | fields,
    )
    start.payment_of(session)
    payment.refresh_from_db()
    return session


def intent_of(payment: Payment) -> str:
    """The payment's intent at the sandbox."""
    payment.refresh_from_db()
    assert payment.provider_ref is not None
    return payment.provider_ref


def intent(box: Sandbox, payment: Payment) -> dict[str, Any]:
    """The intent as the sandbox has it."""
    found = box.store.get(intent_of(payment))
    assert found is not None
    return found


def deliver(box: Sandbox, client: Client | None = None) -> int:
    """Bring the waiting webhooks to our view and run what they cause; how many were taken."""
    browser = client or Client()

    def post(body: bytes, signature: str) -> int:
        return browser.post(
            "/webhooks/stripe/",
            data=body,
            content_type="application/json",
            headers={"Stripe-Signature": signature},
        ).status_code

    done = events.deliver_due(box.store, box.webhook_secret, post, everything=True)
    journal.catch_up()
    return done


def calls(box: Sandbox, operation: str) -> list[dict[str, Any]]:
    """The calls of one operation that were carried out (not replayed)."""
    return [c for c in box.store.calls() if c["operation"] == operation and not c["replayed"]]
