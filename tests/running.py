"""The real runner as a child process: `manage.py run`, asked over the network, and killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tests.servers import free_port

ROOT = Path(__file__).resolve().parent.parent
ADMIN = ("admin@example.com", "correct horse battery")


@dataclass
class Running:
    """A running installation: its address, its environment and its process."""

    port: int
    environment: dict[str, str]
    role: str
    log: Path
    options: tuple[str, ...] = ()
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def ocpp_url(self) -> str:
        """The address chargers connect to, their identity to be appended."""
        return f"ws://127.0.0.1:{self.port}/ocpp/"

    def start(self, wait: bool = True) -> None:
        """Start the process and, by default, wait until it answers `/healthz`."""
        with self.log.open("ab") as out:
            self.process = subprocess.Popen(
                [sys.executable, "manage.py", "run", "--role", self.role, *self.options],
                cwd=ROOT,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )
        if wait:
            self.wait_until_ready()

    def wait_until_ready(self, seconds: float = 60) -> None:
        """Wait until the process answers, or raise with what it printed."""
        assert self.process is not None
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                break
            try:
                if httpx.get(f"{self.url}/healthz", timeout=2).status_code == 200:
                    return
            except httpx.HTTPError:
                time.sleep(0.05)
        raise AssertionError(f"manage.py run did not become ready:\n{self.output[-3000:]}")

    @property
    def output(self) -> str:
        """Everything the process printed so far."""
        return self.log.read_text()

    def kill(self) -> None:
        """Kill the process the hard way: kill -9."""
        self.stop(signal.SIGKILL)

    def stop(self, how: signal.Signals = signal.SIGTERM, within_s: float = 15) -> int:
        """Send a signal, wait for the end and return the exit code."""
        assert self.process is not None
        self.process.send_signal(how)
        code = self.process.wait(within_s)
        self.process = None
        return code

    def manage(self, *arguments: str) -> Any:
        """Run an operator command on the same installation; return its `--json` answer."""
        done = subprocess.run(
            [sys.executable, "manage.py", *arguments, "--json"],
            cwd=ROOT,
            env=self.environment,
            check=False,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)


def installation(
    directory: Path, role: str, environment: Mapping[str, str], *options: str
) -> Running:
    """Return an installation with its data under `directory`, not started yet."""
    directory.mkdir(parents=True, exist_ok=True)
    port = int(environment.get("PORT", "0")) or free_port()
    # The caller's own settings must not leak into the installation under test.
    own = {key: value for key, value in os.environ.items() if not key.startswith(_SETTINGS)}
    settings = {
        "PORT": str(port),
        "VAR_DIR": str(directory),
        "ENV_FILE": os.devnull,
        "ADMIN_EMAIL": ADMIN[0],
        "ADMIN_PASSWORD": ADMIN[1],
    }
    log = directory / "output.log"
    log.touch()
    return Running(port, {**own, **settings, **environment}, role, log, options)


@contextmanager
def run(directory: Path, role: str, environment: Mapping[str, str]) -> Iterator[Running]:
    """Run the product for the length of a `with` block, its data under `directory`."""
    server = installation(directory, role, environment)
    try:
        server.start()
        yield server
    finally:
        if server.process is not None:
            server.process.kill()
            server.process.wait(10)


_SETTINGS = ("DATABASE_URL", "REDIS_URL", "STRIPE_", "EMAIL_URL", "PUBLIC_URL", "PORT", "DJANGO_")
