"""The start page, search and the health page."""

import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.cache import cache
from django.db import transaction
from django.http import HttpResponse
from django.test import Client, RequestFactory
from django.utils import timezone

from config.middleware import back_office_policy
from monitoring import dashboard
from monitoring.models import Incident, Severity
from stations import commands, journal
from stations.models import Connector, Station
from tests import make

pytestmark = pytest.mark.django_db


@pytest.fixture
def staff(client: Client) -> Client:
    client.force_login(make.staff())
    return client


def fleet() -> None:
    """Two stations online at one site, one offline at another, one pending."""
    here = make.site(name="Here", latitude="52.5", longitude="13.4")
    there = make.site(name="There", latitude="48.8", longitude="2.3")
    one = make.station(3, site=here, connected=True)
    two = make.station(site=here, connected=True)
    off = make.station(2, site=there)
    words = ("Charging", "SuspendedEV", "Faulted")
    for plug, word in zip(one.connectors.all(), words, strict=True):
        Connector.objects.filter(pk=plug.pk).update(status=word)
    two.connectors.update(status="Available")
    off.connectors.update(status="Available")
    make.station(state=Station.State.PENDING, site=here)
    make.session(one, state="active", stopped_at=None, closed_at=None, power_w=7_400.0,
                 energy_wh=1_500, started_at=timezone.now())  # fmt: skip
    make.session(two, started_at=timezone.now() - timedelta(days=3))


def test_the_fleet_is_counted_with_offline_connectors_as_offline() -> None:
    fleet()
    now = dashboard.fleet()
    assert (now.stations, now.connected, now.offline, now.pending) == (3, 2, 1, 1)
    assert dict(now.connectors) == {
        "charging": 1, "busy": 1, "faulted": 1, "available": 1, "offline": 2,
    }  # fmt: skip
    assert (now.power_w, now.charging_sessions) == (7_400.0, 1)
    assert (now.sessions_today, now.energy_today_wh) == (1, 1_500)
    assert {site.name: dict(site.counts) for site in now.sites} == {
        "Here": {"charging": 1, "busy": 1, "faulted": 1, "available": 1},
        "There": {"offline": 2},
    }


def test_the_fleet_of_one_site_is_counted_alone() -> None:
    fleet()
    here = Station.objects.filter(site__name="There").values_list("site", flat=True)[0]
    now = dashboard.fleet(frozenset({here}))
    assert (now.stations, now.connected, now.pending, now.sessions_today) == (1, 0, 0, 0)
    assert [site.name for site in now.sites] == ["There"]


def test_today_begins_at_midnight_of_most_sites() -> None:
    make.site(time_zone="Asia/Tokyo")
    make.site(time_zone="Asia/Tokyo")
    make.site(time_zone="Europe/Berlin")
    assert str(dashboard.midnight().tzinfo) == "Asia/Tokyo"


def test_each_number_links_to_its_list(staff: Client) -> None:
    fleet()
    page = staff.get("/admin/")
    numbers = {tile["label"]: tile for row in page.context["rows"] for tile in row}
    assert numbers["Stations online"]["value"] == 2
    assert numbers["Power now"]["value"] == "7.4"
    assert numbers["Energy today"]["value"] == "1.5"
    for tile in numbers.values():
        assert staff.get(tile["url"], follow=True).status_code == 200, tile["url"]
    online = staff.get(numbers["Stations online"]["url"]).context["cl"].result_list
    assert len(online) == 2
    today = staff.get(numbers["Sessions today"]["url"]).context["cl"].result_list
    assert len(today) == 1


def test_the_map_has_a_pin_a_site_and_asks_no_other_server(staff: Client) -> None:
    fleet()
    page = staff.get("/admin/")
    pins = {pin["name"]: pin["counts"] for pin in page.context["sites"]}
    assert pins["There"] == {"offline": 2}
    html = page.content.decode()
    assert 'data-tiles=""' in html
    assert "https://" not in html.replace("https://www.w3.org", "")


def test_the_worst_incident_stands_first_and_links_to_its_page(staff: Client) -> None:
    station = make.station(site=make.site())
    common = {"station": station, "site": station.site, "family": "f", "rule": "r"}
    now = timezone.now()
    Incident.objects.create(severity=Severity.WARN, summary="slow", opened_at=now, **common)
    Incident.objects.create(severity=Severity.PAGE, summary="dead", opened_at=now, **common)
    Incident.objects.create(severity=Severity.CRITICAL, summary="gone", opened_at=now,
                            state="resolved", **common)  # fmt: skip
    page = staff.get("/admin/")
    assert [one.summary for one in page.context["incidents"]] == ["dead", "slow"]


def test_the_ticker_tells_what_happens(staff: Client) -> None:
    station = make.station(identity="CP-1")
    with transaction.atomic():
        journal.record("station.booted", station, firmware="9.9")
        journal.record("variables.reported", station)
    page = staff.get("/admin/").content.decode()
    assert "Booted, firmware 9.9" in page
    assert "Configuration read" not in page


def test_an_empty_installation_says_how_to_connect_the_first_station(
    staff: Client, settings: Any
) -> None:
    settings.PUBLIC_URL = "https://charge.example"
    page = staff.get("/admin/").content.decode()
    assert "Connect your first station" in page
    assert "wss://charge.example/ocpp/" in page


@pytest.mark.parametrize("times", [1, 4])
def test_the_start_page_asks_the_same_number_of_times_whatever_the_fleet(
    staff: Client, django_assert_num_queries: Any, times: int
) -> None:
    for n in range(times):
        site = make.site(latitude="50", longitude="8")
        station = make.station(4, site=site, connected=True)
        make.session(station)
        with transaction.atomic(), journal.acting_as(make.user()):
            journal.record("station.booted", station, firmware=str(n))
    staff.get("/admin/")
    with django_assert_num_queries(17):
        staff.get("/admin/")


# --- search -------------------------------------------------------------------------------------


def found(client: Client, term: str) -> str:
    cache.clear()
    return str(client.get("/admin/search/", {"s": term}).content.decode())


def test_anything_is_found_by_what_people_have_in_hand(staff: Client) -> None:
    station = make.station(identity="BER-7", serial="SN-42", site=make.site(name="Harbour"))
    make.session(station, ref="tx-31", token_uid="04AB")
    make.token(uid="04AB")
    make.user(email="mia@example.com")
    for term, title in {
        "ber-7": "BER-7", "sn-42": "BER-7", "harbour": "Harbour", "tx-31": "tx-31",
        "04ab": "04AB", "mia@": "mia@example.com",
    }.items():  # fmt: skip
        assert title in found(staff, term), term
    assert "Nothing matched" in found(staff, "zzz")


def test_search_shows_only_what_one_may_see(client: Client) -> None:
    make.station(identity="BER-7")
    client.force_login(make.user(is_staff=True))
    assert "BER-7" not in found(client, "ber")


# --- health -------------------------------------------------------------------------------------


def test_the_health_page_shows_processes_ticks_and_what_waits(staff: Client) -> None:
    station = make.station(connected=True, gateway="web-1")
    command = commands.send(station, "clear_cache")
    type(command).objects.update(created_at=timezone.now() - timedelta(minutes=5))
    answer = staff.get("/admin/health/")
    page = answer.content.decode()
    assert "web-1" in page
    assert "journal sweep" in page
    assert answer.context["queued"]["n"] == 1
    assert answer.context["queued_late"]


def test_every_answer_of_the_back_office_carries_the_policy_the_portal_keeps_its_own(
    staff: Client,
) -> None:
    for url in ("/admin/", "/admin/stations/station/", "/admin/login/"):
        policy = staff.get(url).headers["Content-Security-Policy"]
        assert "script-src 'self' 'unsafe-eval';" in policy, url
        assert "object-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
    assert "unsafe-eval" not in staff.get("/").headers["Content-Security-Policy"]


def test_a_wrong_address_in_the_back_office_leads_back_to_it(staff: Client) -> None:
    answer = staff.get("/admin/nowhere/")
    assert answer.status_code == 404
    assert 'href="/admin/"' in answer.content.decode()
    assert "unsafe-eval" not in answer.headers["Content-Security-Policy"]


def test_no_page_has_a_script_of_its_own_in_the_html() -> None:
    for page in Path("templates/admin").rglob("*.html"):
        text = page.read_text()
        assert not re.search(r"<script(?![^>]*\bsrc=)(?![^>]*application/json)", text), page
        assert not re.search(r"\son(click|change|submit|input|load)=", text), page


def test_tiles_may_be_fetched_only_from_the_server_the_operator_named(
    settings: Any,
) -> None:
    settings.MAP_TILES_ORIGIN = "https://*.tile.example"
    answer = back_office_policy(lambda _request: HttpResponse())(RequestFactory().get("/admin/"))
    assert "img-src 'self' data: https://*.tile.example" in answer["Content-Security-Policy"]
