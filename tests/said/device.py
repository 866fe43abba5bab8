"""Monitors, reports, event streams, customer data, network profiles."""

from __future__ import annotations

from typing import Any

from stations.models import Entry, Holding, StreamValue, Variable
from tests.said import Heard, Said

PLACE = {"component": {"name": "EVSE", "evse": {"id": 1}}, "variable": {"name": "Temperature"}}
NOW = "2026-11-22T10:00:00Z"


def holds(kind: str, key: str, /, **data: Any) -> Any:
    """Tell whether a station holds this, with these details."""

    def check(station: Any) -> bool:
        row = Holding.objects.filter(station=station, kind=kind, key=key).first()
        return row is not None and row.data.items() >= data.items()

    return check


def lacks(kind: str, key: str) -> Any:
    """Tell whether a station holds this no more."""
    return lambda station: not Holding.objects.filter(station=station, kind=kind, key=key).exists()


def told(kind: str, /, **data: Any) -> Any:
    """Tell whether the newest news of a kind says this."""

    def check(station: Any) -> bool:
        row = Entry.objects.filter(station=station, kind=kind).order_by("-id").first()
        return row is not None and row.data.items() >= data.items()

    return check


ORDERS = {
    "get_custom_report": Said(
        {"variables": ["EVSE@1", "TxCtrlr.TxStartPoint"], "criteria": ["Problem"], "request_id": 3},
        in_2x=(
            "GetReport",
            {
                "requestId": 3,
                "componentCriteria": ["Problem"],
                "componentVariable": [
                    {"component": {"name": "EVSE", "evse": {"id": 1}}},
                    {"component": {"name": "TxCtrlr"}, "variable": {"name": "TxStartPoint"}},
                ],
            },
        ),
    ),
    "set_monitor": Said(
        {"variable": "EVSE@1.Temperature", "type": "UpperThreshold", "value": 80, "severity": 3},
        in_2x=(
            "SetVariableMonitoring",
            {
                "setMonitoringData": [
                    {"value": 80.0, "type": "UpperThreshold", "severity": 3, **PLACE}
                ]
            },
        ),
        answer={
            "setMonitoringResult": [
                {"id": 9, "status": "Accepted", "type": "UpperThreshold", "severity": 3, **PLACE}
            ]
        },
        kept=holds("monitor", "9", value=80.0, severity=3, type="UpperThreshold"),
    ),
    "get_monitoring_report": Said(
        {"request_id": 4, "criteria": ["DeltaMonitoring"]},
        in_2x=(
            "GetMonitoringReport",
            {"requestId": 4, "monitoringCriteria": ["DeltaMonitoring"]},
        ),
        kept=holds("monitor", "9"),
    ),
    "clear_monitors": Said(
        {"numbers": [9]},
        in_2x=("ClearVariableMonitoring", {"id": [9]}),
        answer={"clearMonitoringResult": [{"id": 9, "status": "Accepted"}]},
        kept=lacks("monitor", "9"),
    ),
    "set_monitoring_base": Said(
        {"base": "FactoryDefault"},
        in_2x=("SetMonitoringBase", {"monitoringBase": "FactoryDefault"}),
    ),
    "set_monitoring_level": [
        Said({"severity": 0}, in_2x=("SetMonitoringLevel", {"severity": 0})),
        Said(
            {"severity": 4},
            in_2x=("SetMonitoringLevel", {"severity": 4}),
            answer={"status": "Rejected", "statusInfo": {"reasonCode": "No"}},
            status="rejected",
        ),
    ],
    "get_streams": Said(
        {},
        in_21=("GetPeriodicEventStream", {}),
        answer={
            "constantStreamData": [
                {"id": 2, "variableMonitoringId": 9, "params": {"interval": 5, "values": 10}}
            ]
        },
        kept=holds("stream", "2", monitor=9, interval=5, values=10),
    ),
    "adjust_stream": Said(
        {"number": 2, "interval_s": 60},
        in_21=("AdjustPeriodicEventStream", {"id": 2, "params": {"interval": 60}}),
        kept=holds("stream", "2", monitor=9, interval=60, values=10),
    ),
    "customer_information": Said(
        {"token_uid": "TAG", "report": True, "clear": True, "request_id": 5},
        in_2x=(
            "CustomerInformation",
            {
                "requestId": 5,
                "report": True,
                "clear": True,
                "idToken": {"idToken": "TAG", "type": "ISO14443"},
            },
        ),
    ),
    "set_network_profile": Said(
        {"slot": 1, "url": "wss://csms.example/ocpp", "security_profile": 2, "apn": "m2m"},
        in_2x=(
            "SetNetworkProfile",
            {
                "configurationSlot": 1,
                "connectionData": {
                    "ocppVersion": "OCPP20",
                    "ocppTransport": "JSON",
                    "ocppCsmsUrl": "wss://csms.example/ocpp",
                    "messageTimeout": 30,
                    "securityProfile": 2,
                    "ocppInterface": "Wired0",
                    "apn": {"apn": "m2m", "apnAuthentication": "AUTO"},
                },
            },
        ),
        in_21=(
            "SetNetworkProfile",
            {
                "configurationSlot": 1,
                "connectionData": {
                    "ocppVersion": "OCPP21",
                    "ocppTransport": "JSON",
                    "ocppCsmsUrl": "wss://csms.example/ocpp",
                    "messageTimeout": 30,
                    "securityProfile": 2,
                    "ocppInterface": "Wired0",
                    "apn": {"apn": "m2m", "apnAuthentication": "AUTO"},
                },
            },
        ),
        kept=holds("network", "1", url="wss://csms.example/ocpp"),
    ),
}

MONITOR = {"id": 7, "transaction": False, "value": 60, "type": "UpperThreshold", "severity": 2}
EVENT = {
    "eventId": 1,
    "timestamp": NOW,
    "trigger": "Alerting",
    "actualValue": "61",
    "eventNotificationType": "CustomMonitor",
    "variableMonitoringId": 7,
    **PLACE,
}


def _report(monitor: dict[str, Any], **more: Any) -> dict[str, Any]:
    item = PLACE | {"variableMonitoring": [monitor]}
    return {"requestId": 1, "seqNo": 0, "generatedAt": NOW, "monitor": [item]} | more


def _streamed(station: Any) -> bool:
    rows = StreamValue.objects.filter(station=station, stream=4).order_by("at")
    return [(row.at.second, row.value) for row in rows] == [(0, "20"), (2, "21")]


HEARD = {
    "NotifyReport": Heard(
        {
            "requestId": 1,
            "seqNo": 0,
            "generatedAt": NOW,
            "reportData": [
                PLACE
                | {
                    "variableAttribute": [{"value": "41", "mutability": "ReadOnly"}],
                    "variableCharacteristics": {
                        "dataType": "decimal",
                        "unit": "Celsius",
                        "supportsMonitoring": True,
                    },
                }
            ],
        },
        lambda station: Variable.objects.filter(
            station=station, component="EVSE", evse=1, name="Temperature", value="41"
        ).exists(),
    ),
    "NotifyMonitoringReport": [
        Heard(_report(MONITOR), holds("monitor", "7", severity=2), versions=("2.0.1",)),
        Heard(
            _report(MONITOR | {"eventNotificationType": "CustomMonitor"}),
            holds("monitor", "7", severity=2, source="CustomMonitor"),
            versions=("2.1",),
        ),
    ],
    "NotifyEvent": Heard(
        {"generatedAt": NOW, "seqNo": 0, "eventData": [EVENT]},
        told("event.reported", severity=2, monitor=7, value="61"),
    ),
    "NotifyCustomerInformation": [
        Heard(
            {"requestId": 5, "seqNo": 0, "generatedAt": NOW, "data": "Ada, ", "tbc": True},
            holds("customer", "5", text="Ada, "),
        ),
        Heard(
            {"requestId": 5, "seqNo": 1, "generatedAt": NOW, "data": "Depot 1"},
            holds("customer", "5", text="Ada, Depot 1"),
        ),
    ],
    "OpenPeriodicEventStream": Heard(
        {
            "constantStreamData": {
                "id": 4,
                "variableMonitoringId": 7,
                "params": {"interval": 2, "values": 2},
            }
        },
        holds("stream", "4", monitor=7, interval=2),
        {"status": "Accepted"},
        versions=("2.1",),
    ),
    "NotifyPeriodicEventStream": Heard(
        {
            "id": 4,
            "pending": 0,
            "basetime": NOW,
            "data": [{"t": 0, "v": "20"}, {"t": 2, "v": "21"}],
        },
        _streamed,
        versions=("2.1",),
    ),
    "ClosePeriodicEventStream": Heard({"id": 4}, lacks("stream", "4"), versions=("2.1",)),
}
