"""Uptime: interval arithmetic against a brute-force loop over minutes, policies, the ledger."""

import json
import random
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
import time_machine
from django.core.management import CommandError, call_command
from django.db import transaction
from hypothesis import given, settings
from hypothesis import strategies as st

from monitoring import incidents, ledger, reports, spans
from monitoring.models import Exclusion, MaintenanceWindow, PortInterval
from monitoring.uptime import POLICIES, Excuse, Port, Stretch, assess, minutes
from stations import journal
from stations.models import Entry, Station
from tests import make

T0 = datetime(2026, 3, 10, 0, 0, tzinfo=UTC)
HORIZON = 200
minute = st.integers(0, HORIZON)
pairs = st.lists(st.tuples(minute, minute).map(sorted).map(tuple), max_size=6)


def m(n: float) -> datetime:
    return T0 + timedelta(minutes=n)


def times(pairs_of_minutes: Sequence[tuple[int, int]]) -> list[spans.Span]:
    return [(m(a), m(b)) for a, b in pairs_of_minutes]


def cells(pairs_of_minutes: Sequence[tuple[int, int]]) -> set[int]:
    """The minutes these spans cover, one by one."""
    return {n for a, b in pairs_of_minutes for n in range(a, b)}


def covered(found: Sequence[spans.Span]) -> set[int]:
    return cells([(int((a - T0).seconds / 60), int((b - T0).seconds / 60)) for a, b in found])


@given(pairs, pairs)
@settings(max_examples=300, deadline=None)
def test_arithmetic_on_spans_is_arithmetic_on_sets_of_minutes(
    one: list[tuple[int, int]], other: list[tuple[int, int]]
) -> None:
    a, b = times(one), times(other)
    assert covered(spans.union(a, b)) == cells(one) | cells(other)
    assert covered(spans.intersection(a, b)) == cells(one) & cells(other)
    assert covered(spans.difference(a, b)) == cells(one) - cells(other)
    assert spans.length(a) == timedelta(minutes=len(cells(one)))
    limit = timedelta(minutes=17)
    assert covered(spans.first(a, limit)) == set(sorted(cells(one))[:17])
    for result in (spans.union(a, b), spans.intersection(a, b), spans.difference(a, b)):
        assert result == sorted(result)
        assert all(left[1] < right[0] for left, right in pairwise(result))


states = st.sampled_from(["Available", "Charging", "Faulted", "Unavailable", "Finishing"])
lines = st.lists(st.tuples(minute, states), max_size=8)


def stretches(line: list[tuple[int, str]], initial: str) -> list[tuple[int, int, str]]:
    changes = sorted([(0, initial), *line], key=lambda one: one[0])
    ends = [*[at for at, _state in changes[1:]], HORIZON]
    return [(at, end, state) for (at, state), end in zip(changes, ends, strict=True)]


@given(
    st.lists(lines, min_size=1, max_size=2),
    st.lists(st.tuples(minute, st.sampled_from(["connected", "disconnected"])), max_size=6),
    pairs,
    st.lists(st.tuples(minute, minute, st.sampled_from(["utility", "vandalism", "telecom"]))),
    st.tuples(minute, minute).map(sorted),
)
@settings(max_examples=300, deadline=None)
def test_every_policy_agrees_with_a_loop_over_minutes(
    plugs: list[list[tuple[int, str]]],
    link: list[tuple[int, str]],
    charging: list[tuple[int, int]],
    excuses: list[tuple[int, int, str]],
    period: list[int],
) -> None:
    known = [stretches(line, "Available") for line in plugs]
    wire = stretches(link, "connected")
    port = Port(
        "S",
        "CP",
        1,
        since=T0,
        link=[Stretch(m(a), m(b), state) for a, b, state in wire],
        connectors=[[Stretch(m(a), m(b), state) for a, b, state in line] for line in known],
        charging=times(charging),
        excuses=[Excuse(m(a), m(b), reason, "x") for a, b, reason in excuses if a < b],
    )

    def says(line: list[tuple[int, int, str]], n: int) -> str:
        return next(state for a, b, state in line if a <= n < b)

    for policy in (POLICIES["nevi"], POLICIES["uk"], POLICIES["sla"]):
        found = assess(policy, port, m(period[0]), m(period[1]))
        outage, excluded = set(), set()
        for n in range(period[0], period[1]):
            down = all(says(line, n) in ("Faulted", "Unavailable") for line in known)
            offline = says(wire, n) == "disconnected"
            out = (down or offline) if policy.offline_counts else (down and not offline)
            if out and n not in cells(charging):
                outage.add(n)
                if any(a <= n < b and reason in policy.reasons for a, b, reason in excuses):
                    excluded.add(n)
        assert covered(found.outage) == outage
        assert covered(found.excluded) == excluded
        assert covered(found.counted) == outage - excluded


def port(**fields: Any) -> Port:
    return Port(**{"site": "S", "station": "CP", "evse": 1, "since": T0} | fields)


def line(*changes: tuple[float, str], until: float) -> list[Stretch]:
    ends = [*[at for at, _state in changes[1:]], until]
    return [Stretch(m(at), m(end), state) for (at, state), end in zip(changes, ends, strict=True)]


def test_a_fault_while_offline_counts_once_and_uk_counts_only_what_it_saw() -> None:
    broken = port(
        link=line((0, "connected"), (100, "disconnected"), (300, "connected"), until=1000),
        connectors=[line((0, "Available"), (200, "Faulted"), (400, "Available"), until=1000)],
    )
    nevi = assess(POLICIES["nevi"], broken, m(0), m(1000))
    uk = assess(POLICIES["uk"], broken, m(0), m(1000))
    assert minutes(nevi.counted) == 300
    assert nevi.percent == pytest.approx(70.0)
    assert {cause: minutes(found) for cause, found in nevi.causes.items()} == {
        "fault": 200,
        "offline": 200,
    }
    assert minutes(uk.counted) == 100


def test_charging_while_offline_was_up() -> None:
    proven = port(
        link=line((0, "disconnected"), until=100),
        connectors=[line((0, "Available"), until=100)],
        charging=[(m(20), m(60))],
    )
    assert minutes(assess(POLICIES["nevi"], proven, m(0), m(100)).counted) == 60


def test_a_port_with_two_connectors_is_up_while_one_is() -> None:
    two = port(
        connectors=[
            line((0, "Faulted"), (50, "Available"), until=100),
            line((0, "Available"), (30, "Faulted"), until=100),
        ]
    )
    assert minutes(assess(POLICIES["nevi"], two, m(0), m(100)).counted) == 20


def test_an_excuse_on_the_wrong_day_excuses_nothing() -> None:
    day = 1440
    late = port(
        connectors=[line((0, "Faulted"), (60, "Available"), until=2 * day)],
        excuses=[Excuse(m(day), m(day + 60), "utility", "ticket 9")],
    )
    assert minutes(assess(POLICIES["nevi"], late, m(0), m(2 * day)).counted) == 60


def test_california_caps_maintenance_a_year_and_vandalism_an_event() -> None:
    hour, days = 60, 1440
    dead = port(
        connectors=[line((0, "Faulted"), until=60 * days)],
        excuses=[
            Excuse(m(0), m(50 * hour), "maintenance", "a"),
            Excuse(m(100 * hour), m(150 * hour), "maintenance", "b"),
            Excuse(m(20 * days), m(35 * days), "vandalism", "c"),
        ],
    )
    found = assess(POLICIES["cec"], dead, m(0), m(60 * days))
    assert minutes(found.excluded) == 72 * hour + 10 * days
    assert spans.union(found.excluded)[1] == (m(100 * hour), m(122 * hour))


def test_a_whole_year_has_525600_minutes_even_a_leap_year() -> None:
    start, end = datetime(2027, 3, 1, tzinfo=UTC), datetime(2028, 3, 1, tzinfo=UTC)
    down = Port(
        "S",
        "CP",
        1,
        since=start,
        connectors=[[Stretch(start, start + timedelta(minutes=5256), "Faulted")]],
    )
    found = assess(POLICIES["nevi"], down, start, end)
    assert found.period_minutes == 525_600
    assert found.percent == pytest.approx(99.0)


def test_nothing_is_counted_before_the_first_evidence() -> None:
    young = port(since=m(60), connectors=[line((60, "Faulted"), (90, "Available"), until=120)])
    found = assess(POLICIES["nevi"], young, m(0), m(120))
    assert (found.start, found.period_minutes, found.percent) == (m(60), 60, 50.0)
    never = assess(POLICIES["nevi"], port(since=None), m(0), m(120))
    assert never.percent is None


def test_driver_truth_counts_what_looks_free_and_does_not_work() -> None:
    looks = port(connectors=[line((0, "Available"), until=100)], suspicion=[(m(10), m(40))])
    assert minutes(assess(POLICIES["driver_truth"], looks, m(0), m(100)).counted) == 30
    assert minutes(assess(POLICIES["nevi"], looks, m(0), m(100)).counted) == 0


def test_a_station_out_of_service_as_a_whole_takes_its_ports_with_it() -> None:
    whole = line(
        (0, "Available"), (10, "Unavailable"), (30, "Faulted"), (40, "Available"), until=60
    )
    one = port(connectors=[line((0, "Available"), (35, "Faulted"), until=60)], whole=whole)
    found = assess(POLICIES["sla"], one, m(0), m(60))
    assert minutes(found.outage) == 50
    assert {cause: minutes(spans) for cause, spans in found.causes.items()} == {
        "unavailable": 20,
        "fault": 30,
    }
    several = port(connectors=[line((0, "Charging"), until=60)] * 2, whole=whole)
    assert minutes(assess(POLICIES["sla"], several, m(0), m(60)).outage) == 30


# --- the ledger -----------------------------------------------------------------------------------


def news(kind: str, station: Station, n: float, subject: Any = None, **data: Any) -> None:
    with time_machine.travel(m(n), tick=False), transaction.atomic():
        journal.record(kind, subject or station, station_id=station.pk, **data)


def a_story(stations: Sequence[Station], rng: random.Random) -> None:
    """Write a journal of connections, statuses and sessions."""
    for n in range(60):
        station = rng.choice(stations)
        plug = rng.choice(list(station.connectors.all()))
        kind = rng.choice(["connected", "disconnected", "status", "status", "session"])
        if kind == "status":
            state = rng.choice(["Available", "Faulted", "Charging", "Unavailable"])
            news("connector.status_changed", station, n // 2, plug, status=state, error_code="")
        elif kind == "session":
            session = make.session(
                station, connector=plug, started_at=m(n), stopped_at=m(n + 5), closed_at=m(n + 6)
            )
            news("session.started", station, n, session)
            news("session.closed", station, n + 6, session)
        else:
            news(f"station.{kind}", station, n)


def snapshot() -> list[tuple[Any, ...]]:
    return list(
        PortInterval.objects.order_by("key").values_list(
            "key", "station", "connector", "source", "state", "started_at", "ended_at"
        )
    )


@pytest.mark.django_db
@pytest.mark.parametrize("seed", range(6))
def test_folding_the_journal_again_or_in_any_order_gives_the_same_ledger(seed: int) -> None:
    rng = random.Random(seed)
    a_story([make.station(2), make.station(1)], rng)
    entries = list(Entry.objects.order_by("pk"))
    ledger.fold(entries)
    once = snapshot()
    assert len(once) > 20
    ledger.fold(entries)
    assert snapshot() == once
    PortInterval.objects.all().delete()
    shuffled = entries * 2
    rng.shuffle(shuffled)
    while shuffled:
        size = rng.randint(1, 9)
        ledger.fold(shuffled[:size])
        shuffled = shuffled[size:]
    assert snapshot() == once


@pytest.mark.django_db
def test_every_line_of_the_ledger_is_without_gap_or_overlap() -> None:
    a_story([make.station(2)], random.Random(7))
    ledger.fold(list(Entry.objects.all()))
    rows = PortInterval.objects.exclude(source="session").order_by("started_at", "order")
    by_line: dict[Any, list[PortInterval]] = {}
    for row in rows:
        by_line.setdefault((row.connector_id, row.source), []).append(row)
    for one in by_line.values():
        assert [row.ended_at for row in one] == [*[row.started_at for row in one[1:]], None]


@pytest.mark.django_db
def test_the_tick_goes_on_where_it_was_and_reads_the_last_minute_again() -> None:
    station = make.station()
    news("station.connected", station, 0)
    assert ledger.tick(m(0.5)) == 1
    assert ledger.tick(m(0.9)) == 1
    assert ledger.tick(m(2)) == 1
    assert ledger.tick(m(3)) == 0
    news("station.disconnected", station, 3)
    assert ledger.tick(m(3)) == 1
    assert PortInterval.objects.count() == 2


@pytest.mark.django_db
def test_the_status_of_a_whole_station_is_a_line_of_its_own() -> None:
    station = make.station(2)
    news("station.connected", station, 0)
    for plug in station.connectors.all():
        news("connector.status_changed", station, 0, plug, status="Available", error_code="")
    news("station.status_changed", station, 10, status="Unavailable", error_code="")
    news("station.status_changed", station, 25, status="Available", error_code="")
    ledger.fold(list(Entry.objects.all()))
    whole = PortInterval.objects.filter(source="status", connector=None).order_by("order")
    assert list(whole.values_list("state", "started_at", "ended_at")) == [
        ("Unavailable", m(10), m(25)),
        ("Available", m(25), None),
    ]
    with time_machine.travel(m(2 * 1440), tick=False):
        found = reports.report("sla", date(2026, 3, 10), date(2026, 3, 11))
    assert [port["outage_minutes"] for port in found["ports"]] == [15, 15]
    assert [port["causes"] for port in found["ports"]] == [{"unavailable": 15}] * 2


@pytest.mark.django_db
def test_a_report_counts_local_days_and_has_the_same_hash_again() -> None:
    site = make.site(name="Harbour", time_zone="Europe/Berlin")
    station = make.station(site=site, identity="CP-A")
    plug = station.connectors.get()
    day = 1440
    news("station.connected", station, 0)
    news("connector.status_changed", station, 1, plug, status="Available", error_code="")
    news("connector.status_changed", station, 19 * day, plug, status="Faulted", error_code="X")
    news("connector.status_changed", station, 19 * day + 90, plug, status="Available")
    ledger.tick(m(40 * day))
    staff = make.staff()
    Exclusion.objects.create(
        station=station,
        reason="utility",
        started_at=m(19 * day),
        ended_at=m(19 * day + 30),
        evidence="Ticket 4711",
        approved_by=staff,
    )
    Exclusion.objects.create(
        station=station,
        reason="utility",
        started_at=m(19 * day),
        ended_at=m(19 * day + 60),
        evidence="never approved",
    )
    with time_machine.travel(m(40 * day), tick=False):
        found = reports.report("nevi", date(2026, 3, 29), date(2026, 3, 30))
    (one,) = found["ports"]
    assert one["period_minutes"] == 23 * 60  # clocks go forward that day
    assert (one["outage_minutes"], one["excluded_minutes"]) == (90, 30)
    assert one["counted_minutes"] == 60
    assert one["uptime_percent"] == pytest.approx(100 * (1380 - 60) / 1380, abs=1e-4)
    assert one["outages"][0]["causes"] == ["fault"]
    assert one["months"] == [{"month": "2026-03", "outage_minutes": 90.0, "excluded_minutes": 30.0}]
    with time_machine.travel(m(400 * day), tick=False):
        again = reports.report("nevi", date(2026, 3, 29), date(2026, 3, 30))
    assert again["inputs_sha256"] == found["inputs_sha256"]
    MaintenanceWindow.objects.create(
        station=station, starts_at=m(19 * day), ends_at=m(19 * day + 90), reason="late news"
    )
    changed = reports.report("nevi", date(2026, 3, 29), date(2026, 3, 30))
    assert changed["inputs_sha256"] != found["inputs_sha256"]
    assert changed["ports"][0]["counted_minutes"] == 0


@pytest.mark.django_db
def test_a_wrong_policy_or_period_is_told_in_a_sentence() -> None:
    with pytest.raises(reports.UptimeError, match="no policy “x”"):
        reports.report("x", date(2026, 1, 1), date(2026, 2, 1))
    with pytest.raises(reports.UptimeError, match="before the last"):
        reports.report("nevi", date(2026, 2, 1), date(2026, 2, 1))


@pytest.mark.django_db
def test_the_commands_print_json_and_say_what_is_wrong(capsys: pytest.CaptureFixture[str]) -> None:
    station = make.station(identity="CP-B")
    plug = station.connectors.get()
    news("connector.status_changed", station, 0, plug, status="Faulted", error_code="X")
    ledger.tick(m(10))
    call_command("uptime", "report", "--from", "2026-03-10", "--to", "2026-03-11", "--json")
    found = json.loads(capsys.readouterr().out)
    assert found["policy"] == "nevi"
    assert found["ports"][0]["uptime_percent"] == 0.0
    incidents.raise_("x", "Something", station=station)
    call_command("incidents", "list", "--open", "--json")
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["station"], row["rule"], row["state"]) == ("CP-B", "x", "open")
    assert {"id", "connector", "severity", "opened", "resolved", "summary"} <= row.keys()
    with pytest.raises(CommandError, match="not a day"):
        call_command("uptime", "report", "--from", "March", "--to", "2026-03-11")
