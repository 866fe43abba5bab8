"""Sampled values → readings (mWh, W, A, V); the energy of a session; signed data."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any


@dataclass(frozen=True, slots=True)
class Sampled:
    """One moment of one meter: a MeterValue, its sampled values of one context. Lane "readings".

    Without `ref` (1.6 MeterValues outside a transaction, 2.x MeterValues) it belongs to the EVSE's
    open session, if there is one.
    """

    station_id: int
    ref: str | None
    evse: int | None
    at: datetime  # UTC, the charger's clock
    received_at: datetime
    context: str = ""
    register_mwh: int | None = None
    export_mwh: int | None = None
    power_w: float | None = None
    offered_w: float | None = None
    current_a: float | None = None
    current_l1_a: float | None = None
    current_l2_a: float | None = None
    current_l3_a: float | None = None
    voltage_v: float | None = None
    offered_a: float | None = None
    soc_percent: float | None = None
    temperature_c: float | None = None
    charging_state: str = ""
    extra: dict[str, Any] | None = None
    signed: str = ""
    flags: tuple[str, ...] = ()
