"""The files of an issued document: its PDF, Factur-X and UBL; made once from the snapshot, kept.

The PDF is a PDF/A-3 that carries the structured invoice (`einvoice`) as `factur-x.xml`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from django.http import HttpResponse

from monitoring import signed
from monitoring.models import Session

from . import documents, einvoice, pdf
from .models import Invoice, InvoiceFile

Format = InvoiceFile.Format


def pdf_of(invoice: Invoice) -> bytes:
    """The document's PDF: rendered once, and the same bytes ever after."""
    return _kept(invoice, Format.PDF, _render)


def xml_of(invoice: Invoice) -> bytes:
    """The document as CII (Factur-X, EN 16931): the bytes the PDF carries."""
    return _kept(invoice, Format.XML, einvoice.cii_of)


def ubl_of(invoice: Invoice) -> bytes:
    """The document as UBL 2.1 (EN 16931)."""
    return _kept(invoice, Format.UBL, einvoice.ubl_of)


XML = {"cii": xml_of, "ubl": ubl_of}


def download(invoice: Invoice, form: str) -> HttpResponse:
    """One of `XML` as a file to keep; `form` is its key."""
    answer = HttpResponse(XML[form](invoice), content_type="application/xml")
    name = f"{invoice.number}-{form}.xml"
    answer["Content-Disposition"] = f'attachment; filename="{name}"'
    answer["Cache-Control"] = "private, max-age=86400"
    return answer


def _kept(invoice: Invoice, form: Format, make: Callable[[Invoice], bytes]) -> bytes:
    kept = InvoiceFile.objects.filter(invoice=invoice, format=form).first()
    if kept is None:
        content = make(invoice)
        digest = hashlib.sha256(content).hexdigest()
        kept, _new = InvoiceFile.objects.get_or_create(
            invoice=invoice, format=form, defaults={"content": content, "sha256": digest}
        )
    return bytes(kept.content)


def _render(invoice: Invoice) -> bytes:
    structured = pdf.carried(
        einvoice.FILE_NAME,
        xml_of(invoice),
        "Factur-X invoice (EN 16931)",
        invoice.issued_at,
        "Alternative",
    )
    carried = [structured]
    records = _signed(invoice)
    if records:
        content = signed.transparency_xml(records)
        what = "Signed meter readings (S.A.F.E. transparency software)"
        carried.append(
            pdf.carried("signed-readings.xml", content, what, invoice.issued_at, "Supplement")
        )
    css = documents.CSS.read_text(encoding="utf-8")
    return pdf.render_apart(documents.html_of(invoice), css, carried, einvoice.xmp())


def _signed(invoice: Invoice) -> list[signed.Checked]:
    """The signed records the document speaks of, as they were sent."""
    named = [s["id"] for s in invoice.snapshot["sessions"] if s.get("signed")]
    sessions = Session.objects.filter(pk__in=named).order_by("pk")
    return [found for session in sessions for found in signed.checked_of(session)]
