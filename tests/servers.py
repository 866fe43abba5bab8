"""Real PostgreSQL and Redis servers on free ports, in directories of their own, for one test run.

`python -m tests.servers [postgresql] [redis] -- COMMAND…` runs a command with `DATABASE_URL` and
`REDIS_URL` pointing to such servers and removes them afterwards.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
import redis


class MissingServerError(Exception):
    """The server's program is not installed; the text says what to install."""


def free_port() -> int:
    """Return a TCP port on loopback that nobody listens on right now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _dying_with_us(command: list[str], user: str | None) -> list[str]:
    """Return `command` run as `user`, told to stop when this process is killed."""
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        return command
    # PostgreSQL: INT is the fast shutdown; Redis takes it as well.
    options = ["--pdeathsig", "INT"]
    if user:
        options += [f"--reuid={user}", f"--regid={user}", "--init-groups"]
    return [setpriv, *options, "--", *command]


def _wait_until(ready: Callable[[], bool], process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 30
    while not ready():
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"a server did not start:\n{log.read_text()[-2000:]}")
        time.sleep(0.02)


@dataclass
class Server:
    """One server process that a test may stop, kill and start again on the same data."""

    directory: Path
    port: int
    process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    def command(self) -> list[str]:
        """Return the command that starts the server."""
        raise NotImplementedError  # pragma: no cover

    def answers(self) -> bool:
        """Tell whether the server takes requests."""
        raise NotImplementedError  # pragma: no cover

    def start(self) -> None:
        """Start the server and wait until it answers."""
        log = self.directory / "log"
        with log.open("ab") as out:
            self.process = subprocess.Popen(
                self.command(),
                stdout=out,
                stderr=out,
                stdin=subprocess.DEVNULL,
                cwd="/",
                start_new_session=True,  # Ctrl-C is ours to pass on
            )
        _wait_until(self.answers, self.process, log)

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """Stop the server: SIGINT in order, SIGQUIT (PostgreSQL's immediate stop) or SIGKILL."""
        if self.process is not None:
            self.process.send_signal(how)
            self.process.wait(30)
            self.process = None

    def restart(self, how: signal.Signals = signal.SIGINT) -> None:
        """Stop the server, by `how`, and start it again on the same port and data."""
        self.stop(how)
        self.start()


def _pg_program(name: str) -> str:
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda p: p.parts[4])
    if found:
        return str(found[-1])
    if path := shutil.which(name):
        return path
    raise MissingServerError("PostgreSQL is missing: sudo apt-get install postgresql")


def _pg_user() -> str | None:
    """Return the account PostgreSQL runs as: it refuses root."""
    if os.geteuid() != 0:
        return None
    try:
        return pwd.getpwnam("postgres").pw_name
    except KeyError:
        return "nobody"


class PostgreSQL(Server):
    """A PostgreSQL server; `url` names its first database, `create()` makes further ones."""

    @property
    def url(self) -> str:
        return self.url_of("csms")

    def url_of(self, name: str) -> str:
        """Return the address of a database on this server."""
        return f"postgresql://csms@127.0.0.1:{self.port}/{name}"

    def initialise(self) -> None:
        """Make the data directory, owned by whoever the server runs as."""
        user = _pg_user()
        if user:
            shutil.chown(self.directory, user)
        command = [_pg_program("initdb"), "-D", str(self.directory / "data"), "-U", "csms"]
        command += ["-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync"]
        subprocess.run(
            _dying_with_us(command, user), check=True, stdout=subprocess.DEVNULL, cwd="/"
        )

    def command(self) -> list[str]:
        # fsync guards against losing power, which no test does; killed processes lose nothing.
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": self.port,
            "unix_socket_directories": "",
            "fsync": "off",
            "max_connections": 200,
            "shared_buffers": "128MB",
            "log_min_messages": "fatal",
        }
        options = [part for key, value in settings.items() for part in ("-c", f"{key}={value}")]
        data = str(self.directory / "data")
        return _dying_with_us([_pg_program("postgres"), "-D", data, *options], _pg_user())

    def answers(self) -> bool:
        try:
            psycopg.connect(self.url_of("postgres"), connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True

    def create(self, name: str) -> str:
        """Create an empty database and return its address."""
        with psycopg.connect(self.url_of("postgres"), autocommit=True) as connection:
            connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
            connection.execute(f'CREATE DATABASE "{name}"')
        return self.url_of(name)


class Redis(Server):
    """A Redis server that keeps nothing on disk."""

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def command(self) -> list[str]:
        program = shutil.which("redis-server")
        if program is None:
            raise MissingServerError("Redis is missing: sudo apt-get install redis-server")
        options = ["--port", str(self.port), "--bind", "127.0.0.1", "--save", ""]
        options += ["--appendonly", "no", "--dir", str(self.directory)]
        return _dying_with_us([program, *options], None)

    def answers(self) -> bool:
        try:
            with redis.Redis.from_url(self.url) as client:
                return bool(client.ping())
        except redis.ConnectionError:
            return False


@contextmanager
def _running[S: Server](kind: type[S]) -> Iterator[S]:
    with tempfile.TemporaryDirectory(prefix=f"csms-{kind.__name__.lower()}-") as directory:
        server = kind(Path(directory), free_port())
        try:
            if isinstance(server, PostgreSQL):
                server.initialise()
            server.start()
            if isinstance(server, PostgreSQL):
                server.create("csms")
            yield server
        finally:
            server.stop()


def postgresql() -> AbstractContextManager[PostgreSQL]:
    """Run a PostgreSQL server for the length of a `with` block."""
    return _running(PostgreSQL)


def redis_server() -> AbstractContextManager[Redis]:
    """Run a Redis server for the length of a `with` block."""
    return _running(Redis)


def main(arguments: list[str]) -> int:
    """Run the command after `--` with the servers named before it."""
    names, command = arguments, list[str]()
    if "--" in arguments:
        cut = arguments.index("--")
        names, command = arguments[:cut], arguments[cut + 1 :]
    if not command or set(names) - {"postgresql", "redis"}:
        sys.stderr.write("usage: python -m tests.servers [postgresql] [redis] -- COMMAND…\n")
        return 2
    environment = dict(os.environ)
    with ExitStack() as stack:
        if "postgresql" in names:
            environment["DATABASE_URL"] = stack.enter_context(postgresql()).url
        if "redis" in names:
            environment["REDIS_URL"] = stack.enter_context(redis_server()).url
        return subprocess.run(command, env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
