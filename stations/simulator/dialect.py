"""What a station needs from a version of OCPP: payloads out, handlers for what comes in."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import TYPE_CHECKING

from stations.simulator.model import (
    CallError,
    Connector,
    Fault,
    Payload,
    Reading,
    Reply,
    Status,
    Transaction,
)

if TYPE_CHECKING:
    from stations.simulator.station import Station

type Message = tuple[str, Callable[[], Payload]]


class Dialect(ABC):
    """One version of OCPP, spoken by one station. Messages are built when sent, not when queued."""

    subprotocol: str
    default_kind = "ISO14443"  # of a token read at the station

    def __init__(self, station: Station) -> None:
        self.station = station
        self.handlers: dict[str, Callable[[Payload], Awaitable[Reply]]] = {}

    async def handle(self, action: str, payload: Payload) -> Reply:
        """Answer a call of the server; raises CallError where this charge point has no such
        action.
        """
        handler = self.handlers.get(action)
        if handler is None:
            raise CallError("NotImplemented", f"This charge point does not know {action}.")
        try:
            return await handler(payload)
        except (KeyError, TypeError, ValueError) as error:
            raise CallError(self.malformed, f"{action}: {error!r}") from error

    malformed = "FormationViolation"

    @abstractmethod
    def boot(self, reason: str) -> Payload:
        """BootNotification; `reason` in 2.x's words."""

    def word(self, status: Status) -> str:
        """This version's word for a connector state; states of one word are not told apart."""
        return str(status)

    @abstractmethod
    def statuses(self, connector: Connector | None, at: datetime) -> list[Message]:
        """StatusNotification of a connector, of the whole charge point where None; empty when
        unchanged.
        """

    @abstractmethod
    def faulted(
        self, connector: Connector, fault: Fault, at: datetime, cleared: bool
    ) -> list[Message]:
        """What goes beside the status when a fault comes or goes."""

    @abstractmethod
    def authorize(self, tag: str, token_type: str) -> Payload:
        """Authorize."""

    @abstractmethod
    def authorized(self, answer: Payload) -> str | None:
        """The status in an answer's idTagInfo or idTokenInfo; None where it carries none."""

    @abstractmethod
    def started(self, tx: Transaction, reading: Reading) -> Message:
        """StartTransaction, or TransactionEvent Started."""

    @abstractmethod
    def sampled(self, tx: Transaction, readings: list[Reading], context: str) -> Message:
        """MeterValues, or TransactionEvent Updated, of a running transaction."""

    @abstractmethod
    def charging_state(self, tx: Transaction, at: datetime, trigger: str) -> list[Message]:
        """TransactionEvent Updated for a change of charging state; 1.6 has only the connector's
        status.
        """

    @abstractmethod
    def stopped(self, tx: Transaction, reading: Reading) -> Message:
        """StopTransaction, or TransactionEvent Ended."""

    @abstractmethod
    def idle_meter(self, connector: Connector, reading: Reading, context: str) -> Message:
        """MeterValues outside a transaction."""

    @abstractmethod
    def firmware_status(self, status: str, request_id: int | None) -> Message | None:
        """FirmwareStatusNotification in the variant that fits; None where this variant lacks the
        status.
        """

    @abstractmethod
    def log_status(self, status: str, request_id: int | None) -> Message:
        """DiagnosticsStatusNotification or LogStatusNotification; `status` in 2.x's words."""

    @abstractmethod
    def security_event(self, kind: str, at: datetime, info: str) -> Message:
        """SecurityEventNotification."""
