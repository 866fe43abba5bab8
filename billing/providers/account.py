"""Putting it on account: no provider at all. A trusted customer is invoiced later.

The hold is a promise, so it is always granted, and "collecting" it means that it is owed: no money
moves here. Settlement books such a payment as receivable, never as paid.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable

from billing.models import Payment, Refund
from billing.providers.base import MovementOutcome, Outcome, RefundOutcome, Refused, Status


class OnAccount:
    """The provider of those who pay by invoice."""

    name = "account"

    def enabled(self) -> bool:
        """Always: nothing outside is needed."""
        return True

    def authorize(self, payment: Payment) -> Outcome:
        """Granted."""
        return self.read(payment)

    def read(self, payment: Payment) -> Outcome:
        """As our own row says: there is nobody else to ask."""
        states = Payment.State
        if payment.state in (states.CANCELING, states.CANCELED):
            return self._outcome(payment, Status.CANCELED)
        if payment.captured_minor:
            return self._outcome(payment, Status.PAID, captured_minor=payment.captured_minor)
        return self._outcome(payment, Status.HELD, held_minor=payment.hold_minor)

    def find(self, payment: Payment) -> Outcome | None:
        """Nothing outside to find."""
        return self.read(payment)

    def capture(self, payment: Payment, amount_minor: int) -> Outcome:
        """Owed from now on."""
        return self._outcome(payment, Status.PAID, captured_minor=amount_minor)

    def cancel(self, payment: Payment) -> Outcome:
        """The promise is taken back."""
        return self._outcome(payment, Status.CANCELED)

    def release(self, ref: str, account: str) -> Outcome:
        """Nothing outside to release."""
        return Outcome(Status.CANCELED, ref=ref)

    def refund(self, refund: Refund) -> RefundOutcome:
        """Nothing was collected: correct the invoice instead."""
        raise Refused("on_account", "Nothing was collected: issue a credit note instead.")

    def refunds(self, payment: Payment) -> list[RefundOutcome]:
        """None, ever."""
        return []

    def recent(self, since: dt.datetime, account: str = "") -> Iterable[Outcome]:
        """Nothing outside to compare with."""
        return []

    def movements(self, since: dt.datetime, account: str = "") -> Iterable[MovementOutcome]:
        """No balance anywhere."""
        return []

    def _outcome(
        self, payment: Payment, status: Status, *, held_minor: int = 0, captured_minor: int = 0
    ) -> Outcome:
        return Outcome(
            status,
            held_minor=held_minor,
            captured_minor=captured_minor,
            payment_id=str(payment.pk),
        )
