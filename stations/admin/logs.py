"""Logs that stations uploaded: listed on the station's page, opened by who may read frames."""

from pathlib import PurePosixPath
from typing import Any

from django.core.exceptions import PermissionDenied
from django.core.files.storage import default_storage
from django.http import FileResponse, Http404, HttpRequest
from django.shortcuts import get_object_or_404
from django.template.loader import render_to_string

from stations.admin.base import in_scope, section
from stations.models import Entry, Station

SHOWN = 5


@section("station")
def logs_card(request: HttpRequest, station: Station) -> str:
    """Return the card with the newest logs and how the last upload went; '' where there is none."""
    user: Any = request.user
    if not user.has_perm("stations.view_frames"):
        return ""
    kinds = ("log.received", "log.status_reported")  # several statuses an upload
    news = list(Entry.objects.filter(station=station, kind__in=kinds).order_by("-id")[: 5 * SHOWN])
    received = [one for one in news if one.kind == "log.received"][:SHOWN]
    status = next((one for one in news if one.kind == "log.status_reported"), None)
    if not received and status is None:
        return ""
    logs = [
        {"entry": one, "name": PurePosixPath(str(one.data.get("path", ""))).name,
         "kb": int(one.data.get("size") or 0) / 1000}
        for one in received
    ]  # fmt: skip
    context = {"station": station, "logs": logs, "status": status}
    return render_to_string("admin/stations/station/logs.html", context, request)


def log_view(request: HttpRequest, object_id: str, entry: int) -> FileResponse:
    """Send an uploaded log as a file to keep, never as a page to show."""
    user: Any = request.user
    if not user.has_perm("stations.view_frames"):
        raise PermissionDenied
    station = get_object_or_404(in_scope(Station.objects.all(), request, "site"), pk=object_id)
    news = get_object_or_404(Entry, pk=entry, station=station, kind="log.received")
    path = str(news.data.get("path", ""))
    if not default_storage.exists(path):
        raise Http404("This log is gone.")
    return FileResponse(
        default_storage.open(path),
        as_attachment=True,
        filename=PurePosixPath(path).name,
        content_type="application/octet-stream",
    )
