"""Certificates on the wire: 1.6's security extension, 2.x blocks A and M, 2.1's chain status."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any, Final

from django.utils import timezone

from stations import certificates, commands, journal, live, ocsp
from stations.models import Certificate, Command, Station
from stations.ocpp import pool
from stations.ocpp.delivery import Call, Delivery, Impossible, Order, Payload
from stations.ocpp.dialect import Answer, Incoming, on
from stations.ocpp.times import utc_text

IN_16: Final = {
    "CSMSRootCertificate": "CentralSystemRootCertificate",
    "ManufacturerRootCertificate": "ManufacturerRootCertificate",
}
NOTHING_THERE: Final = ("NotFound",)
STATUS_VALID: Final = timedelta(hours=1)  # of a chain status whose responder gives no time


class Certificates(Delivery):
    """What every version does with certificates, and with a new password."""

    def answered_rotate_password(self, command: Command, answer: Payload) -> None:
        """It is on trial from now on."""
        self.password_changed(command)

    def outcome(self, command: Command, answer: Payload) -> Command.Status:
        """A station without the certificates that were asked for has answered all the same."""
        if command.name == "get_installed_certificates" and answer.get("status") in NOTHING_THERE:
            return Command.Status.ACCEPTED
        return super().outcome(command, answer)

    def answered_install_certificate(self, command: Command, answer: Payload) -> None:
        """The station has it now."""
        args = command.args
        certificates.installed(self.station_id, args["use"], args["certificate"])

    def answered_delete_certificate(self, command: Command, answer: Payload) -> None:
        """The station has it no more."""
        certificates.removed(self.station_id, hash_data_of(Order(command.pk, command.args)))

    def answered_certificate_signed(self, command: Command, answer: Payload) -> None:
        """The station uses it from now on."""
        if command.args.get("certificate_id"):
            certificates.answered(command.args["certificate_id"], True)

    def delete_certificate(self, order: Order) -> Any:
        """DeleteCertificate (1.6 security whitepaper §5.3, M04)."""
        return Call("DeleteCertificate", {"certificateHashData": hash_data_of(order)})

    @on("SignCertificate")
    async def on_sign_certificate(self, payload: Payload, incoming: Incoming) -> Answer:
        """SignCertificate (1.6 security whitepaper §5.17, A02): the signed one follows."""
        refused = await pool.write(self._sign, payload)
        if not refused:
            return {"status": "Accepted"}
        info = {"reasonCode": "InvalidCSR", "additionalInfo": refused[:500]}
        return {"status": "Rejected"} | ({} if self.version == "1.6" else {"statusInfo": info})

    def _sign(self, payload: Payload) -> str:
        """Sign and order the delivery; return why not, or nothing."""
        station = Station.objects.get(pk=self.station_id)
        use = payload.get("certificateType") or Certificate.Use.STATION
        try:
            made = certificates.sign(station, payload["csr"], use)
        except certificates.CertificateError as error:
            journal.record(
                "certificate.not_signed", station, station_id=station.pk, use=use, why=str(error)
            )
            live.touch(f"station-{station.pk}")
            return str(error)
        request_id = payload.get("requestId")
        commands.send(
            station, "certificate_signed", subject=f"certificate-{made.pk}",
            chain=made.pem, use=use, certificate_id=made.pk,
            **({"request_id": request_id} if request_id is not None else {}),
        )  # fmt: skip
        return ""


class Certificates16(Certificates):
    """OCPP 1.6 with the security extension."""

    def rotate_password(self, order: Order) -> Any:
        """ChangeConfiguration of AuthorizationKey (security whitepaper A01)."""
        return Call("ChangeConfiguration", {"key": "AuthorizationKey", "value": order.value})

    def install_certificate(self, order: Order) -> Any:
        """InstallCertificate (security whitepaper §5.10)."""
        return Call("InstallCertificate", {
            "certificateType": _use_in_16(order.use), "certificate": order.certificate
        })  # fmt: skip

    def get_installed_certificates(self, order: Order) -> Any:
        """GetInstalledCertificateIds (security whitepaper §5.7): one use at a time."""
        uses = order.uses or ["CSMSRootCertificate"]
        if len(uses) > 1:
            raise Impossible("OCPP 1.6 is asked for one use at a time.")
        return Call("GetInstalledCertificateIds", {"certificateType": _use_in_16(uses[0])})

    def answered_get_installed_certificates(self, command: Command, answer: Payload) -> None:
        """Keep what it has."""
        (use,) = command.args.get("uses") or ["CSMSRootCertificate"]
        found = [(use, data) for data in answer.get("certificateHashData") or ()]
        certificates.reported(self.station_id, found, [use])

    def certificate_signed(self, order: Order) -> Any:
        """CertificateSigned (security whitepaper §5.2)."""
        if order.use == Certificate.Use.V2G:
            raise Impossible("OCPP 1.6 carries V2G certificates by DataTransfer.")
        return Call("CertificateSigned", {"certificateChain": order.chain})


class Certificates2x(Certificates):
    """OCPP 2.0.1: blocks A and M."""

    def rotate_password(self, order: Order) -> Any:
        """SetVariables of BasicAuthPassword (A01)."""
        return Call("SetVariables", {"setVariableData": [{
            "component": {"name": "SecurityCtrlr"},
            "variable": {"name": "BasicAuthPassword"},
            "attributeValue": order.value,
        }]})  # fmt: skip

    def install_certificate(self, order: Order) -> Any:
        """InstallCertificate (M05)."""
        return Call("InstallCertificate", {
            "certificateType": order.use, "certificate": order.certificate
        })  # fmt: skip

    def get_installed_certificates(self, order: Order) -> Any:
        """GetInstalledCertificateIds (M03)."""
        return Call("GetInstalledCertificateIds", {"certificateType": order.uses or None})

    def answered_get_installed_certificates(self, command: Command, answer: Payload) -> None:
        """Keep what it has."""
        found = [
            (one["certificateType"], one["certificateHashData"])
            for one in answer.get("certificateHashDataChain") or ()
        ]
        certificates.reported(self.station_id, found, command.args.get("uses") or [])

    def certificate_signed(self, order: Order) -> Any:
        """CertificateSigned (A02, A03)."""
        asked = order.request_id if self.version == "2.1" else None
        return Call("CertificateSigned", {
            "certificateChain": order.chain, "certificateType": order.use, "requestId": asked
        })  # fmt: skip

    @on("GetCertificateStatus")
    async def on_certificate_status(self, payload: Payload, incoming: Incoming) -> Answer:
        """GetCertificateStatus (M06): the OCSP responder's whole answer is handed on."""
        data = payload["ocspRequestData"]
        try:
            status = await asyncio.to_thread(ocsp.ask, data, data["responderURL"])
        except ocsp.NoAnswer as error:
            info = {"reasonCode": "NoResponder", "additionalInfo": str(error)[:500]}
            return {"status": "Failed", "statusInfo": info}
        return {"status": "Accepted", "ocspResult": status.result}

    @on("Get15118EVCertificate")
    async def on_ev_certificate(self, payload: Payload, incoming: Incoming) -> Answer:
        """Get15118EVCertificate (M01, M02): no contract certificate pool is connected."""
        await self._told_car(payload)
        info = {"reasonCode": "NoProvider", "additionalInfo": "No contract pool is connected."}
        return {"status": "Failed", "exiResponse": "", "statusInfo": info}

    async def _told_car(self, payload: Payload) -> None:
        await pool.write(
            journal.record, "car_certificate.asked", f"station-{self.station_id}",
            station_id=self.station_id, action=payload["action"],
        )  # fmt: skip


class Certificates21(Certificates2x):
    """OCPP 2.1: the status of a whole chain."""

    @on("GetCertificateChainStatus")
    async def on_chain_status(self, payload: Payload, incoming: Incoming) -> Answer:
        """GetCertificateChainStatus (M07): each certificate by its first responder that answers."""
        answers = [
            await asyncio.to_thread(_chain_status, one)
            for one in payload["certificateStatusRequests"]
        ]
        return {"certificateStatus": answers}


def _chain_status(one: Payload) -> Payload:
    word, until = "Failed", timezone.now() + STATUS_VALID
    if one["source"] == "OCSP":
        for url in one["urls"]:
            try:
                status = ocsp.ask(one["certificateHashData"], url)
            except ocsp.NoAnswer:
                continue
            word, until = status.word, status.next_update or until
            break
    return {
        "certificateHashData": one["certificateHashData"],
        "source": one["source"],
        "status": word,
        "nextUpdate": utc_text(until),
    }


def hash_data_of(order: Order) -> Payload:
    """Return CertificateHashDataType of an order."""
    return {
        "hashAlgorithm": order.hash_algorithm,
        "issuerNameHash": order.issuer_name_hash,
        "issuerKeyHash": order.issuer_key_hash,
        "serialNumber": order.serial_number,
    }


def _use_in_16(use: str) -> str:
    if use not in IN_16:
        raise Impossible("OCPP 1.6 has roots of the server and of the manufacturer only.")
    return IN_16[use]
