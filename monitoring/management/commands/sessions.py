"""`manage.py sessions`: charging sessions from the command line."""

from typing import Any

from django.core.management.base import CommandError

from monitoring.models import Session
from stations.console import OperatorCommand, moment
from stations.models import Station


class Command(OperatorCommand):
    """List sessions, the newest first."""

    help = "list charging sessions"

    def verbs(self, add: Any) -> None:
        """Declare list."""
        one = add("list", self.list, help="sessions, the newest first")
        one.add_argument("--station", metavar="ID", help="of this station only")
        one.add_argument("--since", metavar="ISO", help="started at or after, e.g. 2026-11-01")

    def list(self, station: str | None, since: str | None) -> None:
        """Show every session, or those chosen."""
        rows = Session.objects.select_related("station", "connector__evse", "charge")
        if station is not None:
            if not Station.objects.filter(identity=station).exists():
                raise CommandError(f"There is no station {station}; see `stations list`.")
            rows = rows.filter(station__identity=station)
        if since is not None:
            rows = rows.filter(started_at__gte=moment(since))
        self.show([described(session) for session in rows.order_by("-started_at", "-pk")])


def described(session: Session) -> dict[str, Any]:
    """Return a session as `sessions list` shows it; `cost` is gross, None until it is priced."""
    charge = getattr(session, "charge", None)
    priced = charge is not None and charge.gross is not None
    return {
        "id": session.pk,
        "ref": session.ref,
        "station": session.station.identity,
        "connector": session.connector.evse.number if session.connector else None,
        "token": session.token_uid,
        "started": session.started_at.isoformat(),
        "stopped": session.stopped_at.isoformat() if session.stopped_at else None,
        "closed": session.closed_at.isoformat() if session.closed_at else None,
        "energy_wh": session.energy_wh,
        "energy_source": session.energy_source,
        "state": session.state,
        "review": session.review,
        "flags": session.flags,
        "cost": _amount(charge.gross) if charge and priced else None,
        "currency": charge.currency if charge and priced else None,
    }


def _amount(money: Any) -> str:
    """Return an amount with its currency's own decimals: 6.03, not the column's 6.030."""
    places = len(str(money.currency.sub_unit)) - 1
    return f"{money.amount:.{places}f}"
