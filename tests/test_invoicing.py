"""Documents: gapless under concurrency, never changed, chained, balanced, readable."""

import threading
from collections import Counter
from datetime import timedelta

import pytest
from django.core.exceptions import ValidationError
from django.core.management import CommandError, call_command
from django.db import IntegrityError, connection, connections, transaction
from django.utils import timezone

from billing import corrections, documents, files, invoicing, ledger, mail, settlement
from billing.documents import Words
from billing.models import Charge, Entry, Invoice, Mail, Posting, Seller
from billing.models.invoices import DocumentKind
from billing.models.ledger import AccountKind
from billing.totals import rates_of
from monitoring.models import Session
from stations import journal
from tests import guards, make

LINE = {"dimension": "ENERGY", "vat": "19", "net_minor": 100, "vat_minor": 19, "gross_minor": 119}


def content(**fields: object) -> dict:
    lines = [LINE]
    return {
        "lines": lines,
        "rates": rates_of(lines),
        "sessions": [],
        "customer": {},
        "language": "en",
        "currency": "EUR",
        "supply_country": "DE",
        "payment": None,
        **invoicing.sums_of(lines),
    } | fields


def issue(seller: Seller, key: str) -> Invoice:
    return invoicing.issue(DocumentKind.INVOICE, content(), key=key, seller=seller, customer="test")


def in_threads(count: int, work: object) -> list[BaseException]:
    """Run work(i) in `count` threads at once, each with its own connection; what went wrong."""
    errors: list[BaseException] = []
    barrier = threading.Barrier(count)

    def run(i: int) -> None:
        barrier.wait()
        try:
            work(i)
        except BaseException as error:  # noqa: BLE001  the test looks at it
            errors.append(error)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=run, args=(i,)) for i in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return errors


class Undone(Exception):
    """The transaction around an issue is rolled back."""


@pytest.mark.slow
@pytest.mark.django_db(transaction=True)
def test_numbers_are_gapless_when_eight_issue_a_hundred_each_and_some_roll_back() -> None:
    seller = make.seller()

    def work(i: int) -> None:
        for n in range(100):
            try:
                with transaction.atomic():
                    issue(seller, f"{i}:{n}")
                    if n % 5 == 4:
                        raise Undone
            except Undone:
                pass

    assert in_threads(8, work) == []
    sequences = list(Invoice.objects.order_by("sequence").values_list("sequence", flat=True))
    assert sequences == list(range(1, 8 * 80 + 1))
    assert invoicing.broken_links() == []
    assert ledger.balance(kind=AccountKind.RECEIVABLE) == {"EUR": 640 * 119}


@pytest.mark.django_db(transaction=True)
def test_the_same_key_issued_at_once_is_one_document() -> None:
    seller = make.seller()
    assert in_threads(6, lambda _i: issue(seller, "same")) == []
    assert list(Invoice.objects.values_list("sequence", flat=True)) == [1]
    assert issue(seller, "next").sequence == 2


@pytest.mark.django_db(transaction=True)
def test_a_session_settled_by_many_at_once_is_billed_once() -> None:
    make.tariff()
    make.seller()
    session = make.session(make.station(), token=make.token(user=make.user()))
    assert in_threads(6, lambda _i: settlement.settle(session.pk)) == []
    assert Charge.objects.get().state == Charge.State.INVOICED
    assert Invoice.objects.count() == 1
    assert Entry.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_a_month_billed_by_two_at_once_is_billed_once() -> None:
    make.tariff()
    make.seller()
    token = make.token()
    account = make.house_account(token)
    for _ in range(3):
        settlement.settle(make.session(make.station(), token=token).pk)
    now = timezone.now()
    assert in_threads(4, lambda _i: invoicing.invoice_month(account, now.year, now.month)) == []
    assert Invoice.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_credits_at_once_never_exceed_the_invoice() -> None:
    invoice = issue(make.seller(), "one")
    errors = in_threads(5, lambda i: corrections.credit(invoice, 50, "why", key=f"c{i}"))
    assert [type(error) for error in errors] == [ValueError] * 3
    assert sum(note.gross_minor for note in invoice.corrections.all()) == -100


@pytest.mark.django_db(transaction=True)
def test_a_mail_sent_by_many_at_once_leaves_once(mailoutbox: list) -> None:
    invoice = issue(make.seller(), "one")
    files.pdf_of(invoice)
    queued = mail.queue("k", "invoice", "a@example.com", "en", invoice=invoice)
    results: list[bool] = []
    assert in_threads(5, lambda _i: results.append(mail.send(queued.pk))) == []
    assert Counter(results) == {True: 1, False: 4}
    assert len(mailoutbox) == 1


# --- nothing changes ----------------------------------------------------------------------------


@pytest.fixture
def invoice(db: None) -> Invoice:
    guards.protect()
    return issue(make.seller(), "one")


def test_an_issued_document_refuses_every_change(invoice: Invoice) -> None:
    for change in (
        invoice.save,
        invoice.delete,
        Invoice.objects.all().delete,
        lambda: Invoice.objects.update(number="X"),
    ):
        with pytest.raises(ValidationError, match="credit note"):
            change()


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE billing_invoice SET gross_minor = 0",
        "DELETE FROM billing_invoice",
        "UPDATE billing_posting SET amount_minor = 1",
        "DELETE FROM billing_posting",
        "UPDATE billing_entry SET reason = 'x'",
    ],
)
def test_the_database_refuses_it_too(invoice: Invoice, sql: str) -> None:
    with (
        pytest.raises(IntegrityError, match=r"cannot be changed|append-only"),
        transaction.atomic(),
        connection.cursor() as cursor,
    ):
        cursor.execute(sql)


def test_a_changed_document_is_found_by_its_hash(invoice: Invoice) -> None:
    issue(invoice.seller, "two")
    assert invoicing.broken_links() == []
    call_command("invoices", "verify")
    guards.unprotect()
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE billing_invoice SET snapshot = '{\"x\": 1}' WHERE id = %s", [invoice.pk]
        )
    assert invoicing.broken_links()[0] == invoice.number
    with pytest.raises(CommandError, match=invoice.number):
        call_command("invoices", "verify")
    guards.protect()


def test_an_entry_that_does_not_balance_is_refused(db: None) -> None:
    seller = make.seller()
    rows = [(AccountKind.BANK, "", 100), (AccountKind.RECEIVABLE, "x", -99)]
    with pytest.raises(ledger.Unbalanced):
        ledger.post("k", "test", rows, "EUR", seller)
    assert Posting.objects.count() == 0


def test_the_same_posting_twice_is_one(db: None) -> None:
    seller = make.seller()
    rows = [(AccountKind.BANK, "", 100), (AccountKind.RECEIVABLE, "x", -100)]
    first, second = (ledger.post("k", "test", rows, "EUR", seller) for _ in range(2))
    assert (first, Posting.objects.count()) == (second, 2)


# --- credit notes and years ---------------------------------------------------------------------


def test_a_full_credit_takes_back_exactly_the_lines(invoice: Invoice) -> None:
    note = corrections.credit(invoice, 119, "Wrong tariff", key="c")
    assert note.snapshot["lines"][0]["net_minor"] == -100
    assert note.snapshot["corrects"]["number"] == invoice.number
    assert ledger.balance(kind=AccountKind.VAT) == {"EUR": 0}
    with pytest.raises(ValueError, match=r"At most 0\.00 EUR"):
        corrections.credit(invoice, 1, "Again", key="d")


def test_each_year_has_a_series_of_its_own_in_the_sellers_time_zone(db: None, time_machine) -> None:
    seller = make.seller()
    time_machine.move_to("2026-12-31T22:59:00Z", tick=False)
    assert issue(seller, "a").number == "R-2026-000001"
    time_machine.move_to("2026-12-31T23:01:00Z", tick=False)  # midnight has passed in Berlin
    assert issue(seller, "b").number == "R-2027-000001"


# --- what it looks like -------------------------------------------------------------------------


def test_the_pdf_is_rendered_once_from_the_snapshot_in_the_customers_language(db: None) -> None:
    make.tariff()
    seller = make.seller()
    driver = make.user(language="de", name="Erika Muster")
    session = make.session(make.station(site=make.site()), token=make.token(user=driver))
    charge = settlement.settle(session.pk)
    Seller.objects.update(street="Elsewhere 1")
    html = documents.html_of(charge.invoice)
    assert "5,95\u00a0€" in html
    assert "Rechnung" in html
    assert "Start fee" not in html
    assert seller.street in html
    assert "Elsewhere 1" not in html
    pdf = files.pdf_of(charge.invoice)
    assert pdf.startswith(b"%PDF-1.7")
    assert files.pdf_of(charge.invoice) == pdf
    assert all(kept.sha256 for kept in charge.invoice.files.all())


def test_a_mail_that_fails_is_tried_again_later_and_given_up_in_the_end(
    invoice: Invoice, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_mail: Mail) -> None:
        raise OSError("mail server is down")

    monkeypatch.setattr(mail, "compose", refuse)
    queued = mail.queue("k", "invoice", "a@example.com", "en", invoice=invoice)
    assert mail.send(queued.pk) is False
    queued.refresh_from_db()
    assert (queued.state, queued.attempts, queued.last_error) == (
        Mail.State.QUEUED,
        1,
        "mail server is down",
    )
    assert mail.due() == []
    Mail.objects.update(attempts=mail.GIVE_UP_AFTER - 1)
    mail.send(queued.pk)
    queued.refresh_from_db()
    assert queued.state == Mail.State.FAILED


def test_a_sender_that_died_leaves_the_mail_to_another(invoice: Invoice, mailoutbox: list) -> None:
    queued = mail.queue("k", "invoice", "a@example.com", "en", invoice=invoice)
    Mail.objects.update(state=Mail.State.SENDING, next_try_at=timezone.now() - timedelta(1))
    assert mail.due() == [queued.pk]
    assert mail.send(queued.pk) is True
    assert len(mailoutbox) == 1


def test_the_sweep_settles_what_a_crash_left(db: None) -> None:
    from billing.tasks import sweep

    make.tariff()
    make.seller()
    session = make.session(make.station(), token=make.token(user=make.user()))
    settlement.open_charge(session)
    assert settlement.unsettled() == [session.pk]
    sweep()
    assert Charge.objects.get().state == Charge.State.INVOICED
    assert Session.objects.count() == 1
    journal.catch_up()
    assert Mail.objects.get().state == Mail.State.SENT


def test_hours_are_written_with_four_decimals_at_most() -> None:
    words = Words("en", "EUR")
    assert words.quantity({"quantity": "0.0166666667", "unit": "h"}) == "0.0167"
    assert words.quantity({"quantity": "20", "unit": "h"}) == "20"
    assert words.quantity({"quantity": "31.7690", "unit": "kWh"}) == "31.769"
