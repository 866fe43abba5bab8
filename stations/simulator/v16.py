"""OCPP 1.6-J with the security extension, as a charge point speaks it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, Any

from stations.simulator import charging, firmware, orders
from stations.simulator.clock import stamp
from stations.simulator.configuration import Outcome, Variable
from stations.simulator.dialect import Dialect, Message
from stations.simulator.model import (
    Connector,
    Fault,
    Payload,
    Reading,
    Reason,
    Reply,
    Status,
    Transaction,
)

if TYPE_CHECKING:
    from stations.simulator.station import Station

REASONS = {
    Reason.IMMEDIATE_RESET: "HardReset",
    Reason.REBOOT: "SoftReset",
}
CORE_FIRMWARE = {
    "Downloaded", "DownloadFailed", "Downloading", "Idle",
    "InstallationFailed", "Installing", "Installed",
}  # fmt: skip
DIAGNOSTICS = {"Idle": "Idle", "Uploading": "Uploading", "Uploaded": "Uploaded"}


def sampled_values(reading: Reading, context: str) -> list[Payload]:
    """A reading as 1.6 sampledValue entries: text values with unit and context (1.6 §7.43)."""

    def value(number: float, measurand: str, unit: str, **more: str) -> Payload:
        return {"value": f"{number:g}" if number < 1e5 else str(int(number)), "context": context,
                "measurand": measurand, "location": "Outlet", "unit": unit, **more}  # fmt: skip

    values = [
        value(reading.register_wh, "Energy.Active.Import.Register", "Wh"),
        value(reading.power_w, "Power.Active.Import", "W"),
    ]
    values[0]["value"] = str(reading.register_wh)
    if reading.phases == 3:
        for phase in ("L1", "L2", "L3"):
            values.append(value(reading.current_a, "Current.Import", "A", phase=phase))
            values.append(value(reading.voltage_v, "Voltage", "V", phase=f"{phase}-N"))
    else:
        values.append(value(reading.current_a, "Current.Import", "A"))
        values.append(value(reading.voltage_v, "Voltage", "V"))
    if reading.soc_percent is not None:
        values.append(value(reading.soc_percent, "SoC", "Percent") | {"location": "EV"})
    return values


class V16(Dialect):
    """1.6-J."""

    subprotocol = "ocpp1.6"

    def __init__(self, station: Station) -> None:
        super().__init__(station)
        self.handlers = {
            "RemoteStartTransaction": self.remote_start,
            "RemoteStopTransaction": self.remote_stop,
            "Reset": self.reset,
            "UnlockConnector": self.unlock,
            "ChangeAvailability": self.change_availability,
            "TriggerMessage": self.trigger,
            "ExtendedTriggerMessage": self.trigger,
            "GetConfiguration": self.get_configuration,
            "ChangeConfiguration": self.change_configuration,
            "UpdateFirmware": self.update_firmware,
            "SignedUpdateFirmware": self.signed_update_firmware,
            "GetDiagnostics": self.get_diagnostics,
            "GetLog": self.get_log,
            "ClearCache": self.clear_cache,
            "DataTransfer": self.data_transfer,
            "SetChargingProfile": self.set_charging_profile,
            "ClearChargingProfile": self.clear_charging_profile,
            "GetCompositeSchedule": self.get_composite_schedule,
            "SendLocalList": self.send_local_list,
            "GetLocalListVersion": self.get_local_list_version,
            "ReserveNow": self.reserve_now,
            "CancelReservation": self.cancel_reservation,
        }

    # --- out -------------------------------------------------------------------------------------

    def boot(self, reason: str) -> Payload:
        s = self.station
        return {
            "chargePointVendor": s.vendor[:20],
            "chargePointModel": s.model[:20],
            "chargePointSerialNumber": s.serial,
            "firmwareVersion": s.firmware,
        }

    def statuses(self, connector: Connector | None, at: datetime) -> list[Message]:
        number, status, fault = 0, Status.AVAILABLE, None
        if connector is None:
            status = Status.AVAILABLE if self.station.operative else Status.UNAVAILABLE
        else:
            number, status, fault = connector.number, connector.status, connector.fault
        payload: Payload = {
            "connectorId": number,
            "errorCode": fault.code if fault is not None else "NoError",
            "status": str(status),
            "timestamp": stamp(at),
        }
        if fault is not None and fault.info:
            payload["info"] = fault.info[:50]
        if fault is not None and fault.vendor_code:
            payload["vendorErrorCode"] = fault.vendor_code[:50]
        return [("StatusNotification", lambda: payload)]

    def faulted(
        self, connector: Connector, fault: Fault, at: datetime, cleared: bool
    ) -> list[Message]:
        return []

    def authorize(self, tag: str, token_type: str) -> Payload:
        return {"idTag": tag}

    def authorized(self, answer: Payload) -> str | None:
        status: str | None = (answer.get("idTagInfo") or {}).get("status")
        return status

    def started(self, tx: Transaction, reading: Reading) -> Message:
        payload: Payload = {
            "connectorId": tx.connector.number,
            "idTag": tx.tag,
            "meterStart": tx.start_wh,
            "timestamp": stamp(tx.started_at),
        }
        if tx.reservation_id is not None:
            payload["reservationId"] = tx.reservation_id
        return "StartTransaction", lambda: payload

    def sampled(self, tx: Transaction, readings: list[Reading], context: str) -> Message:
        values = [
            {"timestamp": stamp(r.at), "sampledValue": sampled_values(r, context)} for r in readings
        ]
        return "MeterValues", lambda: {
            "connectorId": tx.connector.number,
            "transactionId": tx.transaction_id if tx.transaction_id is not None else -1,
            "meterValue": values,
        }

    def charging_state(self, tx: Transaction, at: datetime, trigger: str) -> list[Message]:
        return []

    def stopped(self, tx: Transaction, reading: Reading) -> Message:
        reason = tx.reason or Reason.LOCAL
        stopped_at = stamp(tx.stopped_at or reading.at)
        return "StopTransaction", lambda: {
            "transactionId": tx.transaction_id if tx.transaction_id is not None else -1,
            "idTag": tx.tag,
            "meterStop": tx.stop_wh if tx.stop_wh is not None else reading.register_wh,
            "timestamp": stopped_at,
            "reason": REASONS.get(reason, str(reason)),
        }

    def idle_meter(self, connector: Connector, reading: Reading, context: str) -> Message:
        payload = {
            "connectorId": connector.number,
            "meterValue": [
                {"timestamp": stamp(reading.at), "sampledValue": sampled_values(reading, context)}
            ],
        }
        return "MeterValues", lambda: payload

    def firmware_status(self, status: str, request_id: int | None) -> Message | None:
        if request_id is not None:
            return "SignedFirmwareStatusNotification", lambda: {
                "status": status, "requestId": request_id,
            }  # fmt: skip
        if status not in CORE_FIRMWARE:
            return None
        return "FirmwareStatusNotification", lambda: {"status": status}

    def log_status(self, status: str, request_id: int | None) -> Message:
        if request_id is not None:
            return "LogStatusNotification", lambda: {"status": status, "requestId": request_id}
        return "DiagnosticsStatusNotification", lambda: {
            "status": DIAGNOSTICS.get(status, "UploadFailed")
        }

    def security_event(self, kind: str, at: datetime, info: str) -> Message:
        payload = {"type": kind, "timestamp": stamp(at), "techInfo": info}
        return "SecurityEventNotification", lambda: payload

    # --- in: sessions ----------------------------------------------------------------------------

    async def remote_start(self, p: Payload) -> Reply:
        """RemoteStartTransaction (§5.11)."""
        chosen = orders.remote_start(self.station, p.get("connectorId"), p["idTag"], None, "")
        if chosen is None:
            return Reply({"status": "Rejected"})
        if "chargingProfile" in p:
            profile = charging.parse_profile(chosen[0].number, p["chargingProfile"])
            charging.install(self.station.profiles, profile)
        return Reply({"status": "Accepted"}, chosen[1])

    async def remote_stop(self, p: Payload) -> Reply:
        """RemoteStopTransaction (§5.12)."""
        tx = orders.find_transaction(self.station, p["transactionId"])
        if tx is None:
            return Reply({"status": "Rejected"})
        return Reply({"status": "Accepted"}, orders.remote_stop(self.station, tx))

    async def unlock(self, p: Payload) -> Reply:
        """UnlockConnector (§5.18): a running transaction stops first."""
        connector = self.station.connectors.get(p["connectorId"])
        if connector is None or connector.dc:
            return Reply({"status": "NotSupported"})
        if connector.transaction is not None:
            self.station.stop(connector.transaction, Reason.UNLOCK)
        return Reply({"status": "Unlocked"})

    async def reserve_now(self, p: Payload) -> Reply:
        """ReserveNow (§5.13)."""
        expires = datetime.fromisoformat(p["expiryDate"])
        status, work = orders.reserve(
            self.station, p["connectorId"] or None, p["idTag"], p["reservationId"], expires
        )
        return Reply({"status": status}, work)

    async def cancel_reservation(self, p: Payload) -> Reply:
        """CancelReservation (§5.1)."""
        done = orders.cancel_reservation(self.station, p["reservationId"])
        return Reply({"status": "Accepted" if done else "Rejected"})

    # --- in: the station -------------------------------------------------------------------------

    async def reset(self, p: Payload) -> Reply:
        """Reset (§5.14)."""
        return Reply({"status": "Accepted"}, orders.reset(self.station, hard=p["type"] == "Hard"))

    async def change_availability(self, p: Payload) -> Reply:
        """ChangeAvailability (§5.2); connector 0 is the whole charge point."""
        outcome = orders.change_availability(
            self.station, p["connectorId"] or None, p["type"] == "Operative"
        )
        if outcome is None:
            return Reply({"status": "Rejected"})
        return Reply({"status": outcome[0]}, outcome[1])

    async def trigger(self, p: Payload) -> Reply:
        """TriggerMessage (§5.17), ExtendedTriggerMessage."""
        number = p.get("connectorId")
        if number and number not in self.station.connectors:
            return Reply({"status": "Rejected"})
        work = orders.trigger(self.station, p["requestedMessage"], number)
        if work is None:
            return Reply({"status": "NotImplemented"})
        return Reply({"status": "Accepted"}, work)

    async def get_configuration(self, p: Payload) -> Reply:
        """GetConfiguration (§5.8)."""
        config = self.station.configuration
        asked = p.get("key") or [v.key for v in config.variables if v.key]
        found = {key: config.by_key(key) for key in asked}
        return Reply(
            {
                "configurationKey": [_key(v) for v in found.values() if v is not None],
                "unknownKey": [key for key, v in found.items() if v is None],
            }
        )

    async def change_configuration(self, p: Payload) -> Reply:
        """ChangeConfiguration (§5.3)."""
        variable = self.station.configuration.by_key(p["key"])
        if variable is None:
            return Reply({"status": "NotSupported"})
        outcome = self.station.configuration.change(variable, p["value"])
        if variable.key == "AuthorizationKey" and outcome == Outcome.ACCEPTED:
            self.station.password = p["value"]
        return Reply({"status": str(outcome)})

    async def clear_cache(self, p: Payload) -> Reply:
        """ClearCache (§5.4)."""
        return Reply({"status": "Accepted"})

    async def data_transfer(self, p: Payload) -> Reply:
        """DataTransfer (§5.6): no vendor is known here."""
        return Reply({"status": "UnknownVendorId"})

    async def send_local_list(self, p: Payload) -> Reply:
        """SendLocalList (§5.15)."""
        station = self.station
        full = p["updateType"] == "Full"
        if not full and p["listVersion"] <= station.local_list_version:
            return Reply({"status": "VersionMismatch"})
        if full:
            station.local_list.clear()
        for entry in p.get("localAuthorizationList") or []:
            info = entry.get("idTagInfo")
            if info is None:
                station.local_list.pop(entry["idTag"], None)
            else:
                station.local_list[entry["idTag"]] = info
        station.local_list_version = p["listVersion"]
        return Reply({"status": "Accepted"})

    async def get_local_list_version(self, p: Payload) -> Reply:
        """GetLocalListVersion (§5.10)."""
        return Reply({"listVersion": self.station.local_list_version})

    # --- in: power -------------------------------------------------------------------------------

    async def set_charging_profile(self, p: Payload) -> Reply:
        """SetChargingProfile (§5.16)."""
        number = p["connectorId"]
        profile = charging.parse_profile(number, p["csChargingProfiles"])
        if number and number not in self.station.connectors:
            return Reply({"status": "Rejected"})
        if profile.purpose == "TxProfile" and (
            not number or self.station.connectors[number].transaction is None
        ):
            return Reply({"status": "Rejected"})
        charging.install(self.station.profiles, profile)
        return Reply({"status": "Accepted"})

    async def clear_charging_profile(self, p: Payload) -> Reply:
        """ClearChargingProfile (§5.5)."""
        found = charging.clear(
            self.station.profiles, id=p.get("id"), evse=p.get("connectorId"),
            purpose=p.get("chargingProfilePurpose"), stack=p.get("stackLevel"),
        )  # fmt: skip
        return Reply({"status": "Accepted" if found else "Unknown"})

    async def get_composite_schedule(self, p: Payload) -> Reply:
        """GetCompositeSchedule (§5.7)."""
        connector = self.station.connectors.get(p["connectorId"] or min(self.station.connectors))
        if connector is None:
            return Reply({"status": "Rejected"})
        now, unit = self.station.clock.now(), p.get("chargingRateUnit", "W")
        periods = charging.composite(self.station.profiles, connector, now, p["duration"], unit)
        return Reply(
            {
                "status": "Accepted",
                "connectorId": p["connectorId"],
                "scheduleStart": stamp(now),
                "chargingSchedule": {
                    "duration": p["duration"],
                    "chargingRateUnit": unit,
                    "chargingSchedulePeriod": [
                        {"startPeriod": second, "limit": limit} for second, limit in periods
                    ],
                },
            }
        )

    # --- in: files -------------------------------------------------------------------------------

    async def update_firmware(self, p: Payload) -> Reply:
        """UpdateFirmware (§5.19)."""
        update = firmware.Update(
            p["location"],
            retrieve_at=datetime.fromisoformat(p["retrieveDate"]),
            retries=p.get("retries", 1),
            retry_interval_s=p.get("retryInterval", 10),
        )
        return Reply({}, _later(lambda: firmware.order(self.station, update)))

    async def signed_update_firmware(self, p: Payload) -> Reply:
        """SignedUpdateFirmware (security whitepaper L01)."""
        image: dict[str, Any] = p["firmware"]
        install = image.get("installDateTime")
        update = firmware.Update(
            image["location"],
            retrieve_at=datetime.fromisoformat(image["retrieveDateTime"]),
            install_at=datetime.fromisoformat(install) if install else None,
            retries=p.get("retries", 1),
            retry_interval_s=p.get("retryInterval", 10),
            request_id=p["requestId"],
            certificate=image["signingCertificate"],
            signature=image["signature"],
        )
        return Reply({"status": firmware.order(self.station, update)})

    async def get_diagnostics(self, p: Payload) -> Reply:
        """GetDiagnostics (§5.9)."""
        name = f"{self.station.identity}-diagnostics.log"
        work = _upload(self.station, p["location"], name, None)
        return Reply({"fileName": name}, work)

    async def get_log(self, p: Payload) -> Reply:
        """GetLog (security whitepaper N01)."""
        name = f"{self.station.identity}-{p['logType']}.log"
        work = _upload(self.station, p["log"]["remoteLocation"], name, p["requestId"])
        return Reply({"status": "Accepted", "filename": name}, work)


def _later(work: Callable[[], object]) -> orders.Work:
    async def run() -> None:
        work()

    return run


def _upload(station: Station, location: str, name: str, request_id: int | None) -> orders.Work:
    async def run() -> None:
        station.spawn(firmware.upload_log(station, location, name, request_id))

    return run


def _key(variable: Variable) -> Payload:
    entry: Payload = {"key": variable.key, "readonly": not variable.writable}
    if variable.readable:
        entry["value"] = variable.value
    return entry
