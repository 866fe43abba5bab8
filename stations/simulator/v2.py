"""OCPP 2.0.1 and 2.1, as a charge point speaks them."""

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

# why it stopped → (TransactionEvent triggerReason, stoppedReason)
REASONS = {
    Reason.LOCAL: ("StopAuthorized", "Local"),
    Reason.REMOTE: ("RemoteStop", "Remote"),
    Reason.EV_DISCONNECTED: ("EVCommunicationLost", "EVDisconnected"),
    Reason.POWER_LOSS: ("AbnormalCondition", "PowerLoss"),
    Reason.IMMEDIATE_RESET: ("ResetCommand", "ImmediateReset"),
    Reason.REBOOT: ("ResetCommand", "Reboot"),
    Reason.EMERGENCY: ("AbnormalCondition", "EmergencyStop"),
    Reason.DEAUTHORIZED: ("Deauthorized", "DeAuthorized"),
    Reason.UNLOCK: ("UnlockCommand", "Other"),
    Reason.OTHER: ("AbnormalCondition", "Other"),
}
CHARGING_STATES = {
    Status.SUSPENDED_EV: "SuspendedEV",
    Status.SUSPENDED_EVSE: "SuspendedEVSE",
}
PART = 20  # variables in one NotifyReport


def sampled_values(reading: Reading, context: str) -> list[Payload]:
    """A reading as 2.x sampledValue entries: numbers with unit and context (2.0.1 Part 2 §2.45)."""

    def value(number: float, measurand: str, unit: str, **more: str) -> Payload:
        return {"value": number, "context": context, "measurand": measurand, "location": "Outlet",
                "unitOfMeasure": {"unit": unit}, **more}  # fmt: skip

    values = [
        value(reading.register_wh, "Energy.Active.Import.Register", "Wh"),
        value(reading.power_w, "Power.Active.Import", "W"),
    ]
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


def meter_value(reading: Reading, context: str) -> Payload:
    """A reading as one MeterValueType."""
    return {"timestamp": stamp(reading.at), "sampledValue": sampled_values(reading, context)}


class V201(Dialect):
    """2.0.1."""

    subprotocol = "ocpp2.0.1"
    malformed = "FormatViolation"

    def __init__(self, station: Station) -> None:
        super().__init__(station)
        self._events = 0
        self.handlers = {
            "RequestStartTransaction": self.request_start,
            "RequestStopTransaction": self.request_stop,
            "GetTransactionStatus": self.get_transaction_status,
            "Reset": self.reset,
            "UnlockConnector": self.unlock,
            "ChangeAvailability": self.change_availability,
            "TriggerMessage": self.trigger,
            "GetVariables": self.get_variables,
            "SetVariables": self.set_variables,
            "GetBaseReport": self.get_base_report,
            "GetReport": self.get_report,
            "UpdateFirmware": self.update_firmware,
            "GetLog": self.get_log,
            "ClearCache": self.clear_cache,
            "DataTransfer": self.data_transfer,
            "CostUpdated": self.cost_updated,
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
            "reason": reason,
            "chargingStation": {
                "vendorName": s.vendor[:50],
                "model": s.model[:20],
                "serialNumber": s.serial,
                "firmwareVersion": s.firmware,
            },
        }

    def word(self, status: Status) -> str:
        if status in {Status.AVAILABLE, Status.RESERVED, Status.UNAVAILABLE, Status.FAULTED}:
            return str(status)
        return "Occupied"

    def statuses(self, connector: Connector | None, at: datetime) -> list[Message]:
        if connector is None:
            return []
        payload = {
            "timestamp": stamp(at),
            "connectorStatus": self.word(connector.status),
            "evseId": connector.number,
            "connectorId": 1,
        }
        return [("StatusNotification", lambda: payload)]

    def faulted(
        self, connector: Connector, fault: Fault, at: datetime, cleared: bool
    ) -> list[Message]:
        self._events += 1
        event = {
            "eventId": self._events,
            "timestamp": stamp(at),
            "trigger": "Alerting",
            "actualValue": "false" if cleared else "true",
            "cleared": cleared,
            "techCode": (fault.vendor_code or fault.code)[:50],
            "techInfo": fault.info[:500],
            "eventNotificationType": "HardWiredNotification",
            "component": {"name": "Connector", "evse": {"id": connector.number, "connectorId": 1}},
            "variable": {"name": "Problem"},
        }
        payload = {"generatedAt": stamp(at), "seqNo": 0, "tbc": False, "eventData": [event]}
        return [("NotifyEvent", lambda: payload)]

    def _token(self, tag: str, token_type: str) -> Payload:
        return {"idToken": tag, "type": token_type}

    def authorize(self, tag: str, token_type: str) -> Payload:
        return {"idToken": self._token(tag, token_type)}

    def authorized(self, answer: Payload) -> str | None:
        status: str | None = (answer.get("idTokenInfo") or {}).get("status")
        return status

    def _event(
        self, kind: str, tx: Transaction, at: datetime, trigger: str, **more: Any
    ) -> Message:
        info: Payload = {"transactionId": tx.ref, **more.pop("info", {})}
        payload: Payload = {
            "eventType": kind,
            "timestamp": stamp(at),
            "triggerReason": trigger,
            "seqNo": tx.next_seq(),
            "transactionInfo": info,
            "evse": {"id": tx.connector.number, "connectorId": 1},
            **more,
        }
        if not self.station.connected:
            payload["offline"] = True
        return "TransactionEvent", lambda: payload

    def started(self, tx: Transaction, reading: Reading) -> Message:
        info: Payload = {"chargingState": "Charging"}
        more: Payload = {}
        if tx.remote_start_id is not None:
            info["remoteStartId"] = tx.remote_start_id
        if tx.reservation_id is not None:
            more["reservationId"] = tx.reservation_id
        return self._event(
            "Started", tx, tx.started_at,
            "RemoteStart" if tx.remote_start_id is not None else "Authorized",
            info=info, idToken=self._token(tx.tag, tx.token_type),
            meterValue=[meter_value(reading, "Transaction.Begin")], **more,
        )  # fmt: skip

    def sampled(self, tx: Transaction, readings: list[Reading], context: str) -> Message:
        state = CHARGING_STATES.get(tx.connector.status, "Charging")
        return self._event(
            "Updated", tx, readings[-1].at,
            "Trigger" if context == "Trigger" else "MeterValuePeriodic",
            info={"chargingState": state}, meterValue=[meter_value(r, context) for r in readings],
        )  # fmt: skip

    def charging_state(self, tx: Transaction, at: datetime, trigger: str) -> list[Message]:
        state = CHARGING_STATES.get(tx.connector.status, "Charging")
        return [self._event("Updated", tx, at, trigger, info={"chargingState": state})]

    def stopped(self, tx: Transaction, reading: Reading) -> Message:
        trigger, reason = REASONS[tx.reason or Reason.LOCAL]
        return self._event(
            "Ended", tx, tx.stopped_at or reading.at, trigger,
            info={"stoppedReason": reason, "chargingState": "EVConnected"},
            idToken=self._token(tx.tag, tx.token_type),
            meterValue=[meter_value(reading, "Transaction.End")],
        )  # fmt: skip

    def idle_meter(self, connector: Connector, reading: Reading, context: str) -> Message:
        payload = {"evseId": connector.number, "meterValue": [meter_value(reading, context)]}
        return "MeterValues", lambda: payload

    def firmware_status(self, status: str, request_id: int | None) -> Message | None:
        payload: Payload = {"status": status}
        if request_id is not None:
            payload["requestId"] = request_id
        return "FirmwareStatusNotification", lambda: payload

    def log_status(self, status: str, request_id: int | None) -> Message:
        payload: Payload = {"status": status}
        if request_id is not None:
            payload["requestId"] = request_id
        return "LogStatusNotification", lambda: payload

    def security_event(self, kind: str, at: datetime, info: str) -> Message:
        payload = {"type": kind, "timestamp": stamp(at), "techInfo": info}
        return "SecurityEventNotification", lambda: payload

    # --- in: sessions ----------------------------------------------------------------------------

    async def request_start(self, p: Payload) -> Reply:
        """RequestStartTransaction (F01, F02)."""
        token = p["idToken"]
        chosen = orders.remote_start(
            self.station, p.get("evseId"), token["idToken"], p["remoteStartId"], token["type"]
        )
        if chosen is None:
            return Reply({"status": "Rejected"})
        if "chargingProfile" in p:
            profile = charging.parse_profile(chosen[0].number, p["chargingProfile"])
            charging.install(self.station.profiles, profile)
        return Reply({"status": "Accepted"}, chosen[1])

    async def request_stop(self, p: Payload) -> Reply:
        """RequestStopTransaction (F03)."""
        tx = orders.find_transaction(self.station, p["transactionId"])
        if tx is None:
            return Reply({"status": "Rejected"})
        return Reply({"status": "Accepted"}, orders.remote_stop(self.station, tx))

    async def get_transaction_status(self, p: Payload) -> Reply:
        """GetTransactionStatus (E14)."""
        answer: Payload = {"messagesInQueue": len(self.station.outbox) > 0}
        if "transactionId" in p:
            found = orders.find_transaction(self.station, p["transactionId"])
            answer["ongoingIndicator"] = found is not None
        return Reply(answer)

    async def unlock(self, p: Payload) -> Reply:
        """UnlockConnector (F05)."""
        connector = self.station.connectors.get(p["evseId"])
        if connector is None or p["connectorId"] != 1:
            return Reply({"status": "UnknownConnector"})
        if connector.transaction is not None:
            return Reply({"status": "OngoingAuthorizedTransaction"})
        return Reply({"status": "Unlocked"})

    async def reserve_now(self, p: Payload) -> Reply:
        """ReserveNow (H01)."""
        expires = datetime.fromisoformat(p["expiryDateTime"])
        status, work = orders.reserve(
            self.station, p.get("evseId"), p["idToken"]["idToken"], p["id"], expires
        )
        return Reply({"status": status}, work)

    async def cancel_reservation(self, p: Payload) -> Reply:
        """CancelReservation (H02)."""
        done = orders.cancel_reservation(self.station, p["reservationId"])
        return Reply({"status": "Accepted" if done else "Rejected"})

    async def cost_updated(self, p: Payload) -> Reply:
        """CostUpdated (I02): shown to the driver by a real one."""
        return Reply({})

    # --- in: the station -------------------------------------------------------------------------

    async def reset(self, p: Payload) -> Reply:
        """Reset (B11, B12); a single EVSE cannot be reset here."""
        if p.get("evseId"):
            return Reply({"status": "Rejected"})
        if p["type"] == "OnIdle" and self.station.transactions:
            work = orders.reset_when_idle(self.station)
            return Reply({"status": "Scheduled"}, _beside(self.station, work))
        return Reply({"status": "Accepted"}, orders.reset(self.station, hard=True))

    async def change_availability(self, p: Payload) -> Reply:
        """ChangeAvailability (G03, G04)."""
        outcome = orders.change_availability(
            self.station, (p.get("evse") or {}).get("id"), p["operationalStatus"] == "Operative"
        )
        if outcome is None:
            return Reply({"status": "Rejected"})
        return Reply({"status": outcome[0]}, outcome[1])

    async def trigger(self, p: Payload) -> Reply:
        """TriggerMessage (F06)."""
        number = (p.get("evse") or {}).get("id")
        if number and number not in self.station.connectors:
            return Reply({"status": "Rejected"})
        work = orders.trigger(self.station, p["requestedMessage"], number)
        if work is None:
            return Reply({"status": "NotImplemented"})
        return Reply({"status": "Accepted"}, work)

    async def clear_cache(self, p: Payload) -> Reply:
        """ClearCache (C11)."""
        return Reply({"status": "Accepted"})

    async def data_transfer(self, p: Payload) -> Reply:
        """DataTransfer (P01): no vendor is known here."""
        return Reply({"status": "UnknownVendorId"})

    async def send_local_list(self, p: Payload) -> Reply:
        """SendLocalList (D01)."""
        station = self.station
        full = p["updateType"] == "Full"
        if not full and p["versionNumber"] <= station.local_list_version:
            return Reply({"status": "VersionMismatch"})
        if full:
            station.local_list.clear()
        for entry in p.get("localAuthorizationList") or []:
            tag, info = entry["idToken"]["idToken"], entry.get("idTokenInfo")
            if info is None:
                station.local_list.pop(tag, None)
            else:
                station.local_list[tag] = info
        station.local_list_version = p["versionNumber"]
        return Reply({"status": "Accepted"})

    async def get_local_list_version(self, p: Payload) -> Reply:
        """GetLocalListVersion (D02)."""
        return Reply({"versionNumber": self.station.local_list_version})

    # --- in: variables ---------------------------------------------------------------------------

    def _find(self, item: Payload) -> Variable | Outcome:
        component, variable = item["component"], item["variable"]
        evse = (component.get("evse") or {}).get("id")
        return self.station.configuration.find(
            component["name"], variable["name"], variable.get("instance", ""), evse
        )

    async def get_variables(self, p: Payload) -> Reply:
        """GetVariables (B06)."""
        results = []
        for item in p["getVariableData"]:
            found = self._find(item)
            result = {"component": item["component"], "variable": item["variable"]}
            if isinstance(found, Outcome):
                result["attributeStatus"] = str(found)
            elif item.get("attributeType", "Actual") != "Actual":
                result["attributeStatus"] = "NotSupportedAttributeType"
            elif not found.readable:
                result["attributeStatus"] = "Rejected"
            else:
                result |= {"attributeStatus": "Accepted", "attributeValue": found.value}
            results.append(result)
        return Reply({"getVariableResult": results})

    async def set_variables(self, p: Payload) -> Reply:
        """SetVariables (B05)."""
        results = []
        for item in p["setVariableData"]:
            found = self._find(item)
            result = {"component": item["component"], "variable": item["variable"]}
            if isinstance(found, Outcome):
                result["attributeStatus"] = str(found)
            elif item.get("attributeType", "Actual") != "Actual":
                result["attributeStatus"] = "NotSupportedAttributeType"
            else:
                outcome = self.station.configuration.change(found, item["attributeValue"])
                if found.name == "BasicAuthPassword" and outcome == Outcome.ACCEPTED:
                    self.station.password = item["attributeValue"]
                result["attributeStatus"] = str(outcome)
            results.append(result)
        return Reply({"setVariableResult": results})

    async def get_base_report(self, p: Payload) -> Reply:
        """GetBaseReport (B07)."""
        chosen = self.station.configuration.variables
        if p["reportBase"] == "ConfigurationInventory":
            chosen = [v for v in chosen if v.writable]
        elif p["reportBase"] == "SummaryInventory":
            chosen = [v for v in chosen if v.component in {"ChargingStation", "EVSE", "Connector"}]
        return Reply({"status": "Accepted"}, self._report(p["requestId"], chosen))

    async def get_report(self, p: Payload) -> Reply:
        """GetReport (B08)."""
        wanted = p.get("componentVariable") or []
        chosen = [
            v
            for v in self.station.configuration.variables
            if not wanted or any(_matches(v, item) for item in wanted)
        ]
        if not chosen:
            return Reply({"status": "EmptyResultSet"})
        return Reply({"status": "Accepted"}, self._report(p["requestId"], chosen))

    def _report(self, request_id: int, variables: list[Variable]) -> orders.Work:
        async def work() -> None:
            for seq, start in enumerate(range(0, len(variables), PART)):
                payload = {
                    "requestId": request_id,
                    "generatedAt": self.station.current_time(),
                    "seqNo": seq,
                    "tbc": start + PART < len(variables),
                    "reportData": [_report_data(v) for v in variables[start : start + PART]],
                }
                self.station.say(("NotifyReport", _constant(payload)))

        return work

    # --- in: power -------------------------------------------------------------------------------

    async def set_charging_profile(self, p: Payload) -> Reply:
        """SetChargingProfile (K01)."""
        number = p["evseId"]
        profile = charging.parse_profile(number, p["chargingProfile"])
        if number and number not in self.station.connectors:
            return Reply({"status": "Rejected"})
        if profile.purpose == "TxProfile" and (
            not number or self.station.connectors[number].transaction is None
        ):
            return Reply({"status": "Rejected"})
        charging.install(self.station.profiles, profile)
        return Reply({"status": "Accepted"})

    async def clear_charging_profile(self, p: Payload) -> Reply:
        """ClearChargingProfile (K10)."""
        criteria = p.get("chargingProfileCriteria") or {}
        found = charging.clear(
            self.station.profiles, id=p.get("chargingProfileId"), evse=criteria.get("evseId"),
            purpose=criteria.get("chargingProfilePurpose"), stack=criteria.get("stackLevel"),
        )  # fmt: skip
        return Reply({"status": "Accepted" if found else "Unknown"})

    async def get_composite_schedule(self, p: Payload) -> Reply:
        """GetCompositeSchedule (K08)."""
        connector = self.station.connectors.get(p["evseId"] or min(self.station.connectors))
        if connector is None:
            return Reply({"status": "Rejected"})
        now, unit = self.station.clock.now(), p.get("chargingRateUnit", "W")
        periods = charging.composite(self.station.profiles, connector, now, p["duration"], unit)
        schedule = {
            "evseId": p["evseId"],
            "duration": p["duration"],
            "scheduleStart": stamp(now),
            "chargingRateUnit": unit,
            "chargingSchedulePeriod": [
                {"startPeriod": second, "limit": limit} for second, limit in periods
            ],
        }
        return Reply({"status": "Accepted", "schedule": schedule})

    # --- in: files -------------------------------------------------------------------------------

    async def update_firmware(self, p: Payload) -> Reply:
        """UpdateFirmware (L01 signed, L02 not)."""
        image: dict[str, Any] = p["firmware"]
        install = image.get("installDateTime")
        update = firmware.Update(
            image["location"],
            retrieve_at=datetime.fromisoformat(image["retrieveDateTime"]),
            install_at=datetime.fromisoformat(install) if install else None,
            retries=p.get("retries", 1),
            retry_interval_s=p.get("retryInterval", 10),
            request_id=p["requestId"],
            certificate=image.get("signingCertificate"),
            signature=image.get("signature"),
        )
        return Reply({"status": firmware.order(self.station, update)})

    async def get_log(self, p: Payload) -> Reply:
        """GetLog (N01)."""
        name = f"{self.station.identity}-{p['logType']}.log"
        location, request_id = p["log"]["remoteLocation"], p["requestId"]
        work = firmware.upload_log
        return Reply(
            {"status": "Accepted", "filename": name},
            _beside(self.station, lambda: work(self.station, location, name, request_id)),
        )


class V21(V201):
    """2.1: what this charge point says is valid 2.0.1 as well; it knows a little more."""

    subprotocol = "ocpp2.1"


def _constant(payload: Payload) -> Callable[[], Payload]:
    return lambda: payload


def _beside(station: Station, work: orders.Work) -> orders.Work:
    async def run() -> None:
        station.spawn(work())

    return run


def _matches(variable: Variable, item: Payload) -> bool:
    if item["component"]["name"].lower() != variable.component.lower():
        return False
    name = (item.get("variable") or {}).get("name")
    return name is None or name.lower() == variable.name.lower()


def _report_data(variable: Variable) -> Payload:
    component: Payload = {"name": variable.component}
    if variable.evse is not None:
        component["evse"] = {"id": variable.evse}
    name: Payload = {"name": variable.name}
    if variable.instance:
        name["instance"] = variable.instance
    attribute: Payload = {
        "type": "Actual",
        "mutability": "ReadWrite" if variable.writable else "ReadOnly",
    }
    if variable.readable:
        attribute["value"] = variable.value
    else:
        attribute["mutability"] = "WriteOnly"
    kinds: Payload = {"dataType": variable.kind, "supportsMonitoring": False}
    if variable.unit:
        kinds["unit"] = variable.unit
    return {
        "component": component,
        "variable": name,
        "variableAttribute": [attribute],
        "variableCharacteristics": kinds,
    }
