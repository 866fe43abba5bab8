"""Releases, campaigns and downloads, with rows."""

import base64
import datetime as dt
import hashlib
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.x509.oid import NameOID
from django.core.files.base import ContentFile
from django.core.management import CommandError, call_command
from django.db import transaction
from django.test import AsyncClient
from django.utils import timezone

from firmware import campaigns, downloads, images, jobs, tasks
from firmware.models import Campaign, DownloadGrant, FirmwareImage, JobEvent, UpdateJob
from monitoring.models import Incident, MaintenanceWindow
from stations import journal
from stations.models import Command, Connector, Entry, Station
from stations.state import NotAllowed
from tests import make

pytestmark = pytest.mark.django_db
S = UpdateJob.State
CONTENT = bytes(range(256)) * 3000  # 768 000 bytes: three chunks


@pytest.fixture(autouse=True)
def media(settings: Any, tmp_path: Path) -> None:
    settings.MEDIA_ROOT = tmp_path


def image(version: str = "2.0", **fields: Any) -> FirmwareImage:
    content = ContentFile(CONTENT + version.encode(), name="fw.bin")
    return images.add(content, **{"vendor": "ACME", "model": "AC1", "version": version} | fields)


def charger(firmware: str = "1.0", **fields: Any) -> Station:
    made = {"vendor": "acme", "model": "ac1", "firmware": firmware, "connected": True}
    station = make.station(**made | fields)
    Connector.objects.filter(station=station).update(status="Available")
    return station


def running(*stations: Station, **fields: Any) -> Campaign:
    release = fields.pop("image", None) or image()
    made = {"waves": ["100%"], "bake_s": 0, "probation_s": 0, "retry_s": 0}
    campaign = campaigns.create("spring", release, stations, **made | fields)
    campaigns.start(campaign)
    campaign.refresh_from_db()
    return campaign


def job_of(station: Station) -> UpdateJob:
    return UpdateJob.objects.select_related("campaign", "image", "station").get(station=station)


def tick(times: int = 1) -> None:
    for _ in range(times):
        campaigns.tick()


# --- releases -------------------------------------------------------------------------------------


def certificate(key: Any) -> str:
    name = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "ACME")])
    now = timezone.now()
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=90))
        .sign(key, hashes.SHA256())
    )
    return made.public_bytes(serialization.Encoding.PEM).decode()


def test_the_signature_scheme_is_found_out_not_assumed() -> None:
    content = b"firmware"
    digest = hashlib.sha256(content).digest()
    rsa_key, ec_key = rsa.generate_private_key(65537, 2048), ec.generate_private_key(ec.SECP256R1())
    pss = padding.PSS(padding.MGF1(hashes.SHA256()), padding.PSS.DIGEST_LENGTH)
    signed = {
        "rsa-pss": (rsa_key, rsa_key.sign(content, pss, hashes.SHA256())),
        "rsa-pkcs1": (rsa_key, rsa_key.sign(content, padding.PKCS1v15(), hashes.SHA256())),
        "ecdsa": (ec_key, ec_key.sign(content, ec.ECDSA(hashes.SHA256()))),
    }
    for scheme, (key, signature) in signed.items():
        text = base64.b64encode(signature).decode()
        assert images.detect_scheme(digest, certificate(key), text) == scheme
    with pytest.raises(images.SignatureInvalid, match="does not belong"):
        images.detect_scheme(digest, certificate(ec_key), base64.b64encode(b"x" * 70).decode())


def test_a_release_is_refused_without_its_certificate_or_a_second_time() -> None:
    with pytest.raises(images.SignatureInvalid, match="or neither"):
        image(signature="QUJD")
    image()
    with pytest.raises(images.AlreadyThere, match=r"ACME AC1 2\.0 is there already"):
        image()
    with pytest.raises(images.ImageError, match="empty"):
        images.add(ContentFile(b"", name="x"), vendor="a", version="1")


def test_which_stations_are_behind() -> None:
    image("1.5")
    newest = image("2.0")
    old, unknown = charger("1.5"), charger("")
    charger("v2.0"), charger("1.0", vendor="Other")
    assert images.behind() == {newest: [old]}
    assert unknown not in images.behind()[newest]


# --- campaigns ------------------------------------------------------------------------------------


def test_an_update_from_order_to_the_new_version() -> None:
    station = charger()
    campaign = running(station)
    tick(2)
    command = Command.objects.get()
    grant = DownloadGrant.objects.get()
    job = job_of(station)
    assert job.state == S.DISPATCHING
    assert command.args["location"].endswith(f"/f/{grant.token}/fw.bin")
    assert command.args["request_id"] == job.request_id
    jobs.command_finished(job, "accepted", "", "")
    for status in ("Downloading", "Downloaded", "Installing"):
        jobs.status_reported(station, status, job.request_id)
    assert job_of(station).state == S.INSTALLING
    Station.objects.update(firmware="2.0")
    jobs.booted(station, "2.0", "1.0")
    assert job_of(station).state == S.PROBATION
    tick(2)
    campaign.refresh_from_db()
    assert (job_of(station).state, campaign.state) == (S.SUCCEEDED, "completed")
    assert Entry.objects.filter(kind="job.succeeded", station=station).count() == 1


def test_statuses_never_move_a_job_back_and_a_missing_request_id_is_the_active_job() -> None:
    station = charger()
    running(station)
    tick(2)
    jobs.status_reported(station, "Installing", None)
    jobs.status_reported(station, "Downloading", 0)
    assert job_of(station).state == S.INSTALLING
    jobs.status_reported(station, "InstallationFailed", 12345)  # another request's
    assert job_of(station).state == S.INSTALLING


def test_a_silent_charger_advances_by_its_boot_alone() -> None:
    station = charger()
    running(station)
    tick(2)
    Station.objects.update(firmware="2.0")
    jobs.booted(station, "2.0", "1.0")
    assert job_of(station).state == S.PROBATION


def test_late_news_of_a_boot_before_the_order_says_nothing_of_the_update() -> None:
    station = charger()
    running(station)
    before = timezone.now()
    tick(2)
    jobs.status_reported(station, "Installing", None)
    jobs.booted(station, "1.0", "1.0", before)
    assert job_of(station).state == S.INSTALLING
    jobs.booted(station, "1.0", "1.0", timezone.now())
    assert (job_of(station).state, job_of(station).failure) == (S.FAILED, "reverted")


def booted(station: Station, now: str, before: str) -> int:
    with transaction.atomic():
        return journal.record("station.booted", station, firmware=now, previous_firmware=before).pk


def test_a_boot_that_nothing_waits_for_is_one_query(django_assert_num_queries: Any) -> None:
    station, other = charger(), charger()
    running(other)
    entries = [booted(station, "1.0", "1.0"), booted(station, "1.0", ""), booted(station, "", "1")]
    for entry in entries:
        with django_assert_num_queries(1):
            tasks.on_boot(entry)
    with django_assert_num_queries(1):
        tasks.on_boot(10**9)
    assert not Entry.objects.filter(kind="firmware.changed_outside").exists()


def test_a_boot_that_something_waits_for_reaches_its_job() -> None:
    station, outsider = charger(), charger()
    running(station)
    tick(2)
    jobs.command_finished(job_of(station), "accepted", "", "Accepted")
    tasks.on_boot(booted(station, "2.0", "1.0"))
    assert job_of(station).state == S.PROBATION
    tasks.on_boot(booted(outsider, "1.7", "1.0"))
    assert Entry.objects.get(kind="firmware.changed_outside").station == outsider


def test_installed_with_the_old_version_is_no_success() -> None:
    station = charger()
    campaign = running(station)
    tick(2)
    jobs.status_reported(station, "Installed", None)
    assert job_of(station).state == S.VERIFYING
    jobs.booted(station, "1.0", "1.0")
    tick()
    campaign.refresh_from_db()
    assert (job_of(station).state, job_of(station).failure) == (S.FAILED, "reverted")
    assert (campaign.state, campaign.reason) == (
        "paused",
        "Wave 1: a station failed, and in a wave of 1 station none may.",
    )


def test_resuming_accepts_the_failures_so_far() -> None:
    broken, next_one = charger(), charger()
    campaign = running(broken, next_one, waves=["1", "100%"], bake_s=0)
    tick(2)
    first = campaign.jobs.get(wave=0).station
    jobs.status_reported(first, "InstallationFailed", None)
    tick()
    campaign.refresh_from_db()
    assert (campaign.state, campaign.failures_accepted) == ("paused", 0)
    campaigns.resume(campaign, "A worn flash memory.")
    assert (campaign.failures_accepted, campaign.reason) == (1, "A worn flash memory.")
    tick(3)
    campaign.refresh_from_db()
    assert (campaign.state, campaign.wave, campaign.failures_accepted) == ("running", 1, 0)


def test_a_draft_is_approved_and_checked_never_resumed() -> None:
    draft = campaigns.create("Draft", image(), [charger()], waves=["100%"])
    with pytest.raises(NotAllowed, match="Only a paused campaign"):
        campaigns.resume(draft)
    with pytest.raises(CommandError, match="Only a paused campaign"):
        call_command("campaigns", "resume", "Draft")
    draft.refresh_from_db()
    assert (draft.state, draft.started_at) == ("draft", None)


def test_a_failed_download_is_tried_again_with_a_new_request_and_then_given_up() -> None:
    station = charger()
    running(station, max_attempts=2)
    tick(2)
    first = job_of(station).request_id
    jobs.status_reported(station, "DownloadFailed", first)
    assert job_of(station).state == S.RETRY_WAIT
    assert DownloadGrant.objects.get().revoked_at
    tick(2)
    job = job_of(station)
    assert (job.state, job.attempt) == (S.DISPATCHING, 2)
    assert job.request_id != first
    jobs.status_reported(station, "DownloadFailed", job.request_id)
    assert job_of(station).state == S.FAILED


def test_a_busy_station_is_left_alone_until_the_driver_has_gone() -> None:
    station = charger()
    Connector.objects.filter(station=station).update(status="Finishing")
    running(station)
    tick(3)
    assert job_of(station).state == S.QUEUED
    Connector.objects.filter(station=station).update(status="Available")
    make.session(station, state="active", stopped_at=None, closed_at=None)
    tick()
    assert job_of(station).state == S.QUEUED
    assert not Command.objects.exists()


def test_two_campaigns_never_update_one_station_at_once() -> None:
    station = charger()
    running(station)
    other = campaigns.create("summer", image("3.0"), [station], waves=["100%"])
    campaigns.start(other)
    tick(4)
    states = UpdateJob.objects.order_by("pk").values_list("state", flat=True)
    assert list(states) == [S.DISPATCHING, S.QUEUED]


def test_the_brake_cuts_off_downloads_and_resume_goes_on() -> None:
    loading, installing = charger(), charger()
    campaign = running(loading, installing)
    tick(2)
    jobs.status_reported(installing, "Installing", None)
    assert campaigns.brake(campaign) == 1
    assert job_of(loading).state == S.RETRY_WAIT
    assert job_of(installing).state == S.INSTALLING
    assert DownloadGrant.objects.get(job__station=loading).revoked_at
    campaign.refresh_from_db()
    campaigns.resume(campaign)
    tick(2)
    assert job_of(loading).state == S.DISPATCHING


def test_stop_calls_off_what_waits() -> None:
    busy = charger(connected=False)
    campaign = running(busy)
    tick()
    campaigns.stop(campaign)
    assert job_of(busy).state == S.CANCELED
    campaign.refresh_from_db()
    assert campaign.state == "stopped"


def test_reverse_takes_each_station_back_to_what_it_ran() -> None:
    old = image("1.0")
    station = charger()
    campaign = running(station)
    tick(2)
    Station.objects.update(firmware="2.0")
    jobs.booted(station, "2.0", "1.0")
    tick(2)
    campaign.refresh_from_db()
    back = campaigns.reverse(campaign)
    assert [job.image for job in back.jobs.all()] == [old]
    assert (back.state, back.reverses) == ("running", campaign)


def test_reverse_without_the_old_release_says_what_to_do() -> None:
    station = charger()
    campaign = running(station)
    with pytest.raises(campaigns.NoWayBack, match="Upload it first"):
        campaigns.reverse(campaign)


def test_an_unsigned_station_gets_the_plain_order_after_refusing_the_signed() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    content = CONTENT + b"2.0"
    signature = base64.b64encode(key.sign(content, ec.ECDSA(hashes.SHA256()))).decode()
    station = charger()
    running(station, image=image(signature=signature, certificate=certificate(key)))
    tick(2)
    assert Command.objects.get().args["signature"] == signature
    jobs.command_finished(job_of(station), "failed", "NotImplemented: unknown action", "")
    tick(2)
    assert "signature" not in Command.objects.latest("pk").args


def test_a_campaign_needs_stations_that_fit_and_an_intact_file() -> None:
    release = image()
    with pytest.raises(campaigns.NothingToUpdate, match="None of the 1 stations"):
        campaigns.create("x", release, [charger(vendor="Other")])
    campaign = campaigns.create("x", release, [charger()])
    Path(release.file.path).write_bytes(b"changed")
    with pytest.raises(campaigns.NotReady, match="changed since"):
        campaigns.start(campaign)


def test_the_first_wave_holds_one_of_each_kind() -> None:
    stations = [*(charger("1.0") for _ in range(5)), charger("1.1")]
    campaign = campaigns.create("x", image(), stations, waves=["2", "100%"])
    first = {job.version_before for job in campaign.jobs.filter(wave=0)}
    assert first == {"1.0", "1.1"}


def test_a_version_changed_outside_any_campaign_is_news() -> None:
    station = charger()
    jobs.booted(station, "1.1", "1.0")
    assert Entry.objects.get(kind="firmware.changed_outside").data == {"was": "1.0", "now": "1.1"}


def test_a_tick_looks_up_a_hundred_stations_in_a_few_queries(
    django_assert_num_queries: Any,
) -> None:
    campaign = running(*(charger(connected=False) for _ in range(100)))
    tick()
    with django_assert_num_queries(4):
        campaigns.facts(campaign)


# --- downloads ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "found"),
    [
        ("", None),
        ("bytes=0-9", (0, 9)),
        ("bytes=90-", (90, 99)),
        ("bytes=-10", (90, 99)),
        ("bytes=50-500", (50, 99)),
        ("bytes=-500", (0, 99)),
        ("items=1-2", None),
        ("bytes=1-2,5-6", None),
    ],
)
def test_ranges(header: str, found: tuple[int, int] | None) -> None:
    assert downloads.parse_range(header, 100) == found


@pytest.mark.parametrize("header", ["bytes=100-", "bytes=5-4", "bytes=-0"])
def test_a_range_outside_the_file_is_refused(header: str) -> None:
    with pytest.raises(ValueError, match="bytes"):
        downloads.parse_range(header, 100)


def grant_for(station: Station) -> DownloadGrant:
    running(station)
    tick(2)
    return DownloadGrant.objects.select_related("image", "job").get()


@pytest.mark.django_db(transaction=True)
async def test_a_download_resumes_and_is_evidence() -> None:
    from asgiref.sync import sync_to_async

    station = await sync_to_async(charger)()
    grant = await sync_to_async(grant_for)(station)
    content = CONTENT + b"2.0"
    url = f"/f/{grant.token}/fw.bin"
    client = AsyncClient()
    head = await client.head(url)
    assert (head.status_code, head["Content-Length"]) == (200, str(len(content)))
    part = await client.get(url, headers={"Range": "bytes=0-299999"})
    body = b"".join([chunk async for chunk in part.streaming_content])
    assert (part.status_code, body) == (206, content[:300_000])
    assert (await sync_to_async(job_of)(station)).state == S.DOWNLOADING
    rest = await client.get(url, headers={"Range": "bytes=300000-"})
    assert rest["Content-Range"] == f"bytes 300000-{len(content) - 1}/{len(content)}"
    body += b"".join([chunk async for chunk in rest.streaming_content])
    assert body == content
    assert (await sync_to_async(job_of)(station)).state == S.DOWNLOADED
    past = await client.get(url, headers={"Range": f"bytes={len(content)}-"})
    assert (past.status_code, past["Content-Range"]) == (416, f"bytes */{len(content)}")


@pytest.mark.django_db(transaction=True)
async def test_revoking_a_grant_cuts_a_station_off_mid_file() -> None:
    from asgiref.sync import sync_to_async

    station = await sync_to_async(charger)()
    grant = await sync_to_async(grant_for)(station)
    client = AsyncClient()
    answer = await client.get(f"/f/{grant.token}/fw.bin")
    got = 0
    async for chunk in answer.streaming_content:
        got += len(chunk)
        await sync_to_async(jobs.revoke)(grant.job)
    assert got == downloads.CHUNK
    assert (await client.get(f"/f/{grant.token}/fw.bin")).status_code == 410
    assert (await client.get("/f/unknown/fw.bin")).status_code == 404
    assert (await client.get(f"/f/{grant.token}/other.bin")).status_code == 404


# --- the command line -----------------------------------------------------------------------------


def test_the_command_line_from_file_to_campaign(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import json

    station = charger()
    file = tmp_path / "fw.bin"
    file.write_bytes(CONTENT)
    call_command(
        "firmware",
        "add",
        str(file),
        "--vendor=ACME",
        "--model=AC1",
        "--version=2.0",
        "--json",
    )
    added = json.loads(capsys.readouterr().out)
    assert added["sha256"] == hashlib.sha256(CONTENT).hexdigest()
    assert (added["size"], added["signature_scheme"]) == (len(CONTENT), None)
    call_command(
        "campaigns", "start", "May", f"--image={added['id']}", "--all", "--approve", "--json"
    )
    capsys.readouterr()
    tick(2)
    call_command("campaigns", "show", "May", "--json")
    shown = json.loads(capsys.readouterr().out)
    assert (shown["name"], shown["state"]) == ("May", "running")
    (job,) = shown["jobs"]
    assert (job["station"], job["state"], job["target"]) == (
        station.identity,
        "dispatching",
        "2.0",
    )
    assert job["evidence"][-1]["text"] == "attempt 1"
    with pytest.raises(CommandError, match="no campaign “June”"):
        call_command("campaigns", "pause", "June")
    with pytest.raises(CommandError, match="no release 99"):
        call_command("campaigns", "start", "x", "--image=99", "--all")
    with pytest.raises(CommandError, match="No such station"):
        call_command("campaigns", "start", "x", f"--image={added['id']}", "--stations=NOPE")


# --- what monitoring is told ----------------------------------------------------------------------


def test_an_update_is_planned_maintenance_and_its_failure_an_incident() -> None:
    station = charger()
    running(station, max_attempts=1)
    tick(2)
    job = job_of(station)
    assert job.state == S.DISPATCHING
    window = MaintenanceWindow.objects.get(station=station)
    assert (window.ends_at, window.source) == (job.deadline_at, f"job-{job.pk}-{job.attempt}")
    begun = window.starts_at
    jobs.move(job, S.INSTALLING, JobEvent.Source.OCPP, "Installing")
    window.refresh_from_db()
    assert (window.starts_at, window.ends_at) == (begun, job_of(station).deadline_at)
    jobs.move(job_of(station), S.FAILED, JobEvent.Source.OCPP, "broken", failure="x")
    window.refresh_from_db()
    assert window.ends_at <= timezone.now()
    incident = Incident.objects.get()
    assert (incident.rule, incident.station, incident.state) == (
        "firmware-failed",
        station,
        "open",
    )
