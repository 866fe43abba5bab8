"""What is open on an invoice, reminders for it, and what the accountant takes home."""

import io
import zipfile
from datetime import timedelta
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone
from djmoney.money import Money

from billing import documents, dunning, exports, invoicing, ledger, mail, settlement
from billing.models import CostCentre, DunningStep, Invoice, Mail, Reminder, Seller
from billing.models.ledger import AccountKind
from tests import make


@pytest.fixture
def invoice(db: None) -> Invoice:
    """A collective invoice of 5.95 twice, to be paid within 14 days; its seller reminds."""
    make.seller(reminders=True, datev_consultant=1001, datev_client=7)
    make.tariff()
    token = make.token(label="Van 7")
    account = make.house_account(token, language="de")
    CostCentre.objects.create(account=account, name="4711").tokens.add(token)
    for _ in range(2):
        settlement.settle(make.session(make.station(), token=token).pk)
    now = timezone.now()
    (found,) = invoicing.invoice_month(account, now.year, now.month)
    return found


def later(invoice: Invoice, days: int) -> list[Reminder]:
    return dunning.run(documents.due_date(invoice) + timedelta(days=days))


def test_reminders_are_off_until_a_seller_wants_them(invoice: Invoice) -> None:
    Seller.objects.update(reminders=False)
    assert later(invoice, 100) == []


def test_each_step_comes_once_with_its_mail_and_its_fee(
    invoice: Invoice, mailoutbox: list[Any]
) -> None:
    for level, fee in ((1, 0), (2, 5), (3, 10)):
        DunningStep.objects.create(
            seller=invoice.seller, level=level, days=7, fee=Money(fee, "EUR")
        )
    assert later(invoice, 6) == []
    (first,) = later(invoice, 7)
    assert (first.level, first.open_minor, first.fee_minor) == (1, 1190, 0)
    assert dunning.run(timezone.now().date()) == []
    Reminder.objects.update(issued_at=timezone.now() - timedelta(days=7))
    (second,) = dunning.run(timezone.now().date())
    assert (second.level, second.open_minor, second.fee_minor) == (2, 1690, 500)
    assert ledger.balance(kind=AccountKind.RECEIVABLE) == {"EUR": 1690}
    queued = Mail.objects.get(key=f"reminder:{invoice.number}:2")
    assert mail.send(queued.pk)
    (sent,) = mailoutbox
    assert "Zahlungserinnerung" in sent.subject
    assert "16,90" in sent.body
    assert "Mahngebühr von 5,00" in sent.body
    assert sent.attachments[0].filename == f"{invoice.number}.pdf"


def test_what_arrived_by_transfer_is_open_no_more(invoice: Invoice) -> None:
    today = timezone.now().date()
    dunning.receive(invoice, 1000, today, key="a", reference="part")
    assert dunning.receive(invoice, 1000, today, key="a").pk
    assert dunning.open_minor(invoice) == 190
    with pytest.raises(dunning.TooMuch, match=r"1\.90"):
        dunning.receive(invoice, 191, today, key="b")
    dunning.receive(invoice, 190, today, key="c")
    assert dunning.open_minor(invoice) == 0
    assert later(invoice, 100) == []
    assert ledger.balance(kind=AccountKind.RECEIVABLE) == {"EUR": 0}
    assert ledger.balance(kind=AccountKind.BANK) == {"EUR": 1190}


def test_staff_book_a_transfer_on_the_documents_page(invoice: Invoice, client: Any) -> None:
    client.force_login(make.staff())
    address = f"/admin/billing/invoice/{invoice.pk}"
    assert "Transfer received" in client.get(f"{address}/change/").content.decode()
    data = {"amount": "11.90", "on": "2026-11-22", "reference": "x", "once": "1"}
    client.post(f"{address}/received/", data)
    client.post(f"{address}/received/", data)
    assert dunning.open_minor(Invoice.objects.get()) == 0
    assert "Transfer received" not in client.get(f"{address}/change/").content.decode()
    client.force_login(make.member("Support"))
    assert client.post(f"{address}/received/", data).status_code in (302, 403)
    assert invoice.receipts.count() == 1


def test_a_collective_invoice_has_a_summary_its_cost_centres_and_an_annex(
    invoice: Invoice,
) -> None:
    html = documents.html_of(invoice)
    assert "Anlage: Ladevorgänge" in html
    assert "2 Ladevorgänge, aufgeführt in der Anlage" in html
    assert "Kostenstelle 4711" in html
    assert "Van 7" in html
    assert "20 kWh" in html
    assert "data:image/svg+xml" in html  # the code for the transfer


# --- for the accountant ---------------------------------------------------------------------------


def test_a_month_as_zip_has_every_file_and_the_sums(invoice: Invoice, tmp_path: Any) -> None:
    out = io.BytesIO()
    assert exports.bundle([invoice], out) == 1
    with zipfile.ZipFile(out) as archive:
        assert sorted(archive.namelist()) == [
            f"{invoice.number}-cii.xml",
            f"{invoice.number}-ubl.xml",
            f"{invoice.number}.pdf",
            "documents.csv",
        ]
        assert b"10.00,1.90,11.90,EUR" in archive.read("documents.csv")
    today = timezone.now().date().isoformat()
    target = tmp_path / "batch.csv"
    call_command("invoices", "export", "--from", today, "--to", today, "--datev", str(target))
    head, _names, booking = target.read_bytes().decode("cp1252").splitlines()
    assert head.startswith('"EXTF";700;21;"Buchungsstapel";13;')
    assert ";1001;7;" in head
    assert booking.startswith('11,90;"S";"EUR";;;;10000;8400;;')
    assert f'"{invoice.number}"' in booking


def test_datev_says_what_is_missing(invoice: Invoice) -> None:
    with pytest.raises(exports.NotReady, match="client number"):
        exports.datev([invoice], Seller())
    with pytest.raises(exports.NotReady, match="COUNTRY RATE=ACCOUNT"):
        exports.accounts_of(Seller(datev_accounts="8400"))
    with pytest.raises(CommandError, match="There is no document"):
        call_command("invoices", "explain", "X-1")


def test_staff_download_the_chosen_documents(invoice: Invoice, client: Any) -> None:
    client.force_login(make.staff())
    for action, kind in (("as_zip", "application/zip"), ("as_datev", "text/csv")):
        data = {"action": action, "_selected_action": [invoice.pk]}
        answer = client.post("/admin/billing/invoice/", data)
        assert answer["Content-Type"].startswith(kind)
