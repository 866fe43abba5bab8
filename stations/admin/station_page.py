"""The page of one station: what it is doing now, its past, its settings, its frames."""

from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db.models import Q
from django.http import HttpRequest
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from monitoring.dashboard import doing
from monitoring.models import Session
from stations import configuration, provisioning
from stations.admin import frames, orders, timeline
from stations.admin.base import duration, kw, kwh, sections
from stations.looks import (
    command_chip,
    connector_tone,
    plain,
    presence,
    station_state_chip,
    status_now,
)
from stations.models import Command, Connector, Holding, Station, StreamValue, Variable

TABS = (
    ("now", _("Now")),
    ("timeline", _("Timeline")),
    ("sessions", _("Sessions")),
    ("configuration", _("Configuration")),
    ("device", _("Device")),
    ("frames", _("Frames")),
    ("commands", _("Commands")),
    ("details", _("Details")),
)
LIST_LIMIT = 50
DEVICE_LIMIT = 500
STREAM_LIMIT = 60


def frame(request: HttpRequest, station: Station, tab: str) -> dict[str, Any]:
    """Return what every tab shows: who the station is, its tabs, the actions menu."""
    user: Any = request.user
    tabs = [
        (key, label)
        for key, label in TABS
        if key != "frames" or user.has_perm("stations.view_frames")
    ]
    return {
        "station": station,
        "tab": tab,
        "tabs": tabs,
        "presence": presence(station),
        "state_chip": station_state_chip(station),
        "actions": orders.grouped(orders.allowed(request, station.version)),
        "socket_url": socket_url(station),
        "may_change": user.has_perm("stations.change_station"),
    }


def socket_url(station: Station | None = None) -> str:
    """Return the address to type into a charger."""
    base = settings.PUBLIC_URL.replace("http", "ws", 1)
    return f"{base}/ocpp/{station.identity if station else ''}"


def body(request: HttpRequest, station: Station, tab: str) -> dict[str, Any]:
    """Return what one tab shows."""
    fill = {
        "now": _now,
        "timeline": _timeline,
        "sessions": _sessions,
        "configuration": _configuration,
        "device": _device,
        "frames": _frames,
        "commands": _commands,
    }.get(tab)
    return fill(request, station) if fill else {}


def _now(request: HttpRequest, station: Station) -> dict[str, Any]:
    connectors = list(
        doing(Connector.objects.filter(station=station).select_related("evse")).order_by(
            "evse__number", "number"
        )
    )
    running = {
        one.connector_id: one
        for one in Session.objects.filter(station=station, closed_at=None).order_by("started_at")
    }
    news, _older = timeline.lines(timeline.of_station(station))
    waiting = Command.objects.filter(
        Q(status__in=("queued", "sent")) | Q(created_at__gt=timezone.now() - timedelta(minutes=10)),
        station=station,
    ).select_related("created_by")
    return {
        "plugs": [
            {
                "connector": one,
                "tone": connector_tone(one, station.connected),
                "status": Connector.Status(status_now(one)).label,
                "session": (session := running.get(one.pk)),
                "energy": kwh(session.energy_wh) if session else "",
                "power": kw(session.power_w) if session else "",
                "for": duration(session.started_at, session.stopped_at) if session else "",
                "fault": plain(one.error_code) if one.error_code not in ("", "NoError") else "",
            }
            for one in connectors
        ],
        "lines": news[:12],
        "orders": [(one, command_chip(one)) for one in waiting[:8]],
        "sections": sections("station", request, station),
    }


def _timeline(request: HttpRequest, station: Station) -> dict[str, Any]:
    topic = request.GET.get("topic", "")
    before = request.GET.get("before", "")
    news, older = timeline.lines(
        timeline.of_station(station),
        topic=topic,
        before=int(before) if before.isdigit() else None,
    )
    return {
        "lines": news,
        "older": older,
        "topic": topic,
        "topics": [(key, label) for key, (label, _prefixes) in timeline.TOPICS.items()],
    }


def _sessions(request: HttpRequest, station: Station) -> dict[str, Any]:
    rows = Session.objects.filter(station=station).select_related("connector__evse", "token")
    return {"sessions": list(rows.order_by("-started_at")[:LIST_LIMIT]), "limit": LIST_LIMIT}


def _configuration(request: HttpRequest, station: Station) -> dict[str, Any]:
    rows = list(
        Variable.objects.filter(station=station).order_by(
            "component", "component_instance", "evse", "connector", "name", "instance", "attribute"
        )
    )
    wanted = provisioning.wishes(station, rows)
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        where = row.component + (f" [{row.component_instance}]" if row.component_instance else "")
        if row.evse:
            where += f" · EVSE {row.evse}" + (f".{row.connector}" if row.connector else "")
        wish = wanted.get(configuration.key_in(row))
        groups.setdefault(where, []).append(
            {
                "row": row,
                "key": configuration.text_of(row),
                "wish": wish,
                "drift": wish is not None and not provisioning.same(row.value, wish.value),
            }
        )
    may_configure = "change_configuration" in orders.allowed(request, station.version)
    pushable = sum(
        one["drift"] and not one["row"].read_only for group in groups.values() for one in group
    )
    return {
        "groups": list(groups.items()),
        "count": len(rows),
        "drifting": sum(one["drift"] for group in groups.values() for one in group),
        "pushable": pushable if may_configure else 0,
        "push_stopped": provisioning.stopped(station),
        "may_configure": may_configure,
        "read_command": "get_configuration" if station.version == "1.6" else "get_report",
    }


def _device(request: HttpRequest, station: Station) -> dict[str, Any]:
    """Return what the station holds beside its variables, kind by kind."""
    rows: dict[str, list[Holding]] = {}
    held = Holding.objects.filter(station=station).order_by("kind", "pk")
    if not request.user.has_perm("stations.view_holding"):
        held = held.exclude(kind=Holding.Kind.CUSTOMER)  # it names people
    for row in held[:DEVICE_LIMIT]:
        rows.setdefault(row.kind, []).append(row)
    streamed: dict[int, list[StreamValue]] = {}
    if Holding.Kind.STREAM in rows:
        newest = StreamValue.objects.filter(station=station).order_by("-at")[:STREAM_LIMIT]
        for value in newest:
            streamed.setdefault(value.stream, []).append(value)
    return {
        "kinds": [(Holding.Kind(kind).label, mine) for kind, mine in rows.items()],
        "streamed": list(streamed.items()),
    }


def _frames(request: HttpRequest, station: Station) -> dict[str, Any]:
    return frames.page(request, station)


def _commands(request: HttpRequest, station: Station) -> dict[str, Any]:
    rows = Command.objects.filter(station=station).select_related("created_by")
    return {"orders": [(one, command_chip(one)) for one in rows.order_by("-id")[:LIST_LIMIT]]}
