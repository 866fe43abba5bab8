"""`make cluster`: the production shape on one machine, its data under var/cluster.

PostgreSQL, Redis and nginx, then what the Procfile names. A process that dies is started again, as
systemd would. Ctrl-C stops everything, the servers last.
"""

from __future__ import annotations

import os
import secrets
import signal
import string
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from deploy.servers import MissingServerError, Nginx, PostgreSQL, Redis, Server, as_child

ROOT = Path(__file__).resolve().parent.parent
RESTART_AFTER_S = 1.0
STOP_WITHIN_S = 8.0
COLOURS = (36, 32, 33, 35, 34, 31)


@dataclass
class Part:
    """One process of the Procfile."""

    name: str
    command: list[str]
    environment: dict[str, str]
    colour: int
    process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Start the process and print its lines under its name."""
        self.process = subprocess.Popen(
            as_child([sys.executable, *self.command], None),
            cwd=ROOT,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        threading.Thread(target=self._print, args=[self.process.stdout], daemon=True).start()

    def _print(self, lines: IO[str]) -> None:
        for line in lines:
            say(line.rstrip(), self.name, self.colour)


def say(line: str, name: str = "cluster", colour: int = 37) -> None:
    """Print a line under the name of the process it is about."""
    head = f"\033[{colour}m{name:9}\033[0m" if sys.stdout.isatty() else f"{name:9}"
    print(f"{head} {line}", flush=True)


def environment(directory: Path, port: int) -> dict[str, str]:
    """Return the environment of every process: production's, with a key kept under var/cluster."""
    key = directory / "secret_key"
    if not key.exists():
        key.write_text(secrets.token_urlsafe(50))
        key.chmod(0o600)
    defaults = {
        "DEBUG": "false",
        "SECRET_KEY": key.read_text(),
        "PUBLIC_URL": f"http://127.0.0.1:{port}",
        "ALLOWED_HOSTS": "127.0.0.1,localhost",
        "VAR_DIR": str(directory),
        "GATEWAY1_PORT": str(port + 1),
        "GATEWAY2_PORT": str(port + 2),
        "WEB_PORT": str(port + 3),
        "PYTHONUNBUFFERED": "1",
    }
    own = {key: value for key, value in os.environ.items() if key != "VAR_DIR"}
    return {**defaults, **own}


def write_env(file: Path, values: dict[str, str]) -> None:
    """Keep the settings for `ENV_FILE=var/cluster/env … manage.py …` beside the running cluster."""
    names = ["DEBUG", "SECRET_KEY", "PUBLIC_URL", "ALLOWED_HOSTS", "VAR_DIR"]
    names += ["DATABASE_URL", "REDIS_URL"]
    file.write_text("".join(f"{name}={values[name]}\n" for name in names))
    file.chmod(0o600)


def parts(values: dict[str, str]) -> list[Part]:
    """Return what the Procfile names, its variables filled in."""
    found = []
    for line in (ROOT / "deploy" / "Procfile").read_text().splitlines():
        name, _, command = line.partition(":")
        filled = string.Template(command).substitute(values).split()
        found.append(Part(name, filled, values, COLOURS[len(found) % len(COLOURS)]))
    return found


def start_server(server: Server, stack: ExitStack) -> Server:
    """Start a server, to be stopped when the stack ends, and return it."""
    server.directory.mkdir(parents=True, exist_ok=True)
    stack.callback(server.stop)
    if isinstance(server, PostgreSQL):
        server.initialise()
    server.start()
    if isinstance(server, PostgreSQL):
        server.create_once("csms")
    say(f"{type(server).__name__} runs on port {server.port}")
    return server


def supervise(servers: list[Server], running: list[Part], ended: threading.Event) -> None:
    """Start the parts and start again what dies, until told to end; then stop the parts."""
    for part in running:
        part.start()
    while not ended.wait(RESTART_AFTER_S):
        for server in servers:
            if server.process is not None and server.process.poll() is not None:
                say(f"{type(server).__name__} ended: starting it again")
                server.start()
        for part in running:
            if part.process is not None and part.process.poll() is not None:
                say(f"{part.name} ended with {part.process.returncode}: starting it again")
                part.start()
    processes = [part.process for part in running if part.process is not None]
    for process in processes:
        process.terminate()
    deadline = time.monotonic() + STOP_WITHIN_S
    for process in processes:
        try:
            process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def main() -> int:
    """Run the cluster until SIGTERM or Ctrl-C."""
    port = int(os.environ.get("PORT", "8000"))
    directory = Path(os.environ.get("VAR_DIR", ROOT / "var")).resolve() / "cluster"
    directory.mkdir(parents=True, exist_ok=True)
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    values = environment(directory, port)
    try:
        with ExitStack() as stack:
            postgresql = PostgreSQL(directory / "postgresql", port + 4)
            redis = Redis(directory / "redis", port + 5)
            servers = [start_server(postgresql, stack), start_server(redis, stack)]
            values = {"DATABASE_URL": postgresql.url, "REDIS_URL": redis.url, **values}
            write_env(directory / "env", values)
            prepare = [sys.executable, "manage.py", "run", "--prepare"]
            # In a session of its own: Ctrl-C must not stop a migration half way.
            subprocess.run(prepare, cwd=ROOT, env=values, check=True, start_new_session=True)
            if ended.is_set():
                return 0
            nginx = Nginx(directory / "nginx", port)
            nginx.gateways = [int(values["GATEWAY1_PORT"]), int(values["GATEWAY2_PORT"])]
            nginx.web = int(values["WEB_PORT"])
            servers.append(start_server(nginx, stack))
            supervise(servers, parts(values), ended)
    except (MissingServerError, RuntimeError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except subprocess.CalledProcessError:
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
