"""2.x blocks B and N: the device model's reports, monitors and events, customer information."""

from __future__ import annotations

from typing import Any

from stations import configuration, holdings, journal, live
from stations.holdings import Held, Kind
from stations.models import Command, Holding
from stations.ocpp import pool
from stations.ocpp.delivery import Call, Impossible, Order, Payload
from stations.ocpp.dialect import Answer, Dialect, Incoming, on
from stations.ocpp.times import read_time, utc_text

EVENT_STREAMS = "2.1"


class DeviceModel(Dialect):
    """Reports, monitors, events, customer information, network profiles."""

    # --- from the charger -------------------------------------------------------------------------

    @on("NotifyReport")
    async def on_report(self, payload: Payload, incoming: Incoming) -> Answer:
        """NotifyReport (B07, B08)."""
        await pool.write(
            configuration.store,
            self.station_id,
            configuration.reported_2x(payload.get("reportData") or ()),
            complete=not payload.get("tbc", False),
        )
        return {}

    @on("NotifyMonitoringReport")
    async def on_monitoring_report(self, payload: Payload, incoming: Incoming) -> Answer:
        """NotifyMonitoringReport (N02)."""
        held = [
            monitor_held(item["component"], item["variable"], monitor)
            for item in payload.get("monitor") or ()
            for monitor in item["variableMonitoring"]
        ]
        news = "" if payload.get("tbc", False) else "monitors.reported"
        await pool.write(holdings.keep, self.station_id, held, news, monitors=len(held))
        return {}

    @on("NotifyEvent")
    async def on_event(self, payload: Payload, incoming: Incoming) -> Answer:
        """NotifyEvent (N07, N08). 2.0.1 tells no severity: it is that of the event's monitor."""
        events = [
            {
                "at": utc_text(read_time(event["timestamp"], self.link.zone)),
                "component": event["component"]["name"],
                "variable": event["variable"]["name"],
                "evse": (event["component"].get("evse") or {}).get("id"),
                "trigger": event["trigger"],
                "kind": event["eventNotificationType"],
                "value": event["actualValue"][:500],
                "cleared": event.get("cleared", False),
                "severity": event.get("severity"),
                "code": event.get("techCode", ""),
                "info": event.get("techInfo", ""),
                "ref": event.get("transactionId", ""),
                "monitor": event.get("variableMonitoringId"),
                "event": event["eventId"],
                "cause": event.get("cause"),
            }
            for event in payload["eventData"]
        ]
        await pool.write(self._record_events, events)
        return {}

    def _record_events(self, events: list[Payload]) -> None:
        subject = f"station-{self.station_id}"
        unknown = {
            str(event["monitor"])
            for event in events
            if event["severity"] is None and event["monitor"] is not None
        }
        if unknown:
            rows = Holding.objects.filter(
                station=self.station_id, kind=Kind.MONITOR, key__in=unknown
            )
            severities = {row.key: row.data.get("severity") for row in rows}
            for event in events:
                if event["severity"] is None:
                    event["severity"] = severities.get(str(event["monitor"]))
        journal.record_many(
            [
                journal.entry("event.reported", subject, station_id=self.station_id, **event)
                for event in events
            ]
        )
        live.touch(subject)

    @on("NotifyCustomerInformation")
    async def on_customer_information(self, payload: Payload, incoming: Incoming) -> Answer:
        """NotifyCustomerInformation (N09). In a row that can be deleted, never in the journal."""
        await pool.write(
            holdings.append_text,
            self.station_id,
            Kind.CUSTOMER,
            str(payload["requestId"]),
            payload["data"],
            first=payload["seqNo"] == 0,
        )
        return {}

    # --- to the charger ---------------------------------------------------------------------------

    def get_custom_report(self, order: Order) -> Call:
        """GetReport (B08)."""
        if not (order.variables or order.criteria):
            raise Impossible("Name variables or criteria, or read the device model as a whole.")
        return Call(
            "GetReport",
            {
                "requestId": order.request_id or order.id,
                "componentCriteria": order.criteria,
                "componentVariable": self._places(order.variables),
            },
        )

    def get_monitoring_report(self, order: Order) -> Call:
        """GetMonitoringReport (N02)."""
        return Call(
            "GetMonitoringReport",
            {
                "requestId": order.request_id or order.id,
                "monitoringCriteria": order.criteria,
                "componentVariable": self._places(order.variables),
            },
        )

    def answered_get_monitoring_report(self, command: Command, answer: Payload) -> None:
        """All monitors will be told: those told earlier are none any more."""
        if not (command.args.get("variables") or command.args.get("criteria")):
            holdings.give_up(self.station_id, Kind.MONITOR, before=command.created_at)

    def set_monitoring_base(self, order: Order) -> Call:
        """SetMonitoringBase (N03)."""
        return Call("SetMonitoringBase", {"monitoringBase": order.base})

    def set_monitoring_level(self, order: Order) -> Call:
        """SetMonitoringLevel (N05)."""
        return Call("SetMonitoringLevel", {"severity": order.severity})

    def set_monitor(self, order: Order) -> Call:
        """SetVariableMonitoring (N04)."""
        stream = None
        if order.stream_interval_s is not None or order.stream_values is not None:
            if self.version != EVENT_STREAMS:
                raise Impossible("Event streams are of OCPP 2.1.")
            stream = {"interval": order.stream_interval_s, "values": order.stream_values}
        return Call(
            "SetVariableMonitoring",
            {
                "setMonitoringData": [
                    {
                        "id": order.number,
                        "periodicEventStream": stream,
                        "transaction": order.transaction or None,
                        "value": order.value,
                        "type": order.type,
                        "severity": order.severity,
                        **place_of(order.variable),
                    }
                ]
            },
        )

    def answered_set_monitor(self, command: Command, answer: Payload) -> None:
        """Keep the monitor with the number the station gave it."""
        asked = {"value": command.args["value"], "transaction": command.args.get("transaction")}
        held = [
            monitor_held(one["component"], one["variable"], asked | one)
            for one in answer["setMonitoringResult"]
            if one["status"] == "Accepted" and "id" in one
        ]
        holdings.keep(self.station_id, held)

    def clear_monitors(self, order: Order) -> Call:
        """ClearVariableMonitoring (N06)."""
        return Call("ClearVariableMonitoring", {"id": order.numbers})

    def answered_clear_monitors(self, command: Command, answer: Payload) -> None:
        """Forget those that are gone."""
        gone = [one["id"] for one in answer["clearMonitoringResult"] if one["status"] != "Rejected"]
        holdings.give_up(self.station_id, Kind.MONITOR, gone)

    def customer_information(self, order: Order) -> Call:
        """CustomerInformation (N09, N10)."""
        token = {"idToken": order.token_uid, "type": order.token_type or "ISO14443"}
        return Call(
            "CustomerInformation",
            {
                "requestId": order.request_id or order.id,
                "report": bool(order.report),
                "clear": bool(order.clear),
                "customerIdentifier": order.customer,
                "idToken": token if order.token_uid else None,
            },
        )

    def set_network_profile(self, order: Order) -> Call:
        """SetNetworkProfile (B09)."""
        newest = self.version == EVENT_STREAMS
        if order.identity and not newest:
            raise Impossible("OCPP 2.0.1 has no identity in a network profile.")
        authentication = order.apn_authentication or "AUTO"
        apn = {"apn": order.apn, "apnAuthentication": authentication} if order.apn else None
        return Call(
            "SetNetworkProfile",
            {
                "configurationSlot": order.slot,
                "connectionData": {
                    "ocppVersion": "OCPP21" if newest else "OCPP20",
                    "ocppTransport": "JSON",
                    "ocppCsmsUrl": order.url,
                    "messageTimeout": order.message_timeout_s or 30,
                    "securityProfile": order.security_profile,
                    "ocppInterface": order.interface or "Wired0",
                    "identity": order.identity,
                    "apn": apn,
                },
            },
        )

    def answered_set_network_profile(self, command: Command, answer: Payload) -> None:
        """Keep which slot was set to what."""
        slot, url = command.args["slot"], command.args["url"]
        told = Held(Kind.NETWORK, str(slot), url, dict(command.args))
        holdings.keep(self.station_id, [told], "network.profile_set", slot=slot, url=url)

    def _places(self, texts: list[str] | None) -> list[Payload] | None:
        return [place_of(text, whole=True) for text in texts] if texts else None


def place_of(text: str, *, whole: bool = False) -> Payload:
    """Return component and variable of a key as the wire has them; `whole`: a component alone too.

    Raises Impossible.
    """
    if whole and "." not in text.partition("@")[0]:
        place = place_of(f"{text}.x")
        return {"component": place["component"]}
    try:
        key = configuration.parse_key(text)
    except configuration.BadKey as error:
        raise Impossible(str(error)) from None
    component: Payload = {"name": key.component, "instance": key.component_instance or None}
    if key.evse is not None:
        component["evse"] = {"id": key.evse, "connectorId": key.connector}
    return {
        "component": component,
        "variable": {"name": key.name, "instance": key.instance or None},
    }


def monitor_held(component: Payload, variable: Payload, monitor: Payload) -> Held:
    """Return a monitor as it is kept: its number, what it watches in a line, its severity."""
    evse = (component.get("evse") or {}).get("id")
    where = f"{component['name']}{f'@{evse}' if evse else ''}.{variable['name']}"
    data: dict[str, Any] = {
        "component": component,
        "variable": variable,
        "type": monitor["type"],
        "value": monitor.get("value"),
        "severity": monitor["severity"],
        "transaction": bool(monitor.get("transaction")),
        "source": monitor.get("eventNotificationType", ""),
    }
    return Held(
        Kind.MONITOR, str(monitor["id"]), f"{where} {monitor['type']} {data['value']}", data
    )
