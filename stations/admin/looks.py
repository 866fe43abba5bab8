"""How things look in the back office: the colour and the words of every state, in one place."""

from collections.abc import Iterable
from typing import Any

from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from stations.admin.base import ago, chip
from stations.models import Command, Connector, Station

S = Connector.Status

CONNECTOR_TONES: dict[str, str] = {
    S.AVAILABLE: "green",
    S.PREPARING: "amber",
    S.CHARGING: "blue",
    S.SUSPENDED_EV: "amber",
    S.SUSPENDED_EVSE: "amber",
    S.FINISHING: "amber",
    S.OCCUPIED: "amber",
    S.RESERVED: "violet",
    S.UNAVAILABLE: "grey",
    S.FAULTED: "red",
    S.UNKNOWN: "grey",
}
STATION_TONES: dict[str, str] = {
    Station.State.PENDING: "amber",
    Station.State.ACCEPTED: "green",
    Station.State.REJECTED: "red",
    Station.State.RETIRED: "grey",
}
COMMAND_TONES: dict[str, str] = {
    Command.Status.QUEUED: "amber",
    Command.Status.SENT: "blue",
    Command.Status.ACCEPTED: "green",
    Command.Status.SCHEDULED: "green",
    Command.Status.REJECTED: "red",
    Command.Status.FAILED: "red",
    Command.Status.TIMED_OUT: "red",
    Command.Status.EXPIRED: "grey",
    Command.Status.CANCELED: "grey",
}
MANY = 4  # connectors shown one by one; more are counted by status


def dot(tone: str, *, pulse: bool = False) -> SafeString:
    """Return a small coloured mark; always beside words."""
    return format_html(
        '<span class="dot {}{}" aria-hidden="true"></span>', tone, " pulse" if pulse else ""
    )


def connector_tone(connector: Connector, online: bool) -> str:
    """Return the colour of a connector now: what an offline station last said is grey."""
    return CONNECTOR_TONES.get(connector.status, "grey") if online else "grey"


def connector_chip(connector: Connector, online: bool) -> SafeString:
    """Return `● 1 Charging`; offline stations' connectors are grey, with what they last said."""
    tone = connector_tone(connector, online)
    word = connector.get_status_display()
    number = _number(connector)
    fault = f" · {connector.error_code}" if connector.error_code not in ("", "NoError") else ""
    title = word + fault if online else _("offline; last said: %s") % (word + fault)
    return format_html(
        '<span class="chip {}" title="{}">{}<span class="n">{}</span> {}</span>',
        tone,
        title,
        dot(tone if online else "hollow", pulse=tone == "blue"),
        number,
        word if online else _("Offline"),
    )


def _number(connector: Connector) -> str:
    number = str(connector.evse.number)
    return number if connector.number == 1 else f"{number}.{connector.number}"


def connector_chips(connectors: Iterable[Connector], online: bool) -> SafeString:
    """Return one chip a connector, or one a status where there are many."""
    rows = list(connectors)
    if not rows:
        return format_html('<span class="quiet">{}</span>', _("none reported yet"))
    if len(rows) <= MANY:
        chips = [connector_chip(row, online) for row in rows]
    elif not online:
        chips = [chip(_("%d offline") % len(rows))]
    else:
        counts: dict[str, int] = {}
        for row in rows:
            counts[row.status] = counts.get(row.status, 0) + 1
        chips = [
            format_html(
                '<span class="chip {}">{}<span class="n">{}</span> {}</span>',
                CONNECTOR_TONES.get(status, "grey"),
                dot(CONNECTOR_TONES.get(status, "grey")),
                n,
                S(status).label,
            )
            for status, n in sorted(counts.items(), key=lambda pair: -pair[1])
        ]
    return format_html(
        '<span class="row">{}</span>', format_html_join("", "{}", ((one,) for one in chips))
    )


def presence(station: Station) -> SafeString:
    """Return `● Online`, or `○ Offline` and since when it was last heard."""
    if station.connected:
        return format_html(
            '<span class="row" data-flash="presence-{}">{} {}</span>',
            station.pk,
            dot("green"),
            _("Online"),
        )
    return format_html(
        '<span class="row quiet" data-flash="presence-{}">{} {}</span>',
        station.pk,
        dot("hollow"),
        format_html("{} {}", _("Offline"), ago(station.last_seen_at, ""))
        if station.last_seen_at
        else _("Never connected"),
    )


def station_state_chip(station: Station) -> SafeString:
    """Return the state of a station's admission."""
    return chip(station.get_state_display(), STATION_TONES.get(station.state, "grey"))


def command_chip(command: Command, **kwargs: Any) -> SafeString:
    """Return where a command is, in words."""
    return chip(command.get_status_display(), COMMAND_TONES.get(command.status, "grey"), **kwargs)
