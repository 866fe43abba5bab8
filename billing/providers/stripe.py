"""Stripe, through its official SDK; in tests, demo and development its sandbox, by the same calls.

Every POST carries an idempotency key made of our own row, so the task that is run again cannot
hold, collect or pay back twice. No call may run inside a database transaction.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import hmac
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any

import stripe
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

from billing.models import Payment, Refund
from billing.providers.base import (
    Broken,
    Declined,
    Locked,
    Missing,
    MovementKind,
    MovementOutcome,
    Outcome,
    RefundOutcome,
    Refused,
    Status,
    Unreachable,
)

if TYPE_CHECKING:
    from stripe import Event, PaymentIntent, RequestOptions, StripeClient

API_VERSION = "2026-10-28.endive"  # what stripe==16.1.0 speaks; the webhook endpoint has the same
TIMEOUT_S = (5, 15)  # to connect, to answer
NETWORK_RETRIES = 2  # by the SDK, with the same key
EXPAND = ["latest_charge"]

STATUS = {
    "requires_payment_method": Status.NEEDS_METHOD,
    "requires_confirmation": Status.NEEDS_METHOD,
    "requires_action": Status.NEEDS_ACTION,
    "processing": Status.PROCESSING,
    "requires_capture": Status.HELD,
    "succeeded": Status.PAID,
    "canceled": Status.CANCELED,
}
REFUND_STATE = {
    "pending": Refund.State.PENDING,
    "requires_action": Refund.State.PENDING,
    "succeeded": Refund.State.SUCCEEDED,
    "failed": Refund.State.FAILED,
    "canceled": Refund.State.CANCELED,
}


@dataclass(frozen=True, slots=True)
class Configuration:
    """Keys and address in force. Secrets never show in a repr."""

    api_key: str = field(repr=False)
    publishable_key: str
    webhook_secrets: tuple[str, ...] = field(repr=False)
    api_base: str | None
    sandbox: bool
    livemode: bool

    @property
    def environment(self) -> str:
        """The part of our idempotency keys that keeps installations apart."""
        return hashlib.sha256(settings.PUBLIC_URL.encode()).hexdigest()[:8]


def configuration() -> Configuration | None:
    """What the settings say: Stripe, its sandbox, or None (payments are off).

    Raises ImproperlyConfigured, in a sentence, for settings that would lose money or keys.
    """
    key = settings.STRIPE_API_KEY
    if not key:
        return _sandbox() if settings.PAYMENT_SANDBOX else None
    if settings.STRIPE_API_BASE:
        raise ImproperlyConfigured(
            "STRIPE_API_BASE would send your Stripe key to another server: unset it. It is for the "
            "sandbox only, which needs no STRIPE_API_KEY."
        )
    live = "_live_" in key
    if live and settings.DEBUG:
        raise ImproperlyConfigured(
            "STRIPE_API_KEY is a live key and DEBUG is on: use a test key, or set DEBUG=false."
        )
    if not key.startswith(("sk_test_", "rk_test_", "sk_live_", "rk_live_")):
        raise ImproperlyConfigured("STRIPE_API_KEY must begin with sk_ or rk_: copy it again.")
    if not settings.STRIPE_PUBLISHABLE_KEY.startswith("pk_live_" if live else "pk_test_"):
        raise ImproperlyConfigured(
            "STRIPE_PUBLISHABLE_KEY is missing or of the other mode than STRIPE_API_KEY."
        )
    secrets = tuple(s.strip() for s in settings.STRIPE_WEBHOOK_SECRET.split(",") if s.strip())
    if not secrets:
        raise ImproperlyConfigured(
            "STRIPE_WEBHOOK_SECRET is missing: copy it from the webhook endpoint (whsec_…)."
        )
    return Configuration(key, settings.STRIPE_PUBLISHABLE_KEY, secrets, None, False, live)


def _sandbox() -> Configuration:
    digest = hmac.new(settings.SECRET_KEY.encode(), b"payment sandbox", "sha256").hexdigest()
    return Configuration(
        api_key=f"sk_test_{digest[:24]}",
        publishable_key=f"pk_test_{digest[24:48]}",
        webhook_secrets=(f"whsec_{digest[32:]}",),
        api_base=settings.STRIPE_API_BASE or f"http://127.0.0.1:{settings.PORT}/sandbox/stripe",
        sandbox=True,
        livemode=False,
    )


def required() -> Configuration:
    """The configuration; raises `Locked` where payments are off."""
    conf = configuration()
    if conf is None:
        raise Locked("off", "Set STRIPE_API_KEY to take payments.")
    return conf


@lru_cache(maxsize=8)
def _client(api_key: str, api_base: str | None, retries: int) -> StripeClient:
    return stripe.StripeClient(
        api_key,
        stripe_version=API_VERSION,
        base_addresses={"api": api_base} if api_base else None,
        max_network_retries=retries,
        http_client=stripe.RequestsClient(timeout=TIMEOUT_S, session=_session(api_base)),
    )


@cache
def _session(api_base: str | None) -> Any:
    """None (the SDK's own), or for the sandbox a session that no proxy setting reaches."""
    if api_base is None:
        return None
    import requests

    session = requests.Session()
    session.trust_env = False
    return session


def client() -> StripeClient:
    """The SDK's client for the settings in force."""
    conf = required()
    return _client(conf.api_key, conf.api_base, NETWORK_RETRIES)


@contextmanager
def translated() -> Iterator[None]:
    """The SDK's errors as ours."""
    try:
        yield
    except stripe.CardError as error:
        code = getattr(error.error, "decline_code", None) or error.code or "card_declined"
        raise Declined(code, error.user_message or "") from error
    except (stripe.RateLimitError, stripe.APIConnectionError) as error:
        raise Unreachable(type(error).__name__, "") from error
    except (stripe.AuthenticationError, stripe.PermissionError) as error:
        raise Locked(error.code or "key_refused", "") from error
    except stripe.IdempotencyError as error:
        raise Refused("idempotency_key_reused", str(error)) from error
    except stripe.InvalidRequestError as error:
        kind = Missing if error.code == "resource_missing" else Refused
        raise kind(error.code or "invalid_request", error.user_message or "") from error
    except stripe.StripeError as error:
        if error.http_status == 409:
            raise Unreachable("conflict", "") from error
        raise Broken(f"http_{error.http_status}", "") from error


class Stripe:
    """The provider "stripe"."""

    name = "stripe"

    def enabled(self) -> bool:
        """Whether keys (or the sandbox) are there."""
        return configuration() is not None

    def authorize(self, payment: Payment) -> Outcome:
        """Make the intent, manual capture; the browser confirms it with the client secret."""
        with translated():
            intent = client().v1.payment_intents.create(
                {
                    "amount": payment.hold_minor,
                    "currency": payment.currency.lower(),
                    "capture_method": "manual",
                    "automatic_payment_methods": {"enabled": True},
                    "metadata": {"payment": str(payment.pk), "csms": required().environment},
                    "expand": EXPAND,
                },
                self._options(payment, f"authorize:{payment.attempt}"),
            )
        return outcome(intent)

    def read(self, payment: Payment) -> Outcome:
        """A fresh read."""
        if payment.provider_ref is None:
            raise Missing("no_reference")
        with translated():
            intent = client().v1.payment_intents.retrieve(
                payment.provider_ref, {"expand": EXPAND}, self._options(payment)
            )
            return outcome(intent, self._dispute(intent, self._options(payment)))

    def find(self, payment: Payment) -> Outcome | None:
        """Look through what was made since the payment began (search lags behind, a list not)."""
        since = payment.created_at - dt.timedelta(minutes=5)
        for found in self.recent(since, payment.provider_account):
            if found.payment_id == str(payment.pk):
                return found
        return None

    def capture(self, payment: Payment, amount_minor: int) -> Outcome:
        """Collect `amount_minor`; a new round only after a read proved it is still held."""
        with translated():
            intent = client().v1.payment_intents.capture(
                payment.provider_ref or "",
                {"amount_to_capture": amount_minor, "expand": EXPAND},
                self._options(payment, f"capture:{amount_minor}:{payment.round}"),
            )
        return outcome(intent)

    def cancel(self, payment: Payment) -> Outcome:
        """Release the hold, or the intent nobody confirmed."""
        with translated():
            intent = client().v1.payment_intents.cancel(
                payment.provider_ref or "",
                {"expand": EXPAND},
                self._options(payment, f"cancel:{payment.round}"),
            )
        return outcome(intent)

    def release(self, ref: str, account: str) -> Outcome:
        """Cancel an intent of ours that no open payment knows."""
        options: RequestOptions = {"idempotency_key": f"csms:{required().environment}:stray:{ref}"}
        if account:
            options["stripe_account"] = account
        with translated():
            return outcome(client().v1.payment_intents.cancel(ref, {"expand": EXPAND}, options))

    def refund(self, refund: Refund) -> RefundOutcome:
        """Give `refund.amount_minor` back; the amount is part of the row and never changes."""
        payment = refund.payment
        suffix = f":r{refund.version}" if refund.version else ""
        options = self._options(payment)
        options["idempotency_key"] = f"csms:{required().environment}:refund:{refund.pk}{suffix}"
        with translated():
            made = client().v1.refunds.create(
                {
                    "payment_intent": payment.provider_ref or "",
                    "amount": refund.amount_minor,
                    "metadata": {"refund": str(refund.pk)},
                },
                options,
            )
        return refund_outcome(made)

    def refunds(self, payment: Payment) -> list[RefundOutcome]:
        """All of a payment's refunds, also those made in Stripe's dashboard."""
        if payment.provider_ref is None:
            return []
        with translated():
            page = client().v1.refunds.list(
                {"payment_intent": payment.provider_ref, "limit": 100}, self._options(payment)
            )
            return [refund_outcome(one) for one in page.auto_paging_iter()]

    def recent(self, since: dt.datetime, account: str = "") -> Iterable[Outcome]:
        """Intents made since, newest first, of this installation only."""
        options: RequestOptions = {"stripe_account": account} if account else {}
        with translated():
            page = client().v1.payment_intents.list(
                {
                    "created": {"gte": int(since.timestamp())},
                    "limit": 100,
                    "expand": ["data.latest_charge"],
                },
                options,
            )
            for intent in page.auto_paging_iter():
                metadata = intent.metadata.to_dict()
                if metadata.get("csms") == required().environment:
                    yield outcome(intent, self._dispute(intent, options))

    def movements(self, since: dt.datetime, account: str = "") -> Iterable[MovementOutcome]:
        """The account's balance transactions since, newest first."""
        options: RequestOptions = {"stripe_account": account} if account else {}
        with translated():
            page = client().v1.balance_transactions.list(
                {
                    "created": {"gte": int(since.timestamp())},
                    "limit": 100,
                    "expand": ["data.source"],
                },
                options,
            )
            for row in page.auto_paging_iter():
                yield movement(row)

    def undelivered(self, since: dt.datetime) -> Iterable[Event]:
        """Events whose webhooks did not reach us."""
        with translated():
            page = client().v1.events.list(
                {
                    "created": {"gte": int(since.timestamp())},
                    "delivery_success": False,
                    "limit": 100,
                }
            )
            yield from page.auto_paging_iter()

    def _dispute(self, intent: PaymentIntent, options: RequestOptions) -> str:
        """How a disputed charge stands; asks only for those, they are rare."""
        charge: Any = intent.latest_charge
        if charge is None or isinstance(charge, str) or not charge.disputed:
            return ""
        page = client().v1.disputes.list({"payment_intent": intent.id, "limit": 1}, options)
        if not page.data:
            return ""
        status = page.data[0].status
        return status if status in ("won", "lost") else "open"

    def _options(self, payment: Payment, operation: str = "") -> RequestOptions:
        options: RequestOptions = {}
        if payment.provider_account:
            options["stripe_account"] = payment.provider_account
        if operation:
            environment = required().environment
            options["idempotency_key"] = f"csms:{environment}:pay:{payment.pk}:{operation}"
        return options


def outcome(intent: PaymentIntent, dispute: str = "") -> Outcome:
    """An intent (with `latest_charge` expanded) as our snapshot."""
    charge: Any = intent.latest_charge if not isinstance(intent.latest_charge, str) else None
    card: Any = getattr(getattr(charge, "payment_method_details", None), "card", None)
    before = getattr(card, "capture_before", None)
    error = intent.last_payment_error
    metadata = intent.metadata.to_dict()
    return Outcome(
        status=STATUS[intent.status],
        ref=intent.id,
        held_minor=intent.amount_capturable,
        captured_minor=intent.amount_received,
        refunded_minor=charge.amount_refunded if charge is not None else 0,
        capture_before=dt.datetime.fromtimestamp(before, dt.UTC) if before else None,
        error_code=(getattr(error, "decline_code", None) or error.code or "") if error else "",
        error_text=(error.message or "") if error else "",
        charge_ref=charge.id if charge is not None else "",
        cancel_reason=intent.cancellation_reason or "",
        dispute=dispute,
        payment_id=metadata.get("payment", ""),
        client_secret=intent.client_secret or "",
    )


def refund_outcome(refund: stripe.Refund) -> RefundOutcome:
    """A refund as our snapshot."""
    metadata = refund.metadata.to_dict() if refund.metadata is not None else {}
    return RefundOutcome(
        ref=refund.id,
        state=REFUND_STATE[refund.status or "pending"],
        amount_minor=refund.amount,
        error_code=getattr(refund, "failure_reason", None) or "",
        refund_id=metadata.get("refund", ""),
    )


MOVED = {
    "charge": MovementKind.CHARGE,
    "payment": MovementKind.CHARGE,
    "refund": MovementKind.REFUND,
    "payment_refund": MovementKind.REFUND,
    "refund_failure": MovementKind.REFUND,
    "payment_failure_refund": MovementKind.REFUND,
    "payout": MovementKind.PAYOUT,
    "payout_failure": MovementKind.PAYOUT,
    "payout_cancel": MovementKind.PAYOUT,
}


def movement(row: stripe.BalanceTransaction) -> MovementOutcome:
    """A balance transaction (with `source` expanded) as our line of a statement."""
    source: Any = row.source if not isinstance(row.source, str) else None
    kind = MOVED.get(row.type, MovementKind.OTHER)
    if row.reporting_category in ("dispute", "dispute_reversal"):
        kind = MovementKind.DISPUTE
    return MovementOutcome(
        ref=row.id,
        kind=kind,
        amount_minor=row.amount,
        fee_minor=row.fee,
        currency=row.currency.upper(),
        at=dt.datetime.fromtimestamp(row.created, dt.UTC),
        payment_ref=str(getattr(source, "payment_intent", None) or ""),
        refund_ref=source.id if source is not None and kind == MovementKind.REFUND else "",
    )
