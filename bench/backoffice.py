"""`python -m bench.backoffice`: server time of the back office's pages on a full database.

2,000 stations, 100,000 sessions, 1,000,000 frames and 300,000 journal entries over thirty days,
in a database of their own: SQLite in a temporary folder, or `DATABASE_URL` (which must be empty).
Each page is asked for as staff do; printed are how many queries it took, the median of several
times, and the processor's time of this process alone, which other programs do not lengthen.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import islice
from typing import Any

PAGES = {
    "start": "/admin/",
    "stations": "/admin/stations/station/",
    "stations, faulted": "/admin/stations/station/?connector=Faulted",
    "stations, by token": "/admin/stations/station/?q=TAG00077",
    "station": "/admin/stations/station/{station}/change/",
    "station, timeline": "/admin/stations/station/{station}/change/?tab=timeline",
    "station, sessions": "/admin/stations/station/{station}/change/?tab=sessions",
    "station, frames": "/admin/stations/station/{station}/change/?tab=frames",
    "sessions": "/admin/monitoring/session/",
    "sessions, by token": "/admin/monitoring/session/?q=TAG00077",
    "sessions, of a site": "/admin/monitoring/session/?site={site}",
    "sessions, page 40": "/admin/monitoring/session/?p=40",
    "session": "/admin/monitoring/session/{session}/change/",
    "session, curve": "/admin/monitoring/session/{session}/readings.json",
    "frames": "/admin/stations/message/",
    "frames, rare action": "/admin/stations/message/?action=Reset",
    "frames, a week ago": "/admin/stations/message/?until={week}",
    "frames, of a station": "/admin/stations/message/?station=CP00007",
    "journal": "/admin/stations/entry/",
    "journal, of a topic": "/admin/stations/entry/?topic=firmware",
    "tokens": "/admin/stations/token/",
    "people": "/admin/stations/user/",
    "health": "/admin/health/",
    "search": "/admin/search/?s=CP0007{n}",
}
DAYS = 30
BATCH = 5_000


def keep(model: Any, rows: Iterator[Any]) -> None:
    """Store rows a batch at a time."""
    while batch := list(islice(rows, BATCH)):
        model.objects.bulk_create(batch)


def fill(stations: int, sessions: int, frames: int, entries: int) -> dict[str, Any]:
    """Make the rows, spread over the last DAYS days; return what the addresses name."""
    from django.utils import timezone

    from monitoring.models import Reading, Session
    from stations.models import Connector, Entry, Evse, Message, Site, Station, Token, User

    now = timezone.now()

    def at(n: int, of: int) -> datetime:
        return now - timedelta(days=DAYS) * ((of - n) / of)

    sites = Site.objects.bulk_create(
        Site(name=f"Site {n}", latitude=45 + n % 12, longitude=n % 20) for n in range(200)
    )
    made = Station.objects.bulk_create(
        Station(
            identity=f"CP{n:05d}", site=sites[n % 200], version=("1.6", "2.0.1", "2.1")[n % 3],
            vendor=f"Vendor {n % 7}", model=f"M{n % 5}", connected=n % 9 != 0, last_seen_at=now,
        )
        for n in range(1, stations + 1)
    )  # fmt: skip
    evses = Evse.objects.bulk_create(Evse(station=one, number=k) for one in made for k in (1, 2))
    words = ("Available", "Charging", "Available", "Preparing", "Faulted", "Available", "Charging")
    plugs = Connector.objects.bulk_create(
        Connector(station_id=one.station_id, evse=one, number=1, status=words[n % 7])
        for n, one in enumerate(evses)
    )
    tokens = Token.objects.bulk_create(Token(uid=f"TAG{n:05d}") for n in range(1, 5_001))
    User.objects.bulk_create(User(email=f"driver{n}@example.com") for n in range(5_000))

    def session(n: int) -> Session:
        plug, token, start = plugs[n % len(plugs)], tokens[n % 5_000], at(n, sessions)
        live = n > sessions - 500
        return Session(
            station_id=plug.station_id, connector=plug, ref=f"tx-{n}", token=token,
            token_uid=token.uid, state="active" if live else "closed", started_at=start,
            started_received_at=start, stopped_at=None if live else start + timedelta(hours=1),
            closed_at=None if live else start + timedelta(hours=1), meter_start_mwh=0,
            energy_wh=n % 40_000, power_w=11_000.0, review="orphan-stop" if n % 5_000 == 0 else "",
        )  # fmt: skip

    keep(Session, (session(n) for n in range(1, sessions + 1)))
    last = Session.objects.order_by("-pk").values_list("pk", flat=True)[10]
    keep(Reading, (
        Reading(session_id=last, at=now - timedelta(seconds=10 * n), n=n, received_at=now,
                register_mwh=(2_000 - n) * 30_000, power_w=11_000.0)
        for n in range(2_000)
    ))  # fmt: skip
    value = '{"connectorId":1,"meterValue":[{"timestamp":"2026-01-01T00:00:00Z","sampledValue":[{"value":"1234.5"}]}]}'  # noqa: E501  one frame
    keep(Message, (
        Message(at=at(n, frames), station=made[n % stations], direction="in", message_id=f"m{n}",
                action="Heartbeat" if n % 3 else "MeterValues", payload="{}" if n % 3 else value,
                answer="{}", latency_ms=3.0)
        for n in range(1, frames + 1)
    ))  # fmt: skip
    keep(Entry, (
        Entry(at=at(n, entries), station=made[n % stations], subject=f"session-{n % sessions}",
              kind="session.started" if n % 2 else "connector.status_changed",
              data={"status": "Available", "evse": 1, "token_uid": "TAG00001"})
        for n in range(1, entries + 1)
    ))  # fmt: skip
    return {"station": made[6].pk, "session": last, "site": sites[7].pk,
            "week": f"{now - timedelta(days=7):%Y-%m-%dT%H:%M}"}  # fmt: skip


def measure(names: dict[str, Any], times: int) -> list[list[str]]:
    """Return a row a page: name, queries, medians of wall and processor time in ms, KB."""
    from django.contrib.auth import get_user_model
    from django.db import connection
    from django.test import Client
    from django.test.utils import CaptureQueriesContext

    client = Client()
    client.force_login(get_user_model().objects.create_superuser("bench@example.com", "bench"))
    rows = []
    for title, address in PAGES.items():
        took, worked, size, queries = [], [], 0, 0
        for n in range(times + 1):
            url = address.format(n=n, **names)
            with CaptureQueriesContext(connection) as captured:
                begun, work = time.perf_counter(), time.process_time()
                answer = client.get(url)
                worked.append((time.process_time() - work) * 1000)
                took.append((time.perf_counter() - begun) * 1000)
            if answer.status_code != 200:
                sys.exit(f"{url} answered {answer.status_code}.")
            size, queries = len(answer.content), len(captured)
        took, worked = took[1:], worked[1:]  # the first reads templates
        rows.append([title, str(queries), f"{statistics.median(took):.0f}",
                     f"{statistics.median(worked):.0f}",
                     f"{size / 1024:.0f}"])  # fmt: skip
    return rows


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stations", type=int, default=2_000)
    parser.add_argument("--sessions", type=int, default=100_000)
    parser.add_argument("--frames", type=int, default=1_000_000)
    parser.add_argument("--entries", type=int, default=300_000)
    parser.add_argument("--times", type=int, default=7)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="csms-backoffice-bench-") as folder:
        os.environ["VAR_DIR"] = folder
        os.environ["DJANGO_SETTINGS_MODULE"] = "config.settings"
        os.environ.setdefault("LOG_LEVEL", "ERROR")
        import django

        django.setup()
        from django.core.management import call_command
        from django.db import connection

        from bench import report

        call_command("migrate", verbosity=0)
        names = fill(given.stations, given.sessions, given.frames, given.entries)
        if connection.vendor == "postgresql":
            with connection.cursor() as cursor:
                cursor.execute("ANALYZE")
        rows = measure(names, given.times)
        print(f"{connection.vendor}: {given.stations:,} stations, {given.sessions:,} sessions, "
              f"{given.frames:,} frames, {given.entries:,} journal entries\n")  # fmt: skip
        print(report.table(["page", "queries", "median ms", "processor ms", "KB"], rows))
        print(f"\n{report.conditions()}")


if __name__ == "__main__":
    main()
