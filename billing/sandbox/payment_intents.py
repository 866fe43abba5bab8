"""PaymentIntents: hold, 3-D Secure, capture once, cancel, raise, expire. Amounts in minor units.

Since API version basil a partial capture or a cancel makes no Refund: `amount_received` and the
charge's `amount_captured` say what was taken.
"""

from __future__ import annotations

import secrets
from typing import Any

from billing.sandbox import cards, methods
from billing.sandbox.call import Call
from billing.sandbox.cards import Card
from billing.sandbox.errors import Declined, Invalid, NotFound, unexpected_state
from billing.sandbox.store import Obj

# Smallest charge in minor units (Stripe's table, settlement in the same currency).
MINIMUM = {
    "usd": 50, "aed": 200, "aud": 50, "bgn": 100, "brl": 50, "cad": 50, "chf": 50, "czk": 1500,
    "dkk": 250, "eur": 50, "gbp": 30, "hkd": 400, "huf": 17500, "inr": 50, "jpy": 50, "mxn": 1000,
    "myr": 200, "nok": 300, "nzd": 50, "pln": 200, "ron": 200, "sek": 300, "sgd": 50, "thb": 1000,
}  # fmt: skip
MAXIMUM = 99_999_999
DAY_S = 86400
WINDOW_S = 7 * DAY_S  # customer present, online
VISA_OFF_SESSION_S = 4 * DAY_S + 18 * 3600


def create(c: Call) -> Obj:
    p = c.params
    _check_amount(p["amount"], p["currency"])
    if p.get("off_session") and not p.get("confirm"):
        raise Invalid("off_session can only be set with confirm=true.", param="off_session")
    if p.get("customer"):
        c.get(p["customer"], "customer")
    intent = c.new(
        "pi",
        "payment_intent",
        amount=p["amount"],
        amount_capturable=0,
        amount_received=0,
        application=None,
        application_fee_amount=p.get("application_fee_amount"),
        automatic_payment_methods=p.get("automatic_payment_methods"),
        canceled_at=None,
        cancellation_reason=None,
        capture_method=p.get("capture_method", "automatic_async"),
        confirmation_method="automatic",
        currency=p["currency"],
        customer=p.get("customer"),
        description=p.get("description"),
        last_payment_error=None,
        latest_charge=None,
        next_action=None,
        on_behalf_of=p.get("on_behalf_of"),
        payment_method=p.get("payment_method"),
        payment_method_options=p.get("payment_method_options") or {},
        payment_method_types=["card"],
        processing=None,
        receipt_email=p.get("receipt_email"),
        setup_future_usage=p.get("setup_future_usage"),
        statement_descriptor_suffix=p.get("statement_descriptor_suffix"),
        status="requires_confirmation" if p.get("payment_method") else "requires_payment_method",
        transfer_data=p.get("transfer_data"),
    )
    intent["client_secret"] = f"{intent['id']}_secret_{secrets.token_hex(12)}"
    c.put(intent)
    c.emit("payment_intent.created", intent)
    if p.get("confirm"):
        return _attempt(c, intent, off_session=bool(p.get("off_session")))
    return intent


def update(c: Call, intent: str) -> Obj:
    pi = _read(c, intent)
    if "amount" in c.params or "currency" in c.params:
        if pi["status"] not in (
            "requires_payment_method",
            "requires_confirmation",
            "requires_action",
        ):
            raise unexpected_state(pi, "updated")
        wanted: Obj = {**pi, **c.params}
        _check_amount(wanted["amount"], wanted["currency"])
    for name in ("amount", "currency", "customer", "description", "receipt_email",
                 "setup_future_usage", "application_fee_amount"):  # fmt: skip
        if name in c.params:
            pi[name] = c.params[name]
    pi["metadata"] = {**pi["metadata"], **(c.params.get("metadata") or {})}
    return c.put(pi)


def retrieve(c: Call, intent: str) -> Obj:
    return _read(c, intent)


def listing(c: Call) -> Obj:
    return c.page("payment_intent", "/v1/payment_intents", customer=c.params.get("customer"))


def confirm(c: Call, intent: str) -> Obj:
    pi = _read(c, intent)
    if pi["status"] not in ("requires_payment_method", "requires_confirmation", "requires_action"):
        raise unexpected_state(pi, "confirmed")
    for name in ("payment_method", "receipt_email", "setup_future_usage"):
        if c.params.get(name):
            pi[name] = c.params[name]
    return _attempt(c, pi, off_session=bool(c.params.get("off_session")))


def capture(c: Call, intent: str) -> Obj:
    pi = _read(c, intent)
    if pi["status"] != "requires_capture":
        raise unexpected_state(pi, "captured")
    wanted: Obj = {"amount_to_capture": pi["amount_capturable"], **c.params}
    amount = wanted["amount_to_capture"]
    if amount > pi["amount_capturable"]:
        raise Invalid(
            "The amount_to_capture is greater than the remaining capturable amount of "
            f"{pi['amount_capturable']}.",
            code="amount_too_large",
            param="amount_to_capture",
        )
    _check_amount(amount, pi["currency"], "amount_to_capture")
    fee = c.params.get("application_fee_amount", pi["application_fee_amount"])
    if fee is not None and fee > amount:
        raise Invalid(
            "The application fee cannot be greater than the captured amount.",
            param="application_fee_amount",
        )
    pi["metadata"] = {**pi["metadata"], **(c.params.get("metadata") or {})}
    charge = c.get(pi["latest_charge"], "charge")
    charge.update(
        captured=True,
        amount_captured=amount,
        application_fee_amount=fee,
        balance_transaction=f"txn_{secrets.token_hex(12)}",
    )
    pi.update(
        status="succeeded",
        amount_received=amount,
        amount_capturable=0,
        application_fee_amount=fee,
    )
    c.put(charge)
    c.put(pi)
    c.emit("charge.captured", charge)
    c.emit("payment_intent.succeeded", pi)
    _dispute_if_card_says(c, charge)
    return pi


def cancel(c: Call, intent: str) -> Obj:
    pi = _read(c, intent)
    if pi["status"] in ("succeeded", "canceled"):
        raise unexpected_state(pi, "canceled")
    _close(c, pi, c.params.get("cancellation_reason"))
    return pi


def increment_authorization(c: Call, intent: str) -> Obj:
    """Raise the hold, where the account and the card allow it (setting "incremental")."""
    pi = _read(c, intent)
    if pi["status"] != "requires_capture":
        raise unexpected_state(pi, "incremented")
    charge = c.get(pi["latest_charge"], "charge")
    detail = charge["payment_method_details"]["card"]["incremental_authorization"]
    if detail["status"] != "available":
        raise Invalid(
            "This PaymentIntent does not support incremental authorization.", param="amount"
        )
    amount = c.params["amount"]
    if amount <= pi["amount"]:
        raise Invalid("The amount must be greater than the authorized amount.", param="amount")
    if c.store.setting("incremental") == "declined":
        raise Declined(
            "The card was declined for the additional amount.",
            code="card_declined",
            decline_code="insufficient_funds",
        )
    pi.update(amount=amount, amount_capturable=amount)
    charge["amount"] = amount
    c.put(charge)
    c.put(pi)
    c.emit("payment_intent.amount_capturable_updated", pi)
    return pi


# --- what the control door and the clock do ---------------------------------------------------


def authenticate(c: Call, intent: str, *, passed: bool) -> Obj:
    """The driver finished the bank's 3-D Secure page."""
    pi = c.get(intent, "payment_intent")
    if pi["status"] != "requires_action":
        raise unexpected_state(pi, "authenticated")
    pi["next_action"] = None
    if not passed:
        message = "We are unable to authenticate your payment method. Choose another and try again."
        return _refuse(c, pi, "payment_intent_authentication_failure", None, message)
    card = methods.card_of(c.store, pi["payment_method"], c.account)
    if card.decline:
        return _refuse(c, pi, *card.decline)
    return _authorize(c, pi, card, off_session=False)


def expire_due(c: Call) -> None:
    """Release every hold whose capture window has passed."""
    now = c.now()
    for pi in c.store.having("payment_intent", "status", "requires_capture"):
        if pi["_capture_before"] > now:
            continue
        own = Call(c.store, c.store.account_of(pi["id"]), {}, rng=c.rng)
        charge = own.get(pi["latest_charge"], "charge")
        _close(own, pi, "expired")
        own.emit("charge.expired", charge)


# --- inside -----------------------------------------------------------------------------------


def _read(c: Call, intent: str) -> Obj:
    pi = c.get(intent, "payment_intent")
    if c.browser and c.params.get("client_secret") != pi["client_secret"]:
        raise NotFound(intent, "payment_intent")
    return pi


def _check_amount(amount: int, currency: str, param: str = "amount") -> None:
    if amount < 1:
        raise Invalid(
            "This value must be greater than or equal to 1.",
            code="parameter_invalid_integer",
            param=param,
        )
    if amount < MINIMUM.get(currency, 50):
        raise Invalid(
            "Amount must be at least the minimum charge amount.",
            code="amount_too_small",
            param=param,
        )
    if amount > MAXIMUM:
        raise Invalid(
            "Amount must be no more than 999,999.99.", code="amount_too_large", param=param
        )


def _attempt(c: Call, pi: Obj, *, off_session: bool) -> Obj:
    if not pi["payment_method"]:
        raise Invalid(
            "You cannot confirm this PaymentIntent because it's missing a payment method.",
            code="payment_intent_unexpected_state",
        )
    card = methods.card_of(c.store, pi["payment_method"], c.account)
    pi["payment_method"] = methods.concrete(c, pi["payment_method"])
    if card.authentication and off_session:
        _refuse(c, pi, "authentication_required", "authentication_required",
                "Your card was declined. This transaction requires authentication.")  # fmt: skip
        raise _declined(pi)
    if card.authentication:
        pi["status"] = "requires_action"
        pi["next_action"] = _next_action(c)
        pi["last_payment_error"] = None
        c.put(pi)
        c.emit("payment_intent.requires_action", pi)
        return pi
    if card.decline:
        _refuse(c, pi, *card.decline)
        raise _declined(pi)
    return _authorize(c, pi, card, off_session=off_session)


def _next_action(c: Call) -> Obj:
    if c.params.get("return_url") and not c.browser:
        return {
            "type": "redirect_to_url",
            "redirect_to_url": {"return_url": c.params["return_url"], "url": None},
        }
    return {
        "type": "use_stripe_sdk",
        "use_stripe_sdk": {"type": "three_d_secure_redirect", "stripe_js": None},
    }


def _charge(c: Call, pi: Obj, card: Card, **values: Any) -> Obj:
    charge = c.new(
        "ch",
        "charge",
        amount=pi["amount"],
        amount_captured=0,
        amount_refunded=0,
        application_fee_amount=pi["application_fee_amount"],
        balance_transaction=None,
        billing_details={"email": pi["receipt_email"]},
        captured=False,
        currency=pi["currency"],
        customer=pi["customer"],
        disputed=False,
        failure_code=None,
        failure_message=None,
        outcome=None,
        paid=True,
        payment_intent=pi["id"],
        payment_method=pi["payment_method"],
        payment_method_details=None,
        refunded=False,
        status="succeeded",
        _card=card.number,
        **values,
    )
    charge["metadata"] = pi["metadata"]
    return charge


def _authorize(c: Call, pi: Obj, card: Card, *, off_session: bool) -> Obj:
    manual = pi["capture_method"] == "manual"
    window = VISA_OFF_SESSION_S if off_session and card.brand == "visa" else WINDOW_S
    asked = pi["payment_method_options"].get("card", {}).get("request_incremental_authorization")
    raisable = asked == "if_available" and c.store.setting("incremental") is not None
    pi["_capture_before"] = c.now() + window
    charge = _charge(c, pi, card)
    charge["payment_method_details"] = {
        "type": "card",
        "card": {
            "brand": card.brand,
            "last4": card.number[-4:],
            "country": "DE",
            "funding": "credit",
            "fingerprint": methods.fingerprint(card.number),
            "capture_before": pi["_capture_before"] if manual else None,
            "incremental_authorization": {"status": "available" if raisable else "unavailable"},
            "overcapture": {
                "status": "unavailable",
                "maximum_amount_capturable": pi["amount"],
            },
        },
    }
    pi.update(latest_charge=charge["id"], last_payment_error=None, next_action=None)
    if manual:
        pi.update(status="requires_capture", amount_capturable=pi["amount"])
    else:
        pi.update(status="succeeded", amount_received=pi["amount"])
        charge.update(captured=True, amount_captured=pi["amount"])
    if pi["setup_future_usage"] and pi["customer"]:
        methods.attach_to(c, pi["payment_method"], pi["customer"])
    c.put(charge)
    c.put(pi)
    c.emit("charge.succeeded", charge)
    c.emit("payment_intent.amount_capturable_updated" if manual else "payment_intent.succeeded", pi)
    return pi


def _refuse(c: Call, pi: Obj, code: str, decline_code: str | None, message: str) -> Obj:
    card = methods.card_of(c.store, pi["payment_method"], c.account)
    charge = _charge(c, pi, card)
    charge.update(status="failed", paid=False, failure_code=code, failure_message=message)
    error = {"type": "card_error", "code": code, "message": message, "charge": charge["id"]}
    if decline_code:
        error["decline_code"] = decline_code
    pi.update(
        status="requires_payment_method",
        latest_charge=charge["id"],
        last_payment_error=error,
        payment_method=None,
    )
    c.put(charge)
    c.put(pi)
    c.emit("charge.failed", charge)
    c.emit("payment_intent.payment_failed", pi)
    return pi


def _declined(pi: Obj) -> Declined:
    error = pi["last_payment_error"]
    extra = {k: v for k, v in error.items() if k not in ("type", "message", "code")}
    return Declined(error["message"], code=error["code"], payment_intent=pi, **extra)


def _close(c: Call, pi: Obj, reason: str | None) -> None:
    pi.update(
        status="canceled",
        amount_capturable=0,
        canceled_at=c.now(),
        cancellation_reason=reason,
        next_action=None,
    )
    c.put(pi)
    c.emit("payment_intent.canceled", pi)


def _dispute_if_card_says(c: Call, charge: Obj) -> None:
    from billing.sandbox import refunds

    reason = cards.BY_NUMBER[charge["_card"]].dispute
    if reason:
        refunds.open_dispute(c, charge["id"], reason)
