"""`manage.py demo`: a small living network to look at."""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from datetime import timedelta
from typing import Any

import time_machine
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import connection
from django.utils import timezone

from config.demo import director, guests, network, seed
from config.demo.history import Past


class Command(BaseCommand):
    """Seed the demo once, then run its stations against the running server until Ctrl-C."""

    help = (
        "Three sites, twelve simulated stations in three versions of OCPP, drivers, prices and a "
        "past month. The first call fills the database; every call runs the stations against the "
        "server of this installation, which must be running (make demo does both)."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--seed", type=int, default=1, help="same seed, same story")
        parser.add_argument("--days", type=int, default=30, help="length of the past")
        parser.add_argument("--prepare", action="store_true", help="only fill the database")
        parser.add_argument("--url", default="", help="the server, e.g. http://127.0.0.1:8000")
        parser.add_argument("--parent", type=int, help="end when this process is gone")

    def handle(self, *args: Any, **options: Any) -> None:
        if not settings.DEBUG:
            raise CommandError("The demo makes up people and money: it runs with DEBUG=true only.")
        if "stations_site" not in connection.introspection.table_names():
            raise CommandError("The database is empty. Start the demo with: make demo")
        if not seed.done():
            self._prepare(options["seed"], options["days"])
        if not options["prepare"]:
            for noisy in ("stations.simulator", "httpx"):
                logging.getLogger(noisy).setLevel(logging.WARNING)
            url = options["url"] or f"http://127.0.0.1:{settings.PORT}"
            asyncio.run(self._run(url.rstrip("/"), options["seed"], options["parent"]))

    def _prepare(self, number: int, days: int) -> None:
        began, now = time.monotonic(), timezone.now()
        since = now - timedelta(days=days)
        with time_machine.travel(since, tick=False):
            seed.seed(since)
        with guests.till() as box:
            Past(now, days, number, box).play()
        seed.watch()
        took = time.monotonic() - began
        self.stdout.write(f"The demo's {days} days of history were played in {took:.0f} s.")

    async def _run(self, url: str, number: int, parent: int | None) -> None:
        members = await asyncio.to_thread(network.members, url, number)
        network.end_cut_short(members, await asyncio.to_thread(network.cut_short))
        tasks = [
            asyncio.create_task(network.run(members, while_pid=parent)),
            asyncio.create_task(director.direct(members, url, number)),
        ]
        loop = asyncio.get_running_loop()
        for which in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(which, tasks[0].cancel)
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()
        for outcome in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(outcome, Exception):
                raise outcome
