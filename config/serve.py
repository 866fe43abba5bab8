"""Runs the product: everything in one process, or one role of it in a process of its own.

The one process holds uvicorn (web and OCPP) on the main thread, a Celery worker and the schedule on
threads. SIGTERM or Ctrl-C ends all of it within three seconds: chargers are told 1012 ("service
restart") and come back; work that did not finish is found again by the sweeps.
"""

import asyncio
import contextlib
import errno
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Generator

import uvicorn
import uvloop
from celery.beat import Scheduler, Service
from django.conf import settings
from django.db import connections

from config import tls
from config.celery import app as celery_app
from stations import writer

log = logging.getLogger(__name__)

ROLES = ("all", "gateway", "web", "worker", "beat")
APPLICATION = "config.asgi:application"

WS_MAX_SIZE = 1024 * 1024  # bytes; a longer frame is answered with close 1009
PING_INTERVAL_S = 30.0  # keeps mobile networks' address translation open
# Some chargers never answer a ping. A peer that is gone is noticed by TCP: its pings stay
# unacknowledged for this long.
PEER_GONE_S = 60
DRAIN_S = 1  # what requests and streams in flight get on shutdown
GONE_AFTER_S = 2.7  # whatever still runs then is left behind
FAREWELL_S = 0.5  # what closed sockets get to note that they are gone
FLUSH_S = 1.0  # what the writer gets to commit what is queued
WORKER_THREADS = 4


class NotStarted(Exception):
    """The product cannot run like this; the text says what to do."""


def listen(host: str, port: int) -> socket.socket:
    """Return a listening socket, or raise `NotStarted` with a sentence when the port is taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux; accepted sockets inherit it
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, PEER_GONE_S * 1000)
    try:
        sock.bind((host, port))
        sock.listen(2048)
    except OSError as error:
        sock.close()
        if error.errno == errno.EADDRINUSE:
            raise NotStarted(
                f"Port {port} is taken: stop what listens there, or choose another one, "
                f"for example  PORT={port + 1} make run"
            ) from error
        raise NotStarted(f"Cannot listen on {host}:{port}: {error.strerror}.") from error
    sock.setblocking(False)
    return sock


class Server(uvicorn.Server):
    """uvicorn that leaves signals to us: its own handling raises them again after shutdown."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        """Capture nothing."""
        yield

    def end(self) -> None:
        """Begin the shutdown; a second call does not wait for requests in flight."""
        self.force_exit = self.should_exit
        self.should_exit = True


def server() -> Server:
    """Return uvicorn as chargers need it."""
    return Server(
        uvicorn.Config(
            APPLICATION,
            http="httptools",
            ws=tls.Protocol,
            ws_max_size=WS_MAX_SIZE,
            ws_ping_interval=PING_INTERVAL_S,
            ws_ping_timeout=None,
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=bool(settings.TRUSTED_PROXIES),
            forwarded_allow_ips=settings.TRUSTED_PROXIES,
            timeout_graceful_shutdown=DRAIN_S,
            **tls.options(),
        )
    )


class Tasks:
    """The Celery worker and the schedule on threads of this process."""

    def __init__(self) -> None:
        self._worker = celery_app.WorkController(
            pool="threads",
            concurrency=WORKER_THREADS,
            without_gossip=True,
            without_mingle=True,
            without_heartbeat=True,
            loglevel="WARNING",
        )
        self._schedule = Service(celery_app, max_interval=1, scheduler_cls=Scheduler)

    def start(self) -> None:
        """Start both. Their threads only poll, so nobody has to wait for them at the end."""
        for target in (self._worker.start, self._schedule.start):
            threading.Thread(
                target=target, name=f"tasks-{target.__qualname__}", daemon=True
            ).start()

    def stop(self) -> None:
        """Take no more tasks and wait for those that run."""
        self._schedule.stop()
        self._worker.stop()


def _leave(code: int) -> None:
    """End this process now; what still runs is found again by the sweeps.

    The processes it started (PDFs, the demo's stations) end when they see it gone.
    """
    logging.shutdown()
    sys.stdout.flush()
    os._exit(code)


async def _serve(web: Server, sock: socket.socket, tasks: Tasks | None) -> None:
    """Serve until SIGTERM or SIGINT; the tasks are stopped beside the sockets."""
    ending: list[threading.Thread] = []

    def end() -> None:
        web.end()
        if ending:
            return
        deadline = threading.Timer(GONE_AFTER_S, _leave, [0])
        deadline.daemon = True
        deadline.start()
        if tasks is not None:
            ending.append(threading.Thread(target=tasks.stop, name="tasks-stop", daemon=True))
            ending[0].start()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, end)
    await web.serve(sockets=[sock])
    await _flushed()
    for thread in ending:
        await asyncio.to_thread(thread.join)


async def _flushed() -> None:
    """Let the closed sockets note their end, then write what is queued and stop the writer.

    In this order: a call that was read is committed or stays unanswered, and the rows say that
    the chargers are gone. A database that hangs holds nobody up: the deadline of the end does.
    """
    mine = asyncio.current_task()
    left = [task for task in asyncio.all_tasks() if task is not mine]
    if left:
        await asyncio.wait(left, timeout=FAREWELL_S)
    await asyncio.to_thread(writer.stop, FLUSH_S)


def serve(sock: socket.socket, with_tasks: bool) -> None:
    """Serve web and OCPP on `sock`, with the worker and the schedule where asked; then leave."""
    tasks = Tasks() if with_tasks else None
    if tasks is not None:
        tasks.start()
    web = server()  # looks for our authorities in the database: not inside the loop
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(web, sock, tasks))
    connections.close_all()
    _leave(0)


def work(concurrency: int) -> None:
    """Run the worker role: a pool of processes, replaced when PDF rendering has grown them."""
    celery_app.worker_main(
        [
            "--quiet",
            "worker",
            "--loglevel",
            "WARNING",
            "--concurrency",
            str(concurrency),
            "--without-gossip",
        ]
    )


def schedule() -> None:
    """Run the schedule role. One is enough; two only do idempotent work twice."""
    log.info("The schedule runs.")
    ticking = Service(celery_app, max_interval=1, scheduler_cls=Scheduler)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ticking.stop())
    ticking.start()


def check_role(role: str) -> None:
    """Raise `NotStarted` when a role of its own lacks what connects it to the others."""
    if role == "all":
        return
    missing = [
        name
        for name, given in (
            ("REDIS_URL", settings.REDIS_URL),
            ("DATABASE_URL", not settings.IS_SQLITE),
        )
        if not given
    ]
    if missing:
        raise NotStarted(
            f"The role {role} shares its work with other processes: set {' and '.join(missing)} "
            "(a Redis and a PostgreSQL address), or run the role all."
        )
