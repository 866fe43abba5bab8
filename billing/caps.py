"""The cap: what a running session has cost so far, and its end before it costs more than reserved.

The driver was promised “at most X”, and X is what was reserved: so the hold is never raised, the
session is stopped a little before.
"""

from __future__ import annotations

import copy
import logging

from django.utils import timezone

from billing import start
from billing.models import Payment
from billing.models.payments import PaymentState as State
from billing.ocpi import read_tariff
from billing.pricing import price
from billing.totals import Totals, total_up
from billing.usage import usage_of
from monitoring.models import Session

log = logging.getLogger(__name__)

STOP_AT_PERCENT = 92  # of the hold; the rest covers what flows until the charger obeys


def totals_so_far(payment: Payment, *, capped: bool = True) -> Totals | None:
    """Price the payment's session as if it ended now, with the price frozen at the start.

    None without a session or a price. `capped`: never above what was reserved.
    """
    session, snapshot = payment.session, payment.tariff_snapshot
    if session is None or not snapshot.get("ocpi"):
        return None
    plan = read_tariff(snapshot["ocpi"], strict=False)
    if session.stopped_at is None:
        session = copy.copy(session)
        session.stopped_at = timezone.now()
    limit = payment.hold_minor if capped else None
    return total_up(plan, price(plan, usage_of(session)), limit)


def watch() -> int:
    """Stop every session that has used up its cap; how many were stopped now."""
    stopped = 0
    running = Payment.objects.filter(
        state=State.AUTHORIZED, session__state=Session.State.ACTIVE
    ).select_related("session__station__site", "session__connector")
    for payment in running:
        try:
            stopped += _watch(payment)
        except Exception:  # one broken payment must not unwatch the others
            log.exception("The cap of payment %s could not be watched.", payment.pk)
    return stopped


def _watch(payment: Payment) -> bool:
    totals = totals_so_far(payment, capped=False)
    if totals is None or payment.session is None or payment.provider == "account":
        return False
    if totals.gross_minor * 100 < payment.hold_minor * STOP_AT_PERCENT:
        return False
    return start.stop(payment, payment.session, "the cap is used up") is not None
