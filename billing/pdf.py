"""HTML → PDF bytes, in a process of its own where the gateway shares ours.

Rendering takes about half a second of CPU under the GIL: in a thread beside the gateway it would
delay every charger. This module imports no Django, so that a spawned process starts fast.
"""

from __future__ import annotations

import atexit
import io
import multiprocessing
import signal
import threading
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

TIMEOUT_S = 120
TASKS_A_PROCESS = 40  # its memory grows

_lock = threading.Lock()
_pool: ProcessPoolExecutor | None = None


def render(html: str, css: str) -> bytes:
    """The PDF/A-3 of `html`. Nothing is fetched but `data:` URLs: no file, no network (SSRF)."""
    from weasyprint import CSS, HTML
    from weasyprint.urls import URLFetcher

    fetcher = URLFetcher(allowed_protocols=["data"])
    target = io.BytesIO()
    HTML(string=html, url_fetcher=fetcher).write_pdf(
        target, stylesheets=[CSS(string=css, url_fetcher=fetcher)], pdf_variant="pdf/a-3b"
    )
    return target.getvalue()


def render_apart(html: str, css: str) -> bytes:
    """`render` in the pool's process; one that died is replaced, once."""
    try:
        return _executor().submit(render, html, css).result(TIMEOUT_S)
    except BrokenProcessPool:
        close()
        return _executor().submit(render, html, css).result(TIMEOUT_S)


def _executor() -> ProcessPoolExecutor:
    global _pool
    with _lock:
        if _pool is None:
            _pool = ProcessPoolExecutor(
                max_workers=1,
                mp_context=multiprocessing.get_context("spawn"),
                initializer=_ignore_interrupt,
                max_tasks_per_child=TASKS_A_PROCESS,
            )
            atexit.register(close)
        return _pool


def _ignore_interrupt() -> None:
    """Ctrl-C is our parent's to handle; it closes the pool."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def close() -> None:
    """End the pool's process."""
    global _pool
    with _lock:
        pool, _pool = _pool, None
    if pool is not None:
        pool.shutdown(wait=False, cancel_futures=True)
