"""Metrics for Prometheus: aggregates only, never a station or a token in a label.

Two kinds. What this process did (OCPP messages and how long they took) is counted here, without
locks, by `observe_message`; every process has its own numbers and is scraped by itself. What the
rows say (fleet, sessions, incidents, ticks) comes from one set of queries, at most every 30 s.
Another app adds its own by `SOURCES.append(function)`, a function that yields metric families.
"""

import threading
import time
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import timedelta
from typing import Any

import redis
from django.conf import settings
from django.db.models import Count, F, Q, Sum
from prometheus_client import CollectorRegistry, GCCollector, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)

from monitoring import faults, ticks
from monitoring.grouping import UNRESOLVED
from monitoring.models import Incident, Notice, PlaybookRun, Session, Severity
from stations import writer
from stations.models import Command, Connector, Entry, Station

BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
RESOLVE_BUCKETS_S = (60, 300, 900, 3_600, 14_400, 86_400, 604_800)
CACHE_S = 30.0
MAX_SERIES = 600  # of messages, a thread: a charger may invent action names
MAX_VENDORS = 30
_COUNT, _SUM, _FIRST = 0, 1, 2

Key = tuple[str, str, str, str]

_local = threading.local()
_threads: list[dict[Key, list[float]]] = []
SOURCES: list[Callable[[], Iterable[Metric]]] = []


def observe_message(version: str, action: str, direction: str, result: str, seconds: float) -> None:
    """Count one OCPP call and its answer. Costs less than 2 µs.

    `direction`: in (from the charger) or out; `result`: ok, error, timeout or rejected.
    """
    try:
        row = _local.rows[version, action, direction, result]
    except (AttributeError, KeyError):
        row = _row((version, action, direction, result))
    row[_COUNT] += 1
    row[_SUM] += seconds
    row[_FIRST + bisect_left(BUCKETS_S, seconds)] += 1


def _row(key: Key) -> list[float]:
    """Return this thread's row of a series, made where missing. Each thread writes only its own."""
    rows: dict[Key, list[float]] | None = getattr(_local, "rows", None)
    if rows is None:
        rows = _local.rows = {}
        _threads.append(rows)
    if len(rows) >= MAX_SERIES and key not in rows:
        key = (key[0], "other", key[2], key[3])
    return rows.setdefault(key, [0.0] * (_FIRST + len(BUCKETS_S) + 1))


# --- this process ---------------------------------------------------------------------------------


def _messages() -> Iterator[Metric]:
    totals: dict[Key, float] = defaultdict(float)
    durations: dict[tuple[str, str], list[float]] = defaultdict(
        lambda: [0.0] * (_FIRST + len(BUCKETS_S) + 1)
    )
    for rows in _threads:
        for key, row in list(rows.items()):
            totals[key] += row[_COUNT]
            place = durations[key[1], key[2]]
            for index, value in enumerate(row):
                place[index] += value
    counter = CounterMetricFamily(
        "csms_ocpp_messages",
        "OCPP calls with their answers.",
        labels=["version", "action", "direction", "result"],
    )
    for key, count in sorted(totals.items()):
        counter.add_metric(key, count)
    yield counter
    histogram = HistogramMetricFamily(
        "csms_ocpp_call_duration_seconds",
        "From a call to its answer, saved.",
        labels=["action", "direction"],
    )
    for labels, row in sorted(durations.items()):
        histogram.add_metric(labels, _cumulated(BUCKETS_S, row[_FIRST:]), row[_SUM])
    yield histogram


def _cumulated(bounds: Sequence[float], counts: Sequence[float]) -> list[tuple[str, float]]:
    total, found = 0.0, []
    for bound, count in zip([*bounds, float("inf")], counts, strict=True):
        total += count
        found.append(("+Inf" if bound == float("inf") else str(float(bound)), total))
    return found


# --- the rows -----------------------------------------------------------------------------------


def _fleet() -> Iterator[Metric]:
    stations = GaugeMetricFamily(
        "csms_stations", "Stations in service.", labels=["vendor", "connection"]
    )
    found: Counter[tuple[str, str]] = Counter()
    rows = (
        Station.objects.filter(state=Station.State.ACCEPTED)
        .values("vendor", "connected", seen=Q(last_seen_at__isnull=False))
        .annotate(n=Count("pk"))
    )
    for row in rows:
        word = "connected" if row["connected"] else "offline" if row["seen"] else "never"
        found[row["vendor"] or "unknown", word] += row["n"]
    largest = _largest(found)
    for (vendor, word), count in _bounded(found, largest).items():
        stations.add_metric([vendor, word], count)
    yield stations
    evses = GaugeMetricFamily(
        "csms_evses", "EVSEs with a connector in this state.", labels=["vendor", "state"]
    )
    states: Counter[tuple[str, str]] = Counter()
    connectors = Connector.objects.filter(station__state=Station.State.ACCEPTED)
    counted = connectors.values("station__vendor", "status").annotate(
        n=Count("evse", distinct=True)
    )
    for plug in counted:
        states[plug["station__vendor"] or "unknown", plug["status"]] += plug["n"]
    for (vendor, state), count in _bounded(states, largest).items():
        evses.add_metric([vendor, state], count)
    yield evses
    open_faults = GaugeMetricFamily(
        "csms_faults_open", "Connectors that report a fault.", labels=["code", "class"]
    )
    codes: Counter[tuple[str, str]] = Counter()
    for code, vendor_code in connectors.filter(status=Connector.Status.FAULTED).values_list(
        "error_code", "vendor_error_code"
    ):
        fault = faults.classify(code, vendor_code)
        codes[fault.code or "other", fault.fault_class] += 1
    for labels, count in sorted(codes.items()):
        open_faults.add_metric(labels, count)
    yield open_faults


def _largest(found: Counter[tuple[str, str]]) -> set[str]:
    by_vendor: Counter[str] = Counter()
    for (vendor, _word), count in found.items():
        by_vendor[vendor] += count
    return {vendor for vendor, _count in by_vendor.most_common(MAX_VENDORS)}


def _bounded(found: Counter[tuple[str, str]], largest: set[str]) -> Counter[tuple[str, str]]:
    """Fold small vendors into “other”: the number of series stays bounded."""
    bounded: Counter[tuple[str, str]] = Counter()
    for (vendor, word), count in found.items():
        bounded[vendor if vendor in largest else "other", word] += count
    return bounded


def _charging() -> Iterator[Metric]:
    now = Session.objects.filter(state=Session.State.ACTIVE, closed_at__isnull=True).aggregate(
        n=Count("pk"), w=Sum("power_w")
    )
    yield GaugeMetricFamily("csms_sessions_active", "Sessions that charge now.", now["n"])
    yield GaugeMetricFamily("csms_power_watts", "Power of these sessions.", now["w"] or 0.0)
    energy_wh = Session.objects.aggregate(wh=Sum("energy_wh"))["wh"] or 0
    yield CounterMetricFamily(
        "csms_energy_joules", "Energy of all sessions.", float(energy_wh) * 3600
    )


def _incidents() -> Iterator[Metric]:
    gauge = GaugeMetricFamily(
        "csms_incidents_open", "Incidents to be resolved.", labels=["severity"]
    )
    counts = dict(
        Incident.objects.filter(state__in=UNRESOLVED)
        .order_by()
        .values_list("severity")
        .annotate(n=Count("pk"))
    )
    for severity in Severity:
        gauge.add_metric([severity.word], counts.get(severity.value, 0))
    yield gauge
    histogram = HistogramMetricFamily(
        "csms_incident_resolve_seconds",
        "From opening to resolution.",
        labels=["severity", "resolver"],
    )
    took = F("resolved_at") - F("opened_at")
    slower = {
        f"b{bound}": Count("pk", filter=Q(took__lte=timedelta(seconds=bound)))
        for bound in RESOLVE_BUCKETS_S
    }
    rows: Any = (
        Incident.objects.filter(state=Incident.State.RESOLVED)
        .order_by()
        .annotate(took=took)
        .values("severity", "resolver")
        .annotate(n=Count("pk"), total=Sum("took"), **slower)
    )
    for row in rows:
        buckets = [(str(float(bound)), float(row[f"b{bound}"])) for bound in RESOLVE_BUCKETS_S]
        histogram.add_metric(
            [Severity(row["severity"]).word, row["resolver"]],
            [*buckets, ("+Inf", float(row["n"]))],
            row["total"].total_seconds() if row["total"] else 0.0,
        )
    yield histogram
    yield _counted(
        "csms_playbook_runs",
        "Attempts to mend.",
        ["playbook", "outcome"],
        PlaybookRun.objects.order_by().values_list("playbook", "state").annotate(n=Count("pk")),
    )
    yield _counted(
        "csms_notifications",
        "Notices by channel and what became of them.",
        ["channel", "outcome"],
        Notice.objects.order_by().values_list("contact__channel", "state").annotate(n=Count("pk")),
    )


def _counted(name: str, text: str, labels: list[str], rows: Iterable[Any]) -> CounterMetricFamily:
    family = CounterMetricFamily(name, text, labels=labels)
    for *values, count in rows:
        family.add_metric([str(value) for value in values], count)
    return family


def _platform() -> Iterator[Metric]:
    lag = GaugeMetricFamily("csms_tick_lag_seconds", "Since a tick last ended.", labels=["tick"])
    failing = GaugeMetricFamily("csms_tick_failing", "1 where it last failed.", labels=["tick"])
    for age in ticks.ages():
        if age.age_s is not None:
            lag.add_metric([age.name], age.age_s)
        failing.add_metric([age.name], 1.0 if age.error else 0.0)
    yield lag
    yield failing
    yield GaugeMetricFamily(
        "csms_reactions_pending",
        "Journal entries whose reactions wait.",
        Entry.objects.filter(pending=True).count(),
    )
    yield GaugeMetricFamily(
        "csms_commands_queued",
        "Orders that no charger has yet.",
        Command.objects.filter(status=Command.Status.QUEUED).count(),
    )
    if settings.REDIS_URL:
        try:
            client = redis.Redis.from_url(settings.REDIS_URL, socket_timeout=2)
            length = float(client.llen("celery"))
        except redis.RedisError:
            return
        queue = GaugeMetricFamily(
            "csms_celery_queue_length", "Tasks that wait for a worker.", labels=["queue"]
        )
        queue.add_metric(["celery"], length)
        yield queue


def _writer() -> Iterator[Metric]:
    stats = writer.stats
    for name, text, value in (
        ("csms_writer_units", "Calls saved by the group commit.", stats.units),
        ("csms_writer_batches", "Commits they took.", stats.batches),
        ("csms_writer_failed_units", "Calls that could not be saved.", stats.failed_units),
        ("csms_writer_commit_seconds", "Time in these commits.", stats.commit_seconds),
    ):
        yield CounterMetricFamily(name, text, float(value))
    yield GaugeMetricFamily("csms_writer_depth", "Calls that wait for a commit.", writer.depth())


class _Process:
    """What this process counted."""

    def collect(self) -> Iterable[Metric]:
        """Return the families."""
        yield from _messages()
        yield from _writer()


class _Rows:
    """What the rows say, asked at most every CACHE_S seconds."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._at = -CACHE_S
        self._families: list[Metric] = []

    def forget(self) -> None:
        """Ask the database again at the next scrape."""
        self._at = -CACHE_S

    def collect(self) -> Iterable[Metric]:
        """Return the families; scrapes at the same time ask once."""
        with self._lock:
            if time.monotonic() - self._at >= CACHE_S:
                sources = [_fleet, _charging, _incidents, _platform, *SOURCES]
                self._families = [family for source in sources for family in source()]
                self._at = time.monotonic()
            return list(self._families)


rows = _Rows()
process_registry = CollectorRegistry(auto_describe=False)
process_registry.register(_Process())
ProcessCollector(registry=process_registry)
GCCollector(registry=process_registry)
rows_registry = CollectorRegistry(auto_describe=False)
rows_registry.register(rows)
