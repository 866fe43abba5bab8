"""What the dialects tell the sessions: facts in 2.x's shape, and what became of each.

Every time is UTC; `at` is the charger's clock, `received_at` ours. Registers are mWh. EVSE and
connector are numbers as the charger says them; in 1.6 each connector is an EVSE of its own.
"""

from dataclasses import dataclass
from datetime import datetime

from monitoring.authorization import Verdict


@dataclass(frozen=True, slots=True)
class Start:
    """StartTransaction (1.6), TransactionEvent Started (2.x)."""

    station_id: int
    evse: int
    connector: int | None  # within the EVSE; 1.6: 1. None: the EVSE's first
    ref: str | None  # 2.x transactionId; None: 1.6, we give the number
    token_uid: str
    token_type: str
    at: datetime  # UTC, the charger's clock
    received_at: datetime
    meter_mwh: int | None = None  # 1.6 meterStart; 2.x the Transaction.Begin register
    offline: bool = False
    remote_start_id: int | None = None
    reservation_id: int | None = None
    charging_state: str = ""
    seq_no: int | None = None
    epoch: int = 0  # the connection's; joins the natural key where the clock is implausible
    clock_ok: bool = True  # False: the station's clock is known to be far off
    bad_register: bool = False  # a register was given, but is no usable number


@dataclass(frozen=True, slots=True)
class Started:
    """What became of a Start. `number` is 1.6's transactionId."""

    session_id: int
    ref: str
    number: int | None
    verdict: Verdict
    duplicate: bool = False


@dataclass(frozen=True, slots=True)
class Update:
    """TransactionEvent Updated (2.x)."""

    station_id: int
    ref: str
    at: datetime
    received_at: datetime
    seq_no: int | None = None
    charging_state: str = ""
    trigger: str = ""
    evse: int | None = None
    connector: int | None = None
    token_uid: str = ""  # given: the answer carries its verdict
    token_type: str = ""
    offline: bool = False
    remote_start_id: int | None = None


@dataclass(frozen=True, slots=True)
class Updated:
    """What became of an Update; `verdict` where it carried a token."""

    session_id: int
    verdict: Verdict | None = None


@dataclass(frozen=True, slots=True)
class Stop:
    """StopTransaction (1.6, `numbered`: the ref is a number we gave), TransactionEvent Ended."""

    station_id: int
    ref: str
    at: datetime
    received_at: datetime
    meter_mwh: int | None = None  # 1.6 meterStop; 2.x the Transaction.End register
    token_uid: str = ""  # given: the answer carries its verdict
    token_type: str = ""
    reason: str = ""
    seq_no: int | None = None
    charging_state: str = ""
    evse: int | None = None
    connector: int | None = None
    numbered: bool = False
    offline: bool = False
    clock_ok: bool = True
    epoch: int = 0
    bad_register: bool = False  # a register was given, but is no usable number


@dataclass(frozen=True, slots=True)
class Stopped:
    """What became of a Stop; `verdict` where it carried a token."""

    session_id: int
    energy_wh: int
    verdict: Verdict | None = None
    duplicate: bool = False


@dataclass(frozen=True, slots=True)
class Bay:
    """A connector's status as reported; put one on "bays" for every StatusNotification."""

    station_id: int
    evse: int
    connector: int
    status: str  # Connector.Status
    at: datetime
    received_at: datetime
