"""manage.py invoices list | show NUMBER [--pdf|--xml|--ubl FILE] | explain NUMBER | verify"""

from __future__ import annotations

import datetime as dt
import json
from argparse import ArgumentParser
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from django.core.management.base import BaseCommand, CommandError

from billing import exports, files, invoicing, replays, timeline
from billing.models import Invoice, Seller
from billing.money import from_minor

FILES = {"pdf": files.pdf_of, "xml": files.xml_of, "ubl": files.ubl_of}


class Command(BaseCommand):
    """List documents, show one, write its PDF, check the chain of hashes."""

    help = "List invoices, show one, write its PDF, or verify that none was changed."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """The subcommands."""
        commands = parser.add_subparsers(dest="command", required=True)
        listing = commands.add_parser("list", help="every document, newest first")
        listing.add_argument("--json", action="store_true")
        show = commands.add_parser("show", help="one document")
        show.add_argument("number")
        show.add_argument("--pdf", type=Path, metavar="FILE", help="write the PDF to FILE")
        show.add_argument(
            "--xml", type=Path, metavar="FILE", help="write the structured invoice (CII) to FILE"
        )
        show.add_argument("--ubl", type=Path, metavar="FILE", help="write it as UBL to FILE")
        show.add_argument("--json", action="store_true")
        explain = commands.add_parser(
            "explain", help="compute a document again from its stored inputs: identical, or why not"
        )
        explain.add_argument("number")
        explain.add_argument("--json", action="store_true")
        export = commands.add_parser("export", help="documents of a time for the accountant")
        export.add_argument("--from", dest="since", type=dt.date.fromisoformat, required=True)
        export.add_argument("--to", dest="until", type=dt.date.fromisoformat, required=True)
        export.add_argument("--zip", type=Path, metavar="FILE", help="PDF, Factur-X, UBL, sums")
        export.add_argument("--csv", type=Path, metavar="FILE", help="sums by document and rate")
        export.add_argument("--datev", type=Path, metavar="FILE", help="DATEV booking batch")
        verify = commands.add_parser("verify", help="check numbers and hashes of every series")
        verify.add_argument("--json", action="store_true")

    def handle(self, *args: Any, **options: Any) -> None:
        """Dispatch."""
        {
            "list": self._list,
            "show": self._show,
            "explain": self._explain,
            "export": self._export,
            "verify": self._verify,
        }[options["command"]](options)

    def _list(self, options: dict[str, Any]) -> None:
        rows = [
            {
                "number": invoice.number,
                "kind": invoice.kind,
                "issued": invoice.issued_at.isoformat(),
                "customer": invoice.customer_name,
                "gross": str(from_minor(invoice.gross_minor, invoice.currency)),
                "currency": invoice.currency,
            }
            for invoice in Invoice.objects.defer("snapshot").order_by("-issued_at", "-pk")
        ]
        if options["json"]:
            self.stdout.write(json.dumps(rows, indent=2))
            return
        for row in rows:
            self.stdout.write(
                f"{row['number']:<20}{row['kind']:<12}{row['issued'][:16]}  "
                f"{row['gross']:>12} {row['currency']}  {row['customer']}"
            )

    def _show(self, options: dict[str, Any]) -> None:
        invoice = _document(options["number"])
        for name, content_of in FILES.items():
            if options[name]:
                _write(options[name], content_of(invoice))
        result = as_json(invoice)
        if options["json"]:
            self.stdout.write(json.dumps(result, indent=2))
            return
        self.stdout.write(
            f"{result['number']} ({result['kind']}) of {result['issued'][:16]}: "
            f"{result['net']} + {result['vat']} = {result['gross']} {result['currency']}"
        )
        for line in result["lines"]:
            self.stdout.write(f"  {line['dimension']:<16}{line.get('quantity', ''):>12} "
                              f"{line['gross']:>12}")  # fmt: skip

    def _explain(self, options: dict[str, Any]) -> None:
        invoice = _document(options["number"])
        replay = replays.replayed(invoice)
        sessions = []
        if invoice.corrects is None and not replay.wrong:
            sessions = [_timeline(session, invoice) for session in invoice.snapshot["sessions"]]
        if options["json"]:
            self.stdout.write(
                json.dumps(
                    {
                        "number": invoice.number,
                        "identical": not replay.wrong,
                        "wrong": replay.wrong,
                        "sha256": replay.sha256,
                        "sessions": sessions,
                    },
                    indent=2,
                )
            )
        else:
            for session in sessions:
                self._tell(session)
        if replay.wrong:
            raise CommandError(" ".join(replay.wrong))
        if not options["json"]:
            self.stdout.write(f"Computed again, byte for byte: SHA-256 {replay.sha256}")

    def _tell(self, session: dict[str, Any]) -> None:
        self.stdout.write(f"Session {session['session']}")
        for row in session["rows"]:
            facts = f"{row['energy']:>12}  {row['read']:<10} {row['kind']}"
            self.stdout.write(f"  {row['start']} – {row['end']}  {facts}")
            for part in row["parts"]:
                self.stdout.write(f"      {part['what']}: {part['sum']}, {part['vat']} VAT, "
                                  f"exactly {part['exact']}, {part['amount']}")  # fmt: skip
        for adjustment in session["adjustments"]:
            self.stdout.write(f"  {adjustment['what']} {adjustment['amount']}")
        self.stdout.write(f"  = {session['total']}")

    def _export(self, options: dict[str, Any]) -> None:
        """The days are the seller's, the last one included."""
        seller = Seller.objects.filter(is_default=True).first()
        if seller is None:
            raise CommandError("There is no seller yet, so there are no documents.")
        zone = ZoneInfo(seller.time_zone)
        since, until = (
            dt.datetime.combine(day, dt.time(), zone)
            for day in (options["since"], options["until"] + dt.timedelta(days=1))
        )
        found = Invoice.objects.filter(seller=seller, issued_at__gte=since, issued_at__lt=until)
        invoices = list(found.order_by("issued_at", "pk"))
        try:
            if options["zip"]:
                with options["zip"].open("wb") as target:
                    exports.bundle(invoices, target)
            if options["csv"]:
                _write(options["csv"], exports.sums(invoices).encode())
            if options["datev"]:
                _write(options["datev"], exports.datev(invoices, seller))
        except (exports.NotReady, OSError) as error:
            raise CommandError(str(error)) from error
        self.stdout.write(f"{len(invoices)} documents.")

    def _verify(self, options: dict[str, Any]) -> None:
        wrong = invoicing.broken_links()
        if options["json"]:
            self.stdout.write(json.dumps({"ok": not wrong, "wrong": wrong}))
        if wrong:
            raise CommandError(f"Changed or missing before: {', '.join(wrong)}.")
        if not options["json"]:
            self.stdout.write("Every number and every hash is in its place.")


def _document(number: str) -> Invoice:
    invoice = Invoice.objects.select_related("corrects").filter(number=number).first()
    if invoice is None:
        raise CommandError(f"There is no document {number!r}.")
    return invoice


def _timeline(session: dict[str, Any], invoice: Invoice) -> dict[str, Any]:
    found = timeline.timeline_on(invoice, session)
    return {"session": session["ref"], **timeline.in_words(found, "en")}


def _write(path: Path, content: bytes) -> None:
    try:
        path.write_bytes(content)
    except OSError as error:
        raise CommandError(f"{path} cannot be written: {error.strerror}.") from error


def as_json(invoice: Invoice) -> dict[str, Any]:
    """A document in the documented shape; amounts are decimal strings."""

    def decimal(minor: int) -> str:
        return str(from_minor(minor, invoice.currency))

    snapshot = invoice.snapshot
    lines = [
        {name: value for name, value in line.items() if not name.endswith("_minor")}
        | {
            "net": decimal(line["net_minor"]),
            "vat_amount": decimal(line["vat_minor"]),
            "gross": decimal(line["gross_minor"]),
        }
        for line in snapshot["lines"]
    ]
    sessions = [session["id"] for session in snapshot["sessions"]]
    return {
        "number": invoice.number,
        "kind": invoice.kind,
        "issued": invoice.issued_at.isoformat(),
        "currency": invoice.currency,
        "net": decimal(snapshot["net_minor"]),
        "vat": decimal(snapshot["vat_minor"]),
        "gross": decimal(invoice.gross_minor),
        "lines": lines,
        "rates": [
            {
                "vat": rate["vat"],
                "net": decimal(rate["net_minor"]),
                "vat_amount": decimal(rate["vat_minor"]),
                "gross": decimal(rate["gross_minor"]),
            }
            for rate in snapshot["rates"]
        ],
        "session": sessions[0] if len(sessions) == 1 else None,
        "sessions": sessions,
        "corrects": (snapshot.get("corrects") or {}).get("number"),
        "customer": snapshot["customer"],
        "sha256": invoice.sha256,
    }
