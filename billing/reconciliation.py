"""Our books against the provider's: whatever a lost reply, a lost webhook or a crash left behind.

tick      every minute: payments and refunds whose next step is due
sweep     hourly: the provider's list of intents, and events whose webhooks never arrived
"""

from __future__ import annotations

import datetime as dt
import logging
import uuid
from collections.abc import Iterable
from itertools import batched

from django.db.models import Q
from django.utils import timezone

from billing import refunds, snapshots, steps, webhooks
from billing.models import Payment, ProviderEvent, Refund
from billing.models.payments import PaymentState as State
from billing.providers import PROVIDERS
from billing.providers.base import Outcome, ProviderError, Status
from billing.providers.stripe import Stripe
from billing.transitions import FINAL, alert

log = logging.getLogger(__name__)

QUIET = dt.timedelta(minutes=2)  # an intention older than this was interrupted
LIST_BACK = dt.timedelta(days=9)  # longer than any card's capture window
SETTLED_WITHIN = dt.timedelta(minutes=30)  # after a session's end
LIMIT = 200
PAGE = 100  # of the provider's list
HURRYING = (
    State.CREATED, State.AUTHORIZING, State.REQUIRES_ACTION, State.FAILED, State.CANCELING,
    State.CAPTURING,
)  # fmt: skip


def due(now: dt.datetime) -> list[uuid.UUID]:
    """Payments that wait for us: a retry, a deadline, or an intention nobody carried out."""
    open_payments = Payment.objects.exclude(state__in=FINAL)
    rows = open_payments.filter(
        Q(next_try_at__lte=now)
        | Q(deadline_at__lte=now)
        | Q(state__in=HURRYING, updated_at__lte=now - QUIET, next_try_at__isnull=True)
    )
    return list(rows.order_by("updated_at").values_list("pk", flat=True)[:LIMIT])


def tick() -> int:
    """Bring everything that is due one step further; how many payments were looked at."""
    now = timezone.now()
    waiting = due(now)
    for pk in waiting:
        try:
            payment = steps.refresh(pk, "reconciliation")
        except Exception:  # one broken payment must not stop the others
            log.exception("Reconciling payment %s failed.", pk)
            continue
        if payment.state == State.AUTHORIZED:
            Payment.objects.filter(pk=pk, state=State.AUTHORIZED).update(
                next_try_at=timezone.now() + snapshots.POLL
            )
    late = Refund.objects.filter(state__in=refunds.OPEN, next_try_at__lte=now)
    for refund in late.order_by("created_at")[:LIMIT]:
        try:
            refunds.advance(refund)
        except Exception:  # one broken refund must not stop the others
            log.exception("Reconciling refund %s failed.", refund.pk)
    return len(waiting)


def sweep() -> None:
    """Compare with everything the providers have seen lately, in every account we use."""
    since = timezone.now() - LIST_BACK
    accounts = set(
        Payment.objects.filter(created_at__gte=since).values_list("provider", "provider_account")
    )
    for name in PROVIDERS:
        accounts.add((name, ""))
    for name, account in sorted(accounts):
        provider = PROVIDERS[name]
        if not provider.enabled():
            continue
        try:
            seen: set[uuid.UUID] = set()
            for page in batched(provider.recent(since, account), PAGE, strict=False):
                seen |= compare_page(name, account, page)
            read_missing(name, account, since, seen)
        except ProviderError as error:
            log.warning("Listing the payments at %s failed: %s", name, error)
    feed_undelivered(since)


def compare_page(provider: str, account: str, page: Iterable[Outcome]) -> set[uuid.UUID]:
    """A page of the provider's list against our rows, which are read at once; those it is about."""
    wanted = {outcome: _payment_id(outcome) for outcome in page}
    rows = Payment.objects.select_related("connector", "session").in_bulk(
        [pk for pk in wanted.values() if pk is not None]
    )
    for outcome, pk in wanted.items():
        try:
            compare(provider, account, outcome, rows.get(pk) if pk else None)
        except Exception:  # one broken row must not hide the others
            log.exception("Comparing %s at %s failed.", outcome.ref, provider)
    return set(rows)


def read_missing(provider: str, account: str, since: dt.datetime, seen: set[uuid.UUID]) -> None:
    """Read, one by one, the open payments that the provider's list did not name."""
    unlisted = Payment.objects.filter(
        provider=provider, provider_account=account, provider_ref__isnull=False
    ).exclude(state__in=FINAL)
    for pk in unlisted.filter(created_at__gte=since).values_list("pk", flat=True):
        if pk not in seen:
            steps.refresh(pk, "sweep")


def compare(provider: str, account: str, outcome: Outcome, payment: Payment | None) -> None:
    """One of the provider's payments against ours, by what the list says: it is not read again."""
    if payment is None:
        log.error("%s knows payment %s, we don't", provider, outcome.ref)
        if outcome.status == Status.HELD and outcome.ref is not None:
            PROVIDERS[provider].release(outcome.ref, account)
        return
    if payment.provider_ref is None and outcome.ref is not None:
        Payment.objects.filter(pk=payment.pk, provider_ref__isnull=True).update(
            provider_ref=outcome.ref
        )
        payment.refresh_from_db()
    if payment.provider_ref != outcome.ref or payment.state in FINAL:
        if outcome.status in (Status.HELD, Status.PAID):
            snapshots.stray(payment, outcome)
        return
    steps.take(payment.pk, outcome, "sweep")
    payment.refresh_from_db()
    ended = payment.session.closed_at if payment.session is not None else None
    if payment.state == State.AUTHORIZED and ended and ended < timezone.now() - SETTLED_WITHIN:
        alert(payment, "uncollected", session=payment.session_id)


def _payment_id(outcome: Outcome) -> uuid.UUID | None:
    try:
        return uuid.UUID(outcome.payment_id)
    except ValueError:
        return None


def feed_undelivered(since: dt.datetime) -> int:
    """Take the events whose webhooks were lost through the same door as those that arrived."""
    stripe = PROVIDERS["stripe"]
    if not isinstance(stripe, Stripe) or not stripe.enabled():
        return 0
    fed = 0
    try:
        for event in stripe.undelivered(since):
            row = webhooks.keep(event.to_dict())
            if row is not None and row.applied_at is None:
                fed += 1
    except ProviderError as error:
        log.warning("Listing undelivered events failed: %s", error)
    left = ProviderEvent.objects.filter(
        applied_at__isnull=True, received_at__lte=timezone.now() - QUIET
    )
    for pk in left.values_list("pk", flat=True)[:LIMIT]:
        webhooks.apply(pk)
    return fed
