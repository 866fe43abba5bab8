"""How a document looks: from its frozen snapshot alone, in the customer's language."""

from __future__ import annotations

import base64
import datetime as dt
import io
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import segno.helpers
from babel.dates import format_date, format_datetime, format_time
from babel.numbers import format_currency, format_decimal
from django.conf import settings
from django.template.loader import render_to_string
from django.utils.translation import gettext as _
from django.utils.translation import override

from .fairness import sentence
from .models import Invoice, Seller
from .money import from_minor, quantize

CSS = Path(settings.BASE_DIR) / "templates" / "invoice" / "invoice.css"
DEFAULT_DAYS = 14


def html_of(invoice: Invoice) -> str:
    """The document as HTML, in its language."""
    with override(invoice.language):
        return render_to_string("invoice/invoice.html", present(invoice))


def present(invoice: Invoice) -> dict[str, Any]:
    """The template's context: the snapshot with its amounts and times in words."""
    snapshot = invoice.snapshot
    words = Words(invoice.language, invoice.currency)
    zone = ZoneInfo(snapshot["seller"]["time_zone"])
    issued = invoice.issued_at.astimezone(zone)
    payment = snapshot["payment"]
    owed = is_owed(invoice)
    sessions = {s["id"]: words.session(s) for s in snapshot["sessions"]}
    return {
        "invoice": invoice,
        "seller": snapshot["seller"],
        "logo": _logo(snapshot["seller"]["id"]),
        "customer": snapshot["customer"],
        "title": title_of(invoice),
        "language": invoice.language,
        "issued": format_date(issued, "long", locale=words.locale),
        "corrects": words.reference(snapshot.get("corrects"), zone),
        "reason": snapshot.get("reason", ""),
        "period": snapshot.get("period", ""),
        "sessions": list(sessions.values()),
        "groups": [
            {
                "session": session if len(sessions) > 1 else None,
                "lines": [
                    words.line(line, session)
                    for line in snapshot["lines"]
                    if line.get("session", key) == key
                ],
            }
            for key, session in sessions.items()
        ],
        "annex": len(sessions) > 1,
        "summary": words.summary(snapshot["lines"]),
        "centres": words.centres(snapshot),
        "rates": [words.rate(rate) for rate in snapshot["rates"]],
        "net": words.money(snapshot["net_minor"]),
        "vat": words.money(snapshot["vat_minor"]),
        "gross": words.money(snapshot["gross_minor"]),
        "paid": words.money(payment["paid_minor"]) if payment else "",
        "owed": owed,
        "due": format_date(due_date(invoice), "long", locale=words.locale) if owed else "",
        "reverse_charge": any(rate.get("category") == "AE" for rate in snapshot["rates"]),
        "qr": _transfer_code(invoice) if owed else "",
        "iban": " ".join(
            snapshot["seller"]["iban"][i : i + 4]
            for i in range(0, len(snapshot["seller"]["iban"]), 4)
        ),
    }


def is_owed(invoice: Invoice) -> bool:
    """Whether the document asks for money: an invoice that was not paid when it was issued."""
    unpaid = invoice.snapshot["payment"] is None and invoice.gross_minor > 0
    return invoice.kind == Invoice.Kind.INVOICE and unpaid


def due_date(invoice: Invoice) -> dt.date:
    """Until when an owed document is to be paid, in the seller's time."""
    issued = invoice.issued_at.astimezone(ZoneInfo(invoice.snapshot["seller"]["time_zone"]))
    return issued.date() + dt.timedelta(days=invoice.snapshot.get("due_days") or DEFAULT_DAYS)


def title_of(invoice: Invoice) -> str:
    """What the document calls itself."""
    if invoice.kind == Invoice.Kind.CREDIT_NOTE:
        return _("Credit note")
    return _("Receipt") if invoice.kind == Invoice.Kind.RECEIPT else _("Invoice")


class Words:
    """Numbers, dates and amounts as one language writes them."""

    def __init__(self, language: str, currency: str) -> None:
        # Plain English is the international one: 22 November, not November 22.
        self.locale = "en_GB" if language == "en" else language.replace("-", "_")
        self.currency = currency

    def money(self, minor: int) -> str:
        """An amount with its currency."""
        return self.amount(from_minor(minor, self.currency))

    def amount(self, value: Decimal) -> str:
        """An amount in units with its currency, with the digits it has (unit prices have more)."""
        return str(
            format_currency(value, self.currency, locale=self.locale, decimal_quantization=False)
        )

    def number(self, value: str) -> str:
        """A quantity, without needless digits."""
        return str(format_decimal(Decimal(value), locale=self.locale, decimal_quantization=False))

    def quantity(self, line: dict[str, Any]) -> str:
        """A line's quantity as people read it: a third of an hour is 0.3333, not ten digits."""
        value = Decimal(line["quantity"])
        if line.get("unit") == "h":
            value = round(value, 4)
        return self.number(f"{value.normalize():f}")

    def when(self, iso: str, zone: str) -> dt.datetime:
        """A stored instant in a place's local time."""
        return dt.datetime.fromisoformat(iso).astimezone(ZoneInfo(zone))

    def clock(self, at: dt.datetime, zone: str) -> str:
        """An instant's date and local time to the second."""
        local = at.astimezone(ZoneInfo(zone))
        return str(format_datetime(local, "short", locale=self.locale)) + local.strftime(":%S")

    def session(self, session: dict[str, Any]) -> dict[str, Any]:
        """A session's facts in words."""
        zone = session["time_zone"]
        start = self.when(session["started_at"], zone)
        end = self.when(session["closed_at"], zone)
        site = session["site"] or {}
        registers = [session["meter_start_mwh"], session["meter_stop_mwh"]]
        place = [site.get("name"), site.get("address")]
        place.append("\u00a0".join(filter(None, [site.get("postal_code"), site.get("city")])))
        return session | {
            "date": format_date(start.date(), "long", locale=self.locale),
            "start": format_datetime(start, "medium", locale=self.locale),
            "end": format_datetime(end, "medium", locale=self.locale),
            "offset": start.strftime("%Z"),
            "place": ", ".join(filter(None, place)),
            "energy": self.number(str(Decimal(session["energy_wh"]) / 1000)) + " kWh",
            "registers": []
            if None in registers
            else [self.number(str(Decimal(mwh) / 1_000_000)) + " kWh" for mwh in registers],
            "doubts": [said for code in session.get("doubts", ()) if (said := sentence(code))],
            "verdicts": [self.verdict(found) for found in session.get("signed", [])],
            "source": {
                "signed": _("signed meter readings"),
                "registers": _("meter readings at start and end"),
                "provisional": _("last plausible meter reading"),
            }.get(session["energy_source"], ""),
        }

    def verdict(self, found: dict[str, Any]) -> str:
        """A signed record in a sentence; verified only against the meter's known key."""
        if found["verdict"] == "valid":
            said = (
                _("signature verified")
                if found["pinned"]
                else _("signature intact, key not confirmed")
            )
        elif found["verdict"] == "invalid":
            said = _("signature does not verify")
        else:
            said = _("not verified here, use the S.A.F.E. transparency software")
        rows = [
            f"{row['at']} {row['value']}\u00a0{row['unit']}"
            for row in found["readings"]
            if row["value"]
        ]
        shown = rows if len(rows) < 3 else [rows[0], rows[-1]]
        where = " ".join(filter(None, [found["format"], found["meter"], found["pagination"]]))
        key = found["key_sha256"][:16]
        parts = [where, *shown, f"{_('key')} {key}" if key else "", said]
        return " · ".join(filter(None, parts))

    def line(self, line: dict[str, Any], session: dict[str, Any]) -> dict[str, Any]:
        """A line in words: what, how much, at what price."""
        kind = line["dimension"]
        detail = ""
        if "from" in line:
            start = self.when(line["from"], session["time_zone"])
            end = self.when(line["to"], session["time_zone"])
            if kind in ("ENERGY", "TIME", "PARKING_TIME", "RESERVATION"):
                detail = (
                    f"{format_time(start, 'short', locale=self.locale)} – "
                    f"{format_time(end, 'short', locale=self.locale)}"
                )
        unit = {"kWh": "kWh", "h": _("h"), "session": ""}[line.get("unit", "session")]
        return {
            "what": self.description(kind),
            "detail": detail,
            "quantity": f"{self.quantity(line)} {unit}".strip() if "quantity" in line else "",
            "price": self.amount(_price(line, session)) + (f" / {unit}" if unit else "")
            if "price" in line
            else "",
            "vat": self.percent(line["vat"]),
            "net": self.money(line["net_minor"]),
            "gross": self.money(line["gross_minor"]),
        }

    def description(self, kind: str) -> str:
        """What a line is about."""
        return {
            "ENERGY": _("Electricity"),
            "TIME": _("Charging time"),
            "PARKING_TIME": _("Occupancy after charging"),
            "FLAT": _("Start fee"),
            "RESERVATION": _("Reservation"),
            "LIMIT": _("Adjustment to the tariff's minimum or maximum price"),
            "RESERVED_AMOUNT": _("Discount: never more than the amount you reserved"),
            "CREDIT": _("Credit"),
        }.get(kind, kind)

    def percent(self, vat: str | None) -> str:
        """A VAT rate; a dash where none was given."""
        return "–" if vat is None else self.number(vat) + "\u202f%"

    def summary(self, lines: list[dict[str, Any]]) -> list[dict[str, str]]:
        """A collective document's lines added up by what they are for and their VAT rate."""
        sums: dict[tuple[str, str | None], list[Any]] = {}
        for line in lines:
            row = sums.setdefault((line["dimension"], line["vat"]), [Decimal(0), "", 0, 0])
            row[0] += Decimal(line.get("quantity") or 0)
            row[1] = line.get("unit", "")
            row[2] += line["net_minor"]
            row[3] += line["gross_minor"]
        return [
            {
                "what": self.description(kind),
                "quantity": self._total(quantity, unit),
                "vat": self.percent(vat),
                "net": self.money(net_minor),
                "gross": self.money(gross_minor),
            }
            for (kind, vat), (quantity, unit, net_minor, gross_minor) in sums.items()
        ]

    def _total(self, quantity: Decimal, unit: str) -> str:
        if not quantity or unit not in ("kWh", "h", "session"):
            return ""
        said = {"kWh": "kWh", "h": _("h"), "session": "×"}[unit]
        return f"{self.number(f'{round(quantity, 3).normalize():f}')} {said}"

    def centres(self, snapshot: dict[str, Any]) -> list[dict[str, str]]:
        """Net and gross by cost centre; nothing where no session has one."""
        booked = {s["id"]: s.get("cost_centre", "") for s in snapshot["sessions"]}
        if not any(booked.values()):
            return []
        sums: dict[str, list[int]] = {}
        for line in snapshot["lines"]:
            row = sums.setdefault(booked.get(line.get("session"), ""), [0, 0])
            row[0] += line["net_minor"]
            row[1] += line["gross_minor"]
        return [
            {"name": name or "–", "net": self.money(net), "gross": self.money(gross)}
            for name, (net, gross) in sorted(sums.items())
        ]

    def rate(self, rate: dict[str, Any]) -> dict[str, str]:
        """One row of the VAT table."""
        return {
            "percent": self.percent(rate["vat"]),
            "net": self.money(rate["net_minor"]),
            "vat": self.money(rate["vat_minor"]),
            "gross": self.money(rate["gross_minor"]),
        }

    def reference(self, corrects: dict[str, str] | None, zone: ZoneInfo) -> str:
        """The document that is corrected, with its date."""
        if corrects is None:
            return ""
        issued = self.when(corrects["issued_at"], zone.key)
        return _("%(number)s of %(date)s") % {
            "number": corrects["number"],
            "date": format_date(issued, "long", locale=self.locale),
        }


def _price(line: dict[str, Any], session: dict[str, Any]) -> Decimal:
    """A line's unit price; net where the customer owes the VAT and the tariff includes it."""
    if line.get("category") == "AE" and session.get("tax_included"):
        rate = 1 + Fraction(line.get("tariff_vat") or 0) / 100
        return quantize(Fraction(line["price"]) / rate, 6).normalize()
    return Decimal(line["price"])


def _logo(seller_id: int) -> str:
    """The seller's logo as a data URL."""
    seller = Seller.objects.filter(pk=seller_id).exclude(logo=None).first()
    if seller is None or not seller.logo:
        return ""
    encoded = base64.b64encode(bytes(seller.logo)).decode()
    return f"data:{seller.logo_type or 'image/png'};base64,{encoded}"


def _transfer_code(invoice: Invoice) -> str:
    """An EPC QR code (SEPA transfer filled in) as a data URL; only in euro with an IBAN."""
    seller = invoice.snapshot["seller"]
    if invoice.currency != "EUR" or not seller["iban"]:
        return ""
    code = segno.helpers.make_epc_qr(
        name=seller["legal_name"][:70],
        iban=seller["iban"].replace(" ", ""),
        bic=seller["bic"] or None,
        amount=from_minor(invoice.gross_minor, "EUR"),
        text=invoice.number,
    )
    out = io.BytesIO()
    code.save(out, kind="svg", border=0, scale=3, xmldecl=False)
    return "data:image/svg+xml;base64," + base64.b64encode(out.getvalue()).decode()
