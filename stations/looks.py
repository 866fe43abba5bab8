"""How things look to staff: the colour and the words of every state, moments, amounts.

Small pieces of HTML, used by lists and templates of all apps.
"""

import re
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.timesince import timesince
from django.utils.translation import gettext as _

from stations.models import Command, Connector, Station

# --- small pieces of HTML -------------------------------------------------------------------------


def chip(text: Any, tone: str = "", *, title: str = "", href: str = "") -> SafeString:
    """Return a coloured word. Tones: green, blue, amber, red, violet, grey (the default)."""
    tag = format_html('a href="{}"', href) if href else SafeString("span")
    return format_html(
        '<{} class="chip {}"{}>{}</{}>',
        tag,
        tone or "grey",
        format_html(' title="{}"', title) if title else "",
        text,
        SafeString("a" if href else "span"),
    )


def plain(name: str) -> str:
    """Return OCPP's run-together words as people write them: `SignatureVerified` as two words."""
    words = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", str(name))
    return words[:1] + words[1:].lower() if " " in words else words


def ago(at: datetime | None, never: str = "–") -> SafeString:
    """Return a moment as “5 minutes ago”; the page keeps it fresh, the title is the exact time."""
    if at is None:
        return format_html('<span class="quiet">{}</span>', never)
    short = timesince(at, depth=1)
    return format_html(
        '<time class="ago" datetime="{}" title="{}">{}</time>',
        at.isoformat(),
        at.strftime("%Y-%m-%d %H:%M:%S UTC"),
        _("%(time)s ago") % {"time": short},
    )


_SERVER_STYLES = {"time": "%H:%M:%S", "long": "%Y-%m-%d %H:%M:%S", "day": "%A %d %B %Y"}


def moment(at: datetime | None, style: str = "short") -> SafeString:
    """Return a moment in the reader's own time zone (UTC without JavaScript).

    Styles: short (date and time), time, long (with seconds), day,
    smart (time today, long before).
    """
    if at is None:
        return format_html('<span class="quiet">{}</span>', "–")
    return format_html(
        '<time class="moment" data-style="{}" datetime="{}">{}</time>',
        style,
        at.isoformat(),
        at.strftime(_SERVER_STYLES.get(style, "%Y-%m-%d %H:%M")),
    )


def duration(start: datetime | None, end: datetime | None) -> str:
    """Return the time between two moments as `1 h 05 min`; the end may still be open."""
    if start is None:
        return "–"
    seconds = int(((end or timezone.now()) - start).total_seconds())
    if seconds < 60:
        return f"{max(seconds, 0)} s"
    hours, minutes = divmod(seconds // 60, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min"


def kwh(wh: int | None) -> str:
    """Return Wh as `12.345 kWh`: exact, as on the bill."""
    return "–" if wh is None else f"{wh / 1000:.3f} kWh"


def kw(w: float | None) -> str:
    """Return W as `11.0 kW`."""
    return "–" if w is None else f"{w / 1000:.1f} kW"


# --- states ---

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


def status_now(connector: Connector) -> str:
    """Return the status, or what the rows' query knows better (see `monitoring.dashboard`)."""
    return str(getattr(connector, "now", connector.status))


def connector_tone(connector: Connector, online: bool) -> str:
    """Return the colour of a connector now: what an offline station last said is grey."""
    return CONNECTOR_TONES.get(status_now(connector), "grey") if online else "grey"


def connector_chip(connector: Connector, online: bool) -> SafeString:
    """Return `● 1 Charging`; offline stations' connectors are grey, with what they last said."""
    tone = connector_tone(connector, online)
    word = S(status_now(connector)).label
    number = _number(connector)
    fault = (
        f" · {plain(connector.error_code)}" if connector.error_code not in ("", "NoError") else ""
    )
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
            counts[status_now(row)] = counts.get(status_now(row), 0) + 1
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
            '<span class="line" data-flash="presence-{}">{} {}</span>',
            station.pk,
            dot("green"),
            _("Online"),
        )
    return format_html(
        '<span class="line quiet" data-flash="presence-{}">{} {}</span>',
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
