"""Sites that share their connection: the rows behind `monitoring/load.py`, and its orders.

Every few seconds each site with a limit is looked at: who charges, which stations hear us, what
each was told last. Each session gets a TxProfile with its share, each station a TxDefaultProfile
with the fallback: that is what a new session begins with, and what counts when a station has lost
us, because a TxProfile of ours is only valid for `VALID`. Only what differs is ordered, or what
would soon run out; an increase waits until the decreases it needs are accepted.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from django.db import transaction
from django.utils import timezone

from monitoring import load, ticks
from monitoring.models import Allotment, CarNeeds, Session
from stations import commands, journal, live
from stations.models import Command, Connector, Site, Station, Variable

log = logging.getLogger(__name__)

VALID: Final = timedelta(minutes=15)  # of a share at a station that hears nothing more from us
RENEW_BEFORE: Final = timedelta(minutes=5)
RETRY_AFTER: Final = timedelta(seconds=60)  # a station that refused is asked again
ORDER_TTL_S: Final = 20.0  # an order older than this belongs to another plan
PROFILE_ID: Final = 9_000_000  # + EVSE; our sharing profiles, apart from those that staff set
PRIORITY_CHARGING: Final = 100  # a car with priority charging (2.1) goes before every station's own
DC_TYPES: Final = frozenset({"IEC_62196_T1_COMBO", "IEC_62196_T2_COMBO", "CHADEMO", "SAE_J3400"})


@dataclass(slots=True)
class Bay:
    """An EVSE of the site, with what is kept of it."""

    station: Station
    evse: int
    max_a: int
    phases: int
    direct: bool  # DC: limits are said in watts
    session: Session | None = None
    needs: CarNeeds | None = None
    allotment: Allotment | None = None

    @property
    def key(self) -> tuple[int, int]:
        """What names it within the site."""
        return self.station.pk, self.evse


def tick(now: datetime | None = None) -> int:
    """Balance every site that has a limit; return how many orders were given."""
    now = now or timezone.now()
    orders = 0
    with ticks.exclusive("monitoring.sharing", ttl_s=30) as row:
        if row is None:
            return 0
        for site in Site.objects.filter(power_limit_a__isnull=False):
            try:
                with transaction.atomic():
                    orders += balance(site, now)
            except Exception:  # one site must not keep the others from being balanced
                log.exception("The power of site %s could not be shared.", site.pk)
        _forget_unshared()
    return orders


def balance(site: Site, now: datetime) -> int:
    """Plan a site and order what has changed; return how many orders were given."""
    bays = _bays(site)
    rows = _allotments(site, bays)
    conclude(rows.values(), now)
    offline_a = fallback_of(site, len(bays))
    online = [bay for bay in bays if bay.session is not None and _obeys(bay, rows, now)]
    told = {bay.key for bay in online}
    reserved_a = sum(_unreachable_a(bay, rows, now) for bay in bays if bay.key not in told)
    keys = {bay.key: n for n, bay in enumerate(online)}
    shares = load.share(
        site.power_limit_a or 0,
        [_draw(bay, keys[bay.key]) for bay in online],
        reserved_a=reserved_a,
        minimum_a=site.power_minimum_a,
    )
    drawn = {keys[bay.key]: _drawn_a(bay, rows, now) for bay in online}
    due = load.step(
        site.power_limit_a or 0, shares, drawn, reserved_a=reserved_a,
        minimum_a=site.power_minimum_a,
    )  # fmt: skip
    orders = _order_fallbacks(bays, rows, offline_a, now)
    changed = False
    for bay in online:
        row = rows[bay.key]
        share = shares[keys[bay.key]]
        changed |= row.target_a != share
        row.target_a = share
        amps = due.get(keys[bay.key])
        if amps is None and _must_renew(row, now):
            amps = min(share, drawn[keys[bay.key]])
        if amps is not None and _may_order(row, now):
            _order_share(bay, row, amps, now)
            orders += 1
    Allotment.objects.bulk_update(rows.values(), _COLUMNS)
    if orders or changed:
        live.touch(f"site-{site.pk}")
    return orders


_COLUMNS: Final = [
    "session", "target_a", "confirmed_a", "confirmed_at", "ordered_a", "ordered_at", "command_id",
    "valid_to", "refused",
]  # fmt: skip


def fallback_of(site: Site, evses: int) -> int:
    """Return what an EVSE of this site may draw whose station has lost us, in amperes."""
    if site.power_offline_a is not None:
        return site.power_offline_a
    return load.fallback(site.power_limit_a or 0, evses, site.power_minimum_a)


def conclude(rows: Iterable[Allotment], now: datetime) -> None:
    """Take over what became of the orders on their way (the rows are not saved)."""
    waiting = {row.command_id: row for row in rows if row.command_id}
    found = Command.objects.filter(pk__in=waiting).values_list(
        "pk", "status", "error", "answered_at"
    )
    for pk, status, error, answered_at in found:
        row = waiting[pk]
        if status in (Command.Status.ACCEPTED, Command.Status.SCHEDULED):
            row.confirmed_a, row.confirmed_at, row.refused = row.ordered_a, answered_at or now, ""
        elif status in (Command.Status.QUEUED, Command.Status.SENT):
            continue
        else:
            row.refused = (error or str(status))[:200]
            if status == Command.Status.TIMED_OUT and row.confirmed_a is not None:
                # it may have been taken: count what is more
                row.confirmed_a = max(row.confirmed_a, row.ordered_a or 0)
        row.command_id = row.ordered_a = None
    gone = set(waiting) - {pk for pk, *_ in found}
    for pk in gone:
        waiting[pk].command_id = waiting[pk].ordered_a = None


# --- what each bay draws -----------------------------------------------------------------------


def _bays(site: Site) -> list[Bay]:
    """Return the EVSEs of the stations in service that were ever seen, with their open sessions."""
    plugs = (
        Connector.objects.filter(
            station__site=site,
            station__state=Station.State.ACCEPTED,
            station__last_seen_at__isnull=False,
        )
        .select_related("station__quirks", "evse")
        .order_by("station_id", "evse__number", "number")
    )
    bays: dict[tuple[int, int], Bay] = {}
    by_plug: dict[int, Bay] = {}
    for plug in plugs:
        amps = load.amperes(plug.max_power_w, plug.phases)
        bay = bays.setdefault(
            (plug.station_id, plug.evse.number),
            Bay(plug.station, plug.evse.number, amps, plug.phases, plug.type in DC_TYPES),
        )
        bay.max_a = max(bay.max_a, amps)
        by_plug[plug.pk] = bay
    running = Session.objects.filter(connector__in=by_plug, state=Session.State.ACTIVE)
    for session in running.select_related("needs").order_by("started_at", "pk"):
        bay = by_plug[session.connector_id or 0]
        bay.session, bay.needs = session, getattr(session, "needs", None)
    return list(bays.values())


def _allotments(site: Site, bays: list[Bay]) -> dict[tuple[int, int], Allotment]:
    """Return the rows of these bays and of each station's fallback (EVSE 0), made where missing."""
    wanted = {bay.key for bay in bays} | {(bay.station.pk, 0) for bay in bays}
    stations = {key[0] for key in wanted}
    have = {
        (row.station_id, row.evse): row for row in Allotment.objects.filter(station__in=stations)
    }
    Allotment.objects.bulk_create(
        [
            Allotment(site=site, station_id=pk, evse=evse)
            for pk, evse in sorted(wanted - have.keys())
        ],
        ignore_conflicts=True,
    )
    if wanted - have.keys():
        have = {(row.station_id, row.evse): row
                for row in Allotment.objects.filter(station__in=stations)}  # fmt: skip
    Allotment.objects.filter(station__in=stations).exclude(site=site).update(site=site)
    for bay in bays:
        row = have[bay.key]
        session_id = bay.session.pk if bay.session else None
        if row.session_id != session_id:  # another session: nothing was promised to it yet
            row.session_id, row.target_a = session_id, 0
            row.confirmed_a = row.confirmed_at = row.valid_to = None
            row.command_id = row.ordered_a = row.ordered_at = None
            row.refused = ""
        bay.allotment = row
    return {key: row for key, row in have.items() if key in wanted}


def _draw(bay: Bay, key: int) -> load.Draw:
    prioritised = bay.needs is not None and bay.needs.prioritised
    return load.Draw(
        key,
        _max_a(bay),
        bay.station.power_priority + (PRIORITY_CHARGING if prioritised else 0),
        bay.session.pk if bay.session else 0,
    )


def _max_a(bay: Bay) -> int:
    """Return what this bay can draw: the plug's and, where it said so, the car's maximum."""
    if bay.needs is not None and bay.needs.max_a is not None and not bay.direct:
        return min(bay.max_a, max(bay.needs.max_a, load.MINIMUM_A))
    return bay.max_a


def _obeys(bay: Bay, rows: dict[tuple[int, int], Allotment], now: datetime) -> bool:
    """Tell whether the bay can be told: its station hears us and did not just refuse."""
    return bay.station.connected and (not rows[bay.key].refused or _may_order(rows[bay.key], now))


def _default_a(bay: Bay, rows: dict[tuple[int, int], Allotment]) -> int:
    """Return what the station lets a session draw without a share: its TxDefaultProfile."""
    confirmed = rows[bay.station.pk, 0].confirmed_a
    return _max_a(bay) if confirmed is None else min(confirmed, _max_a(bay))


def _drawn_a(bay: Bay, rows: dict[tuple[int, int], Allotment], now: datetime) -> int:
    """Return the most a session may draw now by what its station accepted or is being told."""
    row = rows[bay.key]
    held = row.confirmed_a
    if held is None or (row.valid_to is not None and row.valid_to <= now):
        held = _default_a(bay, rows)
    return max(held, row.ordered_a or 0)


def _unreachable_a(bay: Bay, rows: dict[tuple[int, int], Allotment], now: datetime) -> int:
    """Return what to set aside for a bay we cannot tell anything now.

    A free bay of a station that hears us needs nothing: it is told when a session begins. One whose
    station has lost us may begin a session with the default profile, and one that charges keeps
    its share until it runs out.
    """
    if bay.station.connected and bay.session is None:
        return 0
    row = rows[bay.key]
    default_a = _default_a(bay, rows)
    if bay.session is None or row.confirmed_a is None:
        return default_a
    if row.valid_to is not None and row.valid_to <= now:
        return default_a
    return max(row.confirmed_a, row.ordered_a or 0, default_a)


# --- orders --------------------------------------------------------------------------------------


def _may_order(row: Allotment, now: datetime) -> bool:
    """Tell whether nothing is on its way and the station did not just refuse."""
    if row.command_id is not None:
        return False
    return not row.refused or row.ordered_at is None or row.ordered_at + RETRY_AFTER <= now


def _must_renew(row: Allotment, now: datetime) -> bool:
    """Tell whether the share a station holds is missing or about to run out."""
    return row.confirmed_a is None or row.valid_to is None or row.valid_to - RENEW_BEFORE <= now


def _order_share(bay: Bay, row: Allotment, amps: int, now: datetime) -> None:
    assert bay.session is not None  # noqa: S101
    valid_to = now + VALID
    _order(
        bay.station, row, amps, now,
        evse=bay.evse, purpose="TxProfile", ref=bay.session.ref,
        valid_to=valid_to, **_rate(amps, bay.direct, bay.phases),
    )  # fmt: skip
    row.valid_to = valid_to


def _order_fallbacks(
    bays: list[Bay],
    rows: dict[tuple[int, int], Allotment],
    offline_a: int,
    now: datetime,
) -> int:
    """Order each station's default profile where it differs; return how many orders were given."""
    orders = 0
    by_station = {bay.station.pk: bay for bay in bays}
    for pk, bay in by_station.items():
        row = rows[pk, 0]
        row.target_a = offline_a
        if not bay.station.connected or row.confirmed_a == offline_a or not _may_order(row, now):
            continue
        _order(
            bay.station, row, offline_a, now,
            purpose="TxDefaultProfile", **_rate(offline_a, bay.direct, bay.phases),
        )  # fmt: skip
        orders += 1
    return orders


def _rate(amps: int, direct: bool, phases: int) -> dict[str, Any]:
    if direct:
        return {"unit": "W", "periods": [{"start_s": 0, "limit": load.watts(amps)}]}
    period = {"start_s": 0, "limit": amps} | ({"phases": phases} if phases == 1 else {})
    return {"unit": "A", "periods": [period]}


def _order(station: Station, row: Allotment, amps: int, now: datetime, **args: Any) -> None:
    """Send one profile and note that it is on its way."""
    command = commands.send(
        station, "set_charging_profile",
        subject=f"sharing-{row.evse}", expires_in_s=ORDER_TTL_S,
        profile_id=PROFILE_ID + row.evse, stack_level=_stack_level(station), **args,
    )  # fmt: skip
    row.command_id, row.ordered_a, row.ordered_at = command.pk, amps, now


def _stack_level(station: Station) -> int:
    """Return the level ours go to: the highest the station says it has, so that they win."""
    quirks = station.quirks.settings if station.quirks else {}
    if "stack_level" in quirks:
        return int(quirks["stack_level"])
    values = Variable.objects.filter(
        station=station, name__in=["ChargeProfileMaxStackLevel", "ProfileStackLevel"]
    ).values_list("value", flat=True)
    levels = [int(value) for value in values if value and value.isdigit()]
    return max(levels, default=0)


def _forget_unshared() -> None:
    """Take back what stations of sites without a limit were told, and forget it."""
    rows = Allotment.objects.filter(site__power_limit_a__isnull=True, station__connected=True)
    for row in rows.select_related("station")[:200]:
        with transaction.atomic():
            if row.confirmed_a is not None or row.ordered_a is not None:
                commands.send(
                    row.station, "clear_charging_profile",
                    subject="sharing-end", profile_id=PROFILE_ID + row.evse,
                )  # fmt: skip
            row.delete()


# --- what cars tell ------------------------------------------------------------------------------


def car_told(session: Session, **changes: Any) -> CarNeeds:
    """Keep what a car told of itself; its share is planned anew with the next tick."""
    row, _ = CarNeeds.objects.update_or_create(
        session=session, defaults={"at": timezone.now()} | changes
    )
    journal.record("car.told", session, station_id=session.station_id, **_summary(row))
    live.touch(f"session-{session.pk}")
    return row


def _summary(row: CarNeeds) -> dict[str, Any]:
    return {
        "max_a": row.max_a,
        "energy_wh": row.energy_wh,
        "departure_at": row.departure_at.isoformat() if row.departure_at else None,
        "prioritised": row.prioritised,
    }


def shared(station_id: int) -> bool:
    """Tell whether a station's site shares its power."""
    return Station.objects.filter(pk=station_id, site__power_limit_a__isnull=False).exists()
