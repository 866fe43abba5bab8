"""What each order says in each version, and what a charger hears and tells: one file an area.

`ORDERS` maps an order's name to one `Said` or several; `HEARD` an action of the charger's to one
`Heard`. tests/test_coverage.py runs them all over real sockets, in every version that knows them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

V16, V201, V21 = "1.6", "2.0.1", "2.1"
type Call = tuple[str, dict[str, Any]]


@dataclass(frozen=True)
class Said:
    """One order: its arguments, the action and payload expected in each version, the answer."""

    args: dict[str, Any]
    in_16: Call | None = None
    in_2x: Call | None = None
    in_21: Call | None = None  # where 2.1 differs from 2.0.1, or alone knows it
    answer: dict[str, Any] = field(default_factory=lambda: {"status": "Accepted"})
    status: str = "accepted"  # how the order ends with that answer
    kept: Callable[[Any], bool] | None = None  # given the station: was the answer kept?

    def expected(self, version: str) -> Call | None:
        """Return what is said in a version, None where it cannot be said."""
        if version == V16:
            return self.in_16
        return (self.in_21 or self.in_2x) if version == V21 else self.in_2x


@dataclass(frozen=True)
class Heard:
    """One call of a charger: its payload, and whether what it means was kept."""

    payload: dict[str, Any]
    kept: Callable[[Any], bool]  # given the station, after the answer
    answer: dict[str, Any] = field(default_factory=dict)  # at least this is answered
    versions: tuple[str, ...] = (V201, V21)
