"""What stations report of themselves: 1.6 configuration keys and 2.x variables, as `Variable` rows.

A key is written `HeartbeatInterval` in 1.6 and `Component.Variable` in 2.x, in full
`Component[instance]@evse.connector.Variable[instance]`; both are one row of the same table.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from django.db import transaction
from django.utils import timezone

from stations import journal, live
from stations.models import Station, Variable

_KEY: Final = re.compile(
    r"(?P<component>[^.\[\]@]+)(\[(?P<component_instance>[^\]]*)\])?"
    r"(@(?P<evse>\d+)(\.(?P<connector>\d+))?)?"
    r"\.(?P<name>[^.\[\]@]+)(\[(?P<instance>[^\]]*)\])?$"
)

# The 1.6 keys that have one name in 2.x (2.0.1 Part 2, appendix "referenced components").
KEYS_OF_16: Final = {
    "HeartbeatInterval": "OCPPCommCtrlr.HeartbeatInterval",
    "WebSocketPingInterval": "OCPPCommCtrlr.WebSocketPingInterval",
    "ResetRetries": "OCPPCommCtrlr.ResetRetries",
    "MeterValueSampleInterval": "SampledDataCtrlr.TxUpdatedInterval",
    "MeterValuesSampledData": "SampledDataCtrlr.TxUpdatedMeasurands",
    "StopTxnSampledData": "SampledDataCtrlr.TxEndedMeasurands",
    "ClockAlignedDataInterval": "AlignedDataCtrlr.Interval",
    "MeterValuesAlignedData": "AlignedDataCtrlr.Measurands",
    "StopTxnAlignedData": "AlignedDataCtrlr.TxEndedMeasurands",
    "ConnectionTimeOut": "TxCtrlr.EVConnectionTimeOut",
    "StopTransactionOnEVSideDisconnect": "TxCtrlr.StopTxOnEVSideDisconnect",
    "StopTransactionOnInvalidId": "TxCtrlr.StopTxOnInvalidId",
    "MaxEnergyOnInvalidId": "TxCtrlr.MaxEnergyOnInvalidId",
    "AuthorizeRemoteTxRequests": "AuthCtrlr.AuthorizeRemoteStart",
    "LocalAuthorizeOffline": "AuthCtrlr.LocalAuthorizeOffline",
    "LocalPreAuthorize": "AuthCtrlr.LocalPreAuthorize",
    "AllowOfflineTxForUnknownId": "AuthCtrlr.OfflineTxForUnknownIdEnabled",
    "AuthorizationCacheEnabled": "AuthCacheCtrlr.Enabled",
    "LocalAuthListEnabled": "LocalAuthListCtrlr.Enabled",
    "AuthorizationKey": "SecurityCtrlr.BasicAuthPassword",
    "SecurityProfile": "SecurityCtrlr.SecurityProfile",
    "CpoName": "SecurityCtrlr.OrganizationName",
}

SECRET_KEYS: Final = frozenset({"authorizationkey", "basicauthpassword"})  # without case
HIDDEN: Final = "(hidden)"
# Where a payload may carry the value of a variable: `redacted` looks at nothing else.
TELLING: Final = frozenset({"NotifyReport", "NotifyEvent", "NotifyMonitoringReport"})


def is_secret(key: str) -> bool:
    """Tell whether a key's value must not be shown or logged. Keys know no case (1.6 §7.21)."""
    return key.strip().rpartition(".")[2].partition("[")[0].casefold() in SECRET_KEYS


def redacted(payload: Any) -> Any:
    """Return a payload with the values of secret keys and variables hidden, in any version.

    A 1.6 key with its value (GetConfiguration), a 2.x variable with its value (SetVariables,
    GetVariables, NotifyReport, NotifyEvent), wherever they stand. The rest is the same.
    """
    if isinstance(payload, list):
        return [redacted(one) for one in payload]
    if not isinstance(payload, dict):
        return payload
    variable = payload.get("variable")
    name = variable.get("name") if isinstance(variable, dict) else payload.get("key")
    if isinstance(name, str) and is_secret(name):
        return {key: _without_value(key, value) for key, value in payload.items()}
    return {key: redacted(value) for key, value in payload.items()}


def _without_value(key: str, value: Any) -> Any:
    if key in ("value", "attributeValue", "actualValue"):
        return HIDDEN
    if key == "variableAttribute" and isinstance(value, list):
        return [
            one | {"value": HIDDEN} if isinstance(one, dict) and "value" in one else one
            for one in value
        ]
    return value


class BadKey(ValueError):
    """The text names no variable."""


@dataclass(frozen=True, slots=True)
class Key:
    """Which variable; the natural key of a `Variable` row within its station."""

    name: str
    component: str = ""
    component_instance: str = ""
    evse: int | None = None
    connector: int | None = None
    instance: str = ""
    attribute: str = "Actual"


@dataclass(frozen=True, slots=True)
class Reported:
    """One value a station reported; None where it told only what the variable is like."""

    key: Key
    value: str | None
    read_only: bool = False
    data_type: str = ""
    unit: str = ""
    characteristics: Mapping[str, Any] = field(default_factory=dict)
    reboot_required: bool = False


def parse_key(text: str) -> Key:
    """Return the 2.x variable that `text` names; 1.6 names with one counterpart are translated.

    Raises BadKey.
    """
    match = _KEY.match(KEYS_OF_16.get(text.strip(), text.strip()))
    if match is None:
        raise BadKey(
            f"“{text}” is no variable. Write Component.Variable, e.g. TxCtrlr.TxStartPoint."
        )
    parts = match.groupdict()
    return Key(
        name=parts["name"],
        component=parts["component"],
        component_instance=parts["component_instance"] or "",
        evse=int(parts["evse"]) if parts["evse"] else None,
        connector=int(parts["connector"]) if parts["connector"] else None,
        instance=parts["instance"] or "",
    )


def store(station_id: int, reported: Sequence[Reported], *, complete: bool = True) -> int:
    """Keep what a station reported; return how many values are new or different.

    Secrets are not kept. `complete` is false while more parts of the same report will follow;
    the news `variables.reported` is told with the last one. A value that equals the wanted one
    ends the drift by itself: drift is a comparison, not a state.
    """
    now = timezone.now()
    values = {one.key: one for one in reported if not is_secret(one.key.name)}
    with transaction.atomic():
        rows = {key_in(row): row for row in Variable.objects.filter(station=station_id)}
        made = [
            Variable(
                station_id=station_id,
                reported_at=now,
                **{name: getattr(key, name) for name in Key.__slots__},
                **_columns(one),
            )
            for key, one in values.items()
            if key not in rows
        ]
        known = [(rows[key], one) for key, one in values.items() if key in rows]
        differing = sum(row.value != one.value for row, one in known)
        for row, one in known:
            for name, value in _columns(one).items():
                if value not in (None, "", {}):
                    setattr(row, name, value)
            row.reported_at = now
        # another report of the same station may have made them meanwhile
        Variable.objects.bulk_create(made, batch_size=200, ignore_conflicts=True)
        Variable.objects.bulk_update(
            [row for row, _ in known],
            ["value", "read_only", "data_type", "unit", "characteristics", "reboot_required",
             "reported_at"],
            batch_size=200,
        )  # fmt: skip
        if complete:
            journal.record(
                "variables.reported", f"station-{station_id}", station_id=station_id,
                variables=len(values), different=len(made) + differing,
            )  # fmt: skip
        live.touch(f"station-{station_id}")
    return len(made) + differing


def reported_16(keys: Iterable[Mapping[str, Any]]) -> list[Reported]:
    """Return the values of a 1.6 GetConfiguration answer."""
    return [
        Reported(
            Key(str(one["key"])[:50]),
            value=one.get("value"),
            read_only=bool(one.get("readonly")),
        )
        for one in keys
    ]


def reported_2x(report: Iterable[Mapping[str, Any]]) -> list[Reported]:
    """Return the values of a 2.x NotifyReport's `reportData`."""
    values: list[Reported] = []
    for one in report:
        characteristics = one.get("variableCharacteristics") or {}
        values.extend(
            Reported(
                key_of(one, attribute.get("type", "Actual")),
                value=attribute.get("value"),
                read_only=attribute.get("mutability") == "ReadOnly",
                data_type=characteristics.get("dataType", ""),
                unit=characteristics.get("unit", ""),
                characteristics=characteristics,
            )
            for attribute in one.get("variableAttribute", ())
        )
    return values


def key_of(item: Mapping[str, Any], attribute: str = "Actual") -> Key:
    """Return the key of anything in 2.x that has a `component` and a `variable`."""
    component, variable = item["component"], item["variable"]
    evse = component.get("evse") or {}
    return Key(
        name=variable["name"],
        component=component["name"],
        component_instance=component.get("instance", ""),
        evse=evse.get("id"),
        connector=evse.get("connectorId"),
        instance=variable.get("instance", ""),
        attribute=attribute,
    )


def want(station: Station, text: str, value: str) -> Variable:
    """Remember what a variable is wanted to be; what the station reports is compared with it.

    Raises BadKey. A secret is not kept: an unsaved row is returned.
    """
    key = Key(name=text.strip()) if station.version == "1.6" else parse_key(text)
    wanted = {name: getattr(key, name) for name in Key.__slots__}
    if is_secret(key.name):
        return Variable(station=station, **wanted)
    row, _ = Variable.objects.update_or_create(
        station=station, **wanted, defaults={"wanted": value, "pushed_at": timezone.now()}
    )
    return row


def text_of(row: Variable) -> str:
    """Return a variable as `change_configuration` takes it: `Component[i]@1.2.Name[i]`."""
    if not row.component:
        return row.name
    where = f"@{row.evse}" + (f".{row.connector}" if row.connector else "") if row.evse else ""
    component = row.component + (f"[{row.component_instance}]" if row.component_instance else "")
    return f"{component}{where}.{row.name}" + (f"[{row.instance}]" if row.instance else "")


def key_in(row: Variable) -> Key:
    """Return the natural key of a row."""
    return Key(**{name: getattr(row, name) for name in Key.__slots__})


def _columns(one: Reported) -> dict[str, Any]:
    return {
        "value": one.value,
        "read_only": one.read_only,
        "data_type": one.data_type,
        "unit": one.unit,
        "characteristics": dict(one.characteristics),
        "reboot_required": one.reboot_required,
    }
