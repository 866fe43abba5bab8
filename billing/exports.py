"""Documents for the accountant: a ZIP of their files, a CSV of their sums, a DATEV booking batch.

DATEV: format EXTF 700, category 21 (Buchungsstapel), version 13: one booking a document and VAT
rate, debtor against revenue, gross amounts; the accounts are the seller's setting.
"""

from __future__ import annotations

import csv
import datetime as dt
import io
import zipfile
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import IO, Any
from zoneinfo import ZoneInfo

from django.utils import timezone

from . import files
from .models import Invoice, Seller
from .money import from_minor

COLUMNS = (
    "Umsatz (ohne Soll/Haben-Kz)", "Soll/Haben-Kennzeichen", "WKZ Umsatz", "Kurs",
    "Basis-Umsatz", "WKZ Basis-Umsatz", "Konto", "Gegenkonto (ohne BU-Schlüssel)",
    "BU-Schlüssel", "Belegdatum", "Belegfeld 1", "Belegfeld 2", "Skonto", "Buchungstext",
)  # fmt: skip
SUMS = ("number", "kind", "issued", "customer", "country", "vat", "net", "vat amount", "gross",
        "currency", "corrects")  # fmt: skip


class NotReady(ValueError):
    """A setting is missing; the text says which."""


def bundle(invoices: Iterable[Invoice], target: IO[bytes]) -> int:
    """Write PDF, Factur-X and UBL of each document and `documents.csv` as a ZIP; how many."""
    rows = list(invoices)
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for invoice in rows:
            archive.writestr(f"{invoice.number}.pdf", files.pdf_of(invoice))
            archive.writestr(f"{invoice.number}-cii.xml", files.xml_of(invoice))
            archive.writestr(f"{invoice.number}-ubl.xml", files.ubl_of(invoice))
        archive.writestr("documents.csv", sums(rows))
    return len(rows)


def sums(invoices: Iterable[Invoice]) -> str:
    """One line a document and VAT rate, as CSV."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(SUMS)
    for invoice in invoices:
        snapshot = invoice.snapshot
        for rate in snapshot["rates"]:
            amounts = (rate[name] for name in ("net_minor", "vat_minor", "gross_minor"))
            writer.writerow(
                [
                    invoice.number,
                    invoice.kind,
                    _day(invoice).isoformat(),
                    _harmless(invoice.customer_name),
                    snapshot["supply_country"],
                    rate.get("category") or rate["vat"] or "",
                    *(from_minor(minor, invoice.currency) for minor in amounts),
                    invoice.currency,
                    (snapshot.get("corrects") or {}).get("number", ""),
                ]
            )
    return out.getvalue()


def datev(invoices: Sequence[Invoice], seller: Seller) -> bytes:
    """The booking batch as DATEV reads it (Windows-1252, CRLF). Raises NotReady."""
    if not seller.datev_consultant or not seller.datev_client:
        raise NotReady("Set the DATEV consultant and client number of the seller first.")
    accounts = accounts_of(seller)
    days = [_day(invoice) for invoice in invoices] or [timezone.now().date()]
    if min(days).year != max(days).year:
        raise NotReady("A DATEV batch is of one year: choose documents of one year.")
    lines = [_head(seller, min(days), max(days), len(next(iter(accounts.values()))))]
    lines.append(";".join(COLUMNS))
    lines += [
        _booking(invoice, rate, seller, accounts)
        for invoice in invoices
        for rate in invoice.snapshot["rates"]
        if rate["gross_minor"]
    ]
    return "".join(f"{line}\r\n" for line in lines).encode("cp1252", "replace")


def _head(seller: Seller, first: dt.date, last: dt.date, length: int) -> str:
    """The first line: format, who, which year, from when to when."""
    made = timezone.now().strftime("%Y%m%d%H%M%S%f")[:17]
    fields: list[str] = ['"EXTF"', "700", "21", '"Buchungsstapel"', "13", made, "", '"RE"', '""']
    fields += ['""', str(seller.datev_consultant), str(seller.datev_client), f"{first.year}0101"]
    fields += [str(length), f"{first:%Y%m%d}", f"{last:%Y%m%d}", '"Charging"', '""', "1", "0", "0"]
    fields += ['""', "", '""', "", "", '""', "", "", '""', '""']
    return ";".join(fields)


def _booking(
    invoice: Invoice, rate: dict[str, Any], seller: Seller, accounts: dict[str, str]
) -> str:
    amount = abs(from_minor(rate["gross_minor"], invoice.currency))
    side = "S" if rate["gross_minor"] > 0 else "H"
    account = account_of(accounts, invoice.snapshot["supply_country"], rate)
    name = invoice.customer_name or str(invoice.snapshot["customer"].get("email") or "")
    fields = [f"{amount:.2f}".replace(".", ","), _quoted(side), _quoted(invoice.currency), "", ""]
    fields += ["", seller.datev_debtor, account, "", f"{_day(invoice):%d%m}"]
    fields += [_quoted(invoice.number[:36]), "", "", _quoted(name[:60])]
    return ";".join(fields)


def _quoted(text: str) -> str:
    return '"' + " ".join(text.split()).replace('"', '""') + '"'


def accounts_of(seller: Seller) -> dict[str, str]:
    """The seller's revenue accounts by "DE 19", "AE" or "*". Raises NotReady."""
    found = {}
    for part in seller.datev_accounts.split(","):
        name, equals, account = (text.strip() for text in part.partition("="))
        if not equals or not account.isdigit():
            raise NotReady(
                f"Revenue accounts read COUNTRY RATE=ACCOUNT; {part.strip()!r} does not."
            )
        found[name] = account
    if "*" not in found:
        raise NotReady("Revenue accounts need one for whatever is left: *=ACCOUNT.")
    return found


def account_of(accounts: dict[str, str], country: str, rate: dict[str, Any]) -> str:
    """The account of one VAT rate."""
    percent = f"{Decimal(rate['vat'] or 0).normalize():f}"
    key = rate.get("category") or f"{country} {percent}"
    return accounts.get(key) or accounts["*"]


def _day(invoice: Invoice) -> dt.date:
    zone = ZoneInfo(invoice.snapshot["seller"]["time_zone"])
    return invoice.issued_at.astimezone(zone).date()


def _harmless(text: str) -> str:
    """A cell that no spreadsheet takes for a formula."""
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t") else text
