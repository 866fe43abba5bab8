"""What an error code means: its class, what the driver reads, what staff do.

The shipped table (`fault_codes.csv`) holds OCPP 1.6's ChargePointErrorCode and the MREC list
(ChargeX); rows of `FaultCode` go before it, so that a vendor's list is data, not code.
"""

import csv
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from monitoring.models import FaultCode, Severity

_TABLE = Path(__file__).with_name("fault_codes.csv")

SAFETY, CRITICAL, WARNING, INFO = "S", "C", "W", "I"
SEVERITY = {
    SAFETY: Severity.CRITICAL,
    CRITICAL: Severity.PAGE,
    WARNING: Severity.TICKET,
    INFO: Severity.WARN,
}
_WORST = {SAFETY: 3, CRITICAL: 2, WARNING: 1, INFO: 0}


@dataclass(frozen=True, slots=True)
class Fault:
    """One known error code."""

    namespace: str
    code: str
    name: str
    fault_class: str
    driver_message: str = ""
    staff_action: str = ""

    @property
    def is_safety(self) -> bool:
        """True where nobody may restart or unlock from afar."""
        return self.fault_class == SAFETY

    @property
    def severity(self) -> Severity:
        """How much an incident with this code matters."""
        return SEVERITY[self.fault_class]


UNKNOWN = Fault("", "", "Fault", CRITICAL, "Please use another connector.")


@cache
def shipped() -> dict[tuple[str, str], Fault]:
    """Return the shipped table by (namespace, lower-case code)."""
    with _TABLE.open(newline="", encoding="utf-8") as file:
        return {
            (row["namespace"], row["code"].lower()): Fault(
                row["namespace"],
                row["code"],
                row["name"],
                row["class"],
                row["driver_message"],
                row["staff_action"],
            )
            for row in csv.DictReader(file)
        }


def table() -> dict[tuple[str, str], Fault]:
    """Return every known code: the shipped table with this installation's rows over it."""
    own = {
        (row.namespace, row.code.lower()): Fault(
            row.namespace,
            row.code,
            row.name,
            row.fault_class,
            row.driver_message,
            row.staff_action,
        )
        for row in FaultCode.objects.all()
    }
    return shipped() | own


def classify(
    error_code: str,
    vendor_error_code: str = "",
    vendor: str = "",
    known: dict[tuple[str, str], Fault] | None = None,
) -> Fault:
    """Return what a status's codes mean: the worst of the vendor's codes, else 1.6's own.

    A vendor may send several codes at once, parted by commas (EVgo's list does: “F001,F003”).
    """
    codes = shipped() if known is None else known
    namespaces = ["mrec", "evgo", *([f"vendor:{vendor}"] if vendor else [])]
    found = [
        codes[namespace, part.strip().lower()]
        for part in vendor_error_code.split(",")
        for namespace in namespaces
        if (namespace, part.strip().lower()) in codes
    ]
    own = codes.get(("ocpp16", error_code.lower()))
    if own is not None and (own.is_safety or not found):
        found.append(own)
    return worst(found)


def worst(faults: Iterable[Fault]) -> Fault:
    """Return the most serious of these; `UNKNOWN` (critical) of none."""
    return max(faults, key=lambda fault: _WORST[fault.fault_class], default=UNKNOWN)
