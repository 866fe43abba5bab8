"""`manage.py commands`: orders to chargers from the command line."""

import json
import time
from typing import Any

from django.core.management.base import CommandError

from stations import commands
from stations.catalogue import COMMANDS
from stations.console import OperatorCommand
from stations.models import Command as Order
from stations.models import Station

DONE = {str(Order.Status.ACCEPTED), str(Order.Status.SCHEDULED)}
ENDED = {str(status) for status in Order.Status.terminal()}


class Command(OperatorCommand):
    """Send orders."""

    help = "send orders to charging stations"

    def verbs(self, add: Any) -> None:
        """Declare send."""
        one = add("send", self.send, help="order a station to do something")
        one.add_argument("identity", metavar="ID")
        one.add_argument("name", metavar="NAME", help=", ".join(COMMANDS))
        one.add_argument("given", metavar="JSON", nargs="?", default="{}")
        one.add_argument(
            "--wait",
            type=float,
            default=0,
            metavar="SECONDS",
            help="wait for the answer; exit code 1 unless the charger accepted",
        )

    def send(self, identity: str, name: str, given: str, wait: float) -> None:
        """Queue the order, wait for its end, print the row; raise where it waited in vain."""
        try:
            arguments = json.loads(given)
        except ValueError:
            arguments = None
        if not isinstance(arguments, dict):
            raise CommandError("The arguments must be a JSON object, e.g. '{\"evse\": 1}'.")
        station = Station.objects.filter(identity=identity).first()
        if station is None:
            raise CommandError(f"There is no station {identity}.")
        try:
            order = commands.send(station, name, **arguments)
        except (commands.CommandError, TypeError) as error:
            raise CommandError(str(error)) from None
        until = time.monotonic() + wait
        while order.status not in ENDED and time.monotonic() < until:
            time.sleep(0.1)
            order.refresh_from_db()
        self.show(
            {
                "id": order.pk,
                "name": order.name,
                "station": identity,
                "status": order.status,
                "request": order.request,
                "response": order.response,
                "error": order.error,
                "sent_at": order.sent_at.isoformat() if order.sent_at else None,
                "answered_at": order.answered_at.isoformat() if order.answered_at else None,
            }
        )
        if wait and order.status not in DONE:
            raise CommandError(_failure(order, identity, wait))


def _failure(order: Order, identity: str, wait: float) -> str:
    if order.status not in ENDED:
        return (
            f"{identity} has not answered {order.name} within {wait:g} s; order {order.pk} stands "
            f"until {order.expires_at:%H:%M:%S} UTC."
        )
    why = f": {order.error.rstrip('.')}" if order.error else ""
    return f"{identity}, {order.name}: {order.get_status_display()}{why}."
