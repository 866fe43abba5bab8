"""Write docs/ocpp.md from the dialects and the catalogue; `--check` fails when it is stale."""

from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import translation

from stations.ocpp import coverage

PAGE = Path(settings.BASE_DIR) / "docs" / "ocpp.md"


class Command(BaseCommand):
    """Writes docs/ocpp.md."""

    help = __doc__ or ""

    def add_arguments(self, parser: CommandParser) -> None:
        """Take --check."""
        parser.add_argument("--check", action="store_true", help="fail when the page is stale")

    def handle(self, *args: Any, **options: Any) -> None:
        """Write the page, or compare it."""
        with translation.override("en"):
            text = coverage.page()
        if not options["check"]:
            PAGE.write_text(text)
        elif not PAGE.exists() or PAGE.read_text() != text:
            raise CommandError("docs/ocpp.md is stale: run manage.py ocpp.")
