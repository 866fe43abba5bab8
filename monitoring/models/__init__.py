"""Charging and health."""

from monitoring.models.charging import Reading, Session
from monitoring.models.health import (
    Alert,
    Exclusion,
    FaultCode,
    Incident,
    MaintenanceWindow,
    PortInterval,
    RuleSetting,
    Severity,
    Silence,
    Tick,
)
from monitoring.models.meters import MeterKey
from monitoring.models.power import Allotment, CarNeeds, ChargingProfile
from monitoring.models.response import (
    Contact,
    Notice,
    PlaybookRun,
    PlaybookSetting,
    PlaybookStep,
)

__all__ = [
    "Alert",
    "Allotment",
    "CarNeeds",
    "ChargingProfile",
    "Contact",
    "Exclusion",
    "FaultCode",
    "Incident",
    "MaintenanceWindow",
    "MeterKey",
    "Notice",
    "PlaybookRun",
    "PlaybookSetting",
    "PlaybookStep",
    "PortInterval",
    "Reading",
    "RuleSetting",
    "Session",
    "Severity",
    "Silence",
    "Tick",
]
