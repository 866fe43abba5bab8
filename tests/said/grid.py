"""Grid controls, frequency reserve, energy transfer modes, battery swap: OCPP 2.1."""

from __future__ import annotations

from tests.said import Heard, Said
from tests.said.device import NOW, holds, lacks, told

DROOP = {
    "priority": 1,
    "overFreq": 50.2,
    "underFreq": 49.8,
    "overDroop": 5,
    "underDroop": 5,
    "responseTime": 1,
}
CURVE = {"curveData": [{"x": 0, "y": 1}], "priority": 0, "yUnit": "PctMaxW"}
V21 = ("2.1",)

ORDERS = {
    "set_der_control": [
        Said(
            {"control_id": "c1", "kind": "FreqDroop", "settings": DROOP},
            in_21=(
                "SetDERControl",
                {
                    "isDefault": False,
                    "controlId": "c1",
                    "controlType": "FreqDroop",
                    "freqDroop": DROOP,
                },
            ),
            kept=holds("der", "c1", kind="FreqDroop", freqDroop=DROOP),
        ),
        Said(
            {"control_id": "c2", "kind": "VoltVar", "default": True, "settings": CURVE},
            in_21=(
                "SetDERControl",
                {"isDefault": True, "controlId": "c2", "controlType": "VoltVar", "curve": CURVE},
            ),
            answer={"status": "Accepted", "supersededIds": ["c1"]},
            kept=holds("der", "c1", superseded=True),
        ),
    ],
    "get_der_control": Said(
        {"control_id": "c1", "request_id": 6},
        in_21=("GetDERControl", {"requestId": 6, "controlId": "c1"}),
    ),
    "clear_der_control": Said(
        {"kind": "VoltVar", "default": True},
        in_21=("ClearDERControl", {"isDefault": True, "controlType": "VoltVar"}),
        kept=lacks("der", "c2"),
    ),
    "afrr_signal": Said(
        {"signal": -40, "at": NOW},
        in_21=("AFRRSignal", {"timestamp": "2026-11-22T10:00:00+00:00", "signal": -40}),
    ),
    "allow_energy_transfer": Said(
        {"ref": "tx", "modes": ["DC", "DC_BPT"]},
        in_21=(
            "NotifyAllowedEnergyTransfer",
            {"transactionId": "tx", "allowedEnergyTransfer": ["DC", "DC_BPT"]},
        ),
    ),
    "request_battery_swap": Said(
        {"token_uid": "TAG", "request_id": 12},
        in_21=(
            "RequestBatterySwap",
            {"requestId": 12, "idToken": {"idToken": "TAG", "type": "Central"}},
        ),
    ),
}


def _swap(kind: str) -> dict:
    battery = {"evseId": 1, "serialNumber": "B-7", "soC": 80, "soH": 98}
    return {
        "eventType": kind,
        "requestId": 12,
        "idToken": {"idToken": "TAG", "type": "Central"},
        "batteryData": [battery],
    }


HEARD = {
    "ReportDERControl": Heard(
        {
            "requestId": 6,
            "curve": [
                {
                    "curve": CURVE,
                    "id": "c9",
                    "curveType": "VoltVar",
                    "isDefault": False,
                    "isSuperseded": False,
                }
            ],
            "freqDroop": [
                {"freqDroop": DROOP, "id": "c8", "isDefault": True, "isSuperseded": False}
            ],
        },
        lambda station: (
            holds("der", "c9", kind="VoltVar")(station)
            and holds("der", "c8", kind="FreqDroop", isDefault=True)(station)
        ),
        versions=V21,
    ),
    "NotifyDERStartStop": Heard(
        {"controlId": "c9", "started": True, "timestamp": NOW, "supersededIds": ["c8"]},
        lambda station: (
            holds("der", "c9", running=True, superseded=False)(station)
            and holds("der", "c8", running=False, superseded=True)(station)
            and told("grid.control_started", control="c9")(station)
        ),
        versions=V21,
    ),
    "NotifyDERAlarm": Heard(
        {"controlType": "HVMustTrip", "gridEventFault": "OverVoltage", "timestamp": NOW},
        told("grid.alarm_reported", kind="HVMustTrip", fault="OverVoltage", ended=False),
        versions=V21,
    ),
    "BatterySwap": [
        Heard(_swap("BatteryIn"), holds("battery", "B-7", soC=80, evseId=1), versions=V21),
        Heard(_swap("BatteryOut"), lacks("battery", "B-7"), versions=V21),
    ],
}
