"""Certificates of stations: our own authority, what it signs, what stations have installed.

The authority's key is a row, encrypted with a key derived from SECRET_KEY: whoever has the
database alone cannot sign. Everything cryptographic is the `cryptography` package's.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.fernet import Fernet, InvalidToken
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from django.conf import settings
from django.db import transaction
from django.utils import timezone

from stations import journal, live
from stations.models import Authority, Certificate, Station
from stations.state import try_advance

AUTHORITY_VALID: Final = timedelta(days=3650)
CERTIFICATE_VALID: Final = timedelta(days=398)
BACKDATED: Final = timedelta(minutes=5)  # a charger's clock may be behind
LEAST_RSA_BITS: Final = 2048  # A00.FR.501
LEAST_EC_BITS: Final = 224
_ISSUING: Final = x509.KeyUsage(
    digital_signature=False, content_commitment=False, key_encipherment=False,
    data_encipherment=False, key_agreement=False, key_cert_sign=True, crl_sign=True,
    encipher_only=False, decipher_only=False,
)  # fmt: skip
_SIGNING: Final = x509.KeyUsage(
    digital_signature=True, content_commitment=False, key_encipherment=False,
    data_encipherment=False, key_agreement=True, key_cert_sign=False, crl_sign=False,
    encipher_only=False, decipher_only=False,
)  # fmt: skip


class CertificateError(Exception):
    """Something is wrong with a certificate or a request for one.

    CertificateError
     ├── BadRequest      the station's CSR cannot be signed; the text says why
     └── NoAuthority     there is no authority of ours yet
    """


class BadRequest(CertificateError):
    """The CSR cannot be signed."""


class NoAuthority(CertificateError):
    """There is no authority of ours yet: create one in the back office."""


# --- the authority -------------------------------------------------------------------------------


def create_authority(name: str) -> Authority:
    """Make a new authority (EC P-256, ten years); it signs from now on, older ones stay trusted."""
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.now(UTC)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(now + AUTHORITY_VALID)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_ISSUING, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    packed = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    with transaction.atomic():
        row = Authority.objects.create(
            name=name,
            pem=_pem(certificate),
            key=_box().encrypt(packed).decode(),
            not_after=certificate.not_valid_after_utc,
        )
        journal.record("authority.created", row, name=name)
    return row


def trusted_pem() -> str:
    """Return the certificates of all our authorities: what TLS verifies chargers with."""
    return "".join(Authority.objects.values_list("pem", flat=True))


def _signer() -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    row = Authority.objects.filter(not_after__gt=timezone.now()).first()
    if row is None:
        raise NoAuthority("Create a certificate authority first (Certificates).")
    try:
        packed = _box().decrypt(row.key.encode())
    except InvalidToken:
        raise NoAuthority("The authority's key belongs to another SECRET_KEY.") from None
    key = serialization.load_pem_private_key(packed, None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)  # noqa: S101
    return x509.load_pem_x509_certificate(row.pem.encode()), key


def _box() -> Fernet:
    derived = HKDF(hashes.SHA256(), 32, None, b"stations.certificates").derive(
        settings.SECRET_KEY.encode()
    )
    return Fernet(base64.urlsafe_b64encode(derived))


# --- signing -------------------------------------------------------------------------------------


def sign(station: Station, csr_pem: str, use: str = Certificate.Use.STATION) -> Certificate:
    """Sign a station's request and keep the certificate as issued (A02, A03; 1.6 A02).

    Raises BadRequest for a CSR that is broken, weak or speaks for another station, NoAuthority.
    """
    request = _checked(csr_pem)
    if use == Certificate.Use.STATION and _common_name(request.subject) != station.identity:
        raise BadRequest(f"The request's common name is not {station.identity}.")
    issuer, key = _signer()
    now = datetime.now(UTC)
    until = min(now + CERTIFICATE_VALID, issuer.not_valid_after_utc)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(request.subject)
        .issuer_name(issuer.subject)
        .public_key(request.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(until)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_SIGNING, critical=True)
        .add_extension(
            x509.ExtendedKeyUsage([
                ExtendedKeyUsageOID.CLIENT_AUTH
                if use == Certificate.Use.STATION
                else ExtendedKeyUsageOID.SERVER_AUTH
            ]),
            critical=False,
        )
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False
        )
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    return Certificate.objects.create(
        station=station,
        use=use,
        pem=_pem(certificate) + _pem(issuer),
        **_described(certificate),
        at=timezone.now(),
    )


def _checked(csr_pem: str) -> x509.CertificateSigningRequest:
    try:
        request = x509.load_pem_x509_csr(csr_pem.encode())
        request.is_signature_valid  # noqa: B018  # raises for algorithms nobody knows
    except (ValueError, InvalidSignature) as error:
        raise BadRequest("This is no certificate signing request (PEM).") from error
    if not request.is_signature_valid:
        raise BadRequest("The request is not signed with its own key.")
    key = request.public_key()
    if isinstance(key, rsa.RSAPublicKey):
        strong = key.key_size >= LEAST_RSA_BITS
    else:
        strong = isinstance(key, ec.EllipticCurvePublicKey) and key.key_size >= LEAST_EC_BITS
    if not strong:
        raise BadRequest("The request's key is too weak: RSA from 2048 bits, or an elliptic curve.")
    return request


@transaction.atomic
def answered(certificate_id: int, taken: bool) -> None:
    """Note whether the station took what we signed; the one before it is replaced."""
    row = Certificate.objects.filter(pk=certificate_id).first()
    if row is None:
        return
    target = Certificate.State.ACTIVE if taken else Certificate.State.REFUSED
    if not try_advance(Certificate.objects.filter(pk=row.pk), target, at=timezone.now()):
        return
    if taken:
        older = Certificate.objects.filter(
            station=row.station_id, use=row.use, state=Certificate.State.ACTIVE, pk__lt=row.pk
        )
        for pk in older.values_list("pk", flat=True):
            try_advance(Certificate.objects.filter(pk=pk), Certificate.State.REPLACED)
    journal.record(
        "certificate.taken" if taken else "certificate.refused",
        row,
        station_id=row.station_id,
        use=row.use,
        serial=row.serial,
    )
    live.touch(f"station-{row.station_id}")


@transaction.atomic
def revoke(certificate: Certificate) -> bool:
    """Trust a certificate of ours no more: its bearer is turned away at the next connection."""
    rows = Certificate.objects.filter(pk=certificate.pk)
    if not try_advance(rows, Certificate.State.REVOKED, at=timezone.now()):
        return False
    journal.record(
        "certificate.revoked", certificate, station_id=certificate.station_id,
        serial=certificate.serial,
    )  # fmt: skip
    return True


def is_revoked(station_id: int, serial: str) -> bool:
    """Tell whether the certificate of this serial number (hexadecimal) was revoked."""
    return Certificate.objects.filter(
        station=station_id, serial=normal_serial(serial), state=Certificate.State.REVOKED
    ).exists()


def normal_serial(text: str) -> str:
    """Return a hexadecimal serial number without colons, case or leading zeros."""
    return text.replace(":", "").strip().lower().lstrip("0")


# --- what stations have installed ----------------------------------------------------------------


@transaction.atomic
def installed(station_id: int, use: str, pem: str) -> None:
    """Keep a root certificate that a station has installed for us (M05)."""
    certificate = x509.load_pem_x509_certificate(pem.encode())
    row, created = Certificate.objects.get_or_create(
        station_id=station_id,
        use=use,
        fingerprint=certificate.fingerprint(hashes.SHA256()).hex(),
        defaults={
            "state": Certificate.State.ACTIVE,
            "pem": _pem(certificate),
            "hash_data": hash_data(certificate),
            "at": timezone.now(),
            **_described(certificate),
        },
    )
    if not created and row.state != Certificate.State.ACTIVE:
        row.state, row.at = Certificate.State.ACTIVE, timezone.now()
        row.save(update_fields=["state", "at"])
    journal.record("certificate.installed", row, station_id=station_id, use=use)
    live.touch(f"station-{station_id}")


@transaction.atomic
def removed(station_id: int, data: Mapping[str, Any]) -> None:
    """Note that a station has deleted the certificate of this hash data (M04)."""
    for row in Certificate.objects.filter(station=station_id, state=Certificate.State.ACTIVE):
        if _same(row, data):
            try_advance(
                Certificate.objects.filter(pk=row.pk), Certificate.State.REMOVED, at=timezone.now()
            )
            journal.record("certificate.removed", row, station_id=station_id, use=row.use)
    live.touch(f"station-{station_id}")


@transaction.atomic
def reported(
    station_id: int, found: Sequence[tuple[str, Mapping[str, Any]]], uses: Sequence[str]
) -> None:
    """Keep what a station says it has installed of these uses (all where none is named) (M03)."""
    rows = list(Certificate.objects.filter(station=station_id, state=Certificate.State.ACTIVE))
    seen = set()
    for use, data in found:
        known = next((row for row in rows if row.use == use and _same(row, data)), None)
        if known is None:
            known = Certificate.objects.create(
                station_id=station_id, use=use, state=Certificate.State.ACTIVE,
                serial=normal_serial(str(data.get("serialNumber", "")))[:64],
                hash_data=dict(data), at=timezone.now(),
            )  # fmt: skip
        elif not known.hash_data:
            Certificate.objects.filter(pk=known.pk).update(hash_data=dict(data))
        seen.add(known.pk)
    for row in rows:
        asked = row.use in uses if uses else row.use != Certificate.Use.STATION
        if asked and row.pk not in seen and row.use != Certificate.Use.STATION:
            try_advance(
                Certificate.objects.filter(pk=row.pk), Certificate.State.REMOVED, at=timezone.now()
            )
    live.touch(f"station-{station_id}")


def _same(row: Certificate, data: Mapping[str, Any]) -> bool:
    serial = normal_serial(str(data.get("serialNumber", "")))
    if normal_serial(row.serial) != serial:
        return False
    mine = row.hash_data
    if not mine or mine.get("hashAlgorithm") != data.get("hashAlgorithm"):
        return True
    return str(mine["issuerKeyHash"]).lower() == str(data.get("issuerKeyHash", "")).lower()


def hash_data(certificate: x509.Certificate) -> dict[str, str]:
    """Return CertificateHashDataType of a self-signed certificate (SHA-256; RFC 6960 §4.1.1)."""
    name = hashes.Hash(hashes.SHA256())
    name.update(certificate.issuer.public_bytes())
    key = certificate.public_key()  # its bits alone, without tag, length and unused bits
    if isinstance(key, ec.EllipticCurvePublicKey):
        kind = serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
    elif isinstance(key, rsa.RSAPublicKey):
        kind = serialization.Encoding.DER, serialization.PublicFormat.PKCS1
    else:
        kind = serialization.Encoding.Raw, serialization.PublicFormat.Raw
    bits = key.public_bytes(*kind)
    public = hashes.Hash(hashes.SHA256())
    public.update(bits)
    return {
        "hashAlgorithm": "SHA256",
        "issuerNameHash": name.finalize().hex(),
        "issuerKeyHash": public.finalize().hex(),
        "serialNumber": f"{certificate.serial_number:x}",
    }


def read(pem: str) -> x509.Certificate:
    """Return the first certificate of a PEM text; raises CertificateError."""
    try:
        return x509.load_pem_x509_certificate(pem.encode())
    except ValueError:
        raise CertificateError("This is no certificate (PEM).") from None


def _described(certificate: x509.Certificate) -> dict[str, Any]:
    return {
        "subject": certificate.subject.rfc4514_string()[:300],
        "issuer": certificate.issuer.rfc4514_string()[:300],
        "fingerprint": certificate.fingerprint(hashes.SHA256()).hex(),
        "serial": f"{certificate.serial_number:x}",
        "not_before": certificate.not_valid_before_utc,
        "not_after": certificate.not_valid_after_utc,
    }


def _common_name(name: x509.Name) -> str:
    found = name.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(found[0].value) if found else ""


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()
