"""A running installation to measure: a fresh one, on SQLite or PostgreSQL."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests import servers
from tests.running import Running, run

DATABASES = ("sqlite", "postgresql")
TAG = "BENCH"
KNOW_THE_TAG = f"from stations.models import Token; Token.objects.get_or_create(uid={TAG!r})"


@dataclass
class Installation:
    """The runner's process and its database server, where there is one."""

    running: Running
    postgresql: servers.PostgreSQL | None

    @property
    def url(self) -> str:
        """Where chargers connect, without the identity and the slash before it."""
        return self.running.ocpp_url.rstrip("/")

    def process(self) -> psutil.Process:
        """The server's process."""
        assert self.running.process is not None
        return psutil.Process(self.running.process.pid)

    def rss_kb(self) -> float:
        """Resident memory of the server in KB."""
        return float(self.process().memory_info().rss) / 1024

    def cpu_s(self) -> float:
        """CPU seconds the server used so far."""
        times = self.process().cpu_times()
        return float(times.user + times.system)


@contextmanager
def installed(database: str, **environment: str) -> Iterator[Installation]:
    """`manage.py run` on a fresh database, taking any station, knowing the token BENCH."""
    settings = {"OCPP_UNKNOWN_STATIONS": "accept", "DEBUG": "true", **environment}
    with ExitStack() as stack:
        postgresql = None
        if database == "postgresql":
            postgresql = stack.enter_context(servers.postgresql())
            postgresql.durable = True  # in tests it may be off; what is measured here is durable
            postgresql.restart()
            settings["DATABASE_URL"] = postgresql.url
        directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="csms-bench-"))
        running = stack.enter_context(run(Path(directory) / "var", "all", settings))
        subprocess.run(
            [sys.executable, "manage.py", "shell", "-v0", "-c", KNOW_THE_TAG],
            env=running.environment,
            check=True,
        )
        yield Installation(running, postgresql)
