"""Stations in the back office, as staff use them."""

import csv
import io
from datetime import timedelta
from typing import Any

import pytest
from django.db import transaction
from django.test import Client
from django.utils import timezone
from openpyxl import load_workbook
from pypdf import PdfReader

from monitoring import dashboard, profiles
from monitoring.models import Allotment
from stations import commands, journal, reservations, security
from stations.admin import sheets
from stations.models import Command, Connector, Entry, Station, Variable
from tests import make

pytestmark = pytest.mark.django_db

LIST = "/admin/stations/station/"


def page_of(station: Station, tab: str = "") -> str:
    return f"{LIST}{station.pk}/change/" + (f"?tab={tab}" if tab else "")


@pytest.fixture
def staff(client: Client) -> Client:
    client.force_login(make.staff())
    return client


def text(client: Client, url: str) -> str:
    answer = client.get(url)
    assert answer.status_code == 200, answer
    return answer.content.decode()


def shown(client: Client, query: str = "") -> list[str]:
    answer = client.get(f"{LIST}{query}")
    return [row.identity for row in answer.context["cl"].result_list]


def test_the_list_shows_each_connector_in_words_and_greys_those_of_offline_stations(
    staff: Client,
) -> None:
    online = make.station(2, identity="ON", connected=True)
    online.connectors.filter(evse__number=1).update(status=Connector.Status.CHARGING)
    online.connectors.filter(evse__number=2).update(status="Faulted", error_code="GroundFailure")
    offline = make.station(identity="OFF")
    offline.connectors.update(status=Connector.Status.AVAILABLE)
    page = text(staff, LIST)
    assert 'class="chip blue" title="Charging"' in page
    assert 'class="chip red" title="Faulted · Ground failure"' in page
    assert 'title="offline; last said: Available"' in page
    assert "Never connected" in page
    assert 'data-live="fleet"' in page


def test_an_occupied_connector_says_what_its_running_session_does(staff: Client) -> None:
    """2.x says Occupied for all of a stay; its transaction events know more."""
    station = make.station(2, identity="TWO", connected=True)
    station.connectors.update(status=Connector.Status.OCCUPIED)
    make.session(station, state="active", stopped_at=None, closed_at=None,
                 charging_state="Charging")  # fmt: skip
    assert dict(dashboard.fleet().connectors) == {"charging": 1, "busy": 1}
    page = text(staff, LIST + "?connector=Charging")
    assert 'class="chip blue" title="Charging"' in page
    assert 'class="chip amber" title="Occupied"' in page
    assert "TWO" not in text(staff, LIST + "?connector=SuspendedEV")
    now = text(staff, page_of(station))
    assert ">Charging</span>" in now
    assert ">Occupied</span>" in now


def test_many_connectors_are_counted_by_status(staff: Client) -> None:
    station = make.station(6, connected=True)
    station.connectors.update(status=Connector.Status.AVAILABLE)
    assert '<span class="n">6</span> Available' in text(staff, LIST)


def test_a_station_is_found_by_identity_serial_token_and_transaction(staff: Client) -> None:
    wanted = make.station(identity="ABC-1", serial="SN-77")
    make.station(identity="OTHER")
    make.session(wanted, ref="tx-900", token_uid="04AABB")
    for term in ("ABC", "SN-77", "04AABB", "04aabb", "tx-900"):
        assert shown(staff, f"?q={term}") == ["ABC-1"], term


def test_filters_and_quick_filters_find_stations(staff: Client) -> None:
    berlin = make.site(name="Berlin")
    one = make.station(identity="A", site=berlin, connected=True, vendor="V", model="M")
    one.connectors.update(status=Connector.Status.FAULTED)
    two = make.station(identity="B", version="2.0.1")
    two.connectors.update(status=Connector.Status.FAULTED)
    assert shown(staff, f"?site={berlin.pk}") == ["A"]
    assert shown(staff, "?site=none") == ["B"]
    assert shown(staff, "?online=1") == ["A"]
    assert shown(staff, "?online=0") == ["B"]
    assert shown(staff, "?connector=Faulted") == ["A"]  # the offline one's fault is not known
    assert shown(staff, "?make=V%7CM") == ["A"]
    assert shown(staff, "?version__exact=2.0.1") == ["B"]
    assert shown(staff, "?online=never") == ["A", "B"]


def test_staff_of_one_site_see_only_its_stations_anywhere(client: Client) -> None:
    here, there = make.site(), make.site()
    mine, other = (
        make.station(identity="MINE", site=here),
        make.station(identity="ELSE", site=there),
    )
    make.station(identity="NOWHERE")
    client.force_login(make.member("Operations", here))
    assert shown(client) == ["MINE"]
    assert client.get(page_of(mine)).status_code == 200
    assert client.get(page_of(other)).status_code == 404
    assert client.get(f"{LIST}{other.pk}/order/reset/").status_code == 404
    assert client.post(f"{LIST}{other.pk}/admit/retire/").status_code == 404
    exported = b"".join(client.get(f"{LIST}export/csv/").streaming_content).decode()
    assert "MINE" in exported
    assert "ELSE" not in exported
    assert "ELSE" not in text(client, "/admin/search/?s=ELSE")


def test_the_list_is_exported_as_filtered_and_no_cell_is_a_formula(staff: Client) -> None:
    make.station(identity="A", connected=True, name="=1+1")
    make.station(identity="B")
    rows = list(
        csv.reader(
            io.StringIO(
                b"".join(staff.get(f"{LIST}export/csv/?online=1").streaming_content).decode()
            )
        )
    )
    assert [row[0] for row in rows] == ["identity", "A"]
    assert rows[1][1] == "'=1+1"
    book = load_workbook(io.BytesIO(staff.get(f"{LIST}export/xlsx/").content))
    assert [row[0].value for row in book.active.rows] == ["identity", "A", "B"]
    assert Entry.objects.filter(kind="list.exported").count() == 2


def test_a_pending_station_is_approved_by_one_post_and_asked_to_boot_again(staff: Client) -> None:
    station = make.station(state=Station.State.PENDING, connected=True, vendor="ACME")
    assert "1 station waits for approval" in text(staff, LIST)
    assert staff.get(f"{LIST}{station.pk}/admit/approve/").status_code == 403
    answer = staff.post(f"{LIST}{station.pk}/admit/approve/", follow=True)
    assert f"{station} is in service." in answer.content.decode()
    station.refresh_from_db()
    assert station.state == Station.State.ACCEPTED
    news = Entry.objects.get(kind="station.approved")
    assert news.actor is not None
    command = Command.objects.get(station=station)
    assert (command.name, command.args) == ("trigger_message", {"message": "BootNotification"})


def test_a_second_verdict_on_the_same_station_changes_nothing_and_says_so(staff: Client) -> None:
    station = make.station(state=Station.State.PENDING)
    staff.post(f"{LIST}{station.pk}/admit/approve/")
    answer = staff.post(f"{LIST}{station.pk}/admit/reject/", follow=True)
    assert "nothing was changed" in answer.content.decode()
    station.refresh_from_db()
    assert station.state == Station.State.ACCEPTED


def test_who_may_not_change_stations_may_not_approve_them(client: Client) -> None:
    station = make.station(state=Station.State.PENDING)
    client.force_login(make.member("Support"))
    assert client.post(f"{LIST}{station.pk}/admit/approve/").status_code == 403
    assert "Approve" not in text(client, LIST)


def test_the_page_shows_what_each_connector_does_now(staff: Client) -> None:
    station = make.station(2, connected=True)
    plug = station.connectors.get(evse__number=2)
    Connector.objects.filter(pk=plug.pk).update(status=Connector.Status.CHARGING)
    session = make.session(
        station, connector=plug, stopped_at=None, closed_at=None, state="active", power_w=11_040.0
    )
    page = text(staff, page_of(station))
    assert "11.0 kW" in page
    assert "10.000 kWh" in page
    assert f"/admin/monitoring/session/{session.pk}/change/" in page
    assert f'data-live="station-{station.pk}"' in page


def test_the_timeline_tells_in_sentences_and_filters_by_topic(staff: Client) -> None:
    station = make.station()
    with transaction.atomic():
        journal.record("station.booted", station, firmware="2.0", previous_firmware="1.0")
        journal.record("connector.status_changed", station, evse=1, status="Faulted",
                       error_code="GroundFailure")  # fmt: skip
        journal.record("something.new", station, color="red")
    page = text(staff, page_of(station, "timeline"))
    assert "Booted, firmware 1.0 → 2.0" in page
    assert "Connector 1: Faulted (Ground failure)" in page
    assert "Something new: color red" in page
    only = text(staff, page_of(station, "timeline") + "&topic=status")
    assert "Booted" not in only
    assert "Connector 1: Faulted" in only


def test_the_configuration_shows_what_differs_from_what_is_wanted(staff: Client) -> None:
    station = make.station(version="2.0.1")
    Variable.objects.create(station=station, component="TxCtrlr", name="EVConnectionTimeOut",
                            value="60", wanted="90")  # fmt: skip
    page = text(staff, page_of(station, "configuration"))
    assert "1 differ from what is wanted" in page
    assert "key=TxCtrlr.EVConnectionTimeOut&amp;value=60" in page


def test_a_new_password_is_kept_hashed_and_the_change_is_journalled(staff: Client) -> None:
    station = make.station()
    form = {"identity": station.identity, "name": "Row A", "security_profile": 1,
            "heartbeat_interval_s": 300, "power_priority": 0,
            "new_password": "0123456789abcdef0123"}  # fmt: skip
    answer = staff.post(page_of(station, "details"), form)
    assert answer["Location"] == page_of(station)
    station.refresh_from_db()
    assert station.name == "Row A"
    assert security.verify_password("0123456789abcdef0123", station.password_hash)
    assert Entry.objects.filter(kind="station.password_set").count() == 1
    assert Entry.objects.get(kind="station.changed").data == {
        "fields": ["name", "security_profile"]
    }
    assert "0123456789abcdef0123" not in text(staff, page_of(station, "details"))


def test_a_station_is_never_deleted(staff: Client) -> None:
    station = make.station()
    assert staff.post(f"{LIST}{station.pk}/delete/", {"post": "yes"}).status_code == 403
    assert staff.post(f"{LIST}{station.pk}/admit/retire/").status_code == 302
    station.refresh_from_db()
    assert station.state == Station.State.RETIRED


def test_an_empty_list_says_what_to_do_next(staff: Client) -> None:
    assert "Point a charger at the address" in text(staff, LIST)
    assert "Try fewer filters" in text(staff, f"{LIST}?q=nothing")


@pytest.mark.parametrize("stations", [2, 20])
def test_the_list_asks_the_database_the_same_number_of_times_whatever_its_length(
    staff: Client, django_assert_num_queries: Any, stations: int
) -> None:
    site = make.site()
    for _ in range(stations):
        make.station(3, site=site, connected=True)
    staff.get(LIST)  # content types are read once a process
    with django_assert_num_queries(14):
        staff.get(LIST)


QUERIES = {"now": 14, "timeline": 9, "sessions": 9, "configuration": 11, "device": 9, "frames": 9,
           "commands": 9, "details": 12}  # fmt: skip


@pytest.mark.parametrize("tab", QUERIES)
@pytest.mark.parametrize("many", [1, 8])
def test_each_tab_asks_the_database_the_same_number_of_times(
    staff: Client, django_assert_num_queries: Any, tab: str, many: int
) -> None:
    station = make.station(many, site=make.site(), connected=True)
    for plug in station.connectors.all():
        make.session(station, connector=plug, stopped_at=None, closed_at=None, token=make.token())
    for _ in range(many):
        make.frame(station)
        commands.send(station, "clear_cache", by=make.user())
        with transaction.atomic(), journal.acting_as(make.user()):
            journal.record("station.booted", station)
        Variable.objects.create(station=station, name=f"Key{station.variables.count()}", value="1")
    staff.get(page_of(station, tab))
    with django_assert_num_queries(QUERIES[tab]):
        staff.get(page_of(station, tab))


def test_money_and_firmware_are_told_in_words_not_in_fields(staff: Client) -> None:
    station = make.station(connected=True)
    with transaction.atomic():
        journal.record("charge.unpaid", station)
        journal.record("payment.captured", station, event="capture: collected")
        journal.record(
            "job.succeeded", station, campaign="C", version="2.4.0", failure="", why="ok"
        )
    page = text(staff, page_of(station, "timeline"))
    assert "Bill: on account" in page
    assert "Payment: paid (capture: collected)" in page
    assert "Updated to 2.4.0: ok" in page
    assert "Charge unpaid" not in page
    assert "failure ," not in page


def test_qr_sheets_have_a_page_a_connector_whose_code_opens_its_pay_page(
    staff: Client, settings: Any
) -> None:
    settings.PUBLIC_URL = "https://charge.example"
    site = make.site(name="Harbour")
    station = make.station(2, site=site, identity="CP-A", name="Quay <1>")
    other = make.station(1)
    one, two = station.connectors.order_by("evse__number")
    html = sheets.html_of([one, two])
    assert html.count("<section>") == 2
    assert f"https://charge.example/c/{one.code}" in html
    assert "Quay &lt;1&gt; · 2" in html
    for url, chosen in ((LIST, station.pk), ("/admin/stations/site/", site.pk)):
        answer = staff.post(url, {"action": "print_sheets", "_selected_action": [chosen]})
        assert answer["Content-Type"] == "application/pdf"
        pages = [page.extract_text() for page in PdfReader(io.BytesIO(answer.content)).pages]
        assert len(pages) == 2
        assert one.code in pages[0]
        assert two.code in pages[1]
        assert other.connectors.get().code not in "".join(pages)
    told = Entry.objects.filter(kind="sheet.printed")
    assert [entry.data for entry in told] == [{"connectors": 2}] * 2


def test_a_station_without_connectors_has_no_sheet_and_it_is_said_why(staff: Client) -> None:
    form = {"action": "print_sheets", "_selected_action": [make.station(0).pk]}
    assert "No connectors here yet" in staff.post(LIST, form, follow=True).content.decode()


# --- power ----------------------------------------------------------------------------------------


def test_a_sites_page_shows_its_shares_and_its_table_refreshes_itself(staff: Client) -> None:
    site = make.site(power_limit_a=32)
    station = make.station(2, site=site, connected=True, last_seen_at=timezone.now())
    session = make.session(station, state="active", stopped_at=None, closed_at=None, power_w=6_900)
    Allotment.objects.create(
        site=site, station=station, evse=1, session=session, target_a=16, confirmed_a=10
    )
    page = text(staff, f"/admin/stations/site/{site.pk}/change/")
    for url_part in (f'data-live="site-{site.pk},fleet"', "16 A", "10 A", "6.9 kW", "32 A"):
        assert url_part in page
    table = text(staff, f"/admin/stations/site/{site.pk}/power/")
    assert "10.0 A" in table


def test_a_fallback_that_all_evses_could_not_hold_is_refused(staff: Client) -> None:
    site = make.site(name="Yard")
    make.station(4, site=site)
    given = {
        "name": "Yard", "time_zone": "Europe/Berlin", "country": "DE", "power_limit_a": "40",
        "power_minimum_a": "6", "power_offline_a": "16",
    }  # fmt: skip
    page = staff.post(f"/admin/stations/site/{site.pk}/change/", given).content.decode()
    assert "4 EVSEs of 16 A draw more than the limit. At most 10 A." in page
    staff.post(f"/admin/stations/site/{site.pk}/change/", given | {"power_offline_a": "10"})
    site.refresh_from_db()
    assert (site.power_limit_a, site.power_offline_a) == (40, 10)


def test_reservations_and_profiles_are_listed(staff: Client) -> None:
    station = make.station(identity="CP-R")
    reservations.accepted(
        station.pk, 5, token_uid="TAG-5", until=timezone.now() + timedelta(hours=1), evse=1
    )
    profiles.installed(
        station.pk,
        1,
        {"id": 3, "stackLevel": 1, "chargingProfilePurpose": "TxDefaultProfile",
         "chargingProfileKind": "Absolute", "chargingSchedule": [{
             "chargingRateUnit": "A",
             "chargingSchedulePeriod": [{"startPeriod": 0, "limit": 13}]}]},
    )  # fmt: skip
    assert "TAG-5" in text(staff, "/admin/stations/reservation/")
    assert "13 A" in text(staff, "/admin/monitoring/chargingprofile/")
