"""`manage.py uptime report --from D --to D [--policy nevi] [--json]`."""

from argparse import ArgumentParser
from collections.abc import Callable
from datetime import date

from django.core.management.base import CommandError

from monitoring import reports
from monitoring.uptime import POLICIES
from stations.console import OperatorCommand
from stations.models import Site, Station


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise CommandError(f"“{text}” is not a day. Write it as 2026-03-31.") from error


class Command(OperatorCommand):
    """Uptime of every port under one policy."""

    help = "Uptime from the ledger: what counts as an outage, and what excuses it, by policy."

    def verbs(self, add: Callable[..., ArgumentParser]) -> None:
        """Declare the verbs."""
        place = add("report", self.report, help="uptime of every port in a period")
        place.add_argument("--from", dest="start", required=True, metavar="DAY")
        place.add_argument("--to", dest="end", required=True, metavar="DAY", help="not included")
        place.add_argument("--policy", default="nevi", help=", ".join(POLICIES))
        place.add_argument("--site", help="only this site")

    def report(self, *, start: str, end: str, policy: str, site: str | None) -> None:
        """Print the report."""
        stations = None
        if site is not None:
            if not Site.objects.filter(name=site).exists():
                raise CommandError(f"There is no site “{site}”.")
            stations = list(Station.objects.filter(site__name=site).values_list("pk", flat=True))
        try:
            found = reports.report(policy, _day(start), _day(end), stations)
        except reports.UptimeError as error:
            raise CommandError(str(error)) from error
        lines = [
            f"{found['name']}, {found['from']} to {found['to']}"
            f" (inputs {found['inputs_sha256'][:12]})"
        ]
        for port in found["ports"]:
            percent = port["uptime_percent"]
            lines.append(
                f"  {port['station']}.{port['evse']}  "
                + ("never seen" if percent is None else f"{percent:.3f} %")
                + f"  outage {port['outage_minutes']:.0f} min,"
                f" excused {port['excluded_minutes']:.0f} min"
            )
        if found["average_percent"] is not None:
            lines.append(f"Average {found['average_percent']:.3f} %")
        self.show(found, "\n".join(lines))
