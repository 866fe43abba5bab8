"""manage.py meters verify FILE"""

from __future__ import annotations

import json
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from monitoring import signed


class Command(BaseCommand):
    """Check signed meter values: OCMF text, or the XML of the transparency software."""

    help = "Verify signed meter values with the keys that are in the file."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        """The subcommands."""
        commands = parser.add_subparsers(dest="command", required=True)
        verify = commands.add_parser("verify", help="a verdict on each record of FILE")
        verify.add_argument("file", type=Path)
        verify.add_argument("--key", default="", help="a public key: DER as hex or base64")
        verify.add_argument("--json", action="store_true")

    def handle(self, *args: Any, **options: Any) -> None:
        """Print the verdicts."""
        try:
            records = signed.records_in(options["file"].read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise CommandError(f"{options['file']}: {error}") from error
        rows = [
            {
                "meter": found.meter,
                "pagination": found.pagination,
                "verdict": str(found.verdict),
                "reason": found.reason,
            }
            for found in (signed.check(record, options["key"]) for record in records)
        ]
        if options["json"]:
            self.stdout.write(json.dumps(rows, indent=2))
            return
        for row in rows:
            self.stdout.write(
                f"{row['meter']:<20}{row['pagination']:<10}{row['verdict']:<12}{row['reason']}"
            )
