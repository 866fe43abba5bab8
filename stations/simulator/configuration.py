"""A charge point's settings: one list, read as 1.6 configuration keys and as 2.x variables.

1.6 §9 names the keys; 2.0.1 Part 2 appendix "Standardized components" the variables.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class Outcome(StrEnum):
    """What a change came to; the dialects translate."""

    ACCEPTED = "Accepted"
    REJECTED = "Rejected"  # read-only, or a value that makes no sense
    REBOOT_REQUIRED = "RebootRequired"
    UNKNOWN_COMPONENT = "UnknownComponent"
    UNKNOWN = "UnknownVariable"


@dataclass
class Variable:
    """One setting. `key` is its 1.6 name, '' where 1.6 has none; `evse` where it belongs to one
    EVSE.
    """

    component: str
    name: str
    value: str
    key: str = ""
    writable: bool = False
    readable: bool = True
    kind: str = "string"  # a 2.x DataEnumType
    unit: str = ""
    instance: str = ""
    evse: int | None = None
    reboot: bool = False

    def accepts(self, value: str) -> bool:
        """Whether `value` is of the variable's kind and within its length."""
        if self.kind == "integer":
            return value.isdigit() and int(value) < 2**31
        if self.kind == "boolean":
            return value.lower() in {"true", "false"}
        return len(value) <= 500


class Configuration:
    """All settings of one charge point; later ones of the same name replace earlier ones."""

    def __init__(self, variables: Iterable[Variable]) -> None:
        self.variables = list(variables)

    def by_key(self, key: str) -> Variable | None:
        """The variable of that 1.6 key, whatever its case (1.6 §9: CiString)."""
        return next((v for v in self.variables if v.key and v.key.lower() == key.lower()), None)

    def find(
        self, component: str, name: str, instance: str = "", evse: int | None = None
    ) -> Variable | Outcome:
        """The 2.x variable, or which of component and variable is unknown."""
        found = [v for v in self.variables if v.component.lower() == component.lower()]
        if evse is not None:
            found = [v for v in found if v.evse == evse]
        if not found:
            return Outcome.UNKNOWN_COMPONENT
        named = [v for v in found if v.name.lower() == name.lower()]
        if instance:
            named = [v for v in named if v.instance == instance]
        return named[0] if named else Outcome.UNKNOWN

    def change(self, variable: Variable, value: str) -> Outcome:
        """Set `variable`; a value like the present one is accepted without a reboot."""
        if not variable.writable or not variable.accepts(value):
            return Outcome.REJECTED
        changed = variable.value != value
        variable.value = value
        return Outcome.REBOOT_REQUIRED if changed and variable.reboot else Outcome.ACCEPTED

    def integer(self, key: str) -> int:
        """The whole number under a 1.6 key."""
        variable = self.by_key(key)
        return int(variable.value) if variable is not None else 0

    def flag(self, key: str) -> bool:
        """The boolean under a 1.6 key."""
        variable = self.by_key(key)
        return variable is not None and variable.value.lower() == "true"

    def set(self, key: str, value: str) -> None:
        """Set the value under a 1.6 key from inside, read-only or not."""
        variable = self.by_key(key)
        if variable is not None:
            variable.value = value


# component.variable[/instance] in 2.x, 1.6 key ("-": none), access (b: after a boot), kind, value
FACTORY = """
OCPPCommCtrlr.HeartbeatInterval HeartbeatInterval rw integer 300
OCPPCommCtrlr.WebSocketPingInterval WebSocketPingInterval rw integer 0
OCPPCommCtrlr.MessageAttempts/TransactionEvent TransactionMessageAttempts rw integer 5
OCPPCommCtrlr.MessageAttemptInterval/TransactionEvent TransactionMessageRetryInterval rw integer 2
OCPPCommCtrlr.FileTransferProtocols SupportedFileTransferProtocols r MemberList HTTP,HTTPS
SampledDataCtrlr.TxUpdatedInterval MeterValueSampleInterval rw integer 60
SampledDataCtrlr.TxUpdatedMeasurands MeterValuesSampledData rw MemberList
AlignedDataCtrlr.Interval ClockAlignedDataInterval rw integer 0
TxCtrlr.EVConnectionTimeOut ConnectionTimeOut rw integer 60
TxCtrlr.StopTxOnEVSideDisconnect StopTransactionOnEVSideDisconnect rw boolean true
TxCtrlr.StopTxOnInvalidId StopTransactionOnInvalidId rw boolean true
TxCtrlr.TxStartPoint - r MemberList PowerPathClosed
TxCtrlr.TxStopPoint - r MemberList PowerPathClosed
AuthCtrlr.AuthorizeRemoteStart AuthorizeRemoteTxRequests rw boolean false
AuthCtrlr.LocalPreAuthorize LocalPreAuthorize rw boolean false
AuthCtrlr.LocalAuthorizeOffline LocalAuthorizeOffline rw boolean true
AuthCtrlr.OfflineTxForUnknownIdEnabled AllowOfflineTxForUnknownId rw boolean true
LocalAuthListCtrlr.Enabled LocalAuthListEnabled rw boolean true
LocalAuthListCtrlr.Entries - r integer 0
SmartChargingCtrlr.ProfileStackLevel ChargeProfileMaxStackLevel r integer 8
SmartChargingCtrlr.RateUnit ChargingScheduleAllowedChargingRateUnit r MemberList Current,Power
SmartChargingCtrlr.PeriodsPerSchedule ChargingScheduleMaxPeriods r integer 24
SecurityCtrlr.SecurityProfile SecurityProfile r integer 0
SecurityCtrlr.OrganizationName CpoName rw string Demo
SecurityCtrlr.BasicAuthPassword AuthorizationKey w string
DeviceDataCtrlr.ItemsPerMessage GetConfigurationMaxKeys r integer 50
ChargingStation.SupportedFeatureProfiles SupportedFeatureProfiles r MemberList
DisplayMessageCtrlr.Language DisplayLanguage rwb string en
"""
MEASURANDS = (
    "Energy.Active.Import.Register",
    "Power.Active.Import",
    "Current.Import",
    "Voltage",
    "SoC",
)
PROFILES = (
    "Core", "FirmwareManagement", "LocalAuthListManagement",
    "Reservation", "SmartCharging", "RemoteTrigger",
)  # fmt: skip


def _factory() -> list[Variable]:
    variables = []
    for line in FACTORY.strip().splitlines():
        path, key, access, kind, *value = line.split()
        component, name = path.split(".")
        name, _, instance = name.partition("/")
        variables.append(
            Variable(
                component,
                name,
                value[0] if value else "",
                key.replace("-", ""),
                writable="w" in access,
                readable="r" in access,
                kind=kind,
                unit="s" if "Interval" in name else "",
                instance=instance,
                reboot="b" in access,
            )
        )
    return variables


def factory_settings(
    vendor: str, model: str, serial: str, firmware: str, connectors: dict[int, float]
) -> Configuration:
    """A charge point's settings as it leaves the factory; `connectors`: number → maximum watts."""
    station = "ChargingStation"
    variables = [
        *_factory(),
        Variable(station, "VendorName", vendor),
        Variable(station, "Model", model),
        Variable(station, "SerialNumber", serial),
        Variable(station, "FirmwareVersion", firmware),
        Variable(
            station,
            "NumberOfConnectors",
            str(len(connectors)),
            "NumberOfConnectors",
            kind="integer",
        ),
    ]
    for number, watts in sorted(connectors.items()):
        variables.append(
            Variable("EVSE", "Power", str(int(watts)), unit="W", kind="decimal", evse=number)
        )
        variables.append(
            Variable(
                "Connector", "ConnectorType", "cCCS2" if watts > 43_000 else "sType2", evse=number
            )
        )
    settings = Configuration(variables)
    settings.set("MeterValuesSampledData", ",".join(MEASURANDS))
    settings.set("SupportedFeatureProfiles", ",".join(PROFILES))
    return settings
