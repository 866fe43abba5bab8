"""Slow work of the billing app. Every task finds its work in rows and is idempotent."""

import uuid

from celery import shared_task

from billing import payments, reconciliation, start, webhooks
from billing.models import Payment
from billing.transitions import NotAllowed
from monitoring.models import Session
from stations.models import Command, Entry

# --- payments -----------------------------------------------------------------------------------


@shared_task(name="billing.tasks.bind_payment")
def bind_payment(entry_id: int) -> None:
    """On `session.started`: the session belongs to the payment whose token it began with."""
    news = Entry.objects.get(pk=entry_id)
    session = Session.objects.select_related("station").get(pk=news.subject.partition("-")[2])
    start.payment_of(session)


@shared_task(name="billing.tasks.start_answered")
def start_answered(entry_id: int) -> None:
    """On `command.finished`: a start that the charger refuses releases the money at once.

    No answer is not a refusal: the session may still begin, and the start's deadline decides.
    """
    news = Entry.objects.get(pk=entry_id)
    kind, _, pk = str(news.data.get("subject", "")).partition("-")
    if kind != "payment" or news.data.get("name") != "remote_start":
        return
    ended = (Command.Status.REJECTED, Command.Status.FAILED, Command.Status.EXPIRED)
    payment = Payment.objects.filter(pk=uuid.UUID(pk)).first()
    if payment is None or news.data.get("status") not in ended:
        return
    try:
        payments.cancel(payment, f"start {news.data['status']}")
    except NotAllowed:
        return  # a session began all the same, or the money was released before


@shared_task(name="billing.tasks.apply_event")
def apply_event(entry_id: int) -> None:
    """On `payment.event_received`: look at the payment the provider's event is about."""
    webhooks.apply(Entry.objects.get(pk=entry_id).data["event"])


@shared_task(name="billing.tasks.reconcile_payments")
def reconcile_payments() -> None:
    """Every minute: payments whose next step is due."""
    reconciliation.tick()


@shared_task(name="billing.tasks.sweep_payments")
def sweep_payments() -> None:
    """Hourly: our books against the provider's."""
    reconciliation.sweep()
