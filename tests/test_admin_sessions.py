"""Sessions in the back office."""

from datetime import timedelta
from typing import Any

import pytest
from django.db import transaction
from django.test import Client
from django.utils import timezone

from monitoring.admin import sessions as pages
from stations import journal
from stations.models import Entry
from tests import make

pytestmark = pytest.mark.django_db

LIST = "/admin/monitoring/session/"


@pytest.fixture
def staff(client: Client) -> Client:
    client.force_login(make.staff(name="Ada"))
    return client


def refs(client: Client, query: str = "") -> set[str]:
    return {row.ref for row in client.get(f"{LIST}{query}").context["cl"].result_list}


def test_the_list_filters_by_state_review_site_and_time(staff: Client) -> None:
    site = make.site()
    station = make.station(site=site)
    make.session(station, ref="done")
    make.session(station, ref="now", state="active", stopped_at=None, closed_at=None)
    make.session(make.station(), ref="odd", review="orphan-stop",
                 started_at=timezone.now() - timedelta(days=9))  # fmt: skip
    assert refs(staff) == {"done", "now", "odd"}
    assert refs(staff, "?state__exact=active") == {"now"}
    assert refs(staff, "?review=open") == {"odd"}
    assert refs(staff, f"?site={site.pk}") == {"done", "now"}
    day = f"{timezone.now() - timedelta(days=1):%Y-%m-%d}"
    assert refs(staff, f"?started_at_from_0={day}") == {"done", "now"}
    assert refs(staff, f"?started_at_to_0={day}&started_at_to_1=00:00:00") == {"odd"}


def test_a_session_is_found_by_transaction_token_station_and_number(staff: Client) -> None:
    session = make.session(make.station(identity="CP-1"), ref="tx-1", token_uid="04AA")
    make.session(make.station(), ref="tx-2")
    for term in ("tx-1", "04AA", "CP-1", str(session.pk)):
        assert refs(staff, f"?q={term}") == {"tx-1"}, term


def test_the_page_tells_the_session_with_flags_in_words(staff: Client) -> None:
    station = make.station(identity="CP-1", site=make.site())
    session = make.session(station, flags=["falling", "own-word"], stop_reason="EVDisconnected")
    make.reading(session, 10, 1500, power_w=11_000, context="Sample.Periodic")
    with transaction.atomic():
        journal.record("session.stopped", session, energy_wh=10_000)
    page = staff.get(f"{LIST}{session.pk}/change/").content.decode()
    assert "10.000 kWh" in page
    assert "The meter ran backwards; the fall was not counted." in page
    assert "own-word" in page
    assert "Charging stopped after 10.000 kWh" in page
    assert "2.500 kWh" in page  # the reading's register
    assert "?station=CP-1&amp;since=" in page


def test_the_curve_is_in_seconds_watts_and_watt_hours_from_the_start(staff: Client) -> None:
    session = make.session(make.station())
    make.reading(session, 0, 0, power_w=0)
    make.reading(session, 5, 900, power_w=10_800, soc_percent=55)
    curve = staff.get(f"{LIST}{session.pk}/readings.json").json()
    assert curve["power_w"] == [0, 10_800]
    assert curve["energy_wh"] == [0, 900]
    assert curve["soc_percent"] == [None, 55]
    assert curve["at"][1] - curve["at"][0] == 300


def test_a_long_curve_is_thinned_and_keeps_its_end(
    staff: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pages, "CHART_POINTS", 10)
    session = make.session(make.station())
    for minute in range(32):
        make.reading(session, minute, minute * 100, power_w=minute)
    curve = staff.get(f"{LIST}{session.pk}/readings.json").json()
    assert curve["count"] == 32
    assert curve["power_w"] == [0, 4, 8, 12, 16, 20, 24, 28, 31]


def test_a_doubtful_session_is_released_once_by_a_post(staff: Client) -> None:
    session = make.session(make.station(), review="refused-start")
    page = staff.get(f"{LIST}{session.pk}/change/").content.decode()
    assert "Decide who pays before releasing it." in page
    url = f"{LIST}{session.pk}/release/"
    assert staff.get(url).status_code == 403
    assert staff.post(url).status_code == 302
    staff.post(url)
    session.refresh_from_db()
    assert session.review == ""
    news = Entry.objects.get(kind="session.reviewed")
    assert (news.data, str(news.actor)) == ({"reason": "refused-start"}, "Ada")


def test_readers_release_nothing(client: Client) -> None:
    session = make.session(make.station(), review="orphan-stop")
    client.force_login(make.member("Read-only"))
    assert client.post(f"{LIST}{session.pk}/release/").status_code == 403
    session.refresh_from_db()
    assert session.review == "orphan-stop"


def test_sessions_cannot_be_edited_or_deleted(staff: Client) -> None:
    session = make.session(make.station())
    assert staff.get(f"{LIST}add/").status_code == 403
    assert staff.post(f"{LIST}{session.pk}/delete/", {"post": "yes"}).status_code == 403
    staff.post(f"{LIST}{session.pk}/change/", {"energy_wh": "1"})
    session.refresh_from_db()
    assert session.energy_wh == 10_000


def test_staff_of_one_site_see_only_its_sessions(client: Client) -> None:
    here = make.site()
    make.session(make.station(site=here), ref="mine")
    other = make.session(make.station(site=make.site()), ref="other")
    client.force_login(make.member("Support", here))
    assert refs(client) == {"mine"}
    assert client.get(f"{LIST}{other.pk}/change/").status_code == 404
    assert client.get(f"{LIST}{other.pk}/readings.json").status_code == 404


@pytest.mark.parametrize("many", [1, 15])
def test_list_and_page_ask_the_same_number_of_times(
    staff: Client, django_assert_num_queries: Any, many: int
) -> None:
    station = make.station(site=make.site())
    for _ in range(many):
        session = make.session(station, token=make.token(user=make.user()))
        for minute in range(many):
            make.reading(session, minute, minute * 10)
            with transaction.atomic(), journal.acting_as(make.user()):
                journal.record("session.reviewed", session)
    urls = {LIST: 12, f"{LIST}{session.pk}/change/": 11}
    for url, queries in urls.items():
        staff.get(url)
        with django_assert_num_queries(queries):
            staff.get(url)
