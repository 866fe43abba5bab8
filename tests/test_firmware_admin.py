"""The back office of firmware, as staff use it."""

from pathlib import Path
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client

from firmware import campaigns
from firmware.models import Campaign, FirmwareImage
from stations.models import Connector
from tests import make
from tests.test_firmware import charger, image, running, tick

pytestmark = pytest.mark.django_db


@pytest.fixture
def staff(settings: Any, tmp_path: Path) -> Client:
    settings.MEDIA_ROOT = tmp_path
    client = Client()
    client.force_login(make.staff())
    return client


def test_a_release_is_uploaded_and_a_wrong_signature_is_told_in_the_form(staff: Client) -> None:
    form = {
        "vendor": "ACME",
        "model": "AC1",
        "version": "2.0",
        "also_reported_as": "2.0-r1, AC1 v2\n2.0-r1",
    }
    bad = form | {"file": SimpleUploadedFile("fw.bin", b"x"), "signature": "QUJD"}
    answer = staff.post("/admin/firmware/firmwareimage/add/", bad)
    assert "Give the signature and the certificate, or neither." in answer.content.decode()
    good = form | {"file": SimpleUploadedFile("fw.bin", b"firmware")}
    assert staff.post("/admin/firmware/firmwareimage/add/", good).status_code == 302
    release = FirmwareImage.objects.get()
    assert (release.size, release.filename) == (8, "fw.bin")
    assert release.also_reported_as == ["2.0-r1", "AC1 v2"]
    page = staff.get("/admin/firmware/firmwareimage/").content.decode()
    assert "0.0 MB" in page


@pytest.mark.parametrize(
    ("typed", "said"),
    [("x" * 51, "stations report at most 50 characters"), ('["2.0"]', "without brackets")],
)
def test_what_no_station_can_report_is_refused_in_words(
    staff: Client, typed: str, said: str
) -> None:
    release = image()
    page = f"/admin/firmware/firmwareimage/{release.pk}/change/"
    answer = staff.post(page, {"also_reported_as": typed, "notes": ""})
    assert said in answer.content.decode()
    assert staff.post(page, {"also_reported_as": "a\r\nb", "notes": ""}).status_code == 302
    release.refresh_from_db()
    assert release.also_reported_as == ["a", "b"]
    assert "a\nb</textarea>" in staff.get(page).content.decode()


def test_one_click_leads_from_behind_to_a_running_campaign(staff: Client) -> None:
    release, station = image(), charger()
    page = staff.get("/admin/firmware/firmwareimage/").content.decode()
    assert f"?image={release.pk}&amp;target=behind" in page
    start = f"/admin/firmware/campaign/add/?image={release.pk}&target=behind"
    assert "ACME AC1 2.0 rollout" in staff.get(start).content.decode()
    form = {
        "name": "Spring",
        "image": release.pk,
        "target": "behind",
        "waves_text": "1, 100%",
        "approve": "on",
        "bake_s": 60,
        "probation_s": 60,
        "concurrency": 5,
        "site_concurrency": 1,
        "max_attempts": 3,
        "retry_s": 60,
    }
    answer = staff.post("/admin/firmware/campaign/add/", form)
    campaign = Campaign.objects.get()
    assert answer.status_code == 302
    assert (campaign.state, campaign.waves) == ("running", ["1", "100%"])
    assert [job.station for job in campaign.jobs.all()] == [station]


def test_a_campaign_without_a_fitting_station_is_refused_in_words(staff: Client) -> None:
    release = image()
    form = {"name": "x", "image": release.pk, "target": "chosen", "chosen": "NOPE"}
    page = staff.post("/admin/firmware/campaign/add/", form).content.decode()
    assert "No such station: NOPE." in page
    form["target"] = "behind"
    page = staff.post("/admin/firmware/campaign/add/", form).content.decode()
    assert "None of these stations is behind" in page


def test_the_cockpit_shows_waves_and_evidence_and_its_buttons_need_a_post(staff: Client) -> None:
    campaign = running(charger(), charger())
    tick(2)
    page = staff.get(f"/admin/firmware/campaign/{campaign.pk}/change/").content.decode()
    assert f'data-live="campaign-{campaign.pk}"' in page
    assert "attempt 1" in page
    url = f"/admin/firmware/campaign/{campaign.pk}/pause/"
    staff.get(url)
    campaign.refresh_from_db()
    assert campaign.state == "running"
    answer = staff.post(url, {"reason": "storm", "_form_submitted": "1"})
    campaign.refresh_from_db()
    assert (campaign.state, campaign.reason) == ("paused", "storm")
    assert "openModal = false" in answer.content.decode()  # the dialog closes, the page goes on
    page = staff.get(f"/admin/firmware/campaign/{campaign.pk}/change/").content.decode()
    cockpit = page[page.index('id="cockpit"') :]  # the buttons are part of what is kept fresh
    assert f"{campaign.pk}/resume/" in cockpit
    assert f"{campaign.pk}/pause/" not in page
    assert staff.post(url, {"_form_submitted": "1"}).status_code == 403


def test_support_staff_see_campaigns_but_cannot_steer_them(settings: Any, tmp_path: Path) -> None:
    settings.MEDIA_ROOT = tmp_path
    campaign = running(charger())
    user = make.user(is_staff=True)
    client = Client()
    client.force_login(user)
    url = f"/admin/firmware/campaign/{campaign.pk}/stop/"
    assert client.post(url, {"_form_submitted": "1"}).status_code == 403


def test_staff_of_one_site_see_its_stations_only(staff: Client, settings: Any) -> None:
    here, there = make.site(), make.site()
    mine, other = charger(site=here), charger(site=there)
    campaign = running(mine, other)
    user = make.staff()
    user.sites.add(here)
    client = Client()
    client.force_login(user)
    page = client.get(f"/admin/firmware/campaign/{campaign.pk}/change/").content.decode()
    assert mine.identity in page
    assert other.identity not in page


def test_the_lists_take_the_same_queries_however_many_rows(
    staff: Client, django_assert_num_queries: Any
) -> None:
    release = image()
    for n in range(3):
        campaigns.create(f"c{n}", release, [charger() for _ in range(4)])
    Connector.objects.update(status="Available")
    page = f"/admin/firmware/campaign/{Campaign.objects.latest('pk').pk}/change/"
    staff.get("/admin/firmware/campaign/")
    staff.get(page)  # what is looked up once a process is known now
    with django_assert_num_queries(10):
        staff.get("/admin/firmware/campaign/")
    with django_assert_num_queries(18):
        staff.get(page)
