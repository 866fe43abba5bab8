"""PostgreSQL, Redis and nginx as child processes: for `make cluster`, tests and benchmarks."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
import redis

NGINX_LOCATIONS = Path(__file__).resolve().parent / "nginx" / "locations.conf"


class MissingServerError(Exception):
    """The server's program is not installed; the text says what to install."""


def free_port() -> int:
    """Return a TCP port on loopback that nobody listens on right now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def as_child(command: list[str], user: str | None) -> list[str]:
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
class Server(ABC):
    """One server process that may be stopped, killed and started again on the same data."""

    directory: Path
    port: int
    process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    @abstractmethod
    def command(self) -> list[str]:
        """Return the command that starts the server."""

    @abstractmethod
    def answers(self) -> bool:
        """Tell whether the server takes requests."""

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


def require(*programs: str) -> None:
    """Raise `MissingServerError` naming the packages of the programs that are not installed."""
    packages = {"postgres": "postgresql"}
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    missing = []
    for name in programs:
        debian = Path("/usr/lib/postgresql").glob(f"*/bin/{name}")
        if shutil.which(name, path=path) is None and not any(debian):
            missing.append(packages.get(name, name))
    if missing:
        raise MissingServerError(f"Not installed: sudo apt-get install {' '.join(missing)}")


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


@dataclass
class PostgreSQL(Server):
    """A PostgreSQL server; `url` names its first database, `create()` makes further ones."""

    durable: bool = True  # off in tests: fsync guards against losing power, nothing else

    @property
    def url(self) -> str:
        """The address of the database `csms`."""
        return self.url_of("csms")

    def url_of(self, name: str) -> str:
        """Return the address of a database on this server."""
        return f"postgresql://csms@127.0.0.1:{self.port}/{name}"

    def initialise(self) -> None:
        """Make the data directory, owned by whoever the server runs as; nothing if it is there."""
        if (self.directory / "data").exists():
            return
        user = _pg_user()
        if user:
            shutil.chown(self.directory, user)
        command = [_pg_program("initdb"), "-D", str(self.directory / "data"), "-U", "csms"]
        command += ["-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync"]
        done = subprocess.run(
            as_child(command, user), check=False, capture_output=True, text=True, cwd="/"
        )
        if done.returncode != 0:
            hint = f" (as root it runs as {user}, who must reach that folder)" if user else ""
            raise RuntimeError(
                f"PostgreSQL could not make its data in {self.directory}{hint}:\n{done.stderr}"
            )

    def command(self) -> list[str]:
        """Return the command that starts the server."""
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": self.port,
            "unix_socket_directories": "",
            "fsync": "on" if self.durable else "off",
            "max_connections": 200 if self.durable else 500,
            "shared_buffers": "128MB",
            "log_min_messages": "fatal",
        }
        options = [part for key, value in settings.items() for part in ("-c", f"{key}={value}")]
        data = str(self.directory / "data")
        return as_child([_pg_program("postgres"), "-D", data, *options], _pg_user())

    def answers(self) -> bool:
        """Tell whether the server takes requests."""
        try:
            psycopg.connect(self.url_of("postgres"), connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True

    def create_once(self, name: str) -> None:
        """Create a database where there is none of that name."""
        with psycopg.connect(self.url_of("postgres"), autocommit=True) as connection:
            query = "SELECT 1 FROM pg_database WHERE datname = %s"
            if connection.execute(query, [name]).fetchone() is None:
                connection.execute(f'CREATE DATABASE "{name}"')

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
        """The address of its first database."""
        return f"redis://127.0.0.1:{self.port}/0"

    def command(self) -> list[str]:
        """Return the command that starts the server."""
        program = shutil.which("redis-server")
        if program is None:
            raise MissingServerError("Redis is missing: sudo apt-get install redis-server")
        options = ["--port", str(self.port), "--bind", "127.0.0.1", "--save", ""]
        options += ["--appendonly", "no", "--dir", str(self.directory)]
        return as_child([program, *options], None)

    def answers(self) -> bool:
        """Tell whether the server takes requests."""
        try:
            with redis.Redis.from_url(self.url) as client:
                return bool(client.ping())
        except redis.ConnectionError:
            return False


@dataclass
class Nginx(Server):
    """nginx in front of two gateways and the web role, with the locations of `deploy/nginx`."""

    gateways: list[int] = field(default_factory=list)
    web: int = 0
    tls: tuple[str, str, str] | None = None  # certificate, key, authorities of chargers

    def command(self) -> list[str]:
        """Return the command that starts the server, its configuration written."""
        program = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
        if program is None:
            raise MissingServerError("nginx is missing: sudo apt-get install nginx")
        configuration = self.directory / "nginx.conf"
        configuration.write_text(self._configuration())
        return as_child(
            [program, "-e", "stderr", "-p", str(self.directory), "-c", str(configuration)], None
        )

    def _configuration(self) -> str:
        gateways = "\n".join(
            f"    server 127.0.0.1:{port} max_fails=1 fail_timeout=2s;" for port in self.gateways
        )
        own = "\n".join(
            f"  {kind}_temp_path {self.directory}/{kind};"
            for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        secured = ""
        if self.tls is not None:  # as deploy/nginx/csms.conf has it
            certificate, key, authorities = self.tls
            secured = (
                f"    ssl_certificate {certificate};\n    ssl_certificate_key {key};\n"
                "    ssl_protocols TLSv1.2 TLSv1.3;\n"
                f"    ssl_client_certificate {authorities};\n    ssl_verify_client optional;\n"
            )
        listening = f"127.0.0.1:{self.port}" + (" ssl" if secured else "")
        return f"""# Written by the runner at every start.
daemon off;
pid {self.directory}/nginx.pid;
worker_processes 2;
worker_rlimit_nofile 65536;
events {{ worker_connections 16384; }}
http {{
{own}
  access_log off;
  default_type application/octet-stream;
  upstream csms_gateways {{
    hash $uri consistent;
{gateways}
  }}
  upstream csms_web {{
    server 127.0.0.1:{self.web};
    keepalive 16;
  }}
  server {{
    listen {listening};
{secured}    include {NGINX_LOCATIONS};
  }}
}}
"""

    def answers(self) -> bool:
        """Tell whether the server listens."""
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0
