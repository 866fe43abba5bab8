"""manage.py tariffs load | price"""

from __future__ import annotations

import json
from argparse import ArgumentParser
from decimal import Decimal
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from billing.money import decimal_text
from billing.ocpi import OcpiError, read_cdr, read_tariff
from billing.pricing import RESERVATION, Bill, Dimension, Line, price

PARTS = {
    "energy": Dimension.ENERGY,
    "time": Dimension.TIME,
    "parking": Dimension.PARKING_TIME,
    "flat": Dimension.FLAT,
    "reservation": RESERVATION,
}


class Command(BaseCommand):
    """Load OCPI tariffs, or price a CDR with one (no database needed)."""

    help = "Load OCPI tariffs (2.2.1 or 2.3.0), or price a CDR with one."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        """The two subcommands."""
        commands = parser.add_subparsers(dest="command", required=True)
        load = commands.add_parser("load", help="store a tariff and say where it applies")
        load.add_argument("file", type=Path)
        target = load.add_mutually_exclusive_group()
        target.add_argument("--site", metavar="NAME")
        target.add_argument("--station", metavar="ID")
        target.add_argument("--default", action="store_true")
        load.add_argument("--json", action="store_true")
        pricing = commands.add_parser("price", help="price a CDR's periods, as they are given")
        pricing.add_argument("tariff", type=Path)
        pricing.add_argument("cdr", type=Path)
        pricing.add_argument("--time-zone", metavar="TZ", help="else the CDR's location's, or UTC")
        pricing.add_argument(
            "--split",
            action="store_true",
            help="cut periods where a price changes inside them, energy in proportion to time",
        )
        pricing.add_argument("--json", action="store_true")

    def handle(self, *args: Any, **options: Any) -> None:
        """Dispatch."""
        try:
            self._load(options) if options["command"] == "load" else self._price(options)
        except OcpiError as error:
            raise CommandError(f"{error}.") from error

    def _price(self, options: dict[str, Any]) -> None:
        plan = read_tariff(_read(options["tariff"]), strict=False)
        usage = read_cdr(_read(options["cdr"]), options["time_zone"])
        bill = price(plan, usage, split=options["split"])
        result = as_json(bill)
        if options["json"]:
            self.stdout.write(json.dumps(result, indent=2))
            return
        for line in result["lines"]:
            self.stdout.write(
                f"{line['dimension']:<14}{line['quantity']:>14} {line['unit']:<8}"
                f"x {line['price']:>12} = {line['before_taxes']:>14} {line['after_taxes']:>14}"
            )
        total = result["total"]
        self.stdout.write(
            f"{'total ' + bill.currency:<52}{total['before_taxes']:>14} {total['after_taxes']:>14}"
        )

    def _load(self, options: dict[str, Any]) -> None:
        from billing import tariffs
        from stations.models import Site, Station

        target: Site | Station | None = None
        if options["site"]:
            target = Site.objects.filter(name=options["site"]).first()
            if target is None:
                raise CommandError(f"There is no site {options['site']!r}.")
        if options["station"]:
            target = Station.objects.filter(identity=options["station"]).first()
            if target is None:
                raise CommandError(f"There is no station {options['station']!r}.")
        data = json.loads(json.dumps(_read(options["file"]), default=float))
        if not isinstance(data, dict):
            raise CommandError(f"{options['file']} is not an OCPI tariff object.")
        tariff = tariffs.publish(data)
        if target is not None or options["default"]:
            tariffs.assign(tariff.key, target)
        result = {"id": tariff.pk, "key": tariff.key, "version": tariff.version}
        if options["json"]:
            self.stdout.write(json.dumps(result))
        else:
            self.stdout.write(f"{tariff.name}: {tariff.key} version {tariff.version}")


def _read(path: Path) -> Any:
    """JSON from a file, numbers exact."""
    try:
        return json.loads(path.read_text(encoding="utf-8"), parse_float=Decimal)
    except OSError as error:
        raise CommandError(f"{path} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise CommandError(f"{path} is not JSON: {error}.") from error


def as_json(bill: Bill) -> dict[str, Any]:
    """The bill in the documented shape: amounts as decimal text, at least six places."""

    def pair(before: Any, after: Any) -> dict[str, str]:
        return {"before_taxes": decimal_text(before), "after_taxes": decimal_text(after)}

    return {
        "currency": bill.currency,
        "total": pair(bill.before, bill.after),
        **{name: pair(*bill.total(dimension)) for name, dimension in PARTS.items()},
        "adjustment": pair(
            bill.before - sum(line.before for line in bill.lines),
            bill.after - sum(line.after for line in bill.lines),
        ),
        "lines": [_line(line) for line in bill.lines],
        "doubts": bill.doubts,
    }


def _line(line: Line) -> dict[str, Any]:
    component = line.component
    return {
        "dimension": str(line.dimension),
        "from": line.start.isoformat().replace("+00:00", "Z"),
        "to": line.end.isoformat().replace("+00:00", "Z"),
        "quantity": decimal_text(line.quantity, at_least=3),
        "unit": line.unit,
        "price": decimal_text(component.price, at_least=4),
        "vat": None if line.vat is None else decimal_text(line.vat * 100, at_least=1),
        "before_taxes": decimal_text(line.before),
        "after_taxes": decimal_text(line.after),
        "element": component.element,
    }
