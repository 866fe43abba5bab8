"""Certificates: our authority signs what it may, TLS and mTLS for real, natively and by nginx."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID
from django.utils import timezone
from websockets.exceptions import InvalidStatus

from deploy.servers import MissingServerError, Nginx, free_port
from monitoring.rules import RULES, Context
from stations import certificates, security
from stations.models import Authority, Certificate, Command, Entry, Station
from tests import make
from tests.conftest import missing
from tests.gateway import Raw, db, gateway, raw
from tests.test_commands_delivery import answer, ended, take
from tests.test_passwords import basic

on_the_wire = pytest.mark.django_db(transaction=True)


def request_for(name: str, key: Any = None) -> tuple[str, Any]:
    """A CSR (PEM) and its key."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([
        x509.NameAttribute(NameOID.COMMON_NAME, name),
        x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Acme"),
    ])  # fmt: skip
    csr = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    return csr.public_bytes(serialization.Encoding.PEM).decode(), key


# --- the authority ------------------------------------------------------------------------------


@pytest.mark.django_db
def test_the_authority_signs_a_stations_request_and_the_chain_verifies() -> None:
    authority = certificates.create_authority("Charge & Go CA")
    station = make.station(identity="CP1")
    made = certificates.sign(station, request_for("CP1")[0])
    leaf, root = x509.load_pem_x509_certificates(made.pem.encode())
    leaf.verify_directly_issued_by(root)
    assert root.public_bytes(serialization.Encoding.PEM).decode() == authority.pem
    assert (made.subject, made.state) == ("O=Acme,CN=CP1", "issued")
    assert "PRIVATE" not in authority.key  # encrypted


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("csr", "why"),
    [
        (request_for("CP2")[0], "common name is not CP1"),
        (request_for("CP1", rsa.generate_private_key(65537, 1024))[0], "too weak"),
        ("-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----", "no cert"),
    ],
)
def test_what_speaks_for_others_or_is_weak_or_broken_is_not_signed(csr: str, why: str) -> None:
    certificates.create_authority("CA")
    with pytest.raises(certificates.BadRequest, match=why):
        certificates.sign(make.station(identity="CP1"), csr)


@pytest.mark.django_db
def test_without_an_authority_nothing_is_signed_and_another_secret_key_opens_none(
    settings: Any,
) -> None:
    station = make.station(identity="CP1")
    with pytest.raises(certificates.NoAuthority):
        certificates.sign(station, request_for("CP1")[0])
    certificates.create_authority("CA")
    settings.SECRET_KEY = "another"
    with pytest.raises(certificates.NoAuthority, match="SECRET_KEY"):
        certificates.sign(station, request_for("CP1")[0])


@on_the_wire
@pytest.mark.parametrize("version", ["1.6", "2.0.1", "2.1"])
@pytest.mark.parametrize("taken", [True, False])
async def test_a_station_asks_gets_its_certificate_and_takes_it_or_not(
    version: str, taken: bool
) -> None:
    await db(certificates.create_authority)("CA")
    station = await db(make.station)(identity="CP1", version=version)
    older = await db(certificates.sign)(station, request_for("CP1")[0])
    await db(certificates.answered)(older.pk, True)
    with gateway() as url:
        async with raw(url + "CP1", version) as socket:
            charger = Raw(socket)
            await charger.boot(version)
            asked = {"csr": request_for("CP1")[0]}
            frame = await charger.call("SignCertificate", asked)
            assert frame[2] == {"status": "Accepted"}
            call = await take(socket, "CertificateSigned")
            leaf = x509.load_pem_x509_certificates(call[3]["certificateChain"].encode())[0]
            assert leaf.subject.rfc4514_string() == "O=Acme,CN=CP1"
            await answer(socket, call, {"status": "Accepted" if taken else "Rejected"})
            await ended(await db(Command.objects.get)(name="certificate_signed"))
    await db(react)()
    states = await db(lambda: list(
        Certificate.objects.order_by("pk").values_list("state", flat=True)))()  # fmt: skip
    assert states == (["replaced", "active"] if taken else ["active", "refused"])


def react() -> None:
    from stations import journal

    journal.catch_up()


@pytest.mark.django_db
def test_a_certificate_that_runs_out_soon_is_a_finding() -> None:
    certificates.create_authority("CA")
    station = make.station(identity="CP1")
    made = certificates.sign(station, request_for("CP1")[0])
    certificates.answered(made.pk, True)
    rule = RULES["cert-expiring"]
    assert list(rule.find(Context(timezone.now()))) == []
    Certificate.objects.update(not_after=timezone.now() + timedelta(days=20))
    (finding,) = rule.find(Context(timezone.now()))
    assert str(finding.summary).startswith("CP1: the station's own certificate is valid until")


# --- TLS, natively ------------------------------------------------------------------------------


@dataclass
class Papers:
    """The server's certificate and what a charger needs to trust it, as files."""

    directory: Path
    certificate: str = ""
    key: str = ""

    def __post_init__(self) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
        now = datetime.now(UTC)
        import ipaddress

        made = (
            x509.CertificateBuilder().subject_name(name).issuer_name(name)
            .public_key(key.public_key()).serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=9))
            .add_extension(x509.SubjectAlternativeName(
                [x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(key, hashes.SHA256())
        )  # fmt: skip
        self.certificate = self._write("server.pem", _pem(made))
        self.key = self._write("server.key", _key(key))

    def client(self, certificate: str = "", key: Any = None) -> ssl.SSLContext:
        """A charger's context, with its certificate where it has one."""
        context = ssl.create_default_context(cafile=self.certificate)
        if certificate:
            context.load_cert_chain(
                self._write("client.pem", certificate), self._write("client.key", _key(key))
            )
        return context

    def _write(self, name: str, text: str) -> str:
        path = self.directory / name
        path.write_text(text)
        return str(path)


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def _key(key: Any) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ).decode()


@pytest.fixture
def papers(tmp_path: Path) -> Papers:
    return Papers(tmp_path)


@contextmanager
def native(papers: Papers, settings: Any) -> Iterator[str]:
    settings.TLS_CERTIFICATE, settings.TLS_KEY = papers.certificate, papers.key
    with gateway() as url:
        yield url.replace("ws://", "wss://")


@contextmanager
def behind_nginx(papers: Papers, settings: Any, directory: Path) -> Iterator[str]:
    settings.TRUSTED_PROXIES = ["127.0.0.1"]
    directory.mkdir()
    trusted = directory / "charger-ca.pem"
    trusted.write_text(certificates.trusted_pem())
    with ExitStack() as stack:
        inner = stack.enter_context(gateway())
        port = int(inner.split(":")[2].partition("/")[0])
        server = Nginx(directory, free_port())
        server.gateways, server.web = [port], port
        server.tls = (papers.certificate, papers.key, str(trusted))
        try:
            server.start()
        except MissingServerError as error:
            missing(str(error))
        stack.callback(server.stop)
        yield f"wss://127.0.0.1:{server.port}/ocpp/"


async def profile_3(url: str, papers: Papers) -> None:
    """What must hold with client certificates, however TLS is ended."""
    station = await db(Station.objects.get)(identity="CP1")
    csr, key = request_for("CP1")
    mine = await db(certificates.sign)(station, csr)
    await db(certificates.answered)(mine.pk, True)
    with_mine = papers.client(mine.pem, key)
    async with raw(url + "CP1", ssl=with_mine) as socket:
        await Raw(socket).boot()
    await db(station.refresh_from_db)()
    assert station.connected_profile == 3
    assert await refused(url + "CP2", with_mine) == 401  # another's identity
    assert await refused(url + "CP1", papers.client()) == 401  # none, and the profile is 3
    forged = {"X-Client-Verify": "SUCCESS", "X-Client-Subject": "CN=CP1"}
    assert await refused(url + "CP1", papers.client(), additional_headers=forged) == 401
    await db(certificates.revoke)(mine)
    assert await refused(url + "CP1", papers.client(mine.pem, key)) == 401
    # profile 2: a password over TLS is enough for whoever needs no more
    headers = basic("p" * 16, "CP2")
    async with raw(url + "CP2", ssl=papers.client(), additional_headers=headers) as socket:
        await Raw(socket).boot()
    assert (await db(Station.objects.get)(identity="CP2")).connected_profile == 2


async def refused(url: str, context: ssl.SSLContext, **options: Any) -> int:
    with pytest.raises(InvalidStatus) as told:
        async with raw(url, ssl=context, **options):
            pass
    return told.value.response.status_code


def prepare() -> None:
    certificates.create_authority("CA")
    make.station(identity="CP1", security_profile=3)
    make.station(identity="CP2", security_profile=2, password_hash=security.hash_password("p" * 16))


@on_the_wire
async def test_client_certificates_are_checked_natively(papers: Papers, settings: Any) -> None:
    await db(prepare)()
    with ExitStack() as stack:
        await profile_3(await db(stack.enter_context)(native(papers, settings)), papers)


@on_the_wire
async def test_client_certificates_are_checked_by_nginx_and_headers_of_others_are_not_believed(
    papers: Papers, settings: Any, tmp_path: Path
) -> None:
    await db(prepare)()
    with ExitStack() as stack:
        url = await db(stack.enter_context)(behind_nginx(papers, settings, tmp_path / "nginx"))
        await profile_3(url, papers)


@on_the_wire
async def test_headers_of_a_peer_that_is_no_proxy_of_ours_prove_nothing(settings: Any) -> None:
    await db(prepare)()
    settings.TRUSTED_PROXIES = ["192.0.2.1"]
    forged = {"X-Client-Verify": "SUCCESS", "X-Client-Subject": "CN=CP1",
              "X-Forwarded-Proto": "https"}  # fmt: skip
    with gateway() as url, pytest.raises(InvalidStatus) as told:
        async with raw(url + "CP1", additional_headers=forged):
            pass
    assert told.value.response.status_code == 401


@on_the_wire
@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1:DeprecationWarning")
async def test_tls_below_1_2_is_refused(papers: Papers, settings: Any) -> None:
    await db(prepare)()
    old = papers.client()
    old.set_ciphers("ALL:@SECLEVEL=0")
    old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
    with ExitStack() as stack:
        url = await db(stack.enter_context)(native(papers, settings))
        with pytest.raises((ssl.SSLError, ConnectionError)):  # the alert, or the reset behind it
            async with raw(url + "CP2", ssl=old):
                pass


# --- the back office ----------------------------------------------------------------------------


@pytest.mark.django_db
def test_staff_create_an_authority_see_certificates_and_revoke_one(client: Any) -> None:
    client.force_login(make.staff())
    client.post("/admin/stations/authority/add/", {"name": "Yard CA"})
    assert Authority.objects.get().pem.startswith("-----BEGIN CERTIFICATE")
    bundle = client.get("/admin/stations/authority/bundle.pem")
    assert bundle.content.decode() == Authority.objects.get().pem
    made = certificates.sign(make.station(identity="CP1"), request_for("CP1")[0])
    page = client.get("/admin/stations/certificate/").content.decode()
    assert "O=Acme,CN=CP1" in page
    chosen = {"action": "revoke_selected", "_selected_action": [made.pk]}
    client.post("/admin/stations/certificate/", chosen)
    made.refresh_from_db()
    assert made.state == "revoked"
    assert Entry.objects.filter(kind="certificate.revoked").exists()
