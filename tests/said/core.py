"""What every charger tells: boots, statuses, sessions, logs and firmware, security."""

from __future__ import annotations

from monitoring.models import Reading, Session
from stations.models import Connector, Message
from tests.said import V16, V21, V201, Heard
from tests.said.device import NOW, told

ALL = (V16, V201, V21)
ONLY_16 = (V16,)
STATION = {"vendorName": "ACME", "model": "X1", "firmwareVersion": "1.2"}
METER = {"timestamp": NOW, "sampledValue": [{"value": "1500", "context": "Sample.Clock"}]}


def logged(action: str):
    """Tell whether the call is in the frame log with its answer."""
    return lambda station: (
        Message.objects.filter(station=station, direction="in", action=action)
        .exclude(answer="")
        .exists()
    )


def _read(station) -> bool:
    rows = Reading.objects.filter(session__station=station, register_mwh=1_500_000)
    return rows.exists()


def _stopped(station) -> bool:
    """Nobody knew its start: kept as a session of its own, for review."""
    return Session.objects.filter(station=station, meter_stop_mwh=2_000_000).exists()


def _status(word: str):
    return lambda station: Connector.objects.filter(
        station=station, evse__number=2, status=word
    ).exists()


HEARD = {
    "BootNotification": [
        Heard(
            {"chargePointVendor": "ACME", "chargePointModel": "X1", "firmwareVersion": "1.2"},
            told("station.booted", vendor="ACME", firmware="1.2"),
            {"status": "Accepted"},
            ONLY_16,
        ),
        Heard(
            {"reason": "PowerUp", "chargingStation": STATION},
            told("station.booted", vendor="ACME", firmware="1.2", reason="PowerUp"),
            {"status": "Accepted"},
        ),
    ],
    "Heartbeat": Heard({}, logged("Heartbeat"), versions=ALL),
    "StatusNotification": [
        Heard(
            {"connectorId": 2, "errorCode": "NoError", "status": "Preparing"},
            _status("Preparing"),
            versions=ONLY_16,
        ),
        Heard(
            {"timestamp": NOW, "connectorStatus": "Occupied", "evseId": 2, "connectorId": 1},
            _status("Occupied"),
        ),
    ],
    "Authorize": [
        Heard(
            {"idTag": "NOBODY"},
            logged("Authorize"),
            {"idTagInfo": {"status": "Invalid"}},
            ONLY_16,
        ),
        Heard(
            {"idToken": {"idToken": "NOBODY", "type": "ISO14443"}},
            logged("Authorize"),
            {"idTokenInfo": {"status": "Unknown"}},
        ),
    ],
    "StartTransaction": Heard(
        {"connectorId": 1, "idTag": "NOBODY", "meterStart": 0, "timestamp": NOW},
        lambda station: Session.objects.filter(station=station, meter_start_mwh=0).exists(),
        versions=ONLY_16,
    ),
    "MeterValues": [
        Heard({"connectorId": 1, "meterValue": [METER]}, _read, versions=ONLY_16),
        Heard(
            {
                "evseId": 2,
                "meterValue": [METER | {"sampledValue": [{"value": 1500}]}],
            },
            logged("MeterValues"),  # of no session: the frame is what is kept
        ),
    ],
    "StopTransaction": Heard(
        {"transactionId": 987_654, "meterStop": 2000, "timestamp": NOW},
        _stopped,
        versions=ONLY_16,
    ),
    "FirmwareStatusNotification": Heard(
        {"status": "Downloading"},
        told("firmware.status_reported", status="Downloading"),
        versions=ALL,
    ),
    "SignedFirmwareStatusNotification": Heard(
        {"status": "InvalidSignature", "requestId": 3},
        told("firmware.status_reported", status="InvalidSignature", request_id=3),
        versions=ONLY_16,
    ),
    "DiagnosticsStatusNotification": Heard(
        {"status": "Uploading"}, told("log.status_reported", status="Uploading"), versions=ONLY_16
    ),
    "LogStatusNotification": Heard(
        {"status": "Uploaded", "requestId": 4},
        told("log.status_reported", status="Uploaded", request_id=4),
        versions=ALL,
    ),
    "SecurityEventNotification": Heard(
        {"type": "SettingSystemTime", "timestamp": NOW},
        told("security.event_reported", type="SettingSystemTime"),
        versions=ALL,
    ),
    "DataTransfer": Heard(
        {"vendorId": "nobody"}, logged("DataTransfer"), {"status": "UnknownVendorId"}, ALL
    ),
}
