"""`manage.py incidents list [--open] [--json]`."""

from argparse import ArgumentParser
from collections.abc import Callable

from monitoring.channels import as_json
from monitoring.grouping import UNRESOLVED
from monitoring.models import Incident
from stations.console import OperatorCommand


class Command(OperatorCommand):
    """Incidents."""

    help = "What is, or was, wrong at the stations."

    def verbs(self, add: Callable[..., ArgumentParser]) -> None:
        """Declare the verbs."""
        place = add("list", self.list, help="incidents, the newest first")
        place.add_argument("--open", action="store_true", dest="unresolved", help="open ones only")
        place.add_argument("--limit", type=int, default=200, help="how many at most (200)")

    def list(self, *, unresolved: bool, limit: int) -> None:
        """List incidents."""
        rows = Incident.objects.select_related("site", "station", "connector__evse")
        if unresolved:
            rows = rows.filter(state__in=UNRESOLVED).order_by("-severity", "opened_at")
        found = [as_json(incident) for incident in rows[: max(limit, 1)]]
        if not self.as_json:
            keys = ("id", "station", "connector", "rule", "severity", "state", "opened", "summary")
            found = [{key: row[key] for key in keys} for row in found]
        self.show(found)
