"""Real PostgreSQL and Redis servers on free ports, in directories of their own, for one test run.

`python -m tests.servers [postgresql] [redis] -- COMMAND…` runs a command with `DATABASE_URL` and
`REDIS_URL` pointing to such servers and removes them afterwards.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

from deploy.servers import MissingServerError, PostgreSQL, Redis, Server, free_port

__all__ = ["MissingServerError", "PostgreSQL", "Redis", "free_port", "postgresql", "redis_server"]


@contextmanager
def _running[S: Server](kind: type[S]) -> Iterator[S]:
    with tempfile.TemporaryDirectory(prefix=f"csms-{kind.__name__.lower()}-") as directory:
        server = kind(Path(directory), free_port())
        try:
            if isinstance(server, PostgreSQL):
                server.durable = False
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
            # A test's threads end with connections in their hands; the product's live on.
            environment.setdefault("DB_POOL", "200")
        if "redis" in names:
            environment["REDIS_URL"] = stack.enter_context(redis_server()).url
        return subprocess.run(command, env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
