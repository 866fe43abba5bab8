"""What the demo's operator does: roll out firmware, look at a failed wave, reboot a station."""

from __future__ import annotations

import asyncio
import base64
import datetime as dt
import logging
import random

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
from stations import commands
from stations.models import Station
from stations.simulator.fleet import Member
from stations.simulator.model import Fate

log = logging.getLogger(__name__)

IMAGE_BYTES = 400_000
FIRST_AFTER_S, THINK_S, NEXT_AFTER_S = 15, 150, 900
REBOOT_S = (120, 300)


async def direct(members: list[Member], url: str, number: int) -> None:
    """Work until cancelled, with guests coming and going. An error is logged, the work goes on."""
    async with asyncio.TaskGroup() as group:
        group.create_task(_for_ever(lambda: _roll_out(members), FIRST_AFTER_S, NEXT_AFTER_S))
        draw = random.Random(number)  # noqa: S311  a story, to be repeatable
        if settings.PAYMENT_SANDBOX:
            group.create_task(visitors.come_and_go(url, random.Random(number)))  # noqa: S311
        group.create_task(_for_ever(lambda: _reboot(draw), 60, REBOOT_S[0], REBOOT_S[1], draw))


async def _for_ever(
    work: object, first_s: float, least_s: float, most_s: float | None = None,
    draw: random.Random | None = None,
) -> None:  # fmt: skip
    await asyncio.sleep(first_s)
    while True:
        try:
            await work()  # type: ignore[operator]
        except Exception:
            log.exception("The demo's operator stumbled.")
        pause = least_s if most_s is None or draw is None else draw.uniform(least_s, most_s)
        await asyncio.sleep(pause)


# --- firmware ------------------------------------------------------------------------------------


async def _roll_out(members: list[Member]) -> None:
    """One campaign from start to end: a wave fails, somebody looks, it goes on."""
    campaign = await database_sync_to_async(_campaign)()
    while True:
        await asyncio.sleep(5)
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
        bake_s=5,
        probation_s=10,
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
        Campaign.objects.filter(pk=campaign.pk).update(max_failures_percent=50)
        campaigns.resume(campaign, "One station's flash memory was worn; the release is fine.")


# --- reboots -------------------------------------------------------------------------------------


async def _reboot(draw: random.Random) -> None:
    """Order some connected station without a session to reboot."""
    await database_sync_to_async(_order_reboot)(draw)


def _order_reboot(draw: random.Random) -> None:
    able = Station.objects.filter(connected=True).exclude(sessions__stopped_at=None)
    able = able.exclude(model=PILLAR.model)  # those are being updated
    stations = list(able.order_by("identity"))
    if stations:
        commands.send(draw.choice(stations), "reset", hard=False, expires_in_s=60)
