"""Structured invoices: valid by XSD and EN 16931 schematron, and inside the PDF."""

import io
from decimal import Decimal
from typing import Any

import pikepdf
import pytest
from django.core.management import call_command
from django.utils import timezone
from lxml import etree

from billing import corrections, documents, einvoice, files, invoicing, settlement
from billing.models import CostCentre, Invoice
from billing.models.invoices import DocumentKind
from billing.totals import rates_of, vat_on_net
from tests import make, schematron

pytestmark = pytest.mark.slow

FX = "urn:factur-x:pdfa:CrossIndustryDocument:invoice:1p0#"
TWO_RATES = (
    {"type": "ENERGY", "price": 0.4117, "vat": 19.0, "step_size": 1},
    {"type": "FLAT", "price": 1.00, "vat": 7.0, "step_size": 1},
)


def settled(*tokens: Any, **fields: Any) -> Any:
    """A settled charge of an hour with the token; `fields` are the session's."""
    token = tokens[0] if tokens else make.token(user=make.user(name="Ada Lovelace"))
    charge = settlement.settle(make.session(make.station(), token=token, **fields).pk)
    assert charge is not None
    return charge


def collective(*components: dict[str, Any], sessions: int = 2, **account: Any) -> Invoice:
    """The monthly invoice of a house account over `sessions` sessions."""
    make.tariff(*components)
    token = make.token(label="Van 7")
    owner = make.house_account(token, **account)
    for n in range(sessions):
        settled(token, energy_wh=10_333 + n)
    now = timezone.now()
    return invoicing.invoice_month(owner, now.year, now.month)[0]


def both(*invoices: Invoice) -> dict[str, bytes]:
    return {
        f"{invoice.number} {make.__name__}": make(invoice)
        for invoice in invoices
        for make in (einvoice.cii_of, einvoice.ubl_of)
    }


def clean(*invoices: Invoice) -> None:
    """Every document passes XSD and schematron in both syntaxes."""
    documents = both(*invoices)
    assert schematron.failures(documents) == {name: [] for name in documents}


def text(xml: bytes, path: str) -> list[str]:
    """Texts at a path of local names."""
    steps = "/".join(f"*[local-name()='{name}']" for name in path.split("/"))
    return [node.text for node in etree.fromstring(xml).xpath(f"//{steps}")]


def plain(seller: Any, key: str, currency: str, *amounts: tuple[int, int, str | None]) -> Invoice:
    """An invoice of bare lines: net, VAT, rate."""
    lines = [
        {
            "dimension": "ENERGY",
            "vat": rate,
            "net_minor": net,
            "vat_minor": vat,
            "gross_minor": net + vat,
        }
        for net, vat, rate in amounts
    ]
    content = {
        "lines": lines,
        "rates": rates_of(lines),
        "sessions": [],
        "customer": {},
        "language": "de",
        "currency": currency,
        "supply_country": "DE",
        "payment": None,
        **invoicing.sums_of(lines),
    }
    return invoicing.issue(DocumentKind.INVOICE, content, key=key, seller=seller, customer="x")


def test_invoices_and_credit_notes_of_drivers_are_valid(db: None) -> None:
    make.tariff(*TWO_RATES)
    make.seller()
    invoice = settled().invoice
    part = corrections.credit(invoice, 100, "Goodwill", key="part")
    rest = corrections.credit(invoice, invoice.gross_minor - 100, "The rest", key="rest")
    clean(invoice, part, rest)
    cii = einvoice.cii_of(rest)
    assert text(cii, "ExchangedDocument/TypeCode") == ["381"]
    assert text(cii, "InvoiceReferencedDocument/IssuerAssignedID") == [invoice.number]
    assert Decimal(text(cii, "GrandTotalAmount")[0]) > 0


def test_every_kind_of_collective_invoice_is_valid(db: None) -> None:
    make.seller()
    dealer = {"country": "NL", "vat_id": "NL123456789B01", "reverse_charge": True}
    same = {"country": "DE", "vat_id": "DE 987654321", "reverse_charge": True}
    at_net = collective(*TWO_RATES, order_number="PO 7", reference="Fleet north")
    reversed_ = collective(*TWO_RATES, **dealer)
    at_home = collective(*TWO_RATES, **same)
    free_of_vat = collective({"type": "ENERGY", "price": 0.30, "step_size": 1})
    zero = collective({"type": "ENERGY", "price": 0.30, "vat": 0.0, "step_size": 1})
    clean(at_net, reversed_, at_home, free_of_vat, zero)
    assert at_home.snapshot["vat_minor"] > 0  # a dealer in the seller's own country pays the VAT
    assert reversed_.snapshot["vat_minor"] == 0
    assert reversed_.gross_minor == reversed_.snapshot["net_minor"]
    assert set(text(einvoice.cii_of(reversed_), "ApplicableTradeTax/CategoryCode")) == {"AE"}
    assert "Reverse charge" in documents.html_of(reversed_)
    clean(corrections.credit(reversed_, reversed_.gross_minor, "Wrong", key="all"))


def test_gross_totals_that_no_net_reaches_stay_and_are_valid(db: None) -> None:
    seller = make.seller()
    kept = [
        plain(seller, "a", "EUR", (8402, 1597, "19")),  # 99.99: 84.02 x 1.19 would be 99.98
        plain(seller, "b", "EUR", (2521, 479, "19")),
        plain(seller, "c", "JPY", (909, 91, "10")),
        plain(seller, "d", "KWD", (1230, 0, "0")),
        plain(seller, "e", "EUR", (1000, 190, "19"), (-200, -38, "19"), (300, 21, "7")),
    ]
    clean(*kept)
    assert text(einvoice.cii_of(kept[0]), "GrandTotalAmount") == ["99.99"]
    assert text(einvoice.cii_of(kept[2]), "GrandTotalAmount") == ["1000"]
    assert text(einvoice.cii_of(kept[3]), "GrandTotalAmount") == ["1.23"]


def test_the_schematron_is_not_asleep(db: None) -> None:
    invoice = plain(make.seller(), "a", "EUR", (1000, 190, "19"))
    broken = einvoice.cii_of(invoice).replace(b">11.90<", b">12.90<")
    (found,) = schematron.failures({"broken": broken}).values()
    assert any("BR-CO-15" in failure for failure in found)


def test_businesses_at_net_prices_get_net_lines_and_vat_once_a_rate(db: None) -> None:
    make.seller()
    invoice = collective(*TWO_RATES, sessions=3)
    snapshot = invoice.snapshot
    assert snapshot["rounding"] == "net"
    nets = [line["net_minor"] for line in snapshot["lines"] if line["dimension"] == "ENERGY"]
    assert nets == [425, 425, 425]  # 10.333, 10.334, 10.335 kWh x 0.4117
    for rate in snapshot["rates"]:
        exact = Decimal(rate["net_minor"]) * Decimal(rate["vat"]) / 100
        assert abs(rate["vat_minor"] - exact) <= Decimal("0.5")
    assert snapshot["gross_minor"] == snapshot["net_minor"] + snapshot["vat_minor"]


def test_vat_on_net_rounds_the_sum_and_not_the_lines() -> None:
    lines = [{"vat": "19", "net_minor": 3}] * 3
    assert [line["vat_minor"] for line in vat_on_net(lines, "EUR")] == [1, 1, 0]


def test_cost_centres_and_orders_are_in_the_structured_invoice(db: None) -> None:
    make.seller()
    make.tariff()
    token = make.token(label="Van 7")
    account = make.house_account(token, order_number="PO 7", reference="Fleet north")
    CostCentre.objects.create(account=account, name="4711").tokens.add(token)
    settled(token)
    now = timezone.now()
    (invoice,) = invoicing.invoice_month(account, now.year, now.month)
    cii = einvoice.cii_of(invoice)
    assert set(text(cii, "ReceivableSpecifiedTradeAccountingAccount/ID")) == {"4711"}
    assert text(cii, "BuyerOrderReferencedDocument/IssuerAssignedID") == ["PO 7"]
    assert text(cii, "BuyerReference") == ["Fleet north"]
    assert invoice.snapshot["sessions"][0]["card"] == "Van 7"
    clean(invoice)


@pytest.mark.parametrize("language", ["de", "en", "fr", "it", "nl", "es", "pl"])
def test_every_language_names_its_lines(db: None, language: str) -> None:
    make.tariff()
    make.seller()
    user = make.user(language=language)
    invoice = settled(make.token(user=user)).invoice
    names = text(einvoice.ubl_of(invoice), "Item/Name")
    assert len(names) == 2
    assert ("Electricity" in names) == (language == "en")


# --- the PDF --------------------------------------------------------------------------------------


@pytest.fixture
def invoice(db: None) -> Invoice:
    make.tariff(*TWO_RATES)
    make.seller()
    found = settled().invoice
    assert isinstance(found, Invoice)
    return found


def test_the_pdf_is_an_archive_that_carries_the_invoice(invoice: Invoice) -> None:
    content = files.pdf_of(invoice)
    with pikepdf.open(io.BytesIO(content)) as document:
        carried = document.attachments["factur-x.xml"]
        assert carried.get_file().read_bytes() == files.xml_of(invoice)
        assert carried.get_file().mime_type in ("text/xml", "application/xml")
        root = document.Root
        assert len(root.AF) == 1
        assert root.AF[0].AFRelationship == "/Alternative"
        metadata = root.Metadata.read_bytes()
        assert metadata.count(b"<rdf:RDF") == 1
        with document.open_metadata() as xmp:
            assert xmp["pdfaid:part"] == "3"
            assert xmp["pdfaid:conformance"] == "B"
            assert xmp[f"{{{FX}}}ConformanceLevel"] == "EN 16931"
            assert xmp[f"{{{FX}}}DocumentFileName"] == "factur-x.xml"
            assert xmp[f"{{{FX}}}DocumentType"] == "INVOICE"
        assert root.OutputIntents[0].S == "/GTS_PDFA1"
        assert b"pdfaExtension:schemas" in metadata
        for page in document.pages:
            for font in page.Resources.Font.values():
                descriptor = font.DescendantFonts[0].FontDescriptor
                assert "/FontFile2" in descriptor or "/FontFile3" in descriptor
            for picture in page.Resources.get("/XObject", {}).values():
                assert not picture.get("/Interpolate", False)
    assert files.pdf_of(invoice) == content


def test_the_command_writes_the_files(invoice: Invoice, tmp_path: Any) -> None:
    targets = {form: tmp_path / f"i.{form}" for form in ("pdf", "xml", "ubl")}
    call_command("invoices", "show", invoice.number, **targets)
    assert targets["xml"].read_bytes() == files.xml_of(invoice)
    assert targets["ubl"].read_bytes() == files.ubl_of(invoice)
    assert targets["pdf"].read_bytes().startswith(b"%PDF")


def test_staff_download_both_syntaxes(invoice: Invoice, client: Any) -> None:
    client.force_login(make.staff())
    for form, root in (("cii", b"CrossIndustryInvoice"), ("ubl", b"<Invoice")):
        answer = client.get(f"/admin/billing/invoice/{invoice.pk}/{form}.xml")
        assert answer["Content-Disposition"].endswith(f'"{invoice.number}-{form}.xml"')
        assert root in answer.content
    assert client.get(f"/admin/billing/invoice/{invoice.pk}/odt.xml").status_code == 404
    page = client.get(f"/admin/billing/invoice/{invoice.pk}/change/").content.decode()
    assert f"/admin/billing/invoice/{invoice.pk}/ubl.xml" in page
