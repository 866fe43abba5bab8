"""The door for logs: where chargers put the diagnostics and security logs they were asked for.

`/l/<token>/` takes PUT and POST. The token is signed and names the station and the order, so no
table is needed and nobody else can write. What arrives is kept under `media/logs/` and told as
`log.received`; the station's page lists it.
"""

from __future__ import annotations

import re
from http import HTTPMethod
from tempfile import SpooledTemporaryFile
from typing import Any, Final

from django.conf import settings
from django.core import signing
from django.core.files import File
from django.core.files.storage import default_storage
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_http_methods

from stations import journal, live
from stations.models import Station

SALT: Final = "stations.uploads"
VALID_S: Final = 7 * 86_400
MAX_BYTES: Final = 100 * 1024 * 1024
CHUNK: Final = 64 * 1024


class TooLarge(Exception):
    """The upload is longer than MAX_BYTES."""


def address(station_id: int, request_id: int) -> str:
    """Return the URL to which this station may upload the log of this order."""
    token = signing.dumps([station_id, request_id], salt=SALT, compress=True)
    return f"{settings.PUBLIC_URL}/l/{token}/"


def opened_by(token: str) -> tuple[int, int] | None:
    """Return (station id, request id) that a token opens the door for, None for a wrong one."""
    try:
        station_id, request_id = signing.loads(token, salt=SALT, max_age=VALID_S)
    except (signing.BadSignature, ValueError):
        return None
    return station_id, request_id


@csrf_exempt
@require_http_methods([HTTPMethod.PUT, HTTPMethod.POST])
def receive(request: HttpRequest, token: str, name: str = "") -> HttpResponse:
    """Take one log: the body itself, or the first file of a multipart form.

    403 for a wrong or old token, 413 beyond MAX_BYTES, 201 once it is stored.
    """
    opened = opened_by(token)
    station = Station.objects.filter(pk=opened[0]).first() if opened else None
    if opened is None or station is None:
        return HttpResponse("This link is not valid (any more).", status=403)
    if int(request.headers.get("content-length") or 0) > MAX_BYTES:
        return HttpResponse("Too large.", status=413)
    form = request.content_type == "multipart/form-data"
    upload: Any = next(iter(request.FILES.values()), None) if form else None
    if form and upload is None:
        return HttpResponse("The form has no file.", status=400)
    wanted = (upload.name if upload else name) or "log"
    path = f"logs/{station.pk}/{opened[1]}-{timezone.now():%Y%m%dT%H%M%S}-{_safe(wanted)}"
    try:
        stored, size = _store(path, upload or request)
    except TooLarge:
        return HttpResponse("Too large.", status=413)
    with transaction.atomic():
        journal.record("log.received", station, path=stored, size=size, request_id=opened[1])
        live.touch(f"station-{station.pk}")
    return HttpResponse(status=201)


def _store(path: str, source: Any) -> tuple[str, int]:
    """Keep what `source` reads; return where it is and its size in bytes. Raises TooLarge."""
    with SpooledTemporaryFile(max_size=CHUNK * 16) as spooled:
        size = 0
        while piece := source.read(CHUNK):
            size += len(piece)
            if size > MAX_BYTES:
                raise TooLarge
            spooled.write(piece)
        spooled.seek(0)
        return default_storage.save(path, File(spooled)), size


def _safe(name: str) -> str:
    """Return a file name with nothing in it that a path or a shell could mean."""
    return re.sub(r"[^A-Za-z0-9._-]+", "_", name).strip("._")[-80:] or "log"
