"""What a charge point is made of: connectors, vehicles, transactions, readings, faults, quirks."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

type Payload = dict[str, Any]


class Status(StrEnum):
    """Connector states in OCPP 1.6's words, the finer of the two vocabularies (1.6 §7.7)."""

    AVAILABLE = "Available"
    PREPARING = "Preparing"
    CHARGING = "Charging"
    SUSPENDED_EV = "SuspendedEV"
    SUSPENDED_EVSE = "SuspendedEVSE"
    FINISHING = "Finishing"
    RESERVED = "Reserved"
    UNAVAILABLE = "Unavailable"
    FAULTED = "Faulted"


class Reason(StrEnum):
    """Why a transaction stopped, in 2.x's words (2.0.1 Part 2 §3.66); v16 maps them down."""

    LOCAL = "Local"
    REMOTE = "Remote"
    EV_DISCONNECTED = "EVDisconnected"
    POWER_LOSS = "PowerLoss"
    IMMEDIATE_RESET = "ImmediateReset"
    REBOOT = "Reboot"
    EMERGENCY = "EmergencyStop"
    DEAUTHORIZED = "DeAuthorized"
    UNLOCK = "UnlockCommand"
    OTHER = "Other"


class Fate(StrEnum):
    """How a firmware update ends on this charge point."""

    OK = "ok"
    DOWNLOAD_FAILED = "download-failed"
    INSTALLATION_FAILED = "installation-failed"
    INVALID_SIGNATURE = "invalid-signature"
    NEVER_REPORTS = "never-reports"  # installs and boots, but sends no status
    STUCK = "stuck"  # says Downloading and nothing ever after
    WRONG_VERSION = "wrong-version"  # says Installed, boots with the old version
    BOOT_LOOP = "boot-loop"
    BRICKED = "bricked"  # goes to install and never comes back
    BOOT_MID_DOWNLOAD = "boot-mid-download"


@dataclass
class Quirks:
    """Misbehaviour seen in the field, each a switch."""

    restart_message_ids: bool = False  # ids "1", "2", … anew after each reconnect
    never_set_clock: bool = False  # every timestamp counts from 1970
    deaf: bool = False  # takes calls and never answers them
    duplicate_sends: bool = False  # every transactional message goes out twice
    resend_start: bool = False  # loses the first answer to each start and sends it again
    orphan_stop: bool = False  # after each boot, stops a transaction nobody started
    falling_register: bool = False  # one sample of each transaction falls below the last
    no_subprotocol: bool = False  # offers no Sec-WebSocket-Protocol


@dataclass
class Vehicle:
    """A car: takes up to `max_w` until the taper, then ever less, nothing at its target."""

    battery_wh: float = 60_000
    soc: float = 0.3
    max_w: float = 11_000
    taper_from: float = 0.8
    target_soc: float = 1.0

    def accepts_w(self) -> float:
        """Watts the battery takes now; 0 when it has what it wants."""
        if self.soc >= self.target_soc:
            return 0.0
        if self.soc <= self.taper_from:
            return self.max_w
        left = (1.0 - self.soc) / (1.0 - self.taper_from)
        return self.max_w * max(0.06, left)

    def charge(self, wh: float) -> None:
        """Put `wh` watt-hours into the battery."""
        self.soc = min(1.0, self.soc + wh / self.battery_wh)


@dataclass
class Fault:
    """A fault: OCPP 1.6's error code, and the vendor's own code and words beside it."""

    code: str = "OtherError"
    vendor_code: str = ""
    info: str = ""


@dataclass
class Reading:
    """A connector's meter at a moment: register Wh, power W, per-phase A and V, battery percent."""

    at: datetime
    register_wh: int
    power_w: float
    current_a: float
    voltage_v: float
    phases: int
    soc_percent: int | None


@dataclass
class Transaction:
    """A charging session as the charge point knows it.

    `ref` is the 2.x transactionId; `transaction_id` is what a 1.6 server answered to the start,
    None before.
    """

    connector: Connector
    tag: str
    started_at: datetime
    start_wh: int
    ref: str = field(default_factory=lambda: str(uuid.uuid4()))
    token_type: str = "ISO14443"  # noqa: S105  a kind of token, no password
    transaction_id: int | None = None
    remote_start_id: int | None = None
    reservation_id: int | None = None
    seq: int = 0
    offline: bool = False
    accepted: bool | None = None
    stopped_at: datetime | None = None
    stop_wh: int | None = None
    reason: Reason | None = None
    samples: int = 0

    def over(self) -> bool:
        """Whether it has stopped."""
        return self.stopped_at is not None

    def next_seq(self) -> int:
        """The next 2.x sequence number (2.0.1 Part 2 E), counted from 0."""
        self.seq += 1
        return self.seq - 1


@dataclass
class Connector:
    """One socket or cable with its own meter. In 2.x it is EVSE `number`, connector 1."""

    number: int
    max_w: float = 22_000
    dc: bool = False
    voltage_v: float = 230.0
    register_wh: float = 0.0
    status: Status = Status.AVAILABLE
    operative: bool = True
    wanted_operative: bool | None = None  # a ChangeAvailability that waits for the end of a session
    vehicle: Vehicle | None = None
    transaction: Transaction | None = None
    fault: Fault | None = None
    limit_w: float | None = None
    forced_w: float | None = None  # what the meter shows, set by hand
    reservation: tuple[int, str] | None = None

    @property
    def phases(self) -> int:
        """3 for AC above 7.4 kW, else 1 (DC is measured as one)."""
        return 3 if not self.dc and self.max_w > 7_400 else 1

    def power_w(self) -> float:
        """Watts that flow now."""
        if self.forced_w is not None:
            return self.forced_w
        if self.transaction is None or self.vehicle is None or self.fault is not None:
            return 0.0
        cap = self.max_w if self.limit_w is None else min(self.max_w, self.limit_w)
        return min(cap, self.vehicle.accepts_w())

    def advance(self, seconds: float) -> None:
        """Let `seconds` pass: energy goes through the meter into the battery, in steps of 10 s."""
        while seconds > 0:
            step = min(10.0, seconds)
            wh = self.power_w() * step / 3600
            if self.vehicle is not None and wh > 0:
                wh = min(wh, (self.vehicle.target_soc - self.vehicle.soc) * self.vehicle.battery_wh)
                self.vehicle.charge(wh)
                self.register_wh += wh
            seconds -= step

    def read(self, at: datetime) -> Reading:
        """The meter at `at`, after `advance`."""
        power = self.power_w()
        volts = 400.0 if self.dc else self.voltage_v
        soc = round(self.vehicle.soc * 100) if self.dc and self.vehicle is not None else None
        return Reading(
            at=at,
            register_wh=int(self.register_wh),
            power_w=round(power, 1),
            current_a=round(power / volts / self.phases, 2),
            voltage_v=volts,
            phases=self.phases,
            soc_percent=soc,
        )


class CallError(Exception):
    """A CALLERROR, received or to be sent: the code, and words."""

    def __init__(self, code: str, description: str = "") -> None:
        super().__init__(f"{code}: {description}" if description else code)
        self.code = code
        self.description = description


@dataclass
class Reply:
    """The answer to a call, and what the charge point does once the answer is out."""

    payload: Payload
    then: Callable[[], Awaitable[None]] | None = None


@dataclass
class Outgoing:
    """A message that waits in the outbox. Built when sent: a 1.6 transaction id may arrive
    meanwhile.
    """

    action: str
    build: Callable[[], Payload]
    keep: bool  # survives a lost connection and a reboot
    answered: asyncio.Future[Payload | None]
    on_answer: Callable[[Payload], Awaitable[None]] | None = None
    attempts: int = 0
    twice: bool = False
