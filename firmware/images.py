"""Releases: taking one in, checking its signature, and which stations it is for.

ImageError
 ├── SignatureInvalid   the signature does not verify with the certificate, or a part is missing
 └── AlreadyThere       this vendor, model and version were uploaded before
"""

import base64
import binascii
import hashlib
import re
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, utils
from django.core.files import File
from django.db import IntegrityError, transaction
from django.db.models import Q
from django.db.models.functions import Lower
from django.utils.translation import gettext as _

from firmware.models import FirmwareImage
from stations import journal
from stations.models import Station

if TYPE_CHECKING:
    from stations.models import User

CHUNK = 1024 * 1024
MAX_SIGNATURE = 800  # characters of base64, OCPP 1.6 security whitepaper and 2.0.1
MAX_CERTIFICATE = 5500


class ImageError(Exception):
    """A release cannot be taken in; the text says what to do."""


class SignatureInvalid(ImageError):
    """The signature does not verify with the certificate."""


class AlreadyThere(ImageError):
    """The same vendor, model and version are there already."""


def detect_scheme(digest: bytes, certificate_pem: str, signature_b64: str) -> str:
    """Return the scheme (FirmwareImage.Scheme) that verifies the signature over a SHA-256 digest.

    Tries ECDSA, RSA-PSS and RSA PKCS#1 v1.5: real chargers differ from L01.FR.04. Raises
    SignatureInvalid with what is wrong.
    """
    try:
        certificate = x509.load_pem_x509_certificate(certificate_pem.encode())
        signature = base64.b64decode(signature_b64, validate=True)
    except (ValueError, binascii.Error) as error:
        raise SignatureInvalid(
            _("The certificate must be PEM and the signature base64 (%(error)s).")
            % {"error": error}
        ) from error
    if len(signature_b64) > MAX_SIGNATURE or len(certificate_pem) > MAX_CERTIFICATE:
        raise SignatureInvalid(
            _("OCPP carries at most 800 characters of signature and 5500 of certificate.")
        )
    hashed = utils.Prehashed(hashes.SHA256())
    key = certificate.public_key()
    try:
        if isinstance(key, ec.EllipticCurvePublicKey):
            key.verify(signature, digest, ec.ECDSA(hashed))
            return FirmwareImage.Scheme.ECDSA
        if not isinstance(key, rsa.RSAPublicKey):
            raise SignatureInvalid(_("The certificate's key is neither RSA nor elliptic curve."))
        try:
            pss = padding.PSS(padding.MGF1(hashes.SHA256()), padding.PSS.AUTO)
            key.verify(signature, digest, pss, hashed)
        except InvalidSignature:
            key.verify(signature, digest, padding.PKCS1v15(), hashed)
            return FirmwareImage.Scheme.RSA_PKCS1
        return FirmwareImage.Scheme.RSA_PSS
    except InvalidSignature as error:
        raise SignatureInvalid(
            _("The signature does not belong to this file and certificate.")
        ) from error


@dataclass(frozen=True, slots=True)
class FileFacts:
    """What reading a release's file once tells. `scheme` is FirmwareImage.Scheme, "" unsigned."""

    size: int
    sha256: str
    md5: str
    scheme: str


def verify(file: "File[bytes]", signature: str, certificate: str) -> FileFacts:
    """Read the file once, check its signature, rewind it. Raises ImageError."""
    signature, certificate = "".join(signature.split()), certificate.strip()
    if bool(signature) != bool(certificate):
        raise SignatureInvalid(_("Give the signature and the certificate, or neither."))
    sha256, md5, size = hashlib.sha256(), hashlib.md5(usedforsecurity=False), 0
    for chunk in file.chunks(CHUNK):
        sha256.update(chunk)
        md5.update(chunk)
        size += len(chunk)
    file.seek(0)
    if not size:
        raise ImageError(_("The file is empty."))
    scheme = detect_scheme(sha256.digest(), certificate, signature) if signature else ""
    return FileFacts(size, sha256.hexdigest(), md5.hexdigest(), scheme)


def add(
    file: "File[bytes]",
    *,
    vendor: str,
    model: str = "",
    version: str,
    signature: str = "",
    certificate: str = "",
    notes: str = "",
    also_reported_as: list[str] | None = None,
    by: "User | None" = None,
) -> FirmwareImage:
    """Take in a release and return it. `signature` is base64, `certificate` PEM; both or neither.

    Raises ImageError.
    """
    file_facts = verify(file, signature, certificate)
    image = FirmwareImage(
        vendor=vendor.strip(),
        model=model.strip(),
        version=version.strip(),
        also_reported_as=also_reported_as or [],
        filename=_safe_name(file.name or "firmware.bin"),
        size=file_facts.size,
        sha256=file_facts.sha256,
        md5=file_facts.md5,
        signature="".join(signature.split()),
        certificate=certificate.strip(),
        signature_scheme=file_facts.scheme,
        notes=notes,
        created_by=by,
    )
    try:
        with transaction.atomic():
            image.file.save(image.filename, file, save=False)
            image.save()
            journal.record("firmware.added", image, version=image.version, sha256=image.sha256)
    except IntegrityError as error:
        raise AlreadyThere(_("%(image)s is there already.") % {"image": image}) from error
    return image


def read_signature(raw: bytes) -> str:
    """Return a signature file's content as base64 text: it may be base64 already, or binary."""
    try:
        text = "".join(raw.decode("ascii").split())
        base64.b64decode(text, validate=True)
    except (UnicodeDecodeError, binascii.Error):
        return base64.b64encode(raw).decode()
    return text


def _safe_name(name: str) -> str:
    """Return a file name that survives URLs and chargers: the extension matters to some."""
    return re.sub(r"[^A-Za-z0-9._-]+", "_", Path(name).name)[-80:] or "firmware.bin"


def normalise(version: str) -> str:
    """Return a version as compared: trimmed, case-folded, without a leading v."""
    return re.sub(r"^v(?=\d)", "", version.strip().casefold())


def is_version(image: FirmwareImage, reported: str) -> bool:
    """Tell whether a reported firmware version is this image's."""
    known = {normalise(image.version), *map(normalise, map(str, image.also_reported_as))}
    return normalise(reported) in known


def fits(image: FirmwareImage, station: Station) -> bool:
    """Tell whether the image is for this station's vendor and model (compared without case)."""
    return image.vendor.casefold() == station.vendor.casefold() and (
        not image.model or image.model.casefold() == station.model.casefold()
    )


def newest() -> dict[tuple[str, str], FirmwareImage]:
    """Return (vendor, model), case-folded → the newest release not withdrawn; model may be ""."""
    return {
        (image.vendor.casefold(), image.model.casefold()): image
        for image in FirmwareImage.objects.filter(withdrawn=False).order_by("id")
    }


def behind() -> dict[FirmwareImage, list[Station]]:
    """Return each newest release with the stations that fit it and report another version.

    A release for the station's very model wins over one for all models of the vendor.
    """
    found: dict[FirmwareImage, list[Station]] = defaultdict(list)
    releases = newest()
    makes = Q(pk__in=[])
    for vendor, _model in releases:
        makes |= Q(vendor_key=vendor)
    stations = (
        Station.objects.annotate(vendor_key=Lower("vendor"))
        .filter(makes, state=Station.State.ACCEPTED)
        .exclude(firmware="")
        .select_related("site")
    )
    for station in stations:
        vendor = station.vendor.casefold()
        image = releases.get((vendor, station.model.casefold())) or releases.get((vendor, ""))
        if image and not is_version(image, station.firmware):
            found[image].append(station)
    return dict(found)
