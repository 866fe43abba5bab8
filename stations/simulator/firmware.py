"""Firmware updates and log uploads, with real HTTP (1.6 §5.19, security whitepaper L01, 2.0.1
L01/L02, N01).
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import logging
import re
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import httpx
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256

from stations.simulator.dialect import Message
from stations.simulator.model import Fate, Status

if TYPE_CHECKING:
    from stations.simulator.station import Station

log = logging.getLogger("stations.simulator")

STAY_AWAY_S = 10.0**9  # a bricked charge point: for as long as anybody looks


class DownloadError(Exception):
    """The image could not be fetched completely."""


@dataclass
class Update:
    """An ordered update. `request_id` is None for 1.6's plain UpdateFirmware."""

    location: str
    retrieve_at: datetime | None = None
    install_at: datetime | None = None
    retries: int = 1
    retry_interval_s: float = 10.0
    request_id: int | None = None
    certificate: str | None = None  # PEM
    signature: str | None = None  # base64 over the whole file, SHA-256

    @property
    def signed(self) -> bool:
        """Whether the image must pass a signature check."""
        return bool(self.certificate and self.signature)


def order(station: Station, update: Update) -> str:
    """Take an order; a running one is cancelled in its favour (AcceptedCanceled)."""
    if update.certificate and _certificate(update.certificate) is None:
        return "InvalidCertificate"
    running = station.firmware_task
    canceled = running is not None and not running.done()
    if running is not None and canceled:
        if station.firmware_last[0] in {"Installing", "InstallRebooting"}:
            return "Rejected"
        running.cancel()
    station.firmware_task = station.spawn(_update(station, update))
    return "AcceptedCanceled" if canceled else "Accepted"


def status_when_asked(station: Station) -> Message | None:
    """What a triggered FirmwareStatusNotification says: Idle after Installed, else the last
    (L01.FR.25/26).
    """
    status, request_id = station.firmware_last
    if status in {"Idle", "Installed"}:
        return station.dialect.firmware_status("Idle", None)
    return station.dialect.firmware_status(status, request_id)


def _report(station: Station, status: str, update: Update) -> None:
    if station.fate == Fate.STUCK and station.firmware_last[0] == "Downloading":
        return
    station.firmware_last = (status, update.request_id)
    if station.fate != Fate.NEVER_REPORTS:
        station.say(station.dialect.firmware_status(status, update.request_id), keep=True)


async def _update(station: Station, update: Update) -> None:
    fate = station.fate
    if update.retrieve_at is not None:
        wait = (update.retrieve_at - station.clock.now()).total_seconds()
        if wait > 1:
            _report(station, "DownloadScheduled", update)
            await asyncio.sleep(wait)
    _report(station, "Downloading", update)
    if fate == Fate.STUCK:
        return
    try:
        image = await _fetch(station, update)
        if fate == Fate.DOWNLOAD_FAILED:
            raise DownloadError("as ordained")
    except DownloadError as error:
        log.info("%s: download failed: %s", station.identity, error)
        _report(station, "DownloadFailed", update)
        return
    _report(station, "Downloaded", update)
    if update.signed:
        if fate == Fate.INVALID_SIGNATURE or not verify(image, update):
            _report(station, "InvalidSignature", update)
            station.say(
                station.dialect.security_event(
                    "InvalidFirmwareSignature", station.clock.now(), update.location[:255]
                ),
                keep=True,
            )
            return
        _report(station, "SignatureVerified", update)
    await _install(station, update, image)


async def _install(station: Station, update: Update, image: bytes) -> None:
    wait = 0.0
    if update.install_at is not None:
        wait = (update.install_at - station.clock.now()).total_seconds()
    if wait > 1 or station.transactions:
        _report(station, "InstallScheduled", update)
        await asyncio.sleep(max(0.0, wait))
        await station.idle.wait()
    _report(station, "Installing", update)
    for connector in station.connectors.values():
        if connector.status == Status.AVAILABLE:
            station.set_status(connector, Status.UNAVAILABLE)
    await station.clock.sleep(station.install_s)
    fate = station.fate
    if fate == Fate.INSTALLATION_FAILED:
        _restore(station)
        _report(station, "InstallationFailed", update)
        return
    if fate == Fate.WRONG_VERSION:
        _report(station, "Installed", update)
        _reboot(station, update, station.firmware, say_installed=False)
        return
    _report(station, "InstallRebooting", update)
    await asyncio.sleep(0.2)
    if fate == Fate.BRICKED:
        station.restart("FirmwareUpdate", away_s=STAY_AWAY_S)
        return
    _reboot(station, update, version_of(image, update.location), say_installed=True)
    if fate == Fate.BOOT_LOOP:
        for _ in range(4):
            await station.accepted.wait()
            await asyncio.sleep(1)
            station.restart("Watchdog", away_s=3)


def _restore(station: Station) -> None:
    for connector in station.connectors.values():
        if connector.status == Status.UNAVAILABLE:
            station.set_status(connector, Status.AVAILABLE)


def _reboot(station: Station, update: Update, version: str, *, say_installed: bool) -> None:
    station.firmware = version
    found = station.configuration.find("ChargingStation", "FirmwareVersion")
    if not isinstance(found, str):
        found.value = version
    for connector in station.connectors.values():
        if connector.status == Status.UNAVAILABLE and connector.operative:
            connector.status = Status.AVAILABLE
    if say_installed:
        station.after_boot.append(lambda: _report(station, "Installed", update))
    station.restart("FirmwareUpdate")


async def _fetch(station: Station, update: Update) -> bytes:
    """Download with Range resume; raises DownloadError after `retries` more attempts."""
    body = bytearray()
    problem = "no attempt"
    for attempt in range(update.retries + 1):
        if attempt:
            await station.clock.sleep(update.retry_interval_s)
        try:
            await _get(station, update.location, body)
            return bytes(body)
        except (httpx.HTTPError, httpx.InvalidURL, DownloadError) as error:
            problem = str(error) or type(error).__name__
    raise DownloadError(problem)


async def _get(station: Station, location: str, body: bytearray) -> None:
    if urlsplit(location).scheme not in {"http", "https"}:
        raise DownloadError(f"no such protocol: {location}")
    headers = {"Range": f"bytes={len(body)}-"} if body else {}
    async with (
        httpx.AsyncClient(timeout=30, follow_redirects=True, trust_env=False) as client,
        client.stream("GET", location, headers=headers) as answer,
    ):
        if answer.status_code == 200:
            body.clear()
        elif answer.status_code != 206:
            raise DownloadError(f"HTTP {answer.status_code}")
        async for chunk in answer.aiter_raw():
            body += chunk
            if station.fate == Fate.BOOT_MID_DOWNLOAD and station.booted:
                station.fate = Fate.OK
                station.restart("Watchdog", away_s=3)
                raise DownloadError("rebooted in the middle")
        digest = answer.headers.get("repr-digest", "")
    if digest.startswith("sha-256=:"):
        ours = base64.b64encode(hashlib.sha256(body).digest()).decode()
        if ours != digest.removeprefix("sha-256=:").rstrip(":"):
            body.clear()
            raise DownloadError("the checksum does not match")


def version_of(image: bytes, location: str) -> str:
    """The version an image carries: `version=…` near its beginning, else its file name."""
    inside = re.search(rb"version[=:]\s*([\w.+-]{1,50})", image[:4096])
    if inside is not None:
        return inside.group(1).decode()
    name = urlsplit(location).path.rsplit("/", 1)[-1].rsplit(".", 1)[0]
    found = re.search(r"\d+(?:\.\d+)+[\w.+-]*", name)
    return (found.group(0) if found else name)[:50] or "unknown"


def verify(image: bytes, update: Update) -> bool:
    """Whether the signature is the certificate's over `image`: RSA-PSS, RSA PKCS#1 v1.5 or ECDSA,
    SHA-256.
    """
    certificate = _certificate(update.certificate or "")
    if certificate is None:
        return False
    key = certificate.public_key()
    try:
        signature = base64.b64decode(update.signature or "", validate=True)
    except ValueError:
        return False
    if isinstance(key, ec.EllipticCurvePublicKey):
        try:
            key.verify(signature, image, ec.ECDSA(SHA256()))
        except InvalidSignature:
            return False
        return True
    if isinstance(key, rsa.RSAPublicKey):
        pss = padding.PSS(padding.MGF1(SHA256()), padding.PSS.AUTO)
        for scheme in (pss, padding.PKCS1v15()):
            try:
                key.verify(signature, image, scheme, SHA256())
            except InvalidSignature:
                continue
            return True
    return False


def _certificate(pem: str) -> x509.Certificate | None:
    try:
        return x509.load_pem_x509_certificate(pem.encode())
    except ValueError:
        return None


async def upload_log(station: Station, location: str, name: str, request_id: int | None) -> None:
    """Make a log and PUT it to `location` (into it, where that ends with a slash), telling how it
    goes.
    """
    station.say(station.dialect.log_status("Uploading", request_id))
    lines = [
        {"at": station.current_time(), "identity": station.identity, "firmware": station.firmware},
        *({"order": action, "payload": payload} for action, payload in station.calls[-200:]),
    ]
    body = "\n".join(json.dumps(line) for line in lines).encode()
    target = location + name if location.endswith("/") else location
    status = "Uploaded"
    try:
        async with httpx.AsyncClient(timeout=30, trust_env=False) as client:
            answer = await client.put(target, content=body)
        if answer.is_error:
            status = "PermissionDenied" if answer.status_code in {401, 403} else "UploadFailure"
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        log.info("%s: upload failed: %s", station.identity, error)
        status = "UploadFailure"
    station.say(station.dialect.log_status(status, request_id), keep=True)
