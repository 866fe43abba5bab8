"""OCPP 1.6-J with the security extension: translated to the domain's (2.x's) shape and back.

Each connector is an EVSE of its own; connector 0 is the station. Registers are whole Wh.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from ocpp.v16 import call
from ocpp.v16.enums import Action

from monitoring import metering
from monitoring.authorization import Verdict
from monitoring.facts import Start, Stop
from stations import configuration, uploads
from stations.models import Command
from stations.ocpp import fastpath
from stations.ocpp.blocks.certificates import Certificates16
from stations.ocpp.blocks.cost16 import CostMessages
from stations.ocpp.blocks.power import Power16
from stations.ocpp.blocks.tokens import Tokens16
from stations.ocpp.delivery import Impossible, Order, Payload
from stations.ocpp.dialect import Answer, Dialect, Incoming, on
from stations.ocpp.fastpath import Violation
from stations.ocpp.measurements import moments
from stations.ocpp.times import read_time, utc_text
from stations.presence import Boot, Status, believable

STATUSES_OF_16: Final = {"Unknown": "Invalid", "NotAtThisTime": "Blocked"}
MAX_CONNECTOR: Final = 10_000
BOOT_ANSWERS: Final = {"accepted": "Accepted", "pending": "Pending"}
# TriggerMessage knows six messages; the security extension's ExtendedTriggerMessage the rest.
EXTENDED: Final = {
    "LogStatusNotification": "LogStatusNotification",
    "SignChargingStationCertificate": "SignChargePointCertificate",
}
TRIGGERED_AS: Final = {"TransactionEvent": "MeterValues"} | EXTENDED


class V16(Power16, Certificates16, CostMessages, Tokens16, Dialect):
    """One charge point's connection."""

    version = fastpath.V16
    actions = frozenset(action.value for action in Action)

    # --- core -------------------------------------------------------------------------------------

    @on(Action.boot_notification)
    def on_boot(self, payload: Payload, incoming: Incoming) -> Answer:
        """BootNotification (§4.2)."""
        slot = self.booting(
            incoming,
            Boot(
                self.station_id,
                incoming.received_at,
                vendor=payload["chargePointVendor"],
                model=payload["chargePointModel"],
                serial=payload.get("chargePointSerialNumber")
                or payload.get("chargeBoxSerialNumber", ""),
                firmware=payload.get("firmwareVersion", ""),
                iccid=payload.get("iccid", ""),
                imsi=payload.get("imsi", ""),
            ),
        )
        return lambda: {
            "status": BOOT_ANSWERS.get(slot.outcome.state, "Rejected"),
            "currentTime": utc_text(incoming.received_at),
            "interval": slot.outcome.interval_s,
        }

    @on(Action.heartbeat)
    def on_heartbeat(self, payload: Payload, incoming: Incoming) -> Answer:
        """Heartbeat (§4.6)."""
        return {"currentTime": utc_text(incoming.received_at)}

    @on(Action.status_notification)
    def on_status(self, payload: Payload, incoming: Incoming) -> Answer:
        """StatusNotification (§4.9)."""
        connector = self._connector(payload, lowest=0)
        error = payload["errorCode"]
        self.connector_status(
            incoming,
            Status(
                self.station_id,
                evse=connector,
                connector=1 if connector else 0,
                status=payload["status"],
                at=self._time(payload["timestamp"]) if "timestamp" in payload else None,
                received_at=incoming.received_at,
                error_code="" if error == "NoError" else error,
                vendor_error_code=payload.get("vendorErrorCode", ""),
                info=payload.get("info", ""),
            ),
        )
        return {}

    @on(Action.authorize)
    def on_authorize(self, payload: Payload, incoming: Incoming) -> Answer:
        """Authorize (§4.1)."""
        slot = self.verdict(incoming, payload["idTag"], "")
        return lambda: {"idTagInfo": id_tag_info(slot.outcome)}

    @on(Action.start_transaction)
    def on_start(self, payload: Payload, incoming: Incoming) -> Answer:
        """StartTransaction (§4.8). Kept whatever the verdict: energy may have flowed."""
        connector = self._connector(payload, lowest=1)
        at = self._time(payload["timestamp"])
        register = metering.milliwatt_hours(payload["meterStart"])
        slot = incoming.add(
            "starts",
            Start(
                self.station_id,
                evse=connector,
                connector=1,
                ref=None,
                token_uid=payload["idTag"],
                token_type="",
                at=at,
                received_at=incoming.received_at,
                meter_mwh=register,
                bad_register=register is None,
                reservation_id=payload.get("reservationId"),
                epoch=self.link.epoch,
                clock_ok=believable(at, incoming.received_at),
                offline=self.waited(at, incoming.received_at),
            ),
        )
        self.used_reservation(incoming, payload.get("reservationId"))
        return lambda: {
            "transactionId": slot.outcome.number,
            "idTagInfo": id_tag_info(slot.outcome.verdict),
        }

    @on(Action.stop_transaction)
    def on_stop(self, payload: Payload, incoming: Incoming) -> Answer:
        """StopTransaction (§4.10). An unknown transaction is answered, and kept for review."""
        ref = str(payload["transactionId"])
        at = self._time(payload["timestamp"])
        for sampled in moments(
            self.station_id,
            ref,
            None,
            payload.get("transactionData", ()),
            incoming.received_at,
            self.link.zone,
        ):
            incoming.add("readings", sampled)
        register = metering.milliwatt_hours(payload["meterStop"])
        slot = incoming.add(
            "stops",
            Stop(
                self.station_id,
                ref=ref,
                at=at,
                received_at=incoming.received_at,
                meter_mwh=register,
                bad_register=register is None,
                token_uid=payload.get("idTag", ""),
                reason=payload.get("reason", "Local"),
                numbered=True,
                clock_ok=believable(at, incoming.received_at),
                epoch=self.link.epoch,
            ),
        )

        def answer() -> Payload:
            verdict = slot.outcome.verdict
            return {"idTagInfo": id_tag_info(verdict)} if verdict else {}

        return answer

    @on(Action.meter_values)
    def on_meter_values(self, payload: Payload, incoming: Incoming) -> Answer:
        """MeterValues (§4.7). Transaction 0 or −1 is none: then it is the connector's session."""
        connector = self._connector(payload, lowest=0)
        number = payload.get("transactionId", 0)
        ref = str(number) if number > 0 else None
        readings = moments(
            self.station_id,
            ref,
            connector,
            payload["meterValue"],
            incoming.received_at,
            self.link.zone,
        )
        for sampled in readings:
            incoming.add("readings", sampled)
        if readings:
            self.told_time(incoming, readings[-1].at)
        return {}

    @on(Action.data_transfer)
    async def on_data_transfer(self, payload: Payload, incoming: Incoming) -> Answer:
        """DataTransfer (§4.3)."""
        return await self.vendor_data(payload)

    # --- firmware, diagnostics, security extension ------------------------------------------------

    @on(Action.firmware_status_notification)
    async def on_firmware_status(self, payload: Payload, incoming: Incoming) -> Answer:
        """FirmwareStatusNotification (§4.5)."""
        await self.news("firmware.status_reported", status=payload["status"], request_id=None)
        return {}

    @on(Action.signed_firmware_status_notification)
    async def on_signed_firmware_status(self, payload: Payload, incoming: Incoming) -> Answer:
        """SignedFirmwareStatusNotification (security whitepaper §5.18)."""
        await self.news(
            "firmware.status_reported",
            status=payload["status"],
            request_id=payload.get("requestId"),
        )
        return {}

    @on(Action.diagnostics_status_notification)
    async def on_diagnostics_status(self, payload: Payload, incoming: Incoming) -> Answer:
        """DiagnosticsStatusNotification (§4.4)."""
        await self.news("log.status_reported", status=payload["status"], request_id=None)
        return {}

    @on(Action.log_status_notification)
    async def on_log_status(self, payload: Payload, incoming: Incoming) -> Answer:
        """LogStatusNotification (security whitepaper §5.12)."""
        await self.news(
            "log.status_reported", status=payload["status"], request_id=payload.get("requestId")
        )
        return {}

    @on(Action.security_event_notification)
    async def on_security_event(self, payload: Payload, incoming: Incoming) -> Answer:
        """SecurityEventNotification (security whitepaper §5.16)."""
        at = self._time(payload["timestamp"])
        await self.news(
            "security.event_reported",
            type=payload["type"],
            at=utc_text(at),
            info=payload.get("techInfo", ""),
        )
        return {}

    # --- orders -----------------------------------------------------------------------------------

    def remote_start(self, order: Order) -> Any:
        """RemoteStartTransaction (§5.11)."""
        if len(order.token_uid) > 20:
            raise Impossible("OCPP 1.6 takes tokens of at most 20 characters.")
        return call.RemoteStartTransaction(id_tag=order.token_uid, connector_id=order.evse)

    def remote_stop(self, order: Order) -> Any:
        """RemoteStopTransaction (§5.12)."""
        if not order.ref.isdigit():
            raise Impossible(f"“{order.ref}” is no transaction number of OCPP 1.6.")
        return call.RemoteStopTransaction(transaction_id=int(order.ref))

    def unlock(self, order: Order) -> Any:
        """UnlockConnector (§5.18)."""
        return call.UnlockConnector(connector_id=order.evse)

    def reset(self, order: Order) -> Any:
        """Reset (§5.14)."""
        if order.evse:
            raise Impossible("OCPP 1.6 resets a whole station, not one EVSE.")
        kind: Any = "Hard" if order.hard else "Soft"
        return call.Reset(type=kind)

    def change_availability(self, order: Order) -> Any:
        """ChangeAvailability (§5.2)."""
        kind: Any = "Operative" if order.operative else "Inoperative"
        return call.ChangeAvailability(connector_id=order.evse or 0, type=kind)

    def trigger_message(self, order: Order) -> Any:
        """TriggerMessage (§5.17), or ExtendedTriggerMessage (security whitepaper §5.6)."""
        message: Any = TRIGGERED_AS.get(order.message, order.message)
        kind = call.ExtendedTriggerMessage if order.message in EXTENDED else call.TriggerMessage
        return kind(requested_message=message, connector_id=order.evse)

    def get_configuration(self, order: Order) -> Any:
        """GetConfiguration (§5.8)."""
        return call.GetConfiguration(key=order.keys)

    def answered_get_configuration(self, command: Command, answer: Payload) -> None:
        """Keep the values."""
        reported = configuration.reported_16(answer.get("configurationKey") or ())
        configuration.store(self.station_id, reported)

    def get_report(self, order: Order) -> Any:
        """GetConfiguration of everything: the nearest 1.6 has to a base report."""
        return call.GetConfiguration()

    answered_get_report = answered_get_configuration

    def change_configuration(self, order: Order) -> Any:
        """ChangeConfiguration (§5.3)."""
        return call.ChangeConfiguration(key=order.key, value=order.value or "")

    def answered_change_configuration(self, command: Command, answer: Payload) -> None:
        """An accepted value is the reported one from now on; a password is kept as its hash."""
        if configuration.is_secret(command.args["key"]):
            self.password_changed(command)
            return
        key = configuration.Key(command.args["key"][:50])
        waits = answer["status"] == "RebootRequired"
        value = command.args.get("value", "")
        reported = configuration.Reported(key, value, reboot_required=waits)
        configuration.store(self.station_id, [reported])

    def clear_cache(self, order: Order) -> Any:
        """ClearCache (§5.4)."""
        return call.ClearCache()

    def get_log(self, order: Order) -> Any:
        """GetDiagnostics (§5.9), or GetLog (security whitepaper §5.8) for the security log."""
        request_id = order.request_id or order.id
        location = order.location or uploads.address(self.station_id, request_id)
        if order.log_type != "SecurityLog":
            return call.GetDiagnostics(
                location=location, start_time=order.since, stop_time=order.until
            )
        log = {
            "remote_location": location,
            "oldest_timestamp": order.since,
            "latest_timestamp": order.until,
        }
        kind: Any = "SecurityLog"
        return call.GetLog(log=log, log_type=kind, request_id=request_id)

    def update_firmware(self, order: Order) -> Any:
        """UpdateFirmware (§5.19), or SignedUpdateFirmware (security whitepaper §5.19)."""
        retrieve_at = order.retrieve_at or utc_text(datetime.now(self.link.zone))
        if not order.signature:
            return call.UpdateFirmware(
                location=order.location,
                retrieve_date=retrieve_at,
                retries=order.retries,
                retry_interval=order.retry_interval_s,
            )
        return call.SignedUpdateFirmware(
            request_id=order.request_id or order.id,
            firmware={
                "location": order.location,
                "retrieve_date_time": retrieve_at,
                "install_date_time": order.install_at,
                "signing_certificate": order.certificate,
                "signature": order.signature,
            },
            retries=order.retries,
            retry_interval=order.retry_interval_s,
        )

    def data_transfer(self, order: Order) -> Any:
        """DataTransfer (§5.5)."""
        return call.DataTransfer(
            vendor_id=order.vendor_id, message_id=order.message_id, data=order.data
        )

    def outcome(self, command: Command, answer: Payload) -> Command.Status:
        """GetDiagnostics without a file name has nothing to upload (§5.9)."""
        if command.action == "GetDiagnostics" and not answer.get("fileName"):
            return Command.Status.REJECTED
        return super().outcome(command, answer)

    # --- reading ----------------------------------------------------------------------------------

    def _time(self, text: str) -> datetime:
        return read_time(text, self.link.zone)

    def _connector(self, payload: Payload, *, lowest: int) -> int:
        connector: int = payload["connectorId"]
        if not lowest <= connector <= MAX_CONNECTOR:
            raise Violation(fastpath.PROPERTY, f"connectorId: not a number from {lowest} up")
        return connector


def id_tag_info(verdict: Verdict) -> Payload:
    """IdTagInfo (§7.27) of a verdict; 1.6 has no Unknown."""
    info: Payload = {"status": STATUSES_OF_16.get(verdict.status, verdict.status)}
    if verdict.group:
        info["parentIdTag"] = verdict.group[:20]
    if verdict.expires_at:
        info["expiryDate"] = utc_text(verdict.expires_at)
    return info
