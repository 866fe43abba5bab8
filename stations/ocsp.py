"""Asking certificate authorities whether a certificate still holds (OCSP, RFC 6960).

Stations ask us to (2.x M06, 2.1 A…): the responder's address comes from the certificate they
look at, so only public addresses are asked, and nothing is followed.
"""

from __future__ import annotations

import base64
import http.client
import ipaddress
import socket
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509 import ocsp
from django.conf import settings

TIMEOUT_S: Final = 8.0
MAX_BYTES: Final = 20_000
ALGORITHMS: Final[dict[str, type[hashes.HashAlgorithm]]] = {
    "SHA256": hashes.SHA256, "SHA384": hashes.SHA384, "SHA512": hashes.SHA512,
}  # fmt: skip
WORDS: Final = {
    ocsp.OCSPCertStatus.GOOD: "Good",
    ocsp.OCSPCertStatus.REVOKED: "Revoked",
    ocsp.OCSPCertStatus.UNKNOWN: "Unknown",
}


class NoAnswer(Exception):
    """The responder cannot be asked, or did not answer as RFC 6960 says."""


@dataclass(frozen=True, slots=True)
class Status:
    """What a responder said; `result` is its whole answer (DER, base64), as 2.x hands it on."""

    word: str  # Good, Revoked, Unknown
    result: str
    next_update: datetime | None


def ask(data: dict[str, Any], url: str) -> Status:
    """Ask a responder about a certificate (CertificateHashDataType); raises NoAnswer."""
    try:
        request = (
            ocsp.OCSPRequestBuilder()
            .add_certificate_by_hash(
                bytes.fromhex(data["issuerNameHash"]),
                bytes.fromhex(data["issuerKeyHash"]),
                int(data["serialNumber"], 16),
                ALGORITHMS[data["hashAlgorithm"]](),
            )
            .build()
        )
    except (ValueError, KeyError, OverflowError) as error:
        raise NoAnswer(f"This is no certificate's hash data: {error}") from None
    body = _post(url, request.public_bytes(serialization.Encoding.DER))
    try:
        answer = ocsp.load_der_ocsp_response(body)
        if answer.response_status is not ocsp.OCSPResponseStatus.SUCCESSFUL:
            raise NoAnswer(f"The responder refused: {answer.response_status.name}.")
        if answer.serial_number != int(data["serialNumber"], 16):
            raise NoAnswer("The responder answered about another certificate.")
        word, until = WORDS[answer.certificate_status], answer.next_update_utc
    except (ValueError, x509.InvalidVersion) as error:
        raise NoAnswer(f"The responder's answer cannot be read: {error}") from None
    return Status(word, base64.b64encode(body).decode(), until)


def _post(url: str, body: bytes) -> bytes:
    target = urlsplit(url)
    if target.scheme not in ("http", "https") or not target.hostname:
        raise NoAnswer("A responder's address begins with http:// or https://.")
    port = target.port or (443 if target.scheme == "https" else 80)
    kind = http.client.HTTPSConnection if target.scheme == "https" else http.client.HTTPConnection
    try:
        _check_public(target.hostname, port)
        connection = kind(target.hostname, port, timeout=TIMEOUT_S)
        try:
            connection.request(
                "POST", target.path or "/", body, {"Content-Type": "application/ocsp-request"}
            )
            answer = connection.getresponse()
            if answer.status != 200:
                raise NoAnswer(f"The responder answered {answer.status}.")
            return answer.read(MAX_BYTES)
        finally:
            connection.close()
    except (OSError, http.client.HTTPException) as error:
        raise NoAnswer(f"The responder cannot be reached: {error}") from None


def _check_public(host: str, port: int) -> None:
    """Raise NoAnswer where a name leads into a private network (but those that may be asked)."""
    if host in settings.WEBHOOK_PRIVATE_HOSTS:
        return
    for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        address = ipaddress.ip_address(str(entry[4][0]).partition("%")[0])
        if not address.is_global or address.is_multicast:
            raise NoAnswer(f"{host} leads into a private network.")
