"""The door for logs: who may put what there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client

from stations import uploads
from stations.models import Entry
from tests import make

pytestmark = pytest.mark.django_db


@pytest.fixture
def client(settings: Any, tmp_path: Path) -> Client:
    settings.MEDIA_ROOT = tmp_path
    return Client(enforce_csrf_checks=True)


def door(station_id: int, request_id: int = 7) -> str:
    return uploads.address(station_id, request_id).partition("//")[2].partition("/")[2]


def test_a_charger_puts_its_log(client: Client, tmp_path: Path) -> None:
    station = make.station()
    url = "/" + door(station.pk) + "diag%20nostics.tar.gz"
    body = b"log line\n" * 10_000
    assert client.put(url, body, content_type="application/octet-stream").status_code == 201
    news = Entry.objects.get(kind="log.received")
    assert (news.station, news.data["size"], news.data["request_id"]) == (station, len(body), 7)
    assert (tmp_path / news.data["path"]).read_bytes() == body
    assert news.data["path"].endswith("-diag_nostics.tar.gz")


def test_a_form_works_too_and_no_name_leaves_the_folder(client: Client, tmp_path: Path) -> None:
    station = make.station()
    file = SimpleUploadedFile("../../evil.log", b"content")
    assert client.post("/" + door(station.pk), {"file": file}).status_code == 201
    path = Entry.objects.get(kind="log.received").data["path"]
    assert Path(path).parent == Path(f"logs/{station.pk}")
    assert (tmp_path / path).read_bytes() == b"content"


def test_wrong_links_and_methods_are_refused(client: Client) -> None:
    station = make.station()
    put = {"content_type": "application/octet-stream"}
    assert client.put("/l/forged/x", b"1", **put).status_code == 403
    assert client.put("/" + door(station.pk + 1), b"1", **put).status_code == 403
    assert client.get("/" + door(station.pk)).status_code == 405
    assert not Entry.objects.exists()


def test_too_much_is_refused_and_not_kept(
    client: Client, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(uploads, "MAX_BYTES", 1000)
    url = "/" + door(make.station().pk)
    put = {"content_type": "application/octet-stream"}
    assert client.put(url, b"x" * 1001, **put).status_code == 413
    assert client.put(url, b"x" * 1001, CONTENT_LENGTH="10", **put).status_code in (201, 413)
    assert all(path.stat().st_size <= 1000 for path in tmp_path.rglob("*") if path.is_file())


def test_the_stations_page_links_the_log_to_who_may_read_frames(
    client: Client, tmp_path: Path
) -> None:
    station = make.station()
    body = b"<script>alert(1)</script>"
    put = {"content_type": "text/html"}
    assert client.put("/" + door(station.pk) + "x.html", body, **put).status_code == 201
    entry = Entry.objects.get(kind="log.received")
    url = f"/admin/stations/station/{station.pk}/log/{entry.pk}/"
    client.force_login(make.staff())
    page = client.get(f"/admin/stations/station/{station.pk}/change/").content.decode()
    assert f'href="{url}"' in page
    answer = client.get(url)
    assert b"".join(answer.streaming_content) == body
    assert answer["Content-Disposition"].startswith("attachment; filename=")
    assert answer["Content-Type"] == "application/octet-stream"
    client.force_login(make.member("Read-only"))
    assert client.get(url).status_code == 403
