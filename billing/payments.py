"""The payment state machine. It loses no money, because of one rule:

write the intention (committed), call the provider with a key derived from it, then apply a fresh
snapshot. The snapshot may come from the call's own answer, a webhook (a hint: we read again), the
driver's return, or reconciliation: all four go through `snapshots.apply`.

    begin     the driver pressed pay: the connector is locked, the intent is made
    returned  the driver came back from the card form or the bank
    cancel    the driver, the deadline or a refused start: release
    capture   the session's price is known: collect at most what was reserved

`transitions` moves a row, `snapshots` decides which move follows what the provider says, `steps`
makes the call that a state asks for (also: whatever a crash left undone).

The table of moves is `Payment.State.TRANSITIONS`; the drawing is docs/states.md.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import logging
import secrets
from dataclasses import dataclass, field
from typing import Any

from django.db import IntegrityError, transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from billing import money, start, tariffs
from billing.models import Payment, PaymentTransition
from billing.models.payments import PaymentState as State
from billing.providers import PROVIDERS
from billing.providers.base import (
    Broken,
    Declined,
    Locked,
    ProviderError,
    Refused,
    Status,
    Unreachable,
)
from billing.snapshots import apply, give_up, may_become, provider_of, row
from billing.steps import advance, keep_ref
from billing.steps import refresh as refresh
from billing.transitions import (
    COLLECTED as COLLECTED,
)
from billing.transitions import (
    BadAmount,
    Busy,
    NotAllowed,
    NotReady,
    PaymentsOff,
    ProviderDown,
    Stale,
    alert,
    move,
    outside_transaction,
)
from monitoring.models import Session
from stations import journal
from stations.models import Connector, Station, User

log = logging.getLogger(__name__)

PAY_WITHIN = dt.timedelta(minutes=15)  # to fill in the card and pass 3-D Secure
PATIENCE = dt.timedelta(minutes=3)  # an unpaid attempt older than this gives way to another driver
MAXIMUM_MINOR = 99_999_999
FREE = (
    Connector.Status.AVAILABLE, Connector.Status.PREPARING, Connector.Status.OCCUPIED,
    Connector.Status.FINISHING, Connector.Status.UNKNOWN,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Begun:
    """What the driver's browser needs; neither secret is kept in the clear."""

    payment: Payment
    client_secret: str = field(repr=False)
    live_token: str = field(repr=False)  # opens /s/<token>


# --- what the portal calls ---------------------------------------------------------------------


def begin(
    connector: Connector,
    *,
    hold_minor: int,
    currency: str,
    tariff_snapshot: dict[str, Any] | None = None,
    email: str = "",
    language: str = "en",
    driver: User | None = None,
    billing_details: dict[str, str] | None = None,
    provider: str = "stripe",
    account: str = "",
) -> Begun:
    """Lock the connector and make the intent for a hold of `hold_minor`.

    The price is frozen here: `tariff_snapshot`, or the tariff in force at the station now. Raises
    PaymentsOff, NotReady, Busy, BadAmount, ProviderDown; nothing is reserved then.
    """
    if not PROVIDERS[provider].enabled():
        raise PaymentsOff(_("Paying here is not set up. Nothing was reserved."))
    check_startable(connector)
    least = money.minimum_minor(currency)
    if not least <= hold_minor <= MAXIMUM_MINOR:
        raise BadAmount(_("This amount cannot be reserved. Choose another."))
    if tariff_snapshot is None:
        in_force = tariffs.snapshot_for(connector.station, timezone.now())
        if in_force is None:
            raise NotReady(_("This station has no price yet. Nothing was reserved."))
        tariff_snapshot = in_force[1]
    token = secrets.token_urlsafe(24)
    payment = Payment(
        provider=provider,
        provider_account=account,
        connector=connector,
        driver=driver,
        email=email,
        language=language,
        billing_details=billing_details or {},
        currency=currency,
        hold_minor=hold_minor,
        tariff_snapshot=tariff_snapshot,
        live_hash=token_hash(token),
        live_until=timezone.now() + dt.timedelta(days=2),
        deadline_at=timezone.now() + PAY_WITHIN,
    )
    _lock_connector(payment)
    secret = _authorize(payment)
    payment.refresh_from_db()
    if payment.state in (State.CANCELING, State.CANCELED, State.FAILED):
        advance(payment.pk)
        raise ProviderDown(_("The payment service does not answer. Nothing was reserved."))
    if payment.state == State.AUTHORIZING and not secret and provider == "stripe":
        raise ProviderDown(_("The payment service does not answer. Nothing was reserved."))
    return Begun(payment, secret, token)


def resume(payment: Payment) -> str:
    """The client secret of an attempt that is not paid yet, to fill in the card again."""
    outside_transaction()
    try:
        outcome = provider_of(payment).read(payment)
    except ProviderError as error:
        raise ProviderDown(_("The payment service does not answer. Try again.")) from error
    if outcome.status not in (Status.NEEDS_METHOD, Status.NEEDS_ACTION):
        raise NotAllowed(_("This payment is already on its way."))
    return outcome.client_secret


def returned(payment: Payment) -> Payment:
    """The driver is back from the card form: read, apply, go on. Never raises for the network."""
    return refresh(payment.pk, "return page")


def cancel(payment: Payment, why: str = "driver") -> Payment:
    """Give the reservation up and release it. Raises NotAllowed once a session runs on it."""
    for _attempt in range(5):
        payment = row(payment.pk)
        if payment.state in (State.CANCELING, State.CANCELED):
            return advance(payment.pk)
        if payment.session_id is not None or not may_become(payment, State.CANCELING):
            raise NotAllowed(_("This payment can no longer be cancelled: stop charging instead."))
        try:
            move(payment, State.CANCELING, f"cancel: {why}", next_try_at=timezone.now())
        except Stale:
            continue
        start.withdraw(payment)
        return advance(payment.pk)
    return row(payment.pk)


def capture(payment: Payment, due_minor: int) -> Payment:
    """The session cost `due_minor`: collect it, at most the hold; below the minimum release.

    Re-entrant: what is due is frozen by the first call. Look at the state that comes back:
    captured, canceled (nothing collected), or capturing / capture_failed (it will be retried).
    """
    for _attempt in range(5):
        payment = row(payment.pk)
        if payment.state != State.AUTHORIZED:
            return advance(payment.pk)
        if payment.session_id is None:
            raise NotAllowed("Nothing is collected without a session.")
        collectable = min(due_minor, payment.hold_minor)
        small = collectable < money.minimum_minor(payment.currency)
        try:
            if small:
                event = "nothing due" if due_minor == 0 else "below the minimum: written off"
                move(
                    payment, State.CANCELING, event,
                    detail={"due_minor": due_minor}, due_minor=due_minor,
                    next_try_at=timezone.now(),
                )  # fmt: skip
            else:
                move(
                    payment, State.CAPTURING, "session priced",
                    detail={"due_minor": due_minor}, due_minor=due_minor,
                    next_try_at=timezone.now(),
                )  # fmt: skip
        except Stale:
            continue
        start.withdraw(payment)
        if due_minor > payment.hold_minor:
            alert(payment, "due_above_hold", short_minor=due_minor - payment.hold_minor)
        return advance(payment.pk)
    return row(payment.pk)


def write_off(payment: Payment, reason: str) -> Payment:
    """Give up what could not be collected. Raises NotAllowed for other states, or no reason."""
    if not reason.strip():
        raise NotAllowed(_("Say why the amount is given up."))
    payment = row(payment.pk)
    if payment.state not in (State.CAPTURE_EXPIRED, State.CAPTURE_FAILED):
        raise NotAllowed(_("Only what could not be collected can be written off."))
    try:
        move(
            payment, State.WRITTEN_OFF, "written off",
            detail={"reason": reason[:200]}, next_try_at=None, deadline_at=None,
        )  # fmt: skip
    except Stale:
        raise NotAllowed(_("The payment is changing right now. Try again.")) from None
    return row(payment.pk)


def check_startable(connector: Connector) -> None:
    """Raise NotReady with the reason why nothing can start at this connector now."""
    station = connector.station
    if station.state != Station.State.ACCEPTED or not station.connected:
        raise NotReady(_("This charging station is offline. Nothing was reserved."))
    if connector.status not in FREE:
        raise NotReady(_("This connector is not free right now. Nothing was reserved."))
    if Session.objects.filter(connector=connector, state=Session.State.ACTIVE).exists():
        raise NotReady(_("Somebody is charging at this connector. Nothing was reserved."))


def token_hash(token: str) -> str:
    """What is stored of a capability token."""
    return hashlib.sha256(token.encode()).hexdigest()


def by_live_token(token: str) -> Payment | None:
    """The payment whose /s/<token> this is, while the link is valid."""
    return (
        Payment.objects.select_related("connector__station", "connector__evse", "session")
        .filter(live_hash=token_hash(token), live_until__gt=timezone.now())
        .first()
    )


# --- the next step of each state ---------------------------------------------------------------


def _lock_connector(payment: Payment) -> None:
    """Write the row: the unique constraint decides between two drivers. Raises Busy."""
    for last in (False, True):
        try:
            with transaction.atomic():
                payment.save(force_insert=True)
                PaymentTransition.objects.create(
                    payment=payment, to_state=State.CREATED, event="driver presses pay"
                )
                journal.record(
                    "payment.created",
                    payment,
                    station_id=payment.connector.station_id,
                    hold_minor=payment.hold_minor,
                    currency=payment.currency,
                )
        except IntegrityError:
            if last or not _displace(payment.connector):
                raise Busy(
                    _("Somebody else is paying for this connector. Nothing was reserved.")
                ) from None
        else:
            return


def _displace(connector: Connector) -> bool:
    """End another driver's attempt that has been left lying unpaid; whether one was ended."""
    holder = Payment.objects.filter(
        connector=connector,
        state__in=(State.CREATED, State.AUTHORIZING),
        created_at__lt=timezone.now() - PATIENCE,
    ).first()
    if holder is None:
        return False
    refresh(holder.pk, "another driver waits")
    holder = row(holder.pk)
    if holder.state not in (State.CREATED, State.AUTHORIZING):
        return False
    return cancel(holder, "gave way to another driver").state in (State.CANCELING, State.CANCELED)


def _authorize(payment: Payment) -> str:
    """Make the intent; returns the client secret, or "" where none came back."""
    outside_transaction()
    if payment.state == State.CREATED:
        move(payment, State.AUTHORIZING, "asks for the reservation")
    provider = provider_of(payment)
    try:
        outcome = provider.authorize(payment)
    except (Unreachable, Broken) as error:
        # Whether an intent was made is found out while it is given up: nobody can confirm it.
        give_up(payment, f"no intent: {error.code}")
        return ""
    except (Declined, Refused, Locked) as error:
        move(payment, State.FAILED, f"refused: {error.code}", last_error_code=error.code[:80])
        if isinstance(error, Locked):
            alert(payment, "key_refused", code_at_provider=error.code)
        give_up(payment, "refused")
        return ""
    keep_ref(payment, outcome)
    apply(payment.pk, outcome, "authorize")
    return outcome.client_secret
