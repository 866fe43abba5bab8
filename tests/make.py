"""Plain builders: each makes one saved row, with sensible defaults and every field open."""

from datetime import timedelta
from itertools import count
from typing import Any

from django.contrib.auth.models import Group
from django.utils import timezone

from billing import tariffs
from billing.models import HouseAccount, Seller, Tariff
from monitoring.models import Reading, Session
from stations.models import Connector, Evse, Message, Site, Station, Token, User

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


def member(role: str, *sites: Site, **fields: Any) -> User:
    """Staff with one of the roles, limited to these sites (none given: all)."""
    n = next(_n)
    defaults = {"email": f"member{n}@example.com", "password": "secret", "is_staff": True}
    row = User.objects.create_user(**defaults | fields)
    row.groups.add(Group.objects.get(name=role))
    row.sites.set(sites)
    return row


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


# --- billing ------------------------------------------------------------------------------------


def ocpi_tariff(*components: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """An OCPI tariff object: 0.40 a kWh and 1.00 a start, 19 % VAT on top, or `components`."""
    given = components or (
        {"type": "ENERGY", "price": 0.40, "vat": 19.0, "step_size": 1},
        {"type": "FLAT", "price": 1.00, "vat": 19.0, "step_size": 1},
    )
    elements = [{"price_components": list(given)}]
    return {"id": f"T{next(_n)}", "currency": "EUR", "elements": elements} | fields


def tariff(*components: dict[str, Any], **fields: Any) -> Tariff:
    """A tariff valid for a year back, the default of every station."""
    row = tariffs.publish(
        ocpi_tariff(*components, **fields), valid_from=timezone.now() - timedelta(days=365)
    )
    tariffs.assign(row.key, None)
    return row


def seller(**fields: Any) -> Seller:
    """The default seller, in Berlin."""
    defaults = {
        "name": "Charge & Go",
        "legal_name": "Charge & Go GmbH",
        "street": "Stromstr. 1",
        "postcode": "10555",
        "city": "Berlin",
        "country": "DE",
        "vat_id": "DE123456789",
        "email": "billing@example.com",
        "iban": "DE02120300000000202051",
        "time_zone": "Europe/Berlin",
    }
    return Seller.objects.create(**defaults | fields)


def house_account(*tokens: Token, **fields: Any) -> HouseAccount:
    """A house account with these tokens."""
    n = next(_n)
    defaults = {
        "name": f"Fleet {n}",
        "email": f"fleet{n}@example.com",
        "legal_name": f"Fleet {n} AG",
    }
    account = HouseAccount.objects.create(**defaults | fields)
    account.tokens.set(tokens)
    return account


def reading(of: Session, minutes: float, wh: float, **fields: Any) -> Reading:
    """A reading `minutes` after the session's start, `wh` above its first register."""
    at = of.started_at + timedelta(minutes=minutes)
    defaults = {
        "session": of,
        "at": at,
        "n": next(_n),
        "received_at": at,
        "register_mwh": (of.meter_start_mwh or 0) + int(wh * 1000),
    }
    return Reading.objects.create(**defaults | fields)


def frame(of: Station, action: str = "Heartbeat", **fields: Any) -> Message:
    """A call of the station with our answer."""
    defaults = {
        "station": of,
        "at": timezone.now(),
        "direction": Message.Direction.IN,
        "action": action,
        "message_id": f"m{next(_n)}",
        "payload": "{}",
        "answer": "{}",
        "latency_ms": 4.2,
    }
    return Message.objects.create(**defaults | fields)
