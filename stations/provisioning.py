"""What stations are to be set to: templates and own wishes, what differs, pushing, and when not to.

A station's own wish (`Variable.wanted`) goes before its templates. Only differences are written,
and only to variables the station has told and lets be written: some firmware restarts after each
write (Sync EV, ABB). One that keeps restarting after a push is pushed nothing more until a person
does it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from django.db import transaction
from django.db.models import Exists, OuterRef
from django.utils import timezone

from stations import commands, configuration, journal
from stations.configuration import BadKey, Key
from stations.models import Command, ConfigurationTemplate, Entry, Station, Variable

if TYPE_CHECKING:
    from stations.models import User

SUBJECT: Final = "configuration"  # of the commands that ask and push
STOPPED: Final = "configuration.push_stopped"
RESUMED: Final = "configuration.push_resumed"
LOOP_BOOTS: Final = 3  # unexpected boots within LOOP_WINDOW of a push: that is a loop
LOOP_WINDOW: Final = timedelta(minutes=15)
AGAIN_AFTER: Final = timedelta(hours=1)  # the same value is not pushed again before
ASK_AGAIN_AFTER: Final = timedelta(days=1)  # a station that does not tell is not asked again before
ASKED_AT_ONCE: Final = 20  # stations a tick: a fleet that is new is asked little by little
ORDERED: Final = ("RemoteReset", "ScheduledReset", "Triggered", "FirmwareUpdate")  # boots we know


@dataclass(frozen=True, slots=True)
class Wish:
    """What a variable is to be, and who says so: a template's name, or "" for the station's own."""

    text: str  # as change_configuration takes it
    value: str
    source: str = ""


@dataclass(frozen=True, slots=True)
class Difference:
    """A variable that is not what it is to be."""

    row: Variable
    wish: Wish


def templates_for(station: Station) -> list[ConfigurationTemplate]:
    """Return the active templates that fit a station; those that say most of the make come last."""
    fitting = [
        one for one in ConfigurationTemplate.objects.filter(active=True) if fits(one, station)
    ]
    return sorted(
        fitting,
        key=lambda one: (bool(one.vendor), one.model_pattern != ".*", bool(one.version), one.pk),
    )


def fits(template: ConfigurationTemplate, station: Station) -> bool:
    """Tell whether a template is for this station's make."""
    if template.vendor and template.vendor.casefold() != station.vendor.casefold():
        return False
    if template.version and template.version != station.version:
        return False
    try:
        return re.fullmatch(template.model_pattern, station.model, re.IGNORECASE) is not None
    except re.error:
        return False


def key_for(station: Station, text: str) -> Key:
    """Return the variable a text names on this station. Raises BadKey."""
    return Key(name=text.strip()) if station.version == "1.6" else configuration.parse_key(text)


def wishes(station: Station, rows: Iterable[Variable]) -> dict[Key, Wish]:
    """Return what each variable is to be: templates first, the station's own wishes over them."""
    wanted: dict[Key, Wish] = {}
    for template in templates_for(station):
        for text, value in template.values.items():
            try:
                key = key_for(station, text)
            except BadKey:
                continue  # a 1.6 name without a counterpart, in a template for every version
            wanted[key] = Wish(text, str(value), template.name)
    for row in rows:
        if row.wanted is not None:
            wanted[configuration.key_in(row)] = Wish(configuration.text_of(row), row.wanted)
    return wanted


def differences(station: Station) -> list[Difference]:
    """Return what the station told that is not as wanted, and may be written."""
    rows = list(station.variables.all())
    wanted = wishes(station, rows)
    return [
        Difference(row, wish)
        for row in rows
        if (wish := wanted.get(configuration.key_in(row))) is not None
        and row.reported_at is not None
        and not row.read_only
        and not configuration.is_secret(row.name)
        and not same(row.value, wish.value)
    ]


def same(reported: str | None, wanted: str) -> bool:
    """Tell whether two values mean the same: 300 and 300.0, true and True, lists by their items."""
    if reported is None:
        return wanted == ""
    return _plain(reported) == _plain(wanted)


def _plain(value: str) -> object:
    text = value.strip()
    try:
        return float(text)
    except ValueError:
        return [one.strip().casefold() for one in text.split(",")]


# --- pushing --------------------------------------------------------------------------------------


def stopped(station: Station) -> bool:
    """Tell whether pushing was stopped because the station kept restarting."""
    last = (
        Entry.objects.filter(station=station, kind__in=(STOPPED, RESUMED)).order_by("-id").first()
    )
    return last is not None and last.kind == STOPPED


def push(station: Station, *, by: User | None = None) -> list[Command]:
    """Order what differs to be changed; a person may push what was stopped, the product not.

    The product pushes what a template with `push` says, and no value twice within an hour.
    """
    with transaction.atomic():
        if by is not None and stopped(station):
            journal.record(RESUMED, station)
        elif by is None and stopped(station):
            return []
        todo = differences(station)
        if by is None:
            automatic = {one.name for one in templates_for(station) if one.push}
            todo = [one for one in todo if one.wish.source in automatic]
        known = _pushed(station, since=None if by is not None else timezone.now() - AGAIN_AFTER)
        todo = [one for one in todo if (one.wish.text, one.wish.value) not in known]
        if not todo:
            return []
        sent = [
            commands.send(
                station, "change_configuration", by=by, subject=SUBJECT,
                key=one.wish.text, value=one.wish.value,
            )
            for one in todo
        ]  # fmt: skip
        now = timezone.now()
        Variable.objects.filter(pk__in=[one.row.pk for one in todo]).update(pushed_at=now)
        journal.record("configuration.pushed", station, keys=[one.wish.text for one in todo])
    return sent


def _pushed(station: Station, since: datetime | None) -> set[tuple[str, str]]:
    """Return (key, value) of pushes that are open, or were ordered since a moment."""
    rows = Command.objects.filter(station=station, name="change_configuration")
    rows = (
        rows.filter(status__in=(Command.Status.QUEUED, Command.Status.SENT))
        if since is None
        else rows.filter(subject=SUBJECT, created_at__gte=since)
    )
    return {
        (str(args.get("key")), str(args.get("value", "")))
        for args in rows.values_list("args", flat=True)
    }


def restart_where_needed(station: Station) -> Command | None:
    """Restart a station, when idle, where a template wants that and a value waits for it."""
    if not any(one.restart for one in templates_for(station)) or stopped(station):
        return None
    if not station.variables.filter(reboot_required=True).exists():
        return None
    recent = Command.objects.filter(
        station=station, subject=SUBJECT, created_at__gte=timezone.now() - AGAIN_AFTER
    )
    if (
        recent.filter(name="reset").exists()
        or recent.filter(
            name="change_configuration", status__in=(Command.Status.QUEUED, Command.Status.SENT)
        ).exists()
    ):
        return None
    return commands.send(station, "reset", subject=SUBJECT, hard=False)


# --- facts that come in ---------------------------------------------------------------------------


def booted(station: Station, news: Entry) -> None:
    """A station booted: what waited for that is in force; ask again after other firmware; a station
    that keeps booting after a push is pushed nothing more.
    """
    Variable.objects.filter(station=station, reboot_required=True).update(reboot_required=False)
    if looping(station, news.at):
        with transaction.atomic():
            if not stopped(station):
                journal.record(STOPPED, station, boots=LOOP_BOOTS)
        return
    before, now = news.data.get("previous_firmware", ""), news.data.get("firmware", "")
    if before and before != now:
        ask(station)


def looping(station: Station, at: datetime) -> bool:
    """Tell whether a station has booted unexpectedly LOOP_BOOTS times since a recent push."""
    pushes = Command.objects.filter(
        station=station, subject=SUBJECT, name="change_configuration", sent_at__gte=at - LOOP_WINDOW
    )
    first = pushes.order_by("sent_at").values_list("sent_at", flat=True).first()
    if first is None:
        return False
    boots = Entry.objects.filter(station=station, kind="station.booted", at__gte=first, at__lte=at)
    reasons = [data.get("reason", "") for data in boots.values_list("data", flat=True)]
    return sum(reason not in ORDERED for reason in reasons) >= LOOP_BOOTS


def ask(station: Station) -> Command | None:
    """Ask a station for its whole configuration, unless that is under way."""
    under_way = Command.objects.filter(
        station=station, name="get_report", status__in=(Command.Status.QUEUED, Command.Status.SENT)
    )
    return None if under_way.exists() else commands.send(station, "get_report", subject=SUBJECT)


def ask_the_silent() -> int:
    """Ask connected stations that told nothing yet, a few at a time; return how many."""
    told = Variable.objects.filter(station=OuterRef("pk"), reported_at__isnull=False)
    asked = Command.objects.filter(
        station=OuterRef("pk"), name="get_report",
        created_at__gte=timezone.now() - ASK_AGAIN_AFTER,
    )  # fmt: skip
    silent = Station.objects.filter(
        ~Exists(told), ~Exists(asked), connected=True, state=Station.State.ACCEPTED,
        booted_at__isnull=False,
    )  # fmt: skip
    return sum(ask(one) is not None for one in silent.order_by("pk")[:ASKED_AT_ONCE])
