"""Passwords and certificates."""

from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from stations import certificates, security
from stations.models import Certificate, Entry
from tests.said import V16, V21, V201, Heard, Said

NOT_SIGNED = {"status": "Rejected"}


def root(name: str = "Maker") -> str:
    """A self-signed root as PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime.now(UTC) - timedelta(days=1))
        .not_valid_after(datetime.now(UTC) + timedelta(days=100))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    return made.public_bytes(serialization.Encoding.PEM).decode()


ROOT = root()
HASH = certificates.hash_data(x509.load_pem_x509_certificate(ROOT.encode()))
PASSWORD = "0123456789abcdef0123456789abcdef01234567"
OTHER_HASH = {**HASH, "serialNumber": "77"}


def _has(state: str, **changes: Any) -> Any:
    def kept(station: Any) -> bool:
        return Certificate.objects.filter(station=station, state=state, **changes).exists()

    return kept


def _on_trial(station: Any) -> bool:
    return security.verify_password(PASSWORD, station.next_password_hash)


ORDERS = {
    "rotate_password": [
        Said(
            {"value": PASSWORD},
            ("ChangeConfiguration", {"key": "AuthorizationKey", "value": PASSWORD}),
            answer={"status": "RebootRequired"},
            kept=_on_trial,
        ),
        Said(
            {"value": PASSWORD},
            in_2x=("SetVariables", {"setVariableData": [{
                "component": {"name": "SecurityCtrlr"},
                "variable": {"name": "BasicAuthPassword"}, "attributeValue": PASSWORD}]}),
            answer={"setVariableResult": [{
                "attributeStatus": "RebootRequired", "component": {"name": "SecurityCtrlr"},
                "variable": {"name": "BasicAuthPassword"}}]},
            kept=_on_trial,
        ),
    ],
    "install_certificate": Said(
        {"use": "CSMSRootCertificate", "certificate": ROOT},
        ("InstallCertificate", {"certificateType": "CentralSystemRootCertificate",
                                "certificate": ROOT}),
        ("InstallCertificate", {"certificateType": "CSMSRootCertificate", "certificate": ROOT}),
        kept=_has("active", use="CSMSRootCertificate", subject="CN=Maker"),
    ),
    "get_installed_certificates": [
        Said(
            {"uses": ["CSMSRootCertificate"]},
            ("GetInstalledCertificateIds", {"certificateType": "CentralSystemRootCertificate"}),
            answer={"status": "Accepted", "certificateHashData": [HASH, OTHER_HASH]},
            kept=_has("active", serial="77"),
        ),
        Said(
            {"uses": ["CSMSRootCertificate"]},
            in_2x=("GetInstalledCertificateIds", {"certificateType": ["CSMSRootCertificate"]}),
            answer={"status": "Accepted", "certificateHashDataChain": [
                {"certificateType": "CSMSRootCertificate", "certificateHashData": one}
                for one in (HASH, OTHER_HASH)]},
            kept=lambda station: _has("active", serial="77")(station)
            and Certificate.objects.filter(station=station).count() == 2,
        ),
    ],
    "delete_certificate": Said(
        {"hash_algorithm": "SHA256", "issuer_name_hash": HASH["issuerNameHash"],
         "issuer_key_hash": HASH["issuerKeyHash"], "serial_number": HASH["serialNumber"]},
        ("DeleteCertificate", {"certificateHashData": HASH}),
        ("DeleteCertificate", {"certificateHashData": HASH}),
        kept=_has("removed", use="CSMSRootCertificate", subject="CN=Maker"),
    ),
    "certificate_signed": Said(
        {"chain": ROOT.strip(), "use": "ChargingStationCertificate"},
        ("CertificateSigned", {"certificateChain": ROOT.strip()}),
        ("CertificateSigned", {"certificateChain": ROOT.strip(),
                               "certificateType": "ChargingStationCertificate"}),
    ),
}  # fmt: skip

NOWHERE = {**HASH, "responderURL": "http://127.0.0.1:9/"}

HEARD = {
    "SignCertificate": Heard(
        {"csr": "no request"},
        lambda station: Entry.objects.filter(
            station=station, kind="certificate.not_signed").exists(),
        NOT_SIGNED,
        versions=(V16, V201, V21),
    ),
    "GetCertificateStatus": Heard(
        {"ocspRequestData": NOWHERE},
        lambda station: True,
        {"status": "Failed"},
    ),
    "Get15118EVCertificate": Heard(
        {"iso15118SchemaVersion": "urn:iso:15118:2:2013:MsgDef", "action": "Install",
         "exiRequest": "AAAA"},
        lambda station: Entry.objects.filter(
            station=station, kind="car_certificate.asked").exists(),
        {"status": "Failed", "exiResponse": ""},
    ),
    "GetCertificateChainStatus": Heard(
        {"certificateStatusRequests": [
            {"source": "OCSP", "urls": ["http://127.0.0.1:9/"], "certificateHashData": HASH}]},
        lambda station: True,
        versions=(V21,),
    ),
}  # fmt: skip
