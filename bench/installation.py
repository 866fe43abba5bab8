"""A running installation to measure, with production settings: everything in one process on
SQLite, or a gateway and a worker with PostgreSQL and Redis.
"""

from __future__ import annotations

import os
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
PRODUCTION = {
    "DEBUG": "false",
    "SECRET_KEY": "measured-" + "k" * 50,
    "PUBLIC_URL": "http://127.0.0.1",
    "OCPP_UNKNOWN_STATIONS": "accept",
    "STAFF_SECOND_FACTOR": "false",
}
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
    """A fresh installation that takes any station and knows the token BENCH.

    On SQLite one process does everything; with PostgreSQL the measured process is a gateway, as in
    production, and a worker beside it does the reactions.
    """
    settings = {**PRODUCTION, **environment}
    with ExitStack() as stack:
        postgresql, role = None, "all"
        if database == "postgresql":
            postgresql = stack.enter_context(servers.postgresql())
            postgresql.durable = True  # in tests it may be off; what is measured here is durable
            postgresql.restart()
            settings["DATABASE_URL"] = postgresql.url
            settings["REDIS_URL"] = stack.enter_context(servers.redis_server()).url
            role = "gateway"
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="csms-bench-")))
        if role == "gateway":
            _manage({**os.environ, **settings, "VAR_DIR": str(directory)}, "migrate", "-v0")
            stack.enter_context(_worker(directory, settings))
        running = stack.enter_context(run(directory / "var", role, settings))
        _manage(running.environment, "shell", "-v0", "-c", KNOW_THE_TAG)
        yield Installation(running, postgresql)


def _manage(environment: dict[str, str], *arguments: str) -> None:
    subprocess.run([sys.executable, "manage.py", *arguments], env=environment, check=True)


@contextmanager
def _worker(directory: Path, settings: dict[str, str]) -> Iterator[None]:
    """The process that does the reactions, so that the gateway only talks to chargers."""
    environment = {**os.environ, **settings, "VAR_DIR": str(directory), "PORT": "0"}
    command = [sys.executable, "manage.py", "run", "--role", "worker", "--processes", "1"]
    with (directory / "worker.log").open("wb") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    try:
        yield
    finally:
        process.terminate()
        process.wait(20)
