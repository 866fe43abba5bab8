"""Publishing tariff versions and giving them to stations, sites, or everything else."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from typing import Any

from django.db import transaction
from django.utils import timezone
from django.utils.text import slugify

from stations import journal
from stations.models import Site, Station

from .models import DriverGroup, Tariff, TariffAssignment
from .models.tariffs import canonical
from .ocpi import OcpiError, read_tariff


def publish(
    ocpi: dict[str, Any], *, name: str = "", valid_from: dt.datetime | None = None
) -> Tariff:
    """Add an OCPI tariff object as the newest version of its id; return it.

    The same object again is the version there is. The version before ends where the new one
    begins. Raises `OcpiError` with every problem of the object in words.
    """
    plan = read_tariff(ocpi)
    key = slugify(str(ocpi.get("id") or name))
    if not key:
        raise OcpiError(["$.id: is missing; it groups the versions of a tariff"])
    begins = valid_from or timezone.now()
    with transaction.atomic():
        last = Tariff.objects.select_for_update().filter(key=key).order_by("-version").first()
        if last is not None and canonical(last.ocpi) == canonical(ocpi):
            return last
        if last is not None and last.valid_until is None:
            last.valid_until = max(begins, last.valid_from + dt.timedelta(microseconds=1))
            last.save()
        tariff = Tariff(
            key=key,
            version=1 if last is None else last.version + 1,
            name=name or title_of(ocpi),
            currency=plan.currency,
            ocpi=ocpi,
            valid_from=begins,
        )
        tariff.full_clean()
        tariff.save()
        journal.record("tariff.published", tariff, key=key, version=tariff.version)
    return tariff


def title_of(ocpi: dict[str, Any]) -> str:
    """A name for people: the first alternative text, else the id."""
    texts = ocpi.get("tariff_alt_text") or []
    if texts and isinstance(texts[0], dict) and texts[0].get("text"):
        return str(texts[0]["text"])[:120]
    return f"Tariff {ocpi.get('id', '')}".strip()


def assign(key: str, target: Station | Site | DriverGroup | None) -> TariffAssignment:
    """Make the tariff `key` the one of a station, a site, a group, or (None) of everything else."""
    with transaction.atomic():
        rows, given = TariffAssignment.objects, {"key": key}
        if isinstance(target, Station):
            row, _ = rows.update_or_create(station=target, defaults=given)
        elif isinstance(target, Site):
            row, _ = rows.update_or_create(site=target, defaults=given)
        elif isinstance(target, DriverGroup):
            row, _ = rows.update_or_create(group=target, defaults=given)
        else:
            row, _ = rows.update_or_create(is_default=True, defaults=given)
        journal.record("tariff.assigned", target or "", key=key)
    return row


def zone_of(station: Station) -> str:
    """The IANA time zone a station's prices are read in: its site's."""
    return station.site.time_zone if station.site is not None else "UTC"


def in_force_at(
    stations: Iterable[Station], at: dt.datetime, driver_id: int | None = None
) -> dict[int, Tariff]:
    """Return the tariff in force at `at` by station id, as `in_force` decides: a few queries."""
    assigned = list(TariffAssignment.objects.all())
    by_station: dict[int | None, str] = {
        row.station_id: row.key for row in assigned if row.station_id
    }
    by_site: dict[int | None, str] = {row.site_id: row.key for row in assigned if row.site_id}
    default = next((row.key for row in assigned if row.is_default), None)
    mine = TariffAssignment.objects.filter(group__drivers=driver_id).order_by("group_id")
    if driver_id is not None and (own := mine.first()) is not None:
        default = own.key
    newest: dict[str, Tariff] = {}
    for tariff in Tariff.objects.all().valid_at(at).order_by("version"):
        newest[tariff.key] = tariff
    found = {}
    for station in stations:
        key = by_station.get(station.pk) or by_site.get(station.site_id) or default
        if key in newest:
            found[station.pk] = newest[key]
    return found


def snapshot_for(
    station: Station, at: dt.datetime, driver_id: int | None = None
) -> tuple[Tariff, dict[str, Any]] | None:
    """The tariff in force on `station` at `at` with its frozen copy, and mark it used; or None.

    `driver_id`: the driver, where known, whose group may have a tariff of its own.
    """
    tariff = Tariff.objects.all().in_force(station, at, driver_id)
    if tariff is None:
        return None
    if tariff.first_used_at is None:
        Tariff.objects.filter(pk=tariff.pk, first_used_at__isnull=True).update(first_used_at=at)
        tariff.first_used_at = at
    return tariff, tariff.snapshot(zone_of(station))
