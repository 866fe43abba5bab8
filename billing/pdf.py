"""HTML → PDF bytes, in a process of its own.

Rendering takes about half a second of CPU under the GIL: in a thread beside the gateway it would
delay every charger. The process (`python -m billing.pdf`) imports no Django, answers one request at
a time over its pipes, and ends when they close: also after a kill -9 of ours.

    RenderError         the document could not be rendered, or the process died twice
"""

from __future__ import annotations

import atexit
import base64
import datetime as dt
import io
import json
import struct
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, TypedDict

TIMEOUT_S = 120
TASKS_A_PROCESS = 40  # its memory grows
HEAD = struct.Struct(">?Q")  # whether it worked, and how many bytes follow


class RenderError(RuntimeError):
    """A document could not be rendered."""


class File(TypedDict):
    """A file the PDF carries. `content` is base64, `relationship` as in ISO 32000-2 §7.11.3."""

    name: str
    content: str
    relationship: str
    description: str
    created: str


def carried(
    name: str, content: bytes, description: str, created: dt.datetime, relationship: str
) -> File:
    """A file for `render`."""
    return {
        "name": name,
        "content": base64.b64encode(content).decode(),
        "relationship": relationship,
        "description": description,
        "created": created.isoformat(),
    }


def render(html: str, css: str, files: list[File] | None = None, xmp: str = "") -> bytes:
    """The PDF/A-3 of `html`, with `files` inside and the RDF of `xmp` in its metadata.

    Nothing is fetched but `data:` URLs: no file, no network (SSRF).
    """
    from weasyprint import CSS, HTML, Attachment
    from weasyprint.urls import URLFetcher

    fetcher = URLFetcher(allowed_protocols=["data"])
    attachments = []
    for file in files or ():
        created = dt.datetime.fromisoformat(file["created"])
        attachments.append(
            Attachment(
                file_obj=io.BytesIO(base64.b64decode(file["content"])),
                name=file["name"],
                description=file["description"],
                relationship=file["relationship"],
                created=created,
                modified=created,
            )
        )

    def finish(_document: Any, made: Any) -> None:
        """One RDF block in the metadata; attachments once in /AF (WeasyPrint does it twice)."""
        if "AF" in made.catalog:
            made.catalog["AF"][:] = dict.fromkeys(made.catalog["AF"])
        if xmp:
            stream = made.objects[int(made.catalog["Metadata"].split()[0])]
            stream.stream = [_with_rdf(b"".join(stream.stream), xmp)]

    target = io.BytesIO()
    HTML(string=html, url_fetcher=fetcher).write_pdf(
        target,
        finisher=finish,
        stylesheets=[CSS(string=css, url_fetcher=fetcher)],
        attachments=attachments,
        pdf_variant="pdf/a-3b",
    )
    return target.getvalue()


def _with_rdf(packet: bytes, xmp: str) -> bytes:
    """An XMP packet with the descriptions of `xmp` put into its one rdf:RDF element."""
    from lxml import etree

    head, begin, rest = packet.partition(b"<x:xmpmeta")
    body, end, tail = (begin + rest).partition(b"</x:xmpmeta>")
    tree = etree.fromstring(body + end)
    tree[0].extend(etree.fromstring(xmp))
    return head + bytes(etree.tostring(tree)) + tail


def render_apart(html: str, css: str, files: list[File] | None = None, xmp: str = "") -> bytes:
    """`render` in a process of its own; one that died is replaced, once. Raises RenderError."""
    request = json.dumps([html, css, files, xmp]).encode()
    with _lock:
        for _attempt in (1, 2):
            answer = _ask(request)
            if answer is not None:
                break
    if answer is None:
        raise RenderError("The rendering process ended before it answered.")
    worked, content = answer
    if not worked:
        raise RenderError(content.decode())
    return content


# --- our side -----------------------------------------------------------------------------------

_lock = threading.Lock()
_child: subprocess.Popen[bytes] | None = None
_asked = 0


def _ask(request: bytes) -> tuple[bool, bytes] | None:
    """Send one request to the child; None when it died or took too long."""
    global _asked
    child = _running()
    if child.stdin is None or child.stdout is None:
        return None
    watchdog = threading.Timer(TIMEOUT_S, child.kill)
    watchdog.daemon = True
    watchdog.start()
    try:
        child.stdin.write(HEAD.pack(True, len(request)) + request)
        child.stdin.flush()
        answer = _receive(child.stdout)
    except OSError:
        answer = None
    finally:
        watchdog.cancel()
    _asked += 1
    if answer is None or _asked >= TASKS_A_PROCESS:
        close()
    return answer


def _running() -> subprocess.Popen[bytes]:
    """The child, started where there is none. Ctrl-C is not for it: it ends with its pipe."""
    global _child, _asked
    if _child is not None and _child.poll() is not None:
        close()
    if _child is None:
        atexit.register(close)
        _child = subprocess.Popen(
            [sys.executable, "-m", "billing.pdf"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=Path(__file__).resolve().parent.parent,
            start_new_session=True,
        )
        _asked = 0
    return _child


def close() -> None:
    """End the child."""
    global _child
    child, _child = _child, None
    if child is None:
        return
    for pipe in (child.stdin, child.stdout):
        if pipe is not None:
            with suppress(BrokenPipeError):
                pipe.close()
    try:
        child.wait(1)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def _receive(pipe: IO[bytes]) -> tuple[bool, bytes] | None:
    """One message, or None when the pipe closed first."""
    head = pipe.read(HEAD.size)
    if len(head) < HEAD.size:
        return None
    worked, length = HEAD.unpack(head)
    content = pipe.read(length)
    return (worked, content) if len(content) == length else None


# --- the child's side ---------------------------------------------------------------------------


def main() -> None:
    """Answer requests from stdin until it closes."""
    requests, answers = sys.stdin.buffer, sys.stdout.buffer
    while (request := _receive(requests)) is not None:
        try:
            worked, content = True, render(*json.loads(request[1]))
        except Exception as error:  # noqa: BLE001  said to the parent, who raises it
            worked, content = False, f"{type(error).__name__}: {error}".encode()
        answers.write(HEAD.pack(worked, len(content)) + content)
        answers.flush()


if __name__ == "__main__":
    main()
