"""A driver pays at the charger: hold, capture, invoice, refund, and the books after each."""

from datetime import timedelta

import pytest
from django.core import mail
from django.db.models import Sum
from django.test import Client
from django.utils import timezone

from billing import ledger, payments, reconciliation, refunds, settlement, tariffs
from billing.models import Charge, Invoice, Payment, Posting
from billing.models.ledger import AccountKind
from billing.sandbox.engine import Sandbox
from monitoring.models import Session
from stations import journal
from tests import make, paying

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def priced() -> None:
    make.tariff()
    make.seller()


def paid_session(box: Sandbox, wh: int = 10_000, hold_minor: int = 3000, **given: object) -> Charge:
    """A driver reserves, charges `wh` for an hour and leaves; what settlement makes of it."""
    connector = paying.connector()
    found = tariffs.snapshot_for(connector.station, timezone.now())
    assert found is not None
    begun = paying.begin(
        connector,
        hold_minor,
        tariff_snapshot=found[1],
        **{"email": "guest@example.com", "language": "de"} | given,
    )
    paying.control.pay(box, paying.intent_of(begun.payment))
    payments.returned(begun.payment)
    now = timezone.now()
    session = paying.session_of(begun.payment, started_at=now - timedelta(hours=1))
    close(session, wh)
    return Charge.objects.get(session=session)


def close(session: Session, wh: int) -> None:
    """The vehicle leaves after `wh`."""
    Session.objects.filter(pk=session.pk).update(
        state=Session.State.CLOSED,
        stopped_at=session.started_at + timedelta(minutes=50),
        closed_at=session.started_at + timedelta(minutes=50),
        energy_wh=wh,
        energy_source=Session.Source.REGISTERS,
    )
    with journal.transaction.atomic():
        journal.record("session.closed", session)
    journal.catch_up()


def test_the_price_is_collected_invoiced_and_mailed(box: Sandbox) -> None:
    charge = paid_session(box)
    payment = charge.payment
    assert payment is not None
    assert (charge.state, payment.state) == (Charge.State.INVOICED, Payment.State.CAPTURED)
    assert (charge.gross_minor, charge.paid_minor, payment.captured_minor) == (595, 595, 595)
    assert paying.intent(box, payment)["amount_received"] == 595
    invoice = charge.invoice
    assert invoice is not None
    assert invoice.snapshot["payment"]["paid_minor"] == 595
    # Paid: nothing is owed, the provider owes us.
    assert ledger.balance(kind=AccountKind.RECEIVABLE) == {"EUR": 0}
    assert ledger.balance(kind=AccountKind.PSP_CLEARING, owner="stripe") == {"EUR": 595}
    (message,) = mail.outbox
    assert message.to == ["guest@example.com"]
    (attachment,) = message.attachments
    assert attachment.filename == f"{invoice.number}.pdf"
    assert attachment.content.startswith(b"%PDF-")


def test_more_used_than_reserved_is_the_operators_loss(box: Sandbox) -> None:
    charge = paid_session(box, wh=20_000, hold_minor=800)
    assert (charge.gross_minor, charge.paid_minor) == (800, 800)
    assert [line["dimension"] for line in charge.lines] == ["FLAT", "ENERGY", "RESERVED_AMOUNT"]
    assert [line["gross_minor"] for line in charge.lines] == [119, 952, -271]
    assert charge.invoice is not None
    assert charge.invoice.gross_minor == 800
    assert ledger.balance(kind=AccountKind.RECEIVABLE) == {"EUR": 0}


def test_nothing_used_releases_the_reservation(box: Sandbox) -> None:
    connector = paying.connector()
    payment = paying.held(box, connector)
    session = paying.session_of(payment, started_at=timezone.now() - timedelta(minutes=2))
    Session.objects.filter(pk=session.pk).update(
        state=Session.State.CLOSED,
        stopped_at=timezone.now(),
        closed_at=timezone.now(),
        energy_wh=0,
        energy_source=Session.Source.REGISTERS,
    )
    charge = settlement.settle(session.pk)
    assert charge is not None
    payment.refresh_from_db()
    assert (charge.state, payment.state) == (Charge.State.WAIVED, Payment.State.CANCELED)
    assert paying.intent(box, payment)["status"] == "canceled"
    assert Invoice.objects.count() == 0


def test_a_capture_whose_answer_is_lost_is_collected_once_and_invoiced(box: Sandbox) -> None:
    paying.control.fault(box, "payment_intents.capture", "lose_reply")
    charge = paid_session(box)
    assert (charge.state, charge.invoice) == (Charge.State.CAPTURING, None)
    Payment.objects.update(next_try_at=timezone.now() - timedelta(seconds=1))
    reconciliation.tick()
    journal.catch_up()
    charge.refresh_from_db()
    assert (charge.state, charge.paid_minor) == (Charge.State.INVOICED, 595)
    assert len(paying.calls(box, "payment_intents.capture")) == 1


def test_a_refund_makes_a_credit_note_and_the_books_agree(box: Sandbox) -> None:
    charge = paid_session(box)
    refund = refunds.request(charge.payment, 200, "Cable stuck")
    journal.catch_up()
    refund.refresh_from_db()
    note = refund.credit_note
    assert note is not None
    assert (note.kind, note.gross_minor, note.corrects) == ("credit_note", -200, charge.invoice)
    assert note.number == f"RC-{note.issued_at.year}-000001"
    assert ledger.balance(kind=AccountKind.PSP_CLEARING) == {"EUR": 395}
    assert ledger.balance(kind=AccountKind.RECEIVABLE) == {"EUR": 0}
    assert Posting.objects.aggregate(sum=Sum("amount_minor"))["sum"] == 0
    assert len(mail.outbox) == 2


def test_settling_in_any_order_and_twice_bills_once(box: Sandbox) -> None:
    charge = paid_session(box)
    for _ in range(3):
        settlement.settle(charge.session_id)
    journal.catch_up()
    assert Invoice.objects.count() == 1
    assert len(paying.calls(box, "payment_intents.capture")) == 1
    assert len(mail.outbox) == 1


def test_a_promise_on_account_is_invoiced_but_not_paid() -> None:
    connector = paying.connector()
    driver = make.user()
    begun = paying.begin(connector, provider="account", driver=driver, tariff_snapshot={})
    session = paying.session_of(begun.payment, started_at=timezone.now() - timedelta(hours=1))
    close(session, 10_000)
    charge = Charge.objects.get(session=session)
    assert (charge.state, charge.gross_minor, charge.paid_minor) == ("invoiced", 595, 0)
    assert ledger.balance(kind=AccountKind.RECEIVABLE) == {"EUR": 595}
    assert charge.invoice is not None
    assert charge.invoice.snapshot["payment"] is None


def test_less_energy_after_all_is_refunded_once(box: Sandbox) -> None:
    charge = paid_session(box)
    session = charge.session
    Session.objects.filter(pk=session.pk).update(energy_wh=8_000)
    for _ in range(2):
        with journal.transaction.atomic():
            journal.record("session.corrected", session, energy_wh=8_000, previous_wh=10_000)
        journal.catch_up()
    (refund,) = charge.payment.refunds.all()
    assert (refund.amount_minor, refund.state, refund.credit_note.gross_minor) == (
        95,
        "succeeded",
        -595,  # all of it, and a new invoice of 5.00
    )
    assert ledger.balance(kind=AccountKind.RECEIVABLE) == {"EUR": 0}
    assert ledger.balance(kind=AccountKind.PSP_CLEARING) == {"EUR": 500}


def test_what_was_shown_before_paying_counts_even_if_the_session_says_late_whose_it_is(
    box: Sandbox,
) -> None:
    connector = paying.connector()
    shown = tariffs.snapshot_for(connector.station, timezone.now())
    assert shown is not None
    begun = paying.begin(connector, tariff_snapshot=shown[1])
    paying.control.pay(box, paying.intent_of(begun.payment))
    payments.returned(begun.payment)
    # Plugged in first: the session begins without a token, and under a tariff published meanwhile.
    dear = make.tariff({"type": "ENERGY", "price": 9.0, "vat": 19.0})
    session = make.session(
        connector.station,
        connector=connector,
        state=Session.State.ACTIVE,
        started_at=timezone.now() - timedelta(hours=1),
        stopped_at=None,
        closed_at=None,
    )
    assert settlement.open_charge(session).tariff == dear
    begun.payment.refresh_from_db()
    Session.objects.filter(pk=session.pk).update(token_uid=begun.payment.start_token)
    close(session, 10_000)
    charge = Charge.objects.get()
    assert (charge.tariff, charge.gross_minor, charge.state) == (shown[0], 595, "invoiced")


def test_staff_know_a_guests_document_by_the_mail_of_the_payment(
    box: Sandbox, client: Client
) -> None:
    charge = paid_session(box)
    anonymous = paid_session(box, email="")
    client.force_login(make.staff())
    page = client.get("/admin/billing/invoice/")
    shown = {one.number: one for one in page.context["cl"].result_list}
    assert charge.invoice is not None
    assert anonymous.invoice is not None
    assert shown[charge.invoice.number].guest == "guest@example.com"
    text = page.content.decode()
    assert "Guest, guest@example.com" in text
    assert not shown[anonymous.invoice.number].guest
    found = client.get("/admin/billing/invoice/?q=guest@example.com").context["cl"].result_list
    assert [one.pk for one in found] == [charge.invoice.pk]
