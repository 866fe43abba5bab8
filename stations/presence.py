"""Who is there: sockets opened and closed, boots, signs of life, connector status.

Written by the group commit (`stations/writer.py`): each lane takes the facts of one batch and
returns one outcome per fact, in the batch's transaction. The connection *epoch* counts a station's
sockets: the newest one owns the station, and whatever an older one still does is compared with it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import connection, transaction
from django.utils import timezone

from stations import bulk, journal, live, quirks, writer
from stations.models import Connector, Entry, Evse, QuirkProfile, Station

MAX_PENDING = 1_000  # unknown identities kept for approval: nobody can fill the disk with names
RETRY_S = 60  # a station that is not accepted yet boots again after this
CLOCK_TOLERANCE = timedelta(days=1)  # further off than this, a charger's clock is not believed
FIRST_PLAUSIBLE = datetime(2020, 1, 1, tzinfo=UTC)


class NotAdmitted(Exception):
    """The identity may not connect: unknown here, and the policy keeps strangers out."""


@dataclass(frozen=True, slots=True)
class Admitted:
    """What a socket needs to know of its station, read once at the handshake."""

    station_id: int
    identity: str
    state: str
    version: str
    password_hash: str
    security_profile: int
    heartbeat_interval_s: int
    time_zone: str
    quirks: dict[str, Any]
    quirks_id: int | None
    booted: bool  # it was accepted at least once before
    orders: bool = True  # some may be waiting for it
    clock_offset_s: float | None = None
    next_password_hash: str = ""  # accepted, not yet used
    on_trial: bool = False  # the new password is awaited
    security_locked: bool = False
    connected_profile: int | None = None


@dataclass(frozen=True, slots=True)
class Opened:
    """A socket was accepted. Outcome: its epoch."""

    station_id: int
    version: str
    gateway: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Closed:
    """A socket is gone. Changes nothing when a newer one has taken its place."""

    station_id: int
    epoch: int
    at: datetime
    code: int


@dataclass(frozen=True, slots=True)
class Boot:
    """BootNotification. Outcome: Booted."""

    station_id: int
    at: datetime
    vendor: str
    model: str
    serial: str = ""
    firmware: str = ""
    iccid: str = ""
    imsi: str = ""
    modem_firmware: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Booted:
    """What a boot is answered: the station's state and its heartbeat interval in seconds.

    `quirks` is the profile chosen for the make it says it is, None where it keeps the one it has.
    """

    state: str
    interval_s: int
    quirks: QuirkProfile | None = None


@dataclass(frozen=True, slots=True)
class Seen:
    """Any frame came in."""

    station_id: int
    at: datetime


@dataclass(frozen=True, slots=True)
class ClockRead:
    """A charger's clock was found to be off by another amount than we knew (theirs − ours)."""

    station_id: int
    offset_s: float


@dataclass(frozen=True, slots=True)
class Status:
    """StatusNotification, in 1.6's words or 2.x's. EVSE 0 is the station as a whole.

    `at` is the charger's own time, None when it gave none or its clock is not to be believed.
    """

    station_id: int
    evse: int
    connector: int
    status: str
    at: datetime | None
    received_at: datetime
    error_code: str = ""
    vendor_error_code: str = ""
    info: str = ""


# --- the handshake ------------------------------------------------------------------------------


def admit(identity: str) -> Admitted:
    """Return the station of this identity, made by policy when it is unknown.

    `settings.OCPP_UNKNOWN_STATIONS`: `reject` keeps nothing, `pending` keeps it for approval,
    `accept` takes it into service. Raises NotAdmitted.
    """
    admitted = _find(identity)
    if admitted is None:
        _admit_stranger(identity)
        admitted = _find(identity)
    if admitted is None or admitted.state == Station.State.RETIRED:
        raise NotAdmitted(identity)
    return admitted


def _find(identity: str) -> Admitted | None:
    """Read the station in one statement of our own: a whole fleet may reconnect at once."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT s.id, s.state, s.version, s.password_hash, s.security_profile,"
            " s.heartbeat_interval_s, p.time_zone, q.settings, s.quirks_id,"
            " s.booted_at IS NOT NULL, EXISTS (SELECT 1 FROM stations_command AS c"
            " WHERE c.station_id = s.id AND c.status = 'queued'), s.clock_offset_s,"
            " s.next_password_hash, s.security_locked, s.connected_profile,"
            " s.next_password_until IS NOT NULL"
            " FROM stations_station AS s LEFT JOIN stations_site AS p ON p.id = s.site_id"
            " LEFT JOIN stations_quirkprofile AS q ON q.id = s.quirks_id WHERE s.identity = %s",
            [identity],
        )
        row = cursor.fetchone()
    if row is None:
        return None
    return Admitted(
        station_id=row[0],
        identity=identity,
        state=row[1],
        version=row[2],
        password_hash=row[3],
        security_profile=row[4],
        heartbeat_interval_s=row[5],
        time_zone=row[6] or "UTC",
        quirks=json.loads(row[7]) if row[7] else {},
        quirks_id=row[8],
        booted=bool(row[9]) and row[1] == Station.State.ACCEPTED,
        orders=bool(row[10]),
        clock_offset_s=row[11],
        next_password_hash=row[12],
        security_locked=bool(row[13]),
        connected_profile=row[14],
        on_trial=bool(row[15]),
    )


def _admit_stranger(identity: str) -> None:
    policy = settings.OCPP_UNKNOWN_STATIONS
    if policy == "reject":
        raise NotAdmitted(identity)
    state = Station.State.ACCEPTED if policy == "accept" else Station.State.PENDING
    with transaction.atomic():
        if (
            state == Station.State.PENDING
            and Station.objects.filter(state=Station.State.PENDING).count() >= MAX_PENDING
        ):
            raise NotAdmitted(identity)
        station, created = Station.objects.get_or_create(
            identity=identity, defaults={"state": state}
        )
        if created:
            journal.record("station.appeared", station, identity=identity, state=str(state))
            live.touch("fleet")


def forget(gateway: str, before: datetime) -> int:
    """Mark what this gateway left behind when it was killed as disconnected; return how many.

    `before` is when this process began: what was opened since then is its own.
    """
    with transaction.atomic():
        lost = list(
            Station.objects.filter(gateway=gateway, connected=True, connected_at__lt=before)
        )
        Station.objects.filter(pk__in=[station.pk for station in lost]).update(
            connected=False, disconnected_at=timezone.now()
        )
        journal.record_many(
            [journal.entry("station.disconnected", station, code=1006) for station in lost]
        )
        live.touch("fleet", *(f"station-{station.pk}" for station in lost))
    return len(lost)


def owned_by(gateway: str) -> set[tuple[int, int]]:
    """Return (station, epoch) of every socket this gateway owns according to the database."""
    return set(Station.objects.filter(gateway=gateway, connected=True).values_list("pk", "epoch"))


def outcasts() -> list[int]:
    """Return the retired stations whose socket is still open."""
    rows = Station.objects.filter(state=Station.State.RETIRED, connected=True).order_by()
    return list(rows.values_list("pk", flat=True))


# --- lanes: a batch of facts in, one outcome per fact out ---------------------------------------


def write_opened(facts: Sequence[Opened]) -> list[int]:
    """Make each socket the owner of its station; return the epochs, 0 for a retired station."""
    epochs = []
    with connection.cursor() as cursor:
        for fact in facts:
            cursor.execute(
                "UPDATE stations_station SET epoch = epoch + 1, connected = %s, gateway = %s,"
                " connected_at = %s, last_seen_at = %s, version = %s WHERE id = %s"
                " AND state <> 'retired' RETURNING epoch",
                [True, fact.gateway, fact.at, fact.at, fact.version, fact.station_id],
            )
            row = cursor.fetchone()
            epochs.append(row[0] if row else 0)
    journal.record_many(
        [
            journal.entry(
                "station.connected",
                f"station-{fact.station_id}",
                station_id=fact.station_id,
                version=fact.version,
                epoch=epoch,
            )
            for fact, epoch in zip(facts, epochs, strict=True)
            if epoch
        ]
    )
    live.touch(
        "fleet",
        *(f"station-{fact.station_id}" for fact in facts),
        *(f"socket-{fact.station_id}-{n}" for fact, n in zip(facts, epochs, strict=True)),
    )
    return epochs


def write_closed(facts: Sequence[Closed]) -> list[bool]:
    """Compare and clear: True where the station really lost its socket."""
    gone = []
    with connection.cursor() as cursor:
        for fact in facts:
            cursor.execute(
                "UPDATE stations_station SET connected = %s, disconnected_at = %s"
                " WHERE id = %s AND epoch = %s AND connected",
                [False, fact.at, fact.station_id, fact.epoch],
            )
            gone.append(cursor.rowcount == 1)
    lost = [fact for fact, really in zip(facts, gone, strict=True) if really]
    journal.record_many(
        [
            journal.entry(
                "station.disconnected",
                f"station-{fact.station_id}",
                station_id=fact.station_id,
                code=fact.code,
                epoch=fact.epoch,
            )
            for fact in lost
        ]
    )
    if lost:
        live.touch("fleet", *(f"station-{fact.station_id}" for fact in lost))
    return gone


def write_boots(facts: Sequence[Boot]) -> list[Booted]:
    """Keep what each station says it is; return what to answer.

    The news `station.booted` carries the previous firmware and the one now: that is how an
    update is seen to have worked.
    """
    before = dict(
        Station.objects.filter(pk__in={fact.station_id for fact in facts}).values_list(
            "pk", "firmware"
        )
    )
    outcomes = []
    news = []
    with connection.cursor() as cursor:
        for fact in facts:
            fitting = quirks.profile_for(fact.vendor, fact.model, fact.firmware)
            cursor.execute(
                "UPDATE stations_station SET vendor = %s, model = %s, serial = %s, firmware = %s,"
                " iccid = %s, imsi = %s, modem_firmware = %s, boot_reason = %s,"
                " quirks_id = COALESCE(quirks_id,"  # the profile may have been deleted since
                " (SELECT q.id FROM stations_quirkprofile AS q WHERE q.id = %s)),"
                " booted_at = CASE WHEN state = 'accepted' THEN %s ELSE booted_at END,"
                " last_seen_at = %s WHERE id = %s RETURNING state, heartbeat_interval_s, quirks_id",
                [
                    fact.vendor,
                    fact.model,
                    fact.serial,
                    fact.firmware,
                    fact.iccid,
                    fact.imsi,
                    fact.modem_firmware,
                    fact.reason,
                    fitting.pk if fitting else None,
                    fact.at,
                    fact.at,
                    fact.station_id,
                ],
            )
            row = cursor.fetchone()
            state, interval_s, quirks_id = row or (Station.State.REJECTED, RETRY_S, None)
            if state != Station.State.ACCEPTED:
                interval_s = min(interval_s, RETRY_S)
            chosen = fitting if fitting and fitting.pk == quirks_id else None
            outcomes.append(Booted(state, _jittered(interval_s, fact.station_id), chosen))
            if state == Station.State.ACCEPTED:
                news.append(
                    journal.entry(
                        "station.booted",
                        f"station-{fact.station_id}",
                        station_id=fact.station_id,
                        vendor=fact.vendor,
                        model=fact.model,
                        firmware=fact.firmware,
                        previous_firmware=before.get(fact.station_id, ""),
                        reason=fact.reason,
                    )
                )
    journal.record_many(news)
    live.touch("fleet", *(f"station-{fact.station_id}" for fact in facts))
    return outcomes


def _jittered(interval_s: int, station_id: int) -> int:
    """Spread heartbeats by up to ±5 %, always the same for one station: no fleet in step."""
    spread = interval_s // 20
    return interval_s + (station_id * 7919 % (2 * spread + 1)) - spread if spread else interval_s


def write_seen(facts: Sequence[Seen]) -> None:
    """Note the newest sign of life of each station."""
    newest = {fact.station_id: fact.at for fact in facts}
    bulk.update(Station, [{"id": pk, "last_seen_at": newest[pk]} for pk in sorted(newest)])


def write_clocks(facts: Sequence[ClockRead]) -> None:
    """Note what each station's clock is off."""
    newest = {fact.station_id: fact.offset_s for fact in facts}
    bulk.update(Station, [{"id": pk, "clock_offset_s": newest[pk]} for pk in sorted(newest)])
    live.touch(*(f"station-{pk}" for pk in newest))


def believable(at: datetime | None, received_at: datetime) -> bool:
    """Tell whether a charger's time can be used: its clock is set and not far off."""
    return at is not None and FIRST_PLAUSIBLE <= at <= received_at + CLOCK_TOLERANCE


def write_statuses(facts: Sequence[Status]) -> list[bool]:
    """Keep the newest status of each connector, and of the station as a whole (EVSE 0, in 1.6
    connector 0); True where it was taken.

    A status older (by the charger's clock) than the one kept is a replay and changes nothing. A
    connector never seen before is made: 1.6 stations announce theirs in no other way.
    """
    connectors = _connectors({(f.station_id, f.evse, f.connector) for f in facts if f.evse > 0})
    stations = _stations({fact.station_id for fact in facts if fact.evse == 0})
    outcomes, news, touched = [], [], set()
    changed: dict[int, dict[str, Any]] = {}
    whole: dict[int, dict[str, Any]] = {}
    for fact in facts:
        touched.add(f"station-{fact.station_id}")
        at = fact.at if fact.at and believable(fact.at, fact.received_at) else fact.received_at
        if fact.evse == 0:
            station = stations.get(fact.station_id)
            if station is None or (station.status_at is not None and at < station.status_at):
                outcomes.append(False)
                continue
            if (station.status, station.error_code) != (fact.status, fact.error_code):
                news.append(_station_news(fact, station, at))
            station.status, station.status_at, station.error_code = (
                fact.status, at, fact.error_code,
            )  # fmt: skip
            whole[station.id] = {
                "id": station.id,
                "status": fact.status,
                "status_at": at,
                "error_code": fact.error_code,
            }
            outcomes.append(True)
            continue
        known = connectors[fact.station_id, fact.evse, fact.connector]
        if known.status_at is not None and at < known.status_at:
            outcomes.append(False)
            continue
        if (known.status, known.error_code) != (fact.status, fact.error_code):
            news.append(_status_news(fact, known, at))
        known.status, known.status_at, known.error_code = fact.status, at, fact.error_code
        changed[known.id] = {
            "id": known.id,
            "status": fact.status,
            "status_at": at,
            "status_received_at": fact.received_at,
            "error_code": fact.error_code,
            "vendor_error_code": fact.vendor_error_code,
            "info": fact.info,
        }
        outcomes.append(True)
    bulk.update(Connector, [changed[pk] for pk in sorted(changed)])
    bulk.update(Station, [whole[pk] for pk in sorted(whole)])
    journal.record_many(news)
    live.touch("fleet", *touched, *(f"connector-{pk}" for pk in changed))
    return outcomes


@dataclass(slots=True)
class _Known:
    """What is kept of a connector, or of a station as a whole."""

    id: int
    status: str = Connector.Status.UNKNOWN
    status_at: datetime | None = None
    error_code: str = ""


def _status_news(fact: Status, known: _Known, at: datetime) -> Entry:
    return journal.entry(
        "connector.status_changed",
        f"connector-{known.id}",
        station_id=fact.station_id,
        evse=fact.evse,
        connector=fact.connector,
        status=fact.status,
        previous=str(known.status),
        error_code=fact.error_code,
        vendor_error_code=fact.vendor_error_code,
        info=fact.info,
        at=at.isoformat(),  # the charger's time: statuses come late
    )


def _station_news(fact: Status, known: _Known, at: datetime) -> Entry:
    return journal.entry(
        "station.status_changed",
        f"station-{known.id}",
        station_id=known.id,
        status=fact.status,
        previous=str(known.status),
        error_code=fact.error_code,
        vendor_error_code=fact.vendor_error_code,
        info=fact.info,
        at=at.isoformat(),
    )


def _stations(ids: set[int]) -> dict[int, _Known]:
    """Return what is kept of these stations as a whole."""
    if not ids:
        return {}
    rows = Station.objects.filter(pk__in=ids).order_by()
    return {
        row[0]: _Known(*row) for row in rows.values_list("pk", "status", "status_at", "error_code")
    }


def _connectors(keys: set[tuple[int, int, int]]) -> dict[tuple[int, int, int], _Known]:
    """Return the connectors of these (station, EVSE, connector) numbers, made where missing."""
    if not keys:
        return {}
    rows = Connector.objects.filter(station__in={key[0] for key in keys}).values_list(
        "station_id", "evse__number", "number", "id", "status", "status_at", "error_code"
    )
    found = {row[:3]: _Known(*row[3:]) for row in rows}
    for key in sorted(keys - found.keys()):
        station_id, evse_number, number = key
        evse, _ = Evse.objects.get_or_create(station_id=station_id, number=evse_number)
        made, _ = Connector.objects.get_or_create(
            evse=evse, number=number, defaults={"station_id": station_id}
        )
        found[key] = _Known(made.pk)
    return found


writer.lane("opened", 10, write_opened)
writer.lane("boots", 20, write_boots)
writer.lane("statuses", 30, write_statuses)
writer.lane("clocks", 75, write_clocks)
writer.lane("seen", 80, write_seen)
writer.lane("closed", 90, write_closed)
