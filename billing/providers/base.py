"""What every payment provider says and may refuse: `Outcome`, `RefundOutcome`, the error tree.

ProviderError                 .code: the provider's own code, .text: for the driver, if any
├── Unreachable               no answer: nobody knows whether it was done. Same key again, later
├── Broken                    a stored failure (5xx): read first, then a new round
├── Declined                  the driver's bank or card said no
├── Refused                   the provider will not do it now: read, and map what is read
│   └── Missing               it does not know the object
└── Locked                    our key is revoked or may not do this: stop new payments
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from billing.models import Payment, Refund
from billing.models.payments import RefundState


class Status(StrEnum):
    """Where the money is, in the provider's eyes."""

    NEEDS_METHOD = "needs_method"  # nothing reserved; the driver chooses how to pay
    NEEDS_ACTION = "needs_action"  # the driver's bank asks (3-D Secure)
    PROCESSING = "processing"
    HELD = "held"  # reserved, to be collected or released
    PAID = "paid"  # collected, once and for all
    CANCELED = "canceled"  # released


@dataclass(frozen=True, slots=True)
class Outcome:
    """A fresh snapshot of a payment at its provider. Amounts in minor units."""

    status: Status
    ref: str | None = None
    held_minor: int = 0  # what can be collected now
    captured_minor: int = 0
    refunded_minor: int = 0
    capture_before: dt.datetime | None = None
    error_code: str = ""
    error_text: str = ""
    charge_ref: str = ""  # the latest try, which tells one decline from the next
    cancel_reason: str = ""
    dispute: str = ""  # "open", "won", "lost"
    payment_id: str = ""  # ours, from the provider's metadata
    client_secret: str = field(default="", repr=False)  # for the driver's browser only


@dataclass(frozen=True, slots=True)
class RefundOutcome:
    """A fresh snapshot of a refund at its provider."""

    ref: str
    state: RefundState
    amount_minor: int
    error_code: str = ""
    refund_id: str = ""  # ours, from the provider's metadata


class MovementKind(StrEnum):
    """What moved money on our balance at a provider."""

    CHARGE = "charge"
    REFUND = "refund"
    DISPUTE = "dispute"  # withdrawn, or given back when won
    PAYOUT = "payout"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class MovementOutcome:
    """One line of the provider's statement. `net` = amount less fee is what the balance moved."""

    ref: str
    kind: MovementKind
    amount_minor: int
    fee_minor: int
    currency: str
    at: dt.datetime
    payment_ref: str = ""  # the provider's payment it belongs to
    refund_ref: str = ""


class ProviderError(Exception):
    """Something went wrong at the provider."""

    def __init__(self, code: str, text: str = "") -> None:
        super().__init__(f"{code}: {text}" if text else code)
        self.code, self.text = code, text


class Unreachable(ProviderError):
    """No answer came; the call may have been carried out."""


class Broken(ProviderError):
    """The provider failed and will answer this key so again."""


class Declined(ProviderError):
    """The bank or the card said no."""


class Refused(ProviderError):
    """The provider will not do this in the state things are in."""


class Missing(Refused):
    """The provider does not know the object, in this account."""


class Locked(ProviderError):
    """Our key was refused."""


class Provider(Protocol):
    """What a provider can do. Every call is idempotent by a key made of the payment's own row."""

    name: str

    def enabled(self) -> bool:
        """Whether payments can be taken now."""

    def authorize(self, payment: Payment) -> Outcome:
        """Ask for the hold; the driver's browser confirms it."""

    def read(self, payment: Payment) -> Outcome:
        """The payment as it is now."""

    def find(self, payment: Payment) -> Outcome | None:
        """The payment by our id, where its reference never reached us."""

    def capture(self, payment: Payment, amount_minor: int) -> Outcome:
        """Collect once, at most what is held."""

    def cancel(self, payment: Payment) -> Outcome:
        """Release the hold."""

    def release(self, ref: str, account: str) -> Outcome:
        """Release a hold that belongs to no open payment of ours."""

    def refund(self, refund: Refund) -> RefundOutcome:
        """Give money back."""

    def refunds(self, payment: Payment) -> list[RefundOutcome]:
        """Every refund the provider knows for this payment."""

    def recent(self, since: dt.datetime, account: str = "") -> Iterable[Outcome]:
        """Every payment of ours that the provider has seen since."""

    def movements(self, since: dt.datetime, account: str = "") -> Iterable[MovementOutcome]:
        """Every movement of our balance since: the provider's statement."""
