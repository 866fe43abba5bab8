"""Where the rare rest runs: plain database functions off the event loop.

Hot messages go through the lanes of the group commit (`stations/writer.py`). Everything else a
charger says or is told is a function: one that writes runs in a transaction where the writer says
(SQLite has one writer), one that only reads in a small pool of threads.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from django.db import close_old_connections

from stations import writer

log = logging.getLogger(__name__)

_threads = ThreadPoolExecutor(4, thread_name_prefix="ocpp")


async def read[**P, T](function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run a function that only reads."""
    job = partial(_fresh, partial(function, *args, **kwargs))
    return await asyncio.get_running_loop().run_in_executor(_threads, job)


async def write[**P, T](function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run a function that writes, in a transaction. Raises DatabaseDown like the group commit."""
    result: T = await writer.run(partial(function, *args, **kwargs))
    return result


def later(function: Callable[..., Any], *args: Any) -> None:
    """Run a function that writes, some time soon; nobody waits, a failure is logged."""
    writer.run(partial(function, *args)).add_done_callback(_report)


def _fresh[T](job: Callable[[], T]) -> T:
    close_old_connections()  # nobody else does it here: a restarted PostgreSQL must be survived
    try:
        return job()
    finally:
        close_old_connections()


def _report(future: asyncio.Future[Any]) -> None:
    if not future.cancelled() and future.exception() is not None:
        log.error("A background write failed.", exc_info=future.exception())
