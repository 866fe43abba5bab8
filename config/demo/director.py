"""What the demo's operator does: reads configurations, rolls out firmware, reboots a station."""

from __future__ import annotations

import asyncio
import base64
import datetime as dt
import logging
import random
from collections.abc import Awaitable, Callable

from channels.db import database_sync_to_async
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from django.conf import settings
from django.core.files.base import ContentFile
from django.utils import timezone

from config.demo import visitors
from config.demo.places import PILLAR, POSTS
from firmware import campaigns, images
from firmware.models import Campaign, FirmwareImage
from monitoring.models import Session
from stations import commands
from stations.models import Station
from stations.simulator.fleet import Member
from stations.simulator.model import Fate
from stations.simulator.scenarios import FAULTS

log = logging.getLogger(__name__)

IMAGE_BYTES = 400_000
# Seconds after the stations are there. The first minute is crowded on purpose.
READ_S, ROLL_OUT_S, REBOOT_S, FAULT_S, GUESTS_S = 1, 2, 4, 6, 10
FAULT_LASTS_S = 25
THINK_S, NEXT_CAMPAIGN_S = 150, 900  # with a failed wave; between two campaigns
REBOOTS_S, RETRY_S = (120, 300), 5


async def direct(members: list[Member], url: str, number: int) -> None:
    """Work until cancelled, with guests coming and going. An error is logged, the work goes on."""
    await asyncio.gather(*(member.station.accepted.wait() for member in members))
    draw = random.Random(number)  # noqa: S311  a story, to be repeatable
    async with asyncio.TaskGroup() as group:
        group.create_task(_work(READ_S, _read_configurations))
        group.create_task(_work(ROLL_OUT_S, lambda: _roll_out(members)))
        group.create_task(_work(REBOOT_S, lambda: _reboot(draw)))
        group.create_task(_work(FAULT_S, lambda: _break(members)))
        if settings.PAYMENT_SANDBOX:
            guests = random.Random(number)  # noqa: S311
            group.create_task(visitors.come_and_go(url, guests, after_s=GUESTS_S))


async def _work(first_s: float, turn: Callable[[], Awaitable[float | None]]) -> None:
    """Do `turn` again and again; it returns after how many seconds, None ends it."""
    pause: float | None = first_s
    while pause is not None:
        await asyncio.sleep(pause)
        try:
            pause = await turn()
        except Exception:  # a demo goes on whatever stumbles
            log.exception("The demo's operator stumbled.")
            pause = RETRY_S


# --- configuration and faults --------------------------------------------------------------------


async def _read_configurations() -> None:
    """Ask every station for its settings that has never told them."""
    await database_sync_to_async(_order_readings)()


def _order_readings() -> None:
    for station in Station.objects.filter(variables=None, connected=True).order_by("identity"):
        if station.version == "1.6":
            commands.send(station, "get_configuration")
        else:
            commands.send(station, "get_report", base="FullInventory")


async def _break(members: list[Member]) -> None:
    """Let a residual current trip a connector, and somebody put it right: an incident that heals.

    Later faults are the station's own (the scenario `faulty`), of kinds that need five minutes
    before anybody is told.
    """
    lives = {post.identity: post.life for post in POSTS}
    victim = next(one.station for one in members if lives[one.station.identity] == "faulty")
    victim.fault(1, FAULTS[0])
    await asyncio.sleep(FAULT_LASTS_S)
    victim.clear_fault(1)


# --- firmware ------------------------------------------------------------------------------------


async def _roll_out(members: list[Member]) -> float:
    """One campaign from start to end: a wave fails, somebody looks, it goes on."""
    campaign = await database_sync_to_async(_campaign)()
    while True:
        await asyncio.sleep(2)
        state = await database_sync_to_async(_state)(campaign)
        if state in Campaign.State.terminal():
            break
        if state == Campaign.State.PAUSED:
            await asyncio.sleep(THINK_S)
            for member in members:
                member.station.fate = Fate.OK
            await database_sync_to_async(_go_on)(campaign)
    fates = {post.identity: Fate(post.fate) for post in POSTS}
    for member in members:
        member.station.fate = fates[member.station.identity]
    return NEXT_CAMPAIGN_S


def _campaign() -> Campaign:
    """The campaign under way, or a new one for a new release."""
    running = Campaign.objects.exclude(state__in=Campaign.State.terminal()).first()
    if running is not None:
        return running
    image = release()
    campaign = campaigns.create(
        f"{image.model} to {image.version}",
        image,
        Station.objects.filter(vendor=PILLAR.vendor, model=PILLAR.model),
        waves=["1", "50%", "100%"],
        concurrency=4,
        site_concurrency=2,
        bake_s=3,
        probation_s=4,
        max_attempts=1,
        retry_s=30,
        install_timeout_s=240,
        download_timeout_s=240,
        max_failures_percent=0,
    )
    campaigns.start(campaign)
    return campaign


def release() -> FirmwareImage:
    """Upload the next signed release of the pillar."""
    count = FirmwareImage.objects.filter(vendor=PILLAR.vendor, model=PILLAR.model).count()
    version = f"2.4.{count}"
    content = f"version={version}\n".encode() + random.Random(count).randbytes(IMAGE_BYTES)  # noqa: S311
    certificate, signature = _sign(content)
    return images.add(
        ContentFile(content, name=f"pillar22-{version}.bin"),
        vendor=PILLAR.vendor,
        model=PILLAR.model,
        version=version,
        signature=signature,
        certificate=certificate,
        notes="Fixes the display after a power cut.",
    )


def _sign(content: bytes) -> tuple[str, str]:
    """A certificate of the maker (PEM) and its signature of `content` (base64)."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, PILLAR.vendor)])
    now = timezone.now()
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=3650))
        .sign(key, SHA256())
    )
    signature = key.sign(content, ec.ECDSA(SHA256()))
    return certificate.public_bytes(Encoding.PEM).decode(), base64.b64encode(signature).decode()


def _state(campaign: Campaign) -> str:
    campaign.refresh_from_db()
    return campaign.state


def _go_on(campaign: Campaign) -> None:
    """Somebody looked: one station's flash was worn, the release is fine."""
    campaign.refresh_from_db()
    if campaign.state == Campaign.State.PAUSED:
        campaigns.resume(campaign, "One station's flash memory was worn; the release is fine.")


# --- reboots -------------------------------------------------------------------------------------


async def _reboot(draw: random.Random) -> float:
    """Order some connected station without a session to reboot."""
    ordered = await database_sync_to_async(_order_reboot)(draw)
    return draw.uniform(*REBOOTS_S) if ordered else RETRY_S


def _order_reboot(draw: random.Random) -> bool:
    busy = Session.objects.filter(stopped_at=None).values("station")
    able = Station.objects.filter(connected=True).exclude(pk__in=busy)
    able = able.exclude(model=PILLAR.model)  # those are being updated
    stations = list(able.order_by("identity"))
    lives = {post.identity: post.life for post in POSTS}
    # where drivers come and go, one may be plugging in just now: the restart would wait for them
    calm = [one for one in stations if lives.get(one.identity) == "quiet"]
    if stations:
        commands.send(draw.choice(calm or stations), "reset", hard=False, expires_in_s=60)
    return bool(stations)
