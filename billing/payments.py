"""The payment state machine. It loses no money, because of one rule:

write the intention (committed), call the provider with a key derived from it, then apply a fresh
snapshot. The snapshot may come from the call's own answer, a webhook (a hint: we read again), the
driver's return, or reconciliation: all four go through `apply`.

    begin     the driver pressed pay: the connector is locked, the intent is made
    returned  the driver came back from the card form or the bank
    cancel    the driver, the deadline or a refused start: release
    capture   the session's price is known: collect at most what was reserved
    advance   do what the state asks for next (also: whatever a crash left undone)

The table of moves is `Payment.State.TRANSITIONS`; the drawing is docs/states.md.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import logging
import secrets
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from django.db import IntegrityError, transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from billing import money, refunds, start, tariffs
from billing.models import Payment, PaymentTransition
from billing.providers import PROVIDERS
from billing.providers.base import (
    Broken,
    Declined,
    Locked,
    Missing,
    Outcome,
    Provider,
    ProviderError,
    Refused,
    Status,
    Unreachable,
)
from billing.transitions import (
    COLLECTED,
    BadAmount,
    Busy,
    NotAllowed,
    NotReady,
    PaymentsOff,
    ProviderDown,
    Stale,
    State,
    FINAL,
    alert,
    move,
    note,
    outside_transaction,
)
from monitoring.models import Session
from stations import journal
from stations.models import Connector, Station, User

log = logging.getLogger(__name__)

PAY_WITHIN = dt.timedelta(minutes=15)  # to fill in the card and pass 3-D Secure
PATIENCE = dt.timedelta(minutes=3)  # an unpaid attempt older than this gives way to another driver
DECLINES = 3  # then the intent is closed: a new one has to pass the portal's limits
BACKOFF_S = (60, 300, 1800, 7200, 3600)  # pauses between retries; the last one repeats
LAST_CAPTURE = dt.timedelta(hours=1)  # before the hold expires
POLL = dt.timedelta(minutes=10)  # a quiet reservation is read again this often
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

    The price is frozen here: `tariff_snapshot`, or the tariff in force at the station now. Raises PaymentsOff, NotReady, Busy, BadAmount, ProviderDown; nothing is reserved then.
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
        outcome = _provider(payment).read(payment)
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
        payment = _get(payment.pk)
        if payment.state in (State.CANCELING, State.CANCELED):
            return advance(payment.pk)
        if payment.session_id is not None or not _may_become(payment, State.CANCELING):
            raise NotAllowed(_("This payment can no longer be cancelled: stop charging instead."))
        try:
            move(payment, State.CANCELING, f"cancel: {why}", next_try_at=timezone.now())
        except Stale:
            continue
        start.withdraw(payment)
        return advance(payment.pk)
    return _get(payment.pk)


def capture(payment: Payment, due_minor: int) -> Payment:
    """The session cost `due_minor`: collect it, at most the hold; below the minimum release.

    Re-entrant: what is due is frozen by the first call. Look at the state that comes back:
    captured, canceled (nothing collected), or capturing / capture_failed (it will be retried).
    """
    for _attempt in range(5):
        payment = _get(payment.pk)
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
    return _get(payment.pk)


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


# --- snapshots in ------------------------------------------------------------------------------


def refresh(payment_id: uuid.UUID, event: str) -> Payment:
    """Read the payment at its provider, apply what is read, and do what is next."""
    payment = _get(payment_id)
    if payment.provider_ref is not None:
        outside_transaction()
        try:
            outcome = _provider(payment).read(payment)
        except Missing:
            alert(payment, "unknown_at_provider", ref=payment.provider_ref)
            return payment
        except ProviderError as error:
            log.warning("Reading %s failed: %s", payment, error)
            return payment
        payment = apply(payment_id, outcome, event)
        if payment.state in COLLECTED and refunds.differ(payment, outcome):
            refunds.sync(payment)
        if payment.state in FINAL and outcome.status in (Status.HELD, Status.PAID):
            stray(payment, outcome)
    return advance(payment_id)


def stray(payment: Payment, outcome: Outcome) -> None:
    """Money at the provider that belongs to a payment we have closed: say so; release a hold.

    Collected money is never touched by a machine: finance decides.
    """
    alert(payment, "money_without_session", ref=outcome.ref, status=outcome.status)
    if outcome.status == Status.HELD and outcome.ref is not None:
        try:
            _provider(payment).release(outcome.ref, payment.provider_account)
        except ProviderError as error:
            log.warning("Releasing the stray hold %s failed: %s", outcome.ref, error)


def apply(payment_id: uuid.UUID, outcome: Outcome, event: str) -> Payment:
    """Bring our row to what the snapshot says, move by move; the only way states follow it.

    Monotone: a snapshot that tells nothing new changes nothing, so it may come late and twice.
    """
    for _attempt in range(12):
        payment = _get(payment_id)
        step = _following(payment, outcome)
        if step is None:
            return payment
        target, what, changes = step
        try:
            with transaction.atomic():
                if target == State.AUTHORIZED:
                    changes = {**changes, **start.order(payment)}
                move(payment, target, f"{event}: {what}", **changes)
        except Stale:
            continue
        except IntegrityError:
            # Somebody else has the connector now: this late reservation is given back.
            if outcome.status != Status.HELD:
                return _get(payment_id)
            try:
                move(_get(payment_id), State.CANCELING, "connector taken meanwhile",
                     next_try_at=timezone.now())  # fmt: skip
            except (Stale, NotAllowed):
                continue
        _after(_get(payment_id), outcome)
    return _get(payment_id)


Step = tuple[str, str, dict[str, Any]]


def _following(payment: Payment, o: Outcome) -> Step | None:
    """The next move from this state towards this snapshot, or None."""
    unpaid = (State.AUTHORIZING, State.REQUIRES_ACTION)
    state = payment.state
    if o.status == Status.HELD:
        if state in unpaid:
            return State.AUTHORIZED, "held", _held(o)
        if state in (State.CREATED, State.FAILED):
            return State.AUTHORIZING, "paid after all", {"provider_ref": o.ref, "last_error_code": ""}
    elif o.status == Status.NEEDS_ACTION:
        if state == State.AUTHORIZING:
            return State.REQUIRES_ACTION, "bank asks", {}
        if state == State.FAILED:
            return State.AUTHORIZING, "tries again", {"last_error_code": ""}
    elif o.status == Status.NEEDS_METHOD:
        again = state == State.FAILED and not _known_decline(payment, o)
        if o.error_code and (state in unpaid or again):
            declined = {"last_error_code": o.error_code[:80], "detail": {"charge": o.charge_ref}}
            return State.FAILED, "declined", declined
    elif o.status == Status.CANCELED:
        return _following_canceled(payment, o)
    elif o.status == Status.PAID:
        return _following_paid(payment, o)
    return None


def _known_decline(payment: Payment, o: Outcome) -> bool:
    return payment.transitions.filter(to_state=State.FAILED, detail__charge=o.charge_ref).exists()


def _held(o: Outcome) -> dict[str, Any]:
    return {
        "capture_before": o.capture_before,
        "last_error_code": "",
        "next_try_at": timezone.now() + POLL,
    }


def _following_canceled(payment: Payment, o: Outcome) -> Step | None:
    why = o.cancel_reason or "canceled"
    done = {"next_try_at": None, "deadline_at": None}
    if payment.state in (State.CAPTURING, State.CAPTURE_FAILED):
        return State.CAPTURE_EXPIRED, why, done
    if payment.state == State.AUTHORIZED and payment.session_id is not None:
        return State.CAPTURE_EXPIRED, why, done
    if _may_become(payment, State.CANCELED):
        return State.CANCELED, why, done
    return None


def _following_paid(payment: Payment, o: Outcome) -> Step | None:
    captured = {
        "captured_minor": min(o.captured_minor, payment.hold_minor),
        "last_error_code": "",
        "next_try_at": None,
        "deadline_at": None,
    }
    state = payment.state
    if state in (State.CAPTURING, State.CAPTURE_FAILED, State.CANCELING):
        return State.CAPTURED, "collected", captured
    if state == State.AUTHORIZED:
        return State.CAPTURING, "collected elsewhere", {"due_minor": o.captured_minor}
    if state in COLLECTED:
        target = refunds.state_of(payment)
        if o.dispute == "open" and state != State.DISPUTED:
            return State.DISPUTED, "dispute", {}
        if o.dispute == "won" and state == State.DISPUTED:
            return target, "dispute won", {}
        if o.dispute == "lost" and state == State.DISPUTED:
            return State.WRITTEN_OFF, "dispute lost", {}
    return None


def _after(payment: Payment, o: Outcome) -> None:
    """What a move brings with it, outside the transaction of the move."""
    if payment.state == State.FAILED:
        declines = payment.transitions.filter(to_state=State.FAILED).count()
        if declines >= DECLINES:
            _give_up(payment, "declined too often")
    elif payment.state == State.CAPTURE_EXPIRED:
        alert(payment, "capture_expired", due_minor=payment.due_minor)
    elif payment.state == State.DISPUTED:
        alert(payment, "disputed", captured_minor=payment.captured_minor)
    elif payment.state == State.CAPTURED:
        due = payment.due_minor
        if due is None or payment.captured_minor > due or payment.session_id is None:
            alert(payment, "money_without_session", captured_minor=payment.captured_minor)


# --- the next step of each state ---------------------------------------------------------------


def advance(payment_id: uuid.UUID) -> Payment:
    """Do what the payment's state asks for, until it has to wait. Safe to run twice at once."""
    for _attempt in range(8):
        payment = _get(payment_id)
        step = STEPS.get(payment.state)
        if step is None:
            return payment
        outside_transaction()
        try:
            if not step(payment):
                return _get(payment_id)
        except Stale:
            continue
    return _get(payment_id)


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
    holder = _get(holder.pk)
    if holder.state not in (State.CREATED, State.AUTHORIZING):
        return False
    return cancel(holder, "gave way to another driver").state in (State.CANCELING, State.CANCELED)


def _authorize(payment: Payment) -> str:
    """Make the intent; returns the client secret, or "" where none came back."""
    outside_transaction()
    if payment.state == State.CREATED:
        move(payment, State.AUTHORIZING, "asks for the reservation")
    provider = _provider(payment)
    try:
        outcome = provider.authorize(payment)
    except (Unreachable, Broken) as error:
        # Whether an intent was made is found out while it is given up: nobody can confirm it.
        _give_up(payment, f"no intent: {error.code}")
        return ""
    except (Declined, Refused, Locked) as error:
        move(payment, State.FAILED, f"refused: {error.code}", last_error_code=error.code[:80])
        if isinstance(error, Locked):
            alert(payment, "key_refused", code_at_provider=error.code)
        _give_up(payment, "refused")
        return ""
    _keep_ref(payment, outcome)
    apply(payment.pk, outcome, "authorize")
    return outcome.client_secret


def _keep_ref(payment: Payment, outcome: Outcome) -> None:
    """Remember the provider's reference whatever became of the state meanwhile."""
    if outcome.ref is not None:
        Payment.objects.filter(pk=payment.pk, provider_ref__isnull=True).update(
            provider_ref=outcome.ref
        )


def _give_up(payment: Payment, why: str) -> None:
    try:
        payment = _get(payment.pk)
        move(payment, State.CANCELING, why, next_try_at=timezone.now())
    except (Stale, NotAllowed) as error:
        log.info("%s not given up: %s", payment, error)
        return
    start.withdraw(payment)


def _step_unpaid(payment: Payment) -> bool:
    """created, authorizing, requires_action, failed: the driver's turn, until the deadline."""
    if payment.provider == "account" and payment.state == State.AUTHORIZING:
        return apply(payment.pk, _provider(payment).read(payment), "account").state != payment.state
    late = payment.deadline_at is not None and payment.deadline_at <= timezone.now()
    nothing_there = payment.provider_ref is None and payment.state != State.CREATED
    declined_out = (
        payment.state == State.FAILED
        and payment.transitions.filter(to_state=State.FAILED).count() >= DECLINES
    )
    if not late and not declined_out:
        return False
    if payment.state == State.CREATED:
        move(payment, State.CANCELED, "never asked for", next_try_at=None, deadline_at=None)
        return True
    move(
        payment, State.CANCELING, "not paid in time" if late else "declined too often",
        detail={"no_reference": nothing_there}, next_try_at=timezone.now(),
    )  # fmt: skip
    return True


def _step_authorized(payment: Payment) -> bool:
    """Held: the session must begin before the deadline."""
    if payment.session_id is not None:
        _watch_expiry(payment)
        return False
    if payment.deadline_at is None or payment.deadline_at > timezone.now():
        return False
    move(payment, State.CANCELING, "no session before the deadline", next_try_at=timezone.now())
    start.withdraw(payment)
    return True


def _watch_expiry(payment: Payment) -> None:
    """A day before the hold expires the session has to end, so that it can be collected."""
    if payment.capture_before is None or payment.session is None:
        return
    if payment.capture_before - dt.timedelta(hours=24) <= timezone.now():
        alert(payment, "hold_expires", capture_before=payment.capture_before.isoformat())
        if payment.session.state == Session.State.ACTIVE:
            start.stop(payment, payment.session, "the reservation expires")


def _step_canceling(payment: Payment) -> bool:
    provider = _provider(payment)
    if payment.provider_ref is None and payment.provider != "account":
        try:
            found = provider.find(payment)
        except ProviderError as error:
            return _retry(payment, error)
        if found is None:
            move(payment, State.CANCELED, "nothing was made", next_try_at=None, deadline_at=None)
            return True
        _keep_ref(payment, found)
        payment = _get(payment.pk)
    return _call(payment, "cancel", lambda: provider.cancel(payment))


def _step_capturing(payment: Payment) -> bool:
    amount = min(payment.due_minor or 0, payment.hold_minor)
    return _call(payment, "capture", lambda: _provider(payment).capture(payment, amount))


def _step_capture_failed(payment: Payment) -> bool:
    now = timezone.now()
    if payment.next_try_at is None or payment.next_try_at > now:
        return False
    if payment.capture_before and payment.capture_before - LAST_CAPTURE <= now:
        note(payment, "too late to try again", next_try_at=payment.capture_before)
        return False
    # A read proved that it is still held, or we would not be in this state: a new round.
    move(payment, State.CAPTURING, "tries again", round=payment.round + 1, next_try_at=now)
    return True


def _call(payment: Payment, name: str, call: Callable[[], Outcome]) -> bool:
    """Make the call the state asks for; whether anything moved."""
    if payment.next_try_at is not None and payment.next_try_at > timezone.now():
        return False
    before = payment.state
    try:
        outcome = call()
    except Unreachable as error:
        return _retry(payment, error)
    except Locked as error:
        alert(payment, "key_refused", code_at_provider=error.code)
        return _retry(payment, error)
    except (Broken, Refused, Declined) as error:
        return _read_after(payment, name, error)
    return apply(payment.pk, outcome, name).state != before


def _read_after(payment: Payment, name: str, error: ProviderError) -> bool:
    """The provider failed or refused: what it says now decides; still held means a new round."""
    try:
        outcome = _provider(payment).read(payment)
    except ProviderError as unread:
        return _retry(payment, unread)
    if apply(payment.pk, outcome, f"{name} refused, read").state != payment.state:
        return True
    if isinstance(error, Broken):
        tries = _tries(payment)
        note(
            payment, f"new round: {error.code}", round=payment.round + 1,
            next_try_at=timezone.now() + _pause(tries) if tries else timezone.now(),
        )  # fmt: skip
        return tries == 0
    if payment.state == State.CAPTURING and error.code == "amount_too_small":
        move(payment, State.CANCELING, "below the provider's minimum", next_try_at=timezone.now())
        return True
    if payment.state == State.CAPTURING:
        move(
            payment, State.CAPTURE_FAILED, f"refused: {error.code}",
            last_error_code=error.code[:80], next_try_at=timezone.now() + _pause(_tries(payment)),
        )  # fmt: skip
        alert(payment, "capture_refused", code_at_provider=error.code)
        return False
    if isinstance(error, Missing):
        alert(payment, "unknown_at_provider", ref=payment.provider_ref)
    return _retry(payment, error)


def _retry(payment: Payment, error: ProviderError) -> bool:
    """Try again later, with the same key: the call may have been carried out."""
    tries = _tries(payment)
    note(
        payment, f"retry: {error.code}", last_error_code=error.code[:80],
        next_try_at=timezone.now() + _pause(tries),
    )  # fmt: skip
    if tries >= 3:
        alert(payment, f"{payment.state}_stuck", code_at_provider=error.code)
    return False


def _tries(payment: Payment) -> int:
    return payment.transitions.filter(
        from_state=payment.state, to_state=payment.state
    ).exclude(event__startswith="alert:").count()  # fmt: skip


def _pause(tries: int) -> dt.timedelta:
    return dt.timedelta(seconds=BACKOFF_S[min(tries, len(BACKOFF_S) - 1)])


def _get(payment_id: uuid.UUID) -> Payment:
    return Payment.objects.select_related(
        "connector__station", "connector__evse", "session"
    ).get(pk=payment_id)  # fmt: skip


def _provider(payment: Payment) -> Provider:
    return PROVIDERS[payment.provider]


def _may_become(payment: Payment, target: State) -> bool:
    return State(payment.state).may_become(target)


STEPS: dict[str, Callable[[Payment], bool]] = {
    State.CREATED: _step_unpaid,
    State.AUTHORIZING: _step_unpaid,
    State.REQUIRES_ACTION: _step_unpaid,
    State.FAILED: _step_unpaid,
    State.AUTHORIZED: _step_authorized,
    State.CANCELING: _step_canceling,
    State.CAPTURING: _step_capturing,
    State.CAPTURE_FAILED: _step_capture_failed,
}
