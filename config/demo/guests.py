"""Guests of the demo's past: they paid by card at the charger, through the payment sandbox."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from django.conf import settings

from billing import payments, refunds
from billing.models import Payment
from billing.providers import stripe
from billing.sandbox import control
from billing.sandbox.engine import Sandbox
from billing.sandbox.server import serving
from config.demo.places import DOMAIN
from stations import commands
from stations.models import Command, Connector

HOLD_MINOR = 6_000


@contextmanager
def till() -> Iterator[Sandbox | None]:
    """The payment sandbox, on the books the web process will use, while no web process runs.

    None where payments go to Stripe itself: then the past has no guests.
    """
    if not settings.PAYMENT_SANDBOX:
        yield None
        return
    conf = stripe.required()
    box = Sandbox(
        settings.VAR_DIR / "sandbox.sqlite3", webhook_secret=conf.webhook_secrets[0], seed=7
    )
    before = settings.STRIPE_API_BASE
    try:
        with serving(box) as base:
            settings.STRIPE_API_BASE = base
            yield box
    finally:
        settings.STRIPE_API_BASE = before
        box.close()


def pay(box: Sandbox, connector: Connector, number: int) -> Payment:
    """A guest reserves the amount at a connector and the charger takes the order to start."""
    begun = payments.begin(
        connector,
        hold_minor=HOLD_MINOR,
        currency="EUR",
        email=f"guest{number}@{DOMAIN}",
        language=("en", "de")[number % 2],
    )
    control.pay(box, str(begun.payment.provider_ref))
    payment = payments.returned(begun.payment)
    order = payment.start_command
    if order is None:
        raise RuntimeError(f"The payment {payment} did not order a start: {payment.state}.")
    request = {"connectorId": connector.evse.number, "idTag": payment.start_token}
    if commands.claim(
        order,
        epoch=connector.station.epoch,
        message_id=f"demo-{number}",
        action="RemoteStartTransaction",
        request=request,
    ):
        commands.finish(order.pk, Command.Status.ACCEPTED, response={"status": "Accepted"})
    payment.refresh_from_db()
    return payment


def give_back(payment: Payment, reason: str) -> None:
    """Refund all that was collected, where anything was."""
    payment.refresh_from_db()
    left = refunds.remaining_minor(payment)
    if payment.state == Payment.State.CAPTURED and left:
        refunds.request(payment, left, reason)
