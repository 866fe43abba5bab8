"""The journal in sentences: what happened to a station, a session, anything, and who did it.

An app adds the sentence of its own news where it registers its admin:

    @sentence("incident.opened", icon="warning", tone="red")
    def _(news: Entry) -> str: return _("Incident opened: %(title)s") % news.data
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from django.apps import apps
from django.db import models
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from stations.catalogue import COMMANDS
from stations.looks import kwh, plain
from stations.models import Command, Connector, Entry, Station, Token

PAGE = 60

# Chip → what its kinds begin with. Read by the timeline's filter.
TOPICS: dict[str, tuple[Any, tuple[str, ...]]] = {
    "status": (gettext_lazy("Status"), ("connector.", "station.status_")),
    "sessions": (gettext_lazy("Sessions"), ("session.",)),
    "commands": (gettext_lazy("Commands"), ("command.",)),
    "connection": (gettext_lazy("Connection"), ("station.", "security.")),
    "firmware": (gettext_lazy("Firmware"), ("firmware.", "log.", "job.", "campaign.")),
    "incidents": (gettext_lazy("Incidents"), ("incident.", "event.", "grid.")),
    "money": (gettext_lazy("Money"), ("payment.", "charge.", "invoice.", "refund.")),
    "people": (gettext_lazy("People"), ("",)),
}

Tell = Callable[[Entry], Any]


@dataclass(frozen=True, slots=True)
class Sentence:
    """How one kind of news is told."""

    tell: Tell
    icon: str = "circle"
    tone: str = ""


SENTENCES: dict[str, Sentence] = {}


def sentence(kind: str, *, icon: str = "circle", tone: str = "") -> Callable[[Tell], Tell]:
    """Register how `kind` is told."""

    def register(tell: Tell) -> Tell:
        SENTENCES[kind] = Sentence(tell, icon, tone)
        return tell

    return register


@dataclass(frozen=True, slots=True)
class Told:
    """One line of a timeline."""

    entry: Entry
    text: Any
    icon: str
    tone: str
    link: str = ""


def told(entry: Entry) -> Told:
    """Return an entry as a line. News nobody wrote a sentence for are shown by kind and data."""
    known = SENTENCES.get(entry.kind)
    if known is None:
        words = entry.kind.replace(".", " ").replace("_", " ")
        details = ", ".join(f"{key} {value}" for key, value in list(entry.data.items())[:4])
        return Told(entry, f"{words[:1].upper()}{words[1:]}" + (f": {details}" if details else ""),
                    "circle", "", link_of(entry.subject))  # fmt: skip
    tone = known.tone
    if entry.kind in ("connector.status_changed", "station.status_changed"):
        tone = {"Faulted": "red", "Charging": "blue", "Available": "green"}.get(
            str(entry.data.get("status")), ""
        )
    elif entry.kind == "command.finished":
        good = entry.data.get("status") in (Command.Status.ACCEPTED, Command.Status.SCHEDULED)
        tone = "green" if good else "red"
    return Told(entry, known.tell(entry), known.icon, tone, link_of(entry.subject))


_LINKS = {
    "session": "monitoring/session",
    "command": "stations/command",
    "commandbatch": "stations/commandbatch",
    "incident": "monitoring/incident",
    "payment": "billing/payment",
    "charge": "billing/charge",
    "invoice": "billing/invoice",
    "campaign": "firmware/campaign",
    "station": "stations/station",
}


def link_of(subject: str) -> str:
    """Return the back office's address of a journal subject (`session-17`), or nothing."""
    name, _dash, pk = subject.partition("-")
    return f"/admin/{_LINKS[name]}/{pk}/change/" if pk and name in _LINKS else ""


def about(entries: "models.QuerySet[Entry]", topic: str) -> "models.QuerySet[Entry]":
    """Return the entries of a topic; of no topic, all."""
    if topic == "people":
        return entries.filter(actor__isnull=False)
    wanted = models.Q()
    for prefix in TOPICS[topic][1] if topic in TOPICS else ():
        wanted |= models.Q(kind__startswith=prefix)
    return entries.filter(wanted)


def lines(
    entries: "models.QuerySet[Entry]", *, topic: str = "", before: int | None = None
) -> tuple[list[Told], int | None]:
    """Return a page of a timeline, newest first, and where the next older page begins."""
    rows = about(entries.select_related("actor").order_by("-id"), topic)
    if before:
        rows = rows.filter(pk__lt=before)
    page = list(rows[: PAGE + 1])
    older = page[PAGE - 1].pk if len(page) > PAGE else None
    return [told(one) for one in page[:PAGE]], older


# --- sentences of the stations app and of charging -----------------------------------------------


def _where(news: Entry) -> str:
    evse = news.data.get("evse")
    return _("Connector %(n)s") % {"n": evse} if evse else _("The station")


@sentence("connector.status_changed", icon="ev_station")
@sentence("station.status_changed", icon="ev_station")
def _status(news: Entry) -> str:
    status = str(news.data.get("status", ""))
    word = Connector.Status(status).label if status in Connector.Status.values else status
    text = _("%(where)s: %(status)s") % {"where": _where(news), "status": word}
    error = news.data.get("error_code") or ""
    return f"{text} ({plain(error)})" if error not in ("", "NoError") else text


@sentence("station.connected", icon="link", tone="green")
def _connected(news: Entry) -> str:
    return _("Connected with OCPP %(version)s") % {"version": news.data.get("version", "?")}


@sentence("station.disconnected", icon="link_off", tone="amber")
def _disconnected(news: Entry) -> str:
    return _("Connection lost")


@sentence("station.booted", icon="power_settings_new")
def _booted(news: Entry) -> str:
    data = news.data
    text = _("Booted")
    if data.get("reason"):
        text += f" ({plain(data['reason'])})"
    if data.get("firmware") and data.get("previous_firmware") not in ("", None, data["firmware"]):
        text += _(", firmware %(old)s → %(new)s") % {
            "old": data["previous_firmware"],
            "new": data["firmware"],
        }
    elif data.get("firmware"):
        text += _(", firmware %(new)s") % {"new": data["firmware"]}
    return text


@sentence("station.list_refused", icon="playlist_remove", tone="amber")
def _list_refused(news: Entry) -> str:
    return _("Did not take its list of tokens: %(why)s") % {"why": news.data.get("error", "")}


@sentence("station.appeared", icon="new_releases", tone="amber")
def _appeared(news: Entry) -> str:
    return _("Connected for the first time; unknown here")


@sentence("station.approved", icon="verified", tone="green")
def _approved(news: Entry) -> str:
    return _("Taken into service")


@sentence("station.rejected", icon="block", tone="red")
def _rejected(news: Entry) -> str:
    return _("Turned away")


@sentence("station.retired", icon="inventory_2")
def _retired(news: Entry) -> str:
    return _("Taken out of service for good")


@sentence("station.changed", icon="edit")
def _changed(news: Entry) -> str:
    return _("Changed: %(fields)s") % {"fields": ", ".join(news.data.get("fields", []))}


@sentence("station.password_set", icon="key")
def _password(news: Entry) -> str:
    return _("New password set")


def _command_label(news: Entry) -> Any:
    name = news.data.get("name", "")
    return COMMANDS[name].label if name in COMMANDS else name


@sentence("command.queued", icon="schedule_send")
def _queued(news: Entry) -> str:
    return _("Ordered: %(command)s") % {"command": _command_label(news)}


@sentence("command.finished", icon="reply")
def _finished(news: Entry) -> str:
    status = str(news.data.get("status", ""))
    word = Command.Status(status).label if status in Command.Status.values else status
    text = f"{_command_label(news)}: {word}"
    return f"{text}. {news.data['error']}" if news.data.get("error") else text


@sentence("session.started", icon="bolt", tone="blue")
def _started(news: Entry) -> str:
    token = news.data.get("token_uid") or _("no token")
    return _("Charging started with %(token)s") % {"token": token}


@sentence("session.stopped", icon="stop_circle")
def _stopped(news: Entry) -> str:
    wh = news.data.get("energy_wh")
    if wh is None:
        return _("Charging stopped")
    return _("Charging stopped after %(energy)s") % {"energy": kwh(int(wh))}


@sentence("session.closed", icon="check_circle")
def _closed(news: Entry) -> str:
    return _("Session ended, the bay is free")


@sentence("session.reviewed", icon="fact_check")
def _reviewed(news: Entry) -> str:
    return _("Session reviewed and released")


@sentence("session.corrected", icon="edit_note", tone="amber")
def _corrected(news: Entry) -> str:
    return _("Session corrected")


@sentence("firmware.status_reported", icon="system_update")
def _firmware(news: Entry) -> str:
    return _("Firmware: %(status)s") % {"status": plain(news.data.get("status", "?"))}


@sentence("log.status_reported", icon="description")
def _log(news: Entry) -> str:
    return _("Log upload: %(status)s") % {"status": plain(news.data.get("status", "?"))}


@sentence("security.event_reported", icon="security", tone="amber")
def _security(news: Entry) -> str:
    return _("Security event: %(type)s") % {"type": news.data.get("type", "?")}


@sentence("variables.reported", icon="tune")
def _variables(news: Entry) -> str:
    return _("Configuration read: %(n)s values, %(d)s new or different") % {
        "n": news.data.get("variables", "?"),
        "d": news.data.get("different", "?"),
    }


@sentence("station.added", icon="add_circle")
def _added(news: Entry) -> str:
    return _("Added by hand")


def _token(news: Entry) -> str:
    status = str(news.data.get("status", ""))
    word = Token.Status(status).label if status in Token.Status.values else status
    return _("Token %(uid)s: %(status)s") % {"uid": news.data.get("uid", ""), "status": word}


sentence("token.added", icon="contactless")(_token)
sentence("token.changed", icon="contactless")(_token)


@sentence("session.authorized", icon="badge")
def _authorized(news: Entry) -> str:
    return _("Session authorised with %(token)s") % {
        "token": news.data.get("token_uid") or _("no token")
    }


@sentence("data.transferred", icon="swap_horiz")
def _transferred(news: Entry) -> str:
    return _("Data of the vendor %(vendor)s: %(message)s") % {
        "vendor": news.data.get("vendor", ""),
        "message": news.data.get("message") or "–",
    }


@sentence("event.reported", icon="sensors")
def _event(news: Entry) -> str:
    data = news.data
    text = f"{data.get('component', '')}.{data.get('variable', '')}: {data.get('value', '')}"
    text = _("%(event)s, back to normal") % {"event": text} if data.get("cleared") else text
    if data.get("severity") is not None:
        text = _("%(event)s, severity %(n)s") % {"event": text, "n": data["severity"]}
    info = " ".join(str(data[key]) for key in ("code", "info") if data.get(key))
    return f"{text} ({info})" if info else text


@sentence("log.received", icon="description")
def _received(news: Entry) -> str:
    return _("Log received (%(kb)d kB)") % {"kb": int(news.data.get("size") or 0) / 1000}


@sentence("sheet.printed", icon="qr_code_2")
def _printed(news: Entry) -> str:
    return _("QR sheets printed for %(n)s connectors") % {"n": news.data.get("connectors", "?")}


@sentence("list.exported", icon="download")
def _exported(news: Entry) -> str:
    label = str(news.data.get("list", ""))
    with suppress(LookupError, ValueError):  # a list of an older version
        label = str(apps.get_model(label)._meta.verbose_name_plural)
    return _("Exported %(list)s as %(kind)s") % {
        "list": label,
        "kind": str(news.data.get("kind", "")).upper(),
    }


# --- power and security ---------------------------------------------------------------------------

PLAIN: dict[str, tuple[Any, str, str]] = {
    "reservation.made": (gettext_lazy("Reserved"), "event_available", ""),
    "reservation.used": (gettext_lazy("Reservation used"), "event_available", "green"),
    "reservation.canceled": (gettext_lazy("Reservation canceled"), "event_busy", ""),
    "reservation.expired": (gettext_lazy("Reservation expired"), "event_busy", ""),
    "reservation.removed": (gettext_lazy("Reservation removed by the station"), "event_busy", ""),
    "charging_limit.reported": (gettext_lazy("Power limited from outside"), "speed", "amber"),
    "charging_limit.cleared": (gettext_lazy("Limit from outside is gone"), "speed", ""),
    "car.told": (gettext_lazy("The car told what it needs"), "directions_car", ""),
    "password.on_trial": (gettext_lazy("New password accepted, on trial"), "password", ""),
    "password.changed": (gettext_lazy("Password changed"), "password", "green"),
    "password.rolled_back": (
        gettext_lazy("Came back with the old password: it stays valid"), "password", "amber",
    ),
    "password.not_seen": (
        gettext_lazy("Did not come back with the new password: the old one stays valid"),
        "password", "amber",
    ),
    "security.profile_raised": (gettext_lazy("Security profile raised"), "security", "green"),
    "authority.created": (gettext_lazy("Certificate authority created"), "verified_user", ""),
    "certificate.taken": (gettext_lazy("New certificate in use"), "workspace_premium", "green"),
    "certificate.refused": (gettext_lazy("Certificate refused"), "workspace_premium", "red"),
    "certificate.revoked": (gettext_lazy("Certificate revoked"), "workspace_premium", "amber"),
    "certificate.installed": (gettext_lazy("Certificate installed"), "workspace_premium", ""),
    "certificate.removed": (gettext_lazy("Certificate removed"), "workspace_premium", ""),
    "certificate.not_signed": (
        gettext_lazy("A certificate request was not signed"), "workspace_premium", "amber",
    ),
    "station.deaf": (
        gettext_lazy("Answered no orders: its socket was closed"), "hearing_disabled", "amber",
    ),
}  # fmt: skip


def _register(kind: str, text: Any, icon: str, tone: str) -> None:
    def say(news: Entry) -> str:
        why = str(news.data.get("why", ""))
        return f"{text}: {why}" if why else str(text)

    sentence(kind, icon=icon, tone=tone)(say)


for _kind, _words in PLAIN.items():
    _register(_kind, *_words)


def of_station(station: Station) -> "models.QuerySet[Entry]":
    """Return the journal of one station."""
    return Entry.objects.filter(station=station)
