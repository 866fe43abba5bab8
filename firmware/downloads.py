"""The download door, `/f/<token>/<filename>`: Range, resume, and a switch that cuts it off.

`location` fits OCPP's 512 characters; the token opens one file for one job. We see every byte go
out: that is evidence, and revoking a grant stops a station in the middle of the file.
"""

import asyncio
import re
from collections.abc import AsyncIterator
from datetime import datetime

from asgiref.sync import sync_to_async
from django.db.models import F
from django.db.models.fields.files import FieldFile
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.utils import timezone
from django.utils.http import http_date
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_safe

from firmware import jobs
from firmware.models import DownloadGrant

CHUNK = 256 * 1024
_RANGE = re.compile(r"bytes=(\d*)-(\d*)")


def _grant(token: str, ip: str | None, now: datetime, *, count: bool) -> DownloadGrant | None:
    """Return the grant with its job and image; counts the fetch."""
    rows = DownloadGrant.objects.filter(token=token)
    if count:
        rows.update(fetches=F("fetches") + 1)
        rows.filter(first_ip=None).update(first_ip=ip)
    return rows.select_related("job__campaign", "job__image", "image").first()


def parse_range(header: str, size: int) -> tuple[int, int] | None:
    """Return first and last byte asked for (RFC 9110 §14), None for the whole file.

    One range: prefix, suffix or middle; anything we cannot read means the whole file. Raises
    ValueError where the range lies outside the file (416).
    """
    found = _RANGE.fullmatch(header.strip())
    if not found or found.group(1) == found.group(2) == "":
        return None
    first, last = found.groups()
    if first == "":  # the last n bytes
        if int(last) == 0:
            raise ValueError(header)
        return max(0, size - int(last)), size - 1
    start, end = int(first), min(int(last or size - 1), size - 1)
    if start >= size or start > end:
        raise ValueError(header)
    return start, end


@csrf_exempt
@require_safe
async def download(request: HttpRequest, token: str, filename: str) -> HttpResponseBase:
    """Serve an image: 200, 206, 416; 404 for an unknown token, 410 for a revoked or old one."""
    now = timezone.now()
    count = request.method == "GET"
    ip = request.META.get("REMOTE_ADDR")
    grant = await sync_to_async(_grant, thread_sensitive=False)(token, ip, now, count=count)
    if grant is None or filename != grant.image.filename:
        return HttpResponse("No such download.", status=404, content_type="text/plain")
    if grant.revoked_at or grant.expires_at < now:
        return HttpResponse("This download has ended.", status=410, content_type="text/plain")
    size, etag = grant.image.size, f'"{grant.image.sha256}"'
    headers = {
        "ETag": etag,
        "Accept-Ranges": "bytes",
        "Last-Modified": http_date(grant.image.created_at.timestamp()),
        "Cache-Control": "private, no-transform",
    }
    asked = None
    if_range = request.headers.get("If-Range", etag)
    if if_range in (etag, headers["Last-Modified"]):
        try:
            asked = parse_range(request.headers.get("Range", ""), size)
        except ValueError:
            return HttpResponse(status=416, headers={"Content-Range": f"bytes */{size}"})
    first, last = asked or (0, size - 1)
    headers["Content-Length"] = str(last - first + 1)
    if asked:
        headers["Content-Range"] = f"bytes {first}-{last}/{size}"
    kind = "application/octet-stream"
    status = 206 if asked else 200
    if not count:
        return HttpResponse(status=status, headers=headers, content_type=kind)
    return StreamingHttpResponse(
        _stream(grant, first, last), status=status, headers=headers, content_type=kind
    )


async def _stream(grant: DownloadGrant, first: int, last: int) -> AsyncIterator[bytes]:
    """Yield the bytes; look every chunk whether the grant still stands."""
    place = first
    while place <= last:
        chunk = await asyncio.to_thread(
            _read, grant.image.file, place, min(CHUNK, last - place + 1)
        )
        if not chunk:
            return
        place += len(chunk)
        # Noted before it leaves: who has the last byte hangs up, and nothing runs after that.
        if not await sync_to_async(_sent, thread_sensitive=False)(grant, place, first):
            return  # revoked: the connection ends short of Content-Length
        yield chunk


def _read(image: FieldFile, place: int, size: int) -> bytes:
    """Return up to *size* bytes from *place*.

    Opened for each chunk: a station may hang up at any await, and nothing may stay open then.
    """
    with image.storage.open(str(image.name)) as file:
        file.seek(place)
        chunk: bytes = file.read(size)
        return chunk


def _sent(grant: DownloadGrant, upto: int, first: int) -> bool:
    """Keep how far the file has gone out; tell the job at the first chunk and at the end."""
    rows = DownloadGrant.objects.filter(pk=grant.pk, revoked_at=None)
    done = upto >= grant.image.size
    changes = {"completed_at": timezone.now()} if done else {}
    if not rows.update(bytes_sent=upto, **changes):
        return False
    if done or upto - first <= CHUNK:
        jobs.download_progress(grant, upto)
    return True
