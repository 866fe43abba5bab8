"""Who may join: unknown stations wait as pending with what they said of themselves."""

from django.db import transaction

from stations import commands, journal, live
from stations.models import Station
from stations.state import advance


def approve(station: Station) -> None:
    """Take a pending, rejected or retired station into service. Raises NotAllowed.

    A connected one is asked to boot again, so that it hears Accepted at once instead of at its
    next retry (OCPP 1.6 §4.2, 2.0.1 B02).
    """
    _move(station, Station.State.ACCEPTED, "station.approved")
    if station.connected:
        commands.send(station, "trigger_message", message="BootNotification", expires_in_s=60)


def reject(station: Station) -> None:
    """Turn a pending station away. Raises NotAllowed."""
    _move(station, Station.State.REJECTED, "station.rejected")


def retire(station: Station) -> None:
    """Take a station out of service for good; its history stays. Raises NotAllowed.

    The gateway that holds its socket closes it at once (1008), and none is opened any more.
    """
    _move(station, Station.State.RETIRED, "station.retired", f"retired-{station.pk}")


def _move(station: Station, target: Station.State, kind: str, *topics: str) -> None:
    with transaction.atomic():
        advance(Station.objects.filter(pk=station.pk), target)
        journal.record(kind, station, previous=station.state)
        live.touch("fleet", f"station-{station.pk}", *topics)
    station.state = target
