"""Local authorization lists: the tokens a station holds itself (1.6 §5.15, 2.x block D).

Nothing is queued ahead. What a station holds is known from what it accepted; what it should hold
follows from the tokens; the next message is the difference, cut to the station's limits, under the
next version number. So a message lost, refused or doubled never leaves more than a difference. In
doubt (VersionMismatch, no answer, another version than ours after a boot) the list is sent whole.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

import orjson
from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from stations import commands, journal, live
from stations.models import Command, LocalList, Station, Token, Variable

if TYPE_CHECKING:
    from django.db.models import QuerySet

SEND: Final = "send_local_list"
ASK: Final = "get_local_list_version"
CHUNK: Final = 20  # entries a message where the station names no limit
ROOM: Final = 1_000  # entries in all where it names none
RETRY_AFTER: Final = timedelta(minutes=15)
AT_ONCE: Final = 200  # stations looked at in one tick
OFFLINE_TYPES: Final = (
    Token.Type.ISO14443,
    Token.Type.ISO15693,
    Token.Type.EMAID,
    Token.Type.KEYCODE,
    Token.Type.MAC,
)
# limit → 1.6's key, 2.x's (component, variable) whose value is it, or whose characteristic
KEYS_16: Final = {"chunk": "SendLocalListMaxLength", "room": "LocalAuthListMaxLength"}
COMPONENT: Final = "LocalAuthListCtrlr"

Held = dict[str, list[Any]]  # uid → [status, expires_at, group, type]


@dataclass(frozen=True, slots=True)
class Limits:
    """What a station can take: entries a message, entries in all, characters of a token."""

    chunk: int = CHUNK
    room: int = ROOM
    uid: int = 36


def limits(station: Station) -> Limits:
    """Return the limits the station has reported."""
    if station.version == Station.Version.V16:
        rows = dict(
            Variable.objects.filter(
                station=station, component="", name__in=KEYS_16.values()
            ).values_list("name", "value")
        )
        return Limits(
            _number(rows.get(KEYS_16["chunk"]), CHUNK),
            _number(rows.get(KEYS_16["room"]), ROOM),
            uid=20,
        )
    chunk, room = CHUNK, ROOM
    for row in Variable.objects.filter(station=station, component=COMPONENT):
        if row.name == "ItemsPerMessage":
            chunk = _number(row.value, CHUNK)
        elif row.name == "Entries":
            room = _number(row.characteristics.get("maxLimit"), ROOM)
    return Limits(chunk, room)


def _number(value: Any, default: int) -> int:
    try:
        number = int(float(value))
    except (TypeError, ValueError, OverflowError):
        return default
    return number if number > 0 else default


def tokens() -> Held:
    """Return every token that belongs in a list, newest first: accepted, and blocked ones too.

    A blocked one is named so that a station that lets strangers charge while offline does not let
    this one. One-time tokens of payments, and cards nobody enrolled, are in no list.
    """
    now = timezone.now()
    rows = Token.objects.filter(
        Q(expires_at=None) | Q(expires_at__gt=now),
        type__in=OFFLINE_TYPES,
        status__in=(Token.Status.ACCEPTED, Token.Status.BLOCKED),
    ).order_by("status", "-created_at", "-pk")
    return {
        uid: [status, expires.isoformat() if expires else "", group, kind]
        for uid, status, expires, group, kind in rows.values_list(
            "uid", "status", "expires_at", "group", "type"
        )
    }


def fitting(known: Held, limit: Limits) -> Held:
    """Return what of `known` a station has room for, and can name."""
    usable = ((uid, info) for uid, info in known.items() if len(uid) <= limit.uid)
    return {uid: info for (uid, info), _ in zip(usable, range(limit.room), strict=False)}


def digest(entries: Held) -> str:
    """Return what tells two lists apart."""
    return hashlib.blake2b(
        orjson.dumps(entries, option=orjson.OPT_SORT_KEYS), digest_size=16
    ).hexdigest()


@dataclass(frozen=True, slots=True)
class Message:
    """One SendLocalList: entries to set (uid → what is known of it) or, by None, to remove."""

    full: bool
    version: int
    entries: dict[str, list[Any] | None]


def following(wanted: Held, held: Held, version: int | None, chunk: int) -> Message | None:
    """Return the next message that brings a station's list nearer to `wanted`; None: it is there.

    A list whose version is not known, or that differs in more than half, is sent whole: its first
    message replaces everything, the rest are differences.
    """
    changes: dict[str, list[Any] | None] = {
        uid: None for uid in held if uid not in wanted
    }  # first what goes: it makes room
    changes |= {uid: info for uid, info in wanted.items() if held.get(uid) != info}
    if version is not None and not changes:
        return None
    full = version is None or (len(changes) > chunk and len(changes) > len(wanted))
    source: Mapping[str, list[Any] | None] = wanted if full else changes
    return Message(full, (version or 0) + 1, dict(list(source.items())[:chunk]))


# --- what moves it on -----------------------------------------------------------------------------


def tick() -> int:
    """Send the next message to stations whose list is not what it should be; return how many."""
    return sync(LocalList.objects.all())


def sync(rows: QuerySet[LocalList]) -> int:
    """The same for some lists."""
    rows = (
        rows.filter(
            Q(retry_at=None) | Q(retry_at__lte=timezone.now()),
            station__connected=True,
            station__state=Station.State.ACCEPTED,
        )
        .exclude(station__commands__in=_running())
        .select_related("station")
        .defer("held")[:AT_ONCE]
    )
    due = list(rows)
    known = tokens() if due else {}
    sent = 0
    for row in due:
        limit = limits(row.station)
        wanted = fitting(known, limit) if row.wanted else {}
        if row.version is None or row.digest != digest(wanted):
            sent += _send_next(row.pk, wanted, len(known) - len(wanted), limit.chunk)
    return sent


def _running() -> QuerySet[Command]:
    return Command.objects.filter(
        name__in=(SEND, ASK), status__in=(Command.Status.QUEUED, Command.Status.SENT)
    )


def _orders(pk: int) -> QuerySet[Command]:
    """Return the messages of ours to this station; one taken back tells nobody that it ended."""
    orders = Command.objects.filter(station=pk, name=SEND, subject=f"locallist-{pk}")
    return orders.exclude(status=Command.Status.CANCELED)


def _send_next(pk: int, wanted: Held, left_out: int, chunk: int) -> bool:
    with transaction.atomic():
        row = LocalList.objects.select_for_update().select_related("station").get(pk=pk)
        if _orders(pk).filter(pk__gt=row.taken).exists():
            return False  # under way, or ended and not yet taken into account
        message = following(wanted, row.held, row.version, chunk)
        if message is None:
            row.digest, row.entries, row.left_out = digest(wanted), len(wanted), left_out
            row.synced_at, row.error, row.retry_at = timezone.now(), "", None
            row.save()
            live.touch(f"station-{row.pk}")
            return False
        commands.send(
            row.station,
            SEND,
            subject=f"locallist-{row.pk}",
            full=message.full,
            version=message.version,
            tokens=[
                {"uid": uid, "type": row.held[uid][3]}
                if info is None
                else {"uid": uid, "type": info[3], "info": info[:3]}
                for uid, info in message.entries.items()
            ],
        )
    return True


def answered(command: Command) -> None:
    """Take what became of a message of ours into account; send the next at once where it went well.

    Idempotent: an answer that was taken already changes nothing.
    """
    with transaction.atomic():
        row = LocalList.objects.select_for_update().filter(pk=command.station_id).first()
        if row is None:
            return
        now = timezone.now()
        if command.name == ASK:
            _told_version(row, command)
        elif command.pk <= row.taken:
            return
        elif command.status == Command.Status.ACCEPTED:
            held: Held = {} if command.args.get("full") else dict(row.held)
            for one in command.args.get("tokens", ()):
                if "info" in one:
                    held[one["uid"]] = [*one["info"], one["type"]]
                else:
                    held.pop(one["uid"], None)
            row.held, row.version, row.entries = held, command.args["version"], len(held)
            row.error, row.retry_at = "", None
        elif command.status != Command.Status.EXPIRED:
            _doubt(row)
            if command.error != "VersionMismatch":
                row.error, row.retry_at = command.error[:200], now + RETRY_AFTER
                journal.record(
                    "station.list_refused", f"station-{row.pk}", station_id=row.pk,
                    error=row.error,
                )  # fmt: skip
        if command.name == SEND:
            row.taken = command.pk
        row.save()
    sync(LocalList.objects.filter(pk=command.station_id))


def _told_version(row: LocalList, command: Command) -> None:
    """After a boot: a station that tells another version than ours gets the whole list."""
    answer = command.response if isinstance(command.response, dict) else {}
    told = answer.get("listVersion", answer.get("versionNumber"))
    if command.status != Command.Status.ACCEPTED or told == row.version:
        return
    if not _orders(row.pk).filter(pk__gt=row.taken).exists():  # else its answer says more
        _doubt(row)


def _doubt(row: LocalList) -> None:
    """Forget what a list holds: it is sent whole."""
    row.held, row.version, row.digest, row.entries, row.synced_at = {}, None, "", 0, None


def booted(station_id: int) -> None:
    """Ask a station that keeps a list which version it has: it may be another machine by now."""
    row = LocalList.objects.filter(pk=station_id, version__isnull=False).first()
    if row is None or _running().filter(station=station_id).exists():
        return
    commands.send(row.station, ASK, subject=f"locallist-{station_id}")


def resend(rows: QuerySet[LocalList]) -> int:
    """Forget what these lists hold: they are sent whole. Return how many."""
    keys = list(rows.values_list("pk", flat=True))
    chosen = LocalList.objects.filter(pk__in=keys)
    done = int(
        chosen.update(
            held={}, version=None, digest="", entries=0, synced_at=None, error="", retry_at=None
        )
    )
    sync(chosen)
    return done
