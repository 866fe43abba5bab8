"""Filters of the back office's templates: moments, amounts of energy, colours, JSON."""

import json
import re
from datetime import datetime
from typing import Any

from django import template
from django.utils.html import escape, format_html
from django.utils.safestring import SafeString, mark_safe

from stations import commands, looks
from stations.models import Command

register = template.Library()

_TOKEN = re.compile(
    r'(?P<key>"(?:\\.|[^"\\])*")(?=\s*:)|(?P<text>"(?:\\.|[^"\\])*")'
    r"|(?P<number>-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)|(?P<word>true|false|null)"
)
_CLASSES = {"key": "k", "text": "s", "number": "n", "word": "l"}
PRETTY_LIMIT = 60_000  # characters of JSON coloured; longer ones are shown plain


@register.filter
def moment(at: datetime | None, style: str = "short") -> SafeString:
    """Show a moment in the reader's time zone."""
    return looks.moment(at, style)


@register.filter
def ago(at: datetime | None) -> SafeString:
    """Show how long ago, kept fresh."""
    return looks.ago(at)


@register.filter
def kwh(wh: int | None) -> str:
    """Show Wh as kWh."""
    return looks.kwh(wh)


@register.filter
def kw(w: float | None) -> str:
    """Show W as kW."""
    return looks.kw(w)


@register.filter("register")
def register_kwh(mwh: int | None) -> str:
    """Show a register in mWh as kWh with all its digits."""
    return "–" if mwh is None else f"{mwh / 1_000_000:,.3f} kWh"


@register.filter
def seconds(value: float) -> str:
    """Show a number of seconds in the unit that fits."""
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if value >= size:
            return f"{value / size:.0f} {unit}"
    return f"{value:.0f} s"


@register.filter
def spaced(text: str) -> str:
    """Show a field's name in words."""
    return str(text).replace("_", " ")


@register.filter
def presence(station: Any) -> SafeString:
    """Show whether a station is online."""
    return looks.presence(station)


@register.filter
def arguments(command: Command) -> list[tuple[str, Any]]:
    """Return an order's arguments as people may see them: no password, even while it waits."""
    return list(commands.shown(command.name, command.args).items())


@register.filter
def command_tone(status: str) -> str:
    """Return the colour of a command's status."""
    return looks.COMMAND_TONES.get(status, "grey")


@register.filter
def brief(value: Any, length: int = 120) -> str:
    """Show JSON on one short line."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= length else text[: length - 1] + "…"


@register.filter
def json_lit(value: Any) -> SafeString:
    """Show JSON (a value, or text as it came on the wire) indented and coloured."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            return SafeString(escape(value))
    text = json.dumps(value, indent=2, ensure_ascii=False)
    if len(text) > PRETTY_LIMIT:
        return SafeString(escape(text))
    return mark_safe(_lit(text))  # noqa: S308  every piece is escaped by _lit


def _lit(text: str) -> str:
    pieces: list[str] = []
    end = 0
    for match in _TOKEN.finditer(text):
        pieces.append(escape(text[end : match.start()]))
        kind = match.lastgroup or "text"
        pieces.append(format_html('<span class="{}">{}</span>', _CLASSES[kind], match.group()))
        end = match.end()
    pieces.append(escape(text[end:]))
    return "".join(pieces)
