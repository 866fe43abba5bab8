"""`manage.py stations`: stations from the command line."""

from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.management.base import CommandError
from django.db import transaction

from stations import security
from stations.console import OperatorCommand
from stations.models import Connector, Evse, Site, Station
from stations.models.assets import check_time_zone
from stations.ocpp.address import MAX_IDENTITY


class Command(OperatorCommand):
    """Add stations; list them with their connectors."""

    help = "add and list charging stations"

    def verbs(self, add: Any) -> None:
        """Declare add and list."""
        one = add("add", self.add, help="a station that may connect as ID")
        one.add_argument("identity", metavar="ID")
        one.add_argument("--connectors", type=int, default=1, help="how many (default 1)")
        one.add_argument("--site", metavar="NAME", help="its site, made when new")
        one.add_argument("--time-zone", metavar="TZ", help="of a new site, e.g. Europe/Berlin")
        one.add_argument("--password", help="for basic authentication (security profile 1)")
        one.add_argument("--ocpp", "--version", dest="ocpp", choices=["1.6", "2.0.1", "2.1"])
        one.add_argument("--public", action="store_true", help="shown in the portal")
        add("list", self.list, help="all stations")

    def add(
        self,
        identity: str,
        connectors: int,
        site: str | None,
        time_zone: str | None,
        password: str | None,
        ocpp: str | None,
        public: bool,
    ) -> None:
        """Add one station with its connectors."""
        if (
            not identity.strip()
            or len(identity) > MAX_IDENTITY
            or set(identity) & set("/:")
            or not identity.isprintable()
        ):
            raise CommandError(
                f"An identity has 1 to {MAX_IDENTITY} characters, no colon and no slash."
            )
        if not 1 <= connectors <= 100:
            raise CommandError("A station has 1 to 100 connectors.")
        if Station.objects.filter(identity=identity).exists():
            raise CommandError(f"There is a station {identity} already.")
        with transaction.atomic():
            station = Station.objects.create(
                identity=identity,
                site=_site(site, time_zone),
                version=ocpp or "",
                public=public,
                password_hash=security.hash_password(password) if password else "",
                security_profile=1 if password else 0,
            )
            for number in range(1, connectors + 1):
                evse = Evse.objects.create(station=station, number=number)
                Connector.objects.create(station=station, evse=evse, number=1)
        row = described(station)
        self.show(row, f"{identity} may connect to /ocpp/{identity}.")

    def list(self) -> None:
        """Show every station."""
        stations = Station.objects.prefetch_related("connectors__evse").order_by("identity")
        rows = [described(station) for station in stations]
        if self.as_json:
            return self.show(rows)
        words = [
            row
            | {
                "connectors": ", ".join(
                    f"{one['number']} {one['state']}" for one in row["connectors"]
                )
            }
            for row in rows
        ]
        return self.show(words)


def described(station: Station) -> dict[str, Any]:
    """Return a station as `stations list` shows it."""
    connectors = station.connectors.select_related("evse").order_by("evse__number", "number")
    return {
        "identity": station.identity,
        "version": station.version,
        "state": station.state,
        "connected": station.connected,
        "last_seen": station.last_seen_at.isoformat() if station.last_seen_at else None,
        "firmware": station.firmware,
        "connectors": [
            {
                "number": one.evse.number,
                "state": one.status,
                "code": one.code,
                "url": f"{settings.PUBLIC_URL}/c/{one.code}",
            }
            for one in connectors
        ],
    }


def _site(name: str | None, time_zone: str | None) -> Site | None:
    if time_zone:
        try:
            check_time_zone(time_zone)
        except ValidationError as error:
            raise CommandError(" ".join(error.messages)) from None
    if name is None:
        if time_zone:
            raise CommandError("A time zone belongs to a site: name it with --site.")
        return None
    zone = {"time_zone": time_zone} if time_zone else {}
    site, made = Site.objects.get_or_create(name=name, defaults=zone)
    if time_zone and not made and site.time_zone != time_zone:
        raise CommandError(f"The site {name} is in {site.time_zone}; change that in the admin.")
    return site
