"""The OCPP inspector: pairs, filters, pages without counting."""

import csv
from datetime import timedelta
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.db import connection
from django.test import AsyncClient, Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from stations.admin import frames
from tests import make

pytestmark = pytest.mark.django_db

INSPECTOR = "/admin/stations/message/"


@pytest.fixture
def staff(client: Client) -> Client:
    client.force_login(make.staff())
    return client


def actions(client: Client, query: str = "") -> list[str]:
    return [
        frame.action for frame, _identity in client.get(f"{INSPECTOR}{query}").context["frames"]
    ]


def test_call_and_answer_stand_side_by_side_with_latency_and_error(staff: Client) -> None:
    station = make.station(identity="CP-1")
    make.frame(station, "Authorize", payload='{"idTag": "<b>04AA"}',
               answer='{"idTagInfo": {"status": "Accepted"}}', latency_ms=12.34)  # fmt: skip
    make.frame(station, "Reset", direction="out", answer="", error="NotSupported", latency_ms=None)
    page = staff.get(INSPECTOR).content.decode()
    assert "&lt;b&gt;04AA" in page
    assert "<b>04AA" not in page
    assert '<span class="s">&quot;Accepted&quot;</span>' in page
    assert "12 ms" in page
    assert '<span class="chip red">NotSupported</span>' in page


def test_a_payload_that_is_no_json_is_shown_as_it_came(staff: Client) -> None:
    make.frame(make.station(), "?", payload="[2,oops", answer="", error="FormatViolation")
    assert "[2,oops" in staff.get(INSPECTOR).content.decode()


def test_frames_are_exported_with_call_and_answer(staff: Client) -> None:
    make.frame(make.station(identity="CP-1"), "Heartbeat", payload="{}", answer='{"a":1}')
    head, line = _lines(staff.get(f"{INSPECTOR}export/csv/"))
    row = dict(zip(head, line, strict=True))
    assert {"CP-1", "Heartbeat", "{}", '{"a":1}'} <= set(row.values())


@pytest.mark.django_db(transaction=True)
async def test_the_asynchronous_server_gets_an_export_in_parts(async_client: AsyncClient) -> None:
    await sync_to_async(_frames)(2_500)
    await sync_to_async(async_client.force_login)(await sync_to_async(make.staff)())
    response = await async_client.get(f"{INSPECTOR}export/csv/")
    parts = [part async for part in response]  # type: ignore[attr-defined]
    assert len(parts) == 2
    assert b"".join(parts).count(b"Heartbeat") == 2_500


def _frames(count: int) -> None:
    station = make.station()
    for _ in range(count):
        make.frame(station, "Heartbeat")


def _lines(response: Any) -> list[list[str]]:
    text = b"".join(response).decode("utf-8-sig")
    return list(csv.reader(text.splitlines()))


def test_filters_find_frames(staff: Client) -> None:
    now = timezone.now()
    one, two = make.station(identity="A"), make.station(identity="B")
    make.frame(one, "Heartbeat", at=now - timedelta(days=2))
    make.frame(one, "Reset", direction="out", error="InternalError", message_id="m-7")
    make.frame(two, "MeterValues")
    assert actions(staff) == ["MeterValues", "Reset", "Heartbeat"]
    assert actions(staff, "?station=A") == ["Reset", "Heartbeat"]
    assert actions(staff, "?action=MeterValues") == ["MeterValues"]
    assert actions(staff, "?direction=out") == ["Reset"]
    assert actions(staff, "?failed=on") == ["Reset"]
    assert actions(staff, "?message_id=m-7") == ["Reset"]
    yesterday = f"{now - timedelta(days=1):%Y-%m-%dT%H:%M}"
    assert actions(staff, f"?station=A&since={yesterday}") == ["Reset"]
    assert actions(staff, f"?until={yesterday}") == ["Heartbeat"]
    assert actions(staff, "?station=nobody") == []


@pytest.mark.parametrize("query", ["", "?station=A", "?action=Heartbeat"])
def test_pages_follow_each_other_without_gap_double_count_or_offset(
    staff: Client, query: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frames, "PAGE", 4)
    station = make.station(identity="A")
    at = timezone.now()
    made = [make.frame(station, at=at).pk for _ in range(10)]  # all of one moment
    seen: list[int] = []
    url = f"{INSPECTOR}{query}"
    with CaptureQueriesContext(connection) as queries:
        for _ in range(4):
            context = staff.get(url).context
            seen += [frame.pk for frame, _identity in context["frames"]]
            if not context["older"]:
                break
            url = f"{INSPECTOR}?{context['query']}&before={context['older']}"
    assert seen == made[::-1]
    about_frames = [one["sql"] for one in queries if "stations_message" in one["sql"]]
    assert about_frames
    assert not [sql for sql in about_frames if "COUNT(" in sql or "OFFSET" in sql]


def test_a_rare_action_is_searched_a_window_at_a_time(
    staff: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frames, "WINDOW", 5)
    station = make.station()
    rare = make.frame(station, "Reset")
    for _ in range(8):
        make.frame(station)
    first = staff.get(f"{INSPECTOR}?action=Reset")
    assert first.context["frames"] == []
    assert "Search further back" in first.content.decode()
    second = staff.get(f"{INSPECTOR}?action=Reset&before={first.context['older']}")
    assert [frame.pk for frame, _identity in second.context["frames"]] == [rare.pk]


def test_frames_need_their_permission_everywhere(client: Client) -> None:
    station = make.station()
    make.frame(station, "Authorize", payload='{"idTag": "SECRET"}')
    client.force_login(make.member("Read-only"))
    assert client.get(INSPECTOR).status_code == 403
    assert client.get(f"/admin/stations/station/{station.pk}/change/?tab=frames").status_code == 403
    assert (
        "SECRET" not in client.get(f"/admin/stations/station/{station.pk}/change/").content.decode()
    )


def test_staff_of_one_site_see_only_its_frames(client: Client) -> None:
    here = make.site()
    make.frame(make.station(site=here), "Heartbeat")
    make.frame(make.station(identity="ELSE", site=make.site()), "Reset")
    client.force_login(make.member("Support", here))
    assert actions(client) == ["Heartbeat"]
    assert actions(client, "?station=ELSE") == []


def test_a_frame_has_a_link_of_its_own(staff: Client) -> None:
    station = make.station()
    make.frame(station, "Heartbeat")
    wanted = make.frame(station, "Reset")
    make.frame(station, "MeterValues")
    context = staff.get(f"{INSPECTOR}{wanted.pk}/change/").context
    assert [frame.action for frame, _identity in context["frames"]] == ["Reset", "Heartbeat"]


@pytest.mark.parametrize("many", [2, 40])
def test_the_inspector_asks_the_same_number_of_times(
    staff: Client, django_assert_num_queries: Any, many: int
) -> None:
    for _ in range(many):
        make.frame(make.station())
    staff.get(INSPECTOR)
    with django_assert_num_queries(9):
        staff.get(INSPECTOR)
