"""`manage.py messages`: the frame log from the command line."""

import json
from datetime import UTC, datetime
from typing import Any

from django.core.management.base import CommandError

from stations.console import OperatorCommand
from stations.models import Message, Station


class Command(OperatorCommand):
    """List frames."""

    help = "list the frames exchanged with a station"

    def verbs(self, add: Any) -> None:
        """Declare list."""
        one = add("list", self.list, help="calls with their answers, oldest first")
        one.add_argument("--station", metavar="ID", required=True)
        one.add_argument("--since", metavar="ISO", help="a time, in UTC unless it says otherwise")

    def list(self, station: str, since: str | None) -> None:
        """Show the frames of one station."""
        row = Station.objects.filter(identity=station).first()
        if row is None:
            raise CommandError(f"There is no station {station}.")
        frames = Message.objects.filter(station=row).order_by("at", "pk")
        if since is not None:
            try:
                at = datetime.fromisoformat(since)
            except ValueError:
                raise CommandError("Write --since like 2026-01-31T12:00:00Z.") from None
            frames = frames.filter(at__gte=at if at.tzinfo else at.replace(tzinfo=UTC))
        self.show([described(frame) for frame in frames.iterator()])


def described(frame: Message) -> dict[str, Any]:
    """Return a frame as `messages list` shows it."""
    return {
        "at": frame.at.isoformat(),
        "direction": frame.direction,
        "action": frame.action,
        "id": frame.message_id,
        "payload": _parsed(frame.payload),
        "answer": _parsed(frame.answer),
        "latency_ms": frame.latency_ms,
        "error": frame.error,
    }


def _parsed(text: str) -> Any:
    """Return JSON as itself, anything else as the text it is; None for nothing."""
    try:
        return json.loads(text) if text else None
    except ValueError:
        return text
