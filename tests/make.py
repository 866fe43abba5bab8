"""Plain builders: each makes one saved row, with sensible defaults and every field open."""

from datetime import timedelta
from itertools import count
from typing import Any

from django.utils import timezone

from monitoring.models import Session
from stations.models import Connector, Evse, Site, Station, Token, User

_n = count(1)


def site(**fields: Any) -> Site:
    """A site in Berlin."""
    return Site.objects.create(**{"name": f"Site {next(_n)}", "city": "Berlin"} | fields)


def station(connectors: int = 1, **fields: Any) -> Station:
    """A station in service with `connectors` EVSEs of one connector each."""
    row = Station.objects.create(**{"identity": f"CP{next(_n):04d}", "version": "1.6"} | fields)
    for number in range(1, connectors + 1):
        evse = Evse.objects.create(station=row, number=number)
        Connector.objects.create(station=row, evse=evse, number=1)
    return row


def user(**fields: Any) -> User:
    """A driver."""
    n = next(_n)
    return User.objects.create_user(**{"email": f"driver{n}@example.com"} | fields)


def staff(**fields: Any) -> User:
    """Staff who may do everything."""
    n = next(_n)
    return User.objects.create_superuser(
        **{"email": f"staff{n}@example.com", "password": "secret"} | fields
    )


def token(**fields: Any) -> Token:
    """An accepted RFID token."""
    return Token.objects.create(**{"uid": f"TAG{next(_n):05d}"} | fields)


def session(on: Station, **fields: Any) -> Session:
    """A session on the station's first connector, ended an hour ago with 10 kWh by registers."""
    now = timezone.now()
    defaults = {
        "connector": on.connectors.first(),
        "ref": str(next(_n)),
        "state": Session.State.CLOSED,
        "started_at": now - timedelta(hours=2),
        "started_received_at": now - timedelta(hours=2),
        "stopped_at": now - timedelta(hours=1),
        "closed_at": now - timedelta(hours=1),
        "meter_start_mwh": 1_000_000,
        "meter_stop_mwh": 11_000_000,
        "energy_wh": 10_000,
        "energy_source": Session.Source.REGISTERS,
    }
    return Session.objects.create(station=on, **defaults | fields)
