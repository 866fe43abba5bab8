"""Slow work of billing: reactions to news and sweeps. Every task is idempotent.

Reactions take the journal entry's id (see config/reactions.py); the rows are the truth.
"""

from __future__ import annotations

import logging
import uuid

from celery import shared_task
from django.utils import timezone

from billing import (
    books,
    caps,
    corrections,
    dunning,
    files,
    invoicing,
    mail,
    onsite,
    payments,
    reconciliation,
    settlement,
    start,
    webhooks,
)
from billing.models import Charge, HouseAccount, Invoice, Payment, Refund
from billing.transitions import NotAllowed
from monitoring.models import Session
from stations.models import Command, Entry

log = logging.getLogger(__name__)


# --- settlement ------------------------------------------------------------------------------


def _subject_id(entry_id: int) -> str:
    """The key of the row a piece of news is about."""
    return Entry.objects.values_list("subject", flat=True).get(pk=entry_id).partition("-")[2]


@shared_task(name="billing.tasks.open_charge")
def open_charge(entry_id: int) -> None:
    """A session started: freeze the tariff it is priced with."""
    session = Session.objects.filter(pk=_subject_id(entry_id)).first()
    if session is not None:
        settlement.open_charge(session)


@shared_task(name="billing.tasks.close_session")
def close_session(entry_id: int) -> None:
    """A session's energy ended: close it too, unless occupying the bay still costs."""
    session = Session.objects.filter(pk=_subject_id(entry_id), closed_at=None).first()
    if session is not None:
        settlement.close_unless_occupancy_costs(session)


@shared_task(name="billing.tasks.settle")
def settle(entry_id: int) -> None:
    """A session closed, or a person decided about it: settle it."""
    if Session.objects.filter(pk=_subject_id(entry_id)).exists():
        settlement.settle(int(_subject_id(entry_id)))


@shared_task(name="billing.tasks.session_corrected")
def session_corrected(entry_id: int) -> None:
    """The energy of a closed session is another after all: correct its bill."""
    session = Session.objects.filter(pk=_subject_id(entry_id), charge__isnull=False).first()
    if session is not None:
        settlement.correct(session)


@shared_task(name="billing.tasks.session_reviewed")
def session_reviewed(entry_id: int) -> None:
    """A person has looked at a doubtful session: its charge, held for that, goes on.

    One that was billed before the doubt came up is corrected now.
    """
    doubts = (Charge.Hold.DOUBTFUL, Charge.Hold.NO_ENERGY)
    held = Charge.objects.filter(
        session_id=_subject_id(entry_id),
        session__review="",
        state=Charge.State.HELD,
        hold_reason__in=doubts,
    ).first()
    if held is not None:
        settlement.resume(held)
        return
    billed = Session.objects.filter(
        pk=_subject_id(entry_id), review="", charge__state=Charge.State.INVOICED
    ).first()
    if billed is not None:
        settlement.correct(billed)


@shared_task(name="billing.tasks.settle_payment")
def settle_payment(entry_id: int) -> None:
    """A payment was captured, released or lost: its session's charge goes on."""
    charge = Charge.objects.filter(payment_id=uuid.UUID(_subject_id(entry_id))).first()
    if charge is not None:
        settlement.settle(charge.session_id)


@shared_task(name="billing.tasks.deliver")
def deliver(entry_id: int) -> None:
    """A document was issued: render it, mail it."""
    invoice = Invoice.objects.get(pk=_subject_id(entry_id))
    files.pdf_of(invoice)
    queued = mail.queue_invoice(invoice)
    if queued is not None:
        mail.send(queued.pk)


@shared_task(name="billing.tasks.refund_succeeded")
def refund_succeeded(entry_id: int) -> None:
    """Money went back: book it and issue the credit note."""
    corrections.refund_succeeded(
        Refund.objects.select_related("payment").get(pk=_subject_id(entry_id))
    )


@shared_task(name="billing.tasks.refund_failed")
def refund_failed(entry_id: int) -> None:
    """A refund came back: undo its posting."""
    corrections.refund_failed(
        Refund.objects.select_related("payment").get(pk=_subject_id(entry_id))
    )


@shared_task(name="billing.tasks.sweep")
def sweep() -> None:
    """Go on with whatever a crash or an outage left: charges, credit notes, mails."""
    for session_id in settlement.unsettled():
        try:
            settlement.settle(session_id)
        except Exception:  # one broken session must not stop the others
            log.exception("Session %s could not be settled.", session_id)
    for refund in Refund.objects.filter(
        state=Refund.State.SUCCEEDED, credit_note__isnull=True
    ).select_related("payment")[:100]:
        corrections.refund_succeeded(refund)
    for mail_id in mail.due():
        mail.send(mail_id)


@shared_task(name="billing.tasks.invoice_house_accounts")
def invoice_house_accounts() -> None:
    """Issue last month's collective invoices (runs daily; a month is billed once)."""
    today = timezone.now()
    year, month = (today.year, today.month - 1) if today.month > 1 else (today.year - 1, 12)
    for account in HouseAccount.objects.filter(is_active=True):
        invoicing.invoice_month(account, year, month)


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


@shared_task(name="billing.tasks.check_books")
def check_books() -> None:
    """Daily: the provider's statement booked and matched, every session settled exactly once."""
    books.run()


@shared_task(name="billing.tasks.watch_caps")
def watch_caps() -> None:
    """Every few seconds: stop sessions that have used up what was reserved for them."""
    caps.watch()


@shared_task(name="billing.tasks.remind")
def remind() -> None:
    """Daily: reminders for invoices that were not paid in time, where a seller wants them."""
    dunning.run()


@shared_task(name="billing.tasks.tell_stations")
def tell_stations() -> None:
    """Every half minute: stations that show prices and costs show the right ones."""
    onsite.tell_tariffs()
    onsite.tell_costs()


@shared_task(name="billing.tasks.prune_tokens")
def prune_tokens() -> None:
    """Nightly: payments' one-time tokens that have been useless for a month go."""
    start.prune_tokens(timezone.now())
