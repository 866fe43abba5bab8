"""Uptime reports: the evidence of a period loaded, judged by a policy, with a hash of what went in.

The same hash is the same number: a report that was handed in can be made again.
"""

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from django.db.models import Min, Q
from django.utils import timezone

from monitoring.ledger import DELIVERING
from monitoring.models import Alert, Exclusion, MaintenanceWindow, PortInterval
from monitoring.spans import Span, intersection
from monitoring.uptime import (
    POLICIES,
    RAPID_W,
    SUSPICIOUS,
    VERSION,
    Assessment,
    Excuse,
    Policy,
    Port,
    Stretch,
    assess,
    minutes,
)
from stations.models import Connector, Station

CHUNK = 200  # stations


class UptimeError(Exception):
    """A report cannot be made; the text says why."""


def report(
    policy_key: str, first_day: date, last_day: date, stations: Iterable[int] | None = None
) -> dict[str, Any]:
    """Return the uptime of every port from `first_day` to before `last_day`, ready for JSON.

    Days begin at midnight of the site's own time zone. `inputs_sha256` is the hash of everything
    that went in: the same hash is the same number. Raises UptimeError.
    """
    policy = POLICIES.get(policy_key)
    if policy is None:
        raise UptimeError(f"There is no policy “{policy_key}”. Known: {', '.join(POLICIES)}.")
    if first_day >= last_day:
        raise UptimeError("The first day must be before the last.")
    rows = Station.objects.filter(state__in=[Station.State.ACCEPTED, Station.State.RETIRED])
    if stations is not None:
        rows = rows.filter(pk__in=list(stations))
    ids = list(rows.order_by("pk").values_list("pk", flat=True))
    digest = hashlib.sha256(f"{VERSION}|{policy_key}|{first_day}|{last_day}".encode())
    ports = []
    for start in range(0, len(ids), CHUNK):
        for port in load(ids[start : start + CHUNK], first_day, last_day):
            if policy.rapid_only and not port.rapid:
                continue
            digest.update(_canonical(port))
            ports.append(_as_json(policy, port, first_day, last_day))
    known = [port["uptime_percent"] for port in ports if port["uptime_percent"] is not None]
    return {
        "policy": policy.key,
        "name": str(policy.name),
        "from": first_day.isoformat(),
        "to": last_day.isoformat(),
        "generated": timezone.now().isoformat(),
        "formula_version": VERSION,
        "inputs_sha256": digest.hexdigest(),
        "target_percent": policy.target_percent,
        "average_percent": round(sum(known) / len(known), 4) if known else None,
        "worst_percent": min(known, default=None),
        "ports": ports,
    }


def period_of(port: Port, first_day: date, last_day: date) -> Span:
    """Return the period in UTC instants: from midnight to midnight of the port's site."""
    zone = ZoneInfo(port.zone)
    return _midnight(first_day, zone), _midnight(last_day, zone)


def _midnight(day: date, zone: ZoneInfo) -> datetime:
    """Return the beginning of a local day in UTC: only there do differences know of DST."""
    return datetime.combine(day, time(), zone).astimezone(UTC)


def _as_json(policy: Policy, port: Port, first_day: date, last_day: date) -> dict[str, Any]:
    start, end = period_of(port, first_day, last_day)
    found = assess(policy, port, start, min(end, timezone.now()))
    return {
        "site": port.site,
        "station": port.station,
        "evse": port.evse,
        "observed_from": found.start.isoformat() if found.start < found.end else None,
        "period_minutes": round(found.period_minutes, 2),
        "outage_minutes": round(minutes(found.outage), 2),
        "excluded_minutes": round(minutes(found.excluded), 2),
        "counted_minutes": round(minutes(found.counted), 2),
        "uptime_percent": None if found.percent is None else round(found.percent, 4),
        "causes": {cause: round(minutes(spans), 2) for cause, spans in found.causes.items()},
        "months": _months(found, port.zone),
        "outages": [
            {
                "from": begin.isoformat(),
                "to": finish.isoformat(),
                "minutes": round(minutes([(begin, finish)]), 2),
                "excluded_minutes": round(
                    minutes(intersection([(begin, finish)], found.excluded)), 2
                ),
                "causes": [
                    cause
                    for cause, spans in found.causes.items()
                    if intersection([(begin, finish)], spans)
                ],
            }
            for begin, finish in found.outage
        ],
    }


def _months(found: Assessment, zone: str) -> list[dict[str, Any]]:
    """Return outage and excluded minutes by calendar month of the site (23 CFR 680.112(a))."""
    where = ZoneInfo(zone)
    rows = []
    at = found.start
    while at < found.end:
        local = at.astimezone(where)
        following = date(local.year + local.month // 12, local.month % 12 + 1, 1)
        turn = _midnight(following, where)
        month = [(at, min(turn, found.end))]
        rows.append(
            {
                "month": f"{local:%Y-%m}",
                "outage_minutes": round(minutes(intersection(found.outage, month)), 2),
                "excluded_minutes": round(minutes(intersection(found.excluded, month)), 2),
            }
        )
        at = turn
    return rows


def load(station_ids: Sequence[int], first_day: date, last_day: date) -> list[Port]:
    """Return the ports of these stations with their evidence: a fixed number of queries."""
    now = timezone.now()
    start = datetime.combine(first_day, time(), UTC) - timedelta(days=1)
    end = datetime.combine(last_day, time(), UTC) + timedelta(days=1)
    since = dict(
        PortInterval.objects.filter(station__in=station_ids)
        .exclude(source=PortInterval.Source.SESSION)
        .values_list("station")
        .annotate(begin=Min("started_at"))
    )
    link: dict[int, list[Stretch]] = defaultdict(list)
    whole: dict[int, list[Stretch]] = defaultdict(list)
    status: dict[int, list[Stretch]] = defaultdict(list)
    charging: dict[int, list[Span]] = defaultdict(list)
    rows = PortInterval.objects.filter(
        Q(ended_at__isnull=True) | Q(ended_at__gt=start),
        station__in=station_ids,
        started_at__lt=end,
    ).order_by("started_at", "order")
    for row in rows.iterator():
        stretch = Stretch(max(row.started_at, start), min(row.ended_at or now, end), row.state)
        if row.source == PortInterval.Source.LINK:
            link[row.station_id].append(stretch)
        elif row.source == PortInterval.Source.STATUS and row.connector_id:
            status[row.connector_id].append(stretch)
        elif row.source == PortInterval.Source.STATUS:
            whole[row.station_id].append(stretch)
        elif row.state == DELIVERING and row.connector_id:
            charging[row.connector_id].append((stretch.start, stretch.end))
    excuses = _excuses(station_ids, start, end)
    suspicion = _suspicions(station_ids, start, end, now)
    plugs: dict[tuple[int, int], list[Connector]] = defaultdict(list)
    connectors = Connector.objects.filter(station__in=station_ids)
    for plug in connectors.select_related("station__site", "evse").order_by("pk"):
        plugs[plug.station_id, plug.evse.number].append(plug)
    return [
        Port(
            site=group[0].station.site.name if group[0].station.site else "",
            station=group[0].station.identity,
            evse=number,
            zone=group[0].station.zone.key,
            rapid=any(plug.max_power_w >= RAPID_W for plug in group),
            since=since.get(station_id),
            link=link[station_id],
            whole=whole[station_id],
            connectors=[status[plug.pk] for plug in group],
            charging=[span for plug in group for span in charging[plug.pk]],
            excuses=excuses[station_id],
            suspicion=[
                span
                for plug in group
                for span in (*suspicion[station_id, plug.pk], *suspicion[station_id, None])
            ],
        )
        for (station_id, number), group in sorted(plugs.items())
    ]


def _excuses(station_ids: Sequence[int], start: datetime, end: datetime) -> dict[int, list[Excuse]]:
    """Return approved exclusions and announced maintenance by station."""
    sites: dict[int, list[int]] = defaultdict(list)
    for pk, site_id in Station.objects.filter(pk__in=station_ids).values_list("pk", "site_id"):
        if site_id is not None:
            sites[site_id].append(pk)
    here = Q(station__in=station_ids) | Q(site__in=list(sites))
    found: dict[int, list[Excuse]] = defaultdict(list)
    exclusions = Exclusion.objects.filter(
        here, approved_by__isnull=False, started_at__lt=end, ended_at__gt=start
    )
    for one in exclusions.order_by("started_at", "pk"):
        for pk in [one.station_id] if one.station_id else sites[one.site_id or 0]:
            excuse = Excuse(one.started_at, one.ended_at, one.reason, f"exclusion-{one.pk}")
            found[pk].append(excuse)
    windows = MaintenanceWindow.objects.filter(here, starts_at__lt=end, ends_at__gt=start)
    for window in windows.order_by("starts_at", "pk"):
        for pk in [window.station_id] if window.station_id else sites[window.site_id or 0]:
            found[pk].append(
                Excuse(window.starts_at, window.ends_at, "maintenance", f"maintenance-{window.pk}")
            )
    return found


def _suspicions(
    station_ids: Sequence[int], start: datetime, end: datetime, now: datetime
) -> dict[tuple[int, int | None], list[Span]]:
    """Return when a rule said that a port does not work though it looks free."""
    rows = Alert.objects.filter(
        Q(resolved_at__isnull=True) | Q(resolved_at__gt=start),
        rule__in=SUSPICIOUS,
        station__in=station_ids,
        fired_at__lt=end,
    ).order_by("pk")
    found: dict[tuple[int, int | None], list[Span]] = defaultdict(list)
    for alert in rows:
        if alert.station_id is not None and alert.fired_at is not None:
            span = (max(alert.fired_at, start), min(alert.resolved_at or now, end))
            found[alert.station_id, alert.connector_id].append(span)
    return found


def _canonical(port: Port) -> bytes:
    """Return a port's evidence as bytes: for a period that is over, always the same."""
    return json.dumps(
        {
            "port": [port.site, port.station, port.evse, port.zone, port.rapid],
            "since": str(port.since),
            "link": [[str(row.start), str(row.end), row.state] for row in port.link],
            "whole": [[str(row.start), str(row.end), row.state] for row in port.whole],
            "status": [
                [[str(row.start), str(row.end), row.state] for row in plug]
                for plug in port.connectors
            ],
            "charging": [[str(begin), str(end)] for begin, end in port.charging],
            "excuses": [[str(x.start), str(x.end), x.reason, x.evidence] for x in port.excuses],
            "suspicion": [[str(begin), str(end)] for begin, end in port.suspicion],
        },
        sort_keys=True,
    ).encode()
