"""OCPP 2.0.1: already the domain's shape; what is left is naming."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from types import ModuleType
from typing import Any, ClassVar, Final

from ocpp.v201 import call
from ocpp.v201.enums import Action

from monitoring import metering
from monitoring.authorization import Verdict
from monitoring.facts import Start, Stop, Update
from monitoring.metering import Sampled
from monitoring.sessions import NAMELESS
from stations import configuration, uploads
from stations.models import Command
from stations.ocpp import fastpath
from stations.ocpp.blocks.certificates import Certificates2x
from stations.ocpp.blocks.device import DeviceModel
from stations.ocpp.blocks.display import Display, Publishing
from stations.ocpp.blocks.power import Power2x
from stations.ocpp.blocks.tokens import Tokens
from stations.ocpp.blocks.transactions import Transactions
from stations.ocpp.delivery import Impossible, Order, Payload
from stations.ocpp.dialect import Answer, Dialect, Incoming, on
from stations.ocpp.fastpath import Violation
from stations.ocpp.measurements import moments
from stations.ocpp.times import read_time, utc_text
from stations.presence import Boot, Status, believable

MAX_NUMBER: Final = 10_000  # of an EVSE or connector
BOOT_ANSWERS: Final = {"accepted": "Accepted", "pending": "Pending"}
TRIGGERED_AS: Final = {"DiagnosticsStatusNotification": "LogStatusNotification"}


class V201(
    Power2x, Certificates2x, DeviceModel, Display, Publishing, Tokens, Transactions, Dialect
):
    """One charging station's connection."""

    version = fastpath.V201
    actions = frozenset(action.value for action in Action)
    calls: ClassVar[ModuleType] = call  # the package's dataclasses of this version

    # --- provisioning, availability ---------------------------------------------------------------

    @on(Action.boot_notification)
    def on_boot(self, payload: Payload, incoming: Incoming) -> Answer:
        """BootNotification (B01–B03)."""
        station = payload["chargingStation"]
        modem = station.get("modem") or {}
        slot = self.booting(
            incoming,
            Boot(
                self.station_id,
                incoming.received_at,
                vendor=station["vendorName"],
                model=station["model"],
                serial=station.get("serialNumber", ""),
                firmware=station.get("firmwareVersion", ""),
                iccid=modem.get("iccid", ""),
                imsi=modem.get("imsi", ""),
                reason=payload["reason"],
            ),
        )
        return lambda: {
            "status": BOOT_ANSWERS.get(slot.outcome.state, "Rejected"),
            "currentTime": utc_text(incoming.received_at),
            "interval": slot.outcome.interval_s,
        }

    @on(Action.heartbeat)
    def on_heartbeat(self, payload: Payload, incoming: Incoming) -> Answer:
        """Heartbeat (G02)."""
        return {"currentTime": utc_text(incoming.received_at)}

    @on(Action.status_notification)
    def on_status(self, payload: Payload, incoming: Incoming) -> Answer:
        """StatusNotification (G01). EVSE 0 is the station; connector 0 of an EVSE is its first."""
        evse = _number(payload["evseId"], lowest=0)
        connector = _number(payload["connectorId"], lowest=0)
        self.connector_status(
            incoming,
            Status(
                self.station_id,
                evse=evse,
                connector=max(connector, 1) if evse else 0,
                status=payload["connectorStatus"],
                at=self._time(payload["timestamp"]),
                received_at=incoming.received_at,
            ),
        )
        return {}

    # --- authorization, transactions, meter values ------------------------------------------------

    @on(Action.authorize)
    def on_authorize(self, payload: Payload, incoming: Incoming) -> Answer:
        """Authorize (C01). A contract certificate is judged by its eMAID."""
        token = payload["idToken"]
        slot = self.verdict(incoming, token["idToken"], token["type"])
        return lambda: {"idTokenInfo": id_token_info(slot.outcome)}

    @on(Action.transaction_event)
    def on_transaction_event(self, payload: Payload, incoming: Incoming) -> Answer:
        """TransactionEvent (E01–E12)."""
        evse = payload.get("evse") or {}
        ref = _transaction_id(payload)
        readings = moments(
            self.station_id,
            ref or None,
            evse.get("id"),
            payload.get("meterValue", ()),
            incoming.received_at,
            self.link.zone,
            payload["transactionInfo"].get("chargingState", ""),
        )
        for sampled in readings:
            incoming.add("readings", sampled)
        lane, fact = self._fact(payload, ref, evse, incoming.received_at, readings)
        if not fact.offline:
            self.told_time(incoming, fact.at)
        slot = incoming.add(lane, fact)
        self.used_reservation(incoming, payload.get("reservationId"))
        if "idToken" not in payload:
            return {}

        def answer() -> Payload:
            verdict = slot.outcome.verdict
            return {"idTokenInfo": id_token_info(verdict)} if verdict else {}

        return answer

    def _fact(
        self,
        payload: Payload,
        ref: str,
        evse: Payload,
        received_at: datetime,
        readings: list[Sampled],
    ) -> tuple[str, Start | Update | Stop]:
        """Return the lane and the fact of a TransactionEvent."""
        info = payload["transactionInfo"]
        token = payload.get("idToken") or {}
        at = self._time(payload["timestamp"])
        kind = payload["eventType"]
        common: Payload = {
            "ref": ref,
            "at": at,
            "received_at": received_at,
            "token_uid": token.get("idToken", ""),
            "token_type": token.get("type", ""),
            "seq_no": payload["seqNo"],
            "charging_state": info.get("chargingState", ""),
            "connector": evse.get("connectorId"),
            "offline": payload.get("offline", False),
        }
        if kind == "Updated":
            return "updates", Update(
                self.station_id,
                evse=evse.get("id"),
                trigger=payload["triggerReason"],
                remote_start_id=info.get("remoteStartId"),
                **common,
            )
        clock_ok = believable(at, received_at)
        if kind == "Started":
            return "starts", Start(
                self.station_id,
                evse=evse.get("id", 0),
                meter_mwh=metering.begin_register(readings),
                remote_start_id=info.get("remoteStartId"),
                reservation_id=payload.get("reservationId"),
                epoch=self.link.epoch,
                clock_ok=clock_ok,
                **common,
            )
        return "stops", Stop(
            self.station_id,
            evse=evse.get("id"),
            meter_mwh=metering.end_register(readings),
            reason=info.get("stoppedReason", "Local"),
            epoch=self.link.epoch,
            clock_ok=clock_ok,
            **common,
        )

    @on(Action.meter_values)
    def on_meter_values(self, payload: Payload, incoming: Incoming) -> Answer:
        """MeterValues (J01): outside transactions, or clock-aligned."""
        evse = _number(payload["evseId"], lowest=0)
        readings = moments(
            self.station_id,
            None,
            evse,
            payload["meterValue"],
            incoming.received_at,
            self.link.zone,
        )
        for sampled in readings:
            incoming.add("readings", sampled)
        if readings:
            self.told_time(incoming, readings[-1].at)
        return {}

    # --- firmware, logs, security, device model ---------------------------------------------------

    @on(Action.firmware_status_notification)
    async def on_firmware_status(self, payload: Payload, incoming: Incoming) -> Answer:
        """FirmwareStatusNotification (L01)."""
        await self.news(
            "firmware.status_reported",
            status=payload["status"],
            request_id=payload.get("requestId"),
        )
        return {}

    @on(Action.log_status_notification)
    async def on_log_status(self, payload: Payload, incoming: Incoming) -> Answer:
        """LogStatusNotification (N01)."""
        await self.news(
            "log.status_reported", status=payload["status"], request_id=payload.get("requestId")
        )
        return {}

    @on(Action.security_event_notification)
    async def on_security_event(self, payload: Payload, incoming: Incoming) -> Answer:
        """SecurityEventNotification (A04)."""
        await self.news(
            "security.event_reported",
            type=payload["type"],
            at=utc_text(self._time(payload["timestamp"])),
            info=payload.get("techInfo", ""),
        )
        return {}

    @on(Action.data_transfer)
    async def on_data_transfer(self, payload: Payload, incoming: Incoming) -> Answer:
        """DataTransfer (P02)."""
        return await self.vendor_data(payload)

    # --- orders -----------------------------------------------------------------------------------

    def remote_start(self, order: Order) -> Any:
        """RequestStartTransaction (F01, F02)."""
        return self.calls.RequestStartTransaction(
            id_token={"id_token": order.token_uid, "type": order.token_type or "Central"},
            remote_start_id=order.remote_start_id or order.id,
            evse_id=order.evse,
        )

    def remote_stop(self, order: Order) -> Any:
        """RequestStopTransaction (F03)."""
        return self.calls.RequestStopTransaction(transaction_id=order.ref)

    def unlock(self, order: Order) -> Any:
        """UnlockConnector (F05)."""
        return self.calls.UnlockConnector(evse_id=order.evse, connector_id=order.connector or 1)

    def reset(self, order: Order) -> Any:
        """Reset (B11, B12)."""
        kind = "Immediate" if order.hard else "OnIdle"
        return self.calls.Reset(type=kind, evse_id=order.evse)

    def change_availability(self, order: Order) -> Any:
        """ChangeAvailability (G03, G04)."""
        evse = {"id": order.evse, "connector_id": order.connector} if order.evse else None
        return self.calls.ChangeAvailability(
            operational_status="Operative" if order.operative else "Inoperative", evse=evse
        )

    def trigger_message(self, order: Order) -> Any:
        """TriggerMessage (F06)."""
        return self.calls.TriggerMessage(
            requested_message=TRIGGERED_AS.get(order.message, order.message),
            evse={"id": order.evse} if order.evse else None,
        )

    def get_configuration(self, order: Order) -> Any:
        """GetVariables (B06)."""
        if not order.keys:
            raise Impossible("Name the variables, or read the device model as a whole.")
        return self.calls.GetVariables(
            get_variable_data=[self._variable(text) for text in order.keys]
        )

    def answered_get_configuration(self, command: Command, answer: Payload) -> None:
        """Keep the values."""
        configuration.store(
            self.station_id,
            [
                configuration.Reported(
                    configuration.key_of(result, result.get("attributeType", "Actual")),
                    result.get("attributeValue", ""),
                )
                for result in answer["getVariableResult"]
                if result["attributeStatus"] == "Accepted"
            ],
        )

    def change_configuration(self, order: Order) -> Any:
        """SetVariables (B05)."""
        variable = self._variable(order.key) | {"attribute_value": order.value or ""}
        return self.calls.SetVariables(set_variable_data=[variable])

    def answered_change_configuration(self, command: Command, answer: Payload) -> None:
        """An accepted value is the reported one from now on; a password is kept as its hash."""
        if configuration.is_secret(command.args["key"]):
            self.password_changed(command)
            return
        result = answer["setVariableResult"][0]
        configuration.store(
            self.station_id,
            [
                configuration.Reported(
                    configuration.key_of(result, result.get("attributeType", "Actual")),
                    command.args.get("value", ""),
                    reboot_required=result["attributeStatus"] == "RebootRequired",
                )
            ],
        )

    def get_report(self, order: Order) -> Any:
        """GetBaseReport (B07); the report follows in NotifyReport messages."""
        return self.calls.GetBaseReport(
            request_id=order.request_id or order.id, report_base=order.base or "FullInventory"
        )

    def clear_cache(self, order: Order) -> Any:
        """ClearCache (C11)."""
        return self.calls.ClearCache()

    def get_log(self, order: Order) -> Any:
        """GetLog (N01)."""
        request_id = order.request_id or order.id
        return self.calls.GetLog(
            log={
                "remote_location": order.location or uploads.address(self.station_id, request_id),
                "oldest_timestamp": order.since,
                "latest_timestamp": order.until,
            },
            log_type=order.log_type or "DiagnosticsLog",
            request_id=request_id,
        )

    def update_firmware(self, order: Order) -> Any:
        """UpdateFirmware (L01 with a signature, L02 without)."""
        return self.calls.UpdateFirmware(
            request_id=order.request_id or order.id,
            firmware={
                "location": order.location,
                "retrieve_date_time": order.retrieve_at or utc_text(datetime.now(UTC)),
                "install_date_time": order.install_at,
                "signing_certificate": order.certificate,
                "signature": order.signature,
            },
            retries=order.retries,
            retry_interval=order.retry_interval_s,
        )

    def data_transfer(self, order: Order) -> Any:
        """DataTransfer (P01)."""
        return self.calls.DataTransfer(
            vendor_id=order.vendor_id, message_id=order.message_id, data=order.data
        )

    def outcome(self, command: Command, answer: Payload) -> Command.Status:
        """SetVariables and GetVariables have a status per variable: the first refusal counts."""
        return super().outcome(command, {"status": _first_refusal(answer) or "Accepted"})

    def refusal(self, answer: Payload) -> str:
        """Return the word with which the station refused."""
        return _first_refusal(answer)

    # --- reading ----------------------------------------------------------------------------------

    def _time(self, text: str) -> datetime:
        return read_time(text, self.link.zone)

    def _variable(self, text: str) -> Payload:
        """Return component and variable of a key, in the package's spelling."""
        try:
            key = configuration.parse_key(text)
        except configuration.BadKey as error:
            raise Impossible(str(error)) from None
        component: Payload = {"name": key.component}
        if key.component_instance:
            component["instance"] = key.component_instance
        if key.evse is not None:
            component["evse"] = {"id": key.evse}
            if key.connector is not None:
                component["evse"]["connector_id"] = key.connector
        variable = {"name": key.name} | ({"instance": key.instance} if key.instance else {})
        return {"component": component, "variable": variable}


def id_token_info(verdict: Verdict) -> Payload:
    """IdTokenInfoType of a verdict."""
    info: Payload = {"status": verdict.status}
    if verdict.group:
        info["groupIdToken"] = {"idToken": verdict.group, "type": "Central"}
    if verdict.expires_at:
        info["cacheExpiryDateTime"] = utc_text(verdict.expires_at)
    if verdict.language:
        info["language1"] = verdict.language
    return info


# Where an answer has a status for each of several things.
RESULTS: Final = (
    "setVariableResult", "getVariableResult", "setMonitoringResult", "clearMonitoringResult",
    "clearTariffsResult",
)  # fmt: skip


def _first_refusal(answer: Payload) -> str:
    results = [one for name in RESULTS for one in answer.get(name) or ()]
    if not results:
        return str(answer.get("status", "Accepted"))
    statuses = [one.get("attributeStatus") or one["status"] for one in results]
    return next((one for one in statuses if one not in ("Accepted", "RebootRequired")), "")


def _transaction_id(payload: Payload) -> str:
    """Return what names the transaction; Violation where it holds what no database text can.

    A station that leaves it empty breaks E01 and still delivers energy: a Started gets a name
    made of what it says, so that resending it makes no second session. Later events of such a
    transaction go by its EVSE (`monitoring.sessions.NAMELESS`).
    """
    ref: str = payload["transactionInfo"]["transactionId"]
    if ref.isalnum():
        return ref
    if "\ufffd" in ref or not ref.isprintable():  # NUL arrives as U+FFFD
        where = "transactionInfo/transactionId"
        raise Violation(fastpath.PROPERTY, f"{where}: control characters are not allowed")
    if ref.strip() or payload["eventType"] != "Started":
        return ref.strip()
    content = f"{payload['timestamp']}/{payload.get('evse')}/{payload.get('idToken')}"
    return NAMELESS + hashlib.sha256(content.encode()).hexdigest()[:24]


def _number(number: int, *, lowest: int) -> int:
    if not lowest <= number <= MAX_NUMBER:
        raise Violation(fastpath.PROPERTY, f"an EVSE or connector number is not from {lowest} up")
    return number
