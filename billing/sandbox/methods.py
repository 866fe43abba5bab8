"""Payment methods, customers and setup intents: what a saved card needs."""

from __future__ import annotations

import hashlib
import secrets

from billing.sandbox import cards
from billing.sandbox.call import Call
from billing.sandbox.cards import Card
from billing.sandbox.errors import Declined, Invalid, NotFound
from billing.sandbox.store import Obj, Store


def fingerprint(number: str) -> str:
    """The same for the same card, and not its number."""
    return hashlib.sha256(f"sandbox:{number}".encode()).hexdigest()[:16]


def create_payment_method(c: Call) -> Obj:
    if c.params.get("type", "card") != "card":
        raise Invalid("The sandbox knows cards only.", param="type")
    number = (c.params.get("card") or {}).get("number", "")
    return c.put(_method(c, cards.find(number), c.params.get("billing_details")))


def _method(c: Call, card: Card, billing_details: Obj | None = None) -> Obj:
    return c.new(
        "pm",
        "payment_method",
        type="card",
        billing_details=billing_details or {},
        customer=None,
        allow_redisplay="unspecified",
        card={
            "brand": card.brand,
            "last4": card.number[-4:],
            "exp_month": 12,
            "exp_year": 2034,
            "country": "DE",
            "funding": "credit",
            "fingerprint": fingerprint(card.number),
        },
        _number=card.number,
    )


def card_of(store: Store, method: str | None, account: str) -> Card:
    """The test card behind a payment method id or one of Stripe's test tokens."""
    if method in cards.BY_TOKEN:
        return cards.BY_TOKEN[method]
    found = store.get(method or "", account)
    if found is None or found["object"] != "payment_method":
        raise NotFound(method or "", "PaymentMethod")
    return cards.BY_NUMBER[found["_number"]]


def concrete(c: Call, method: str) -> str:
    """A test token becomes a payment method of its own, as at Stripe."""
    if method in cards.BY_TOKEN:
        return str(c.put(_method(c, cards.BY_TOKEN[method]))["id"])
    return method


def retrieve_payment_method(c: Call, payment_method: str) -> Obj:
    return c.get(payment_method, "payment_method")


def list_payment_methods(c: Call, customer: str | None = None) -> Obj:
    owner = customer or c.params.get("customer")
    return c.page("payment_method", "/v1/payment_methods", customer=owner)


def attach(c: Call, payment_method: str) -> Obj:
    c.get(c.params["customer"], "customer")
    return attach_to(c, payment_method, c.params["customer"])


def attach_to(c: Call, method: str, customer: str) -> Obj:
    obj = c.get(concrete(c, method), "payment_method")
    if obj["customer"] not in (None, customer):
        raise Invalid("The payment method you provided is attached to another customer.")
    obj["customer"] = customer
    c.put(obj)
    c.emit("payment_method.attached", obj)
    return obj


def detach(c: Call, payment_method: str) -> Obj:
    obj = c.get(payment_method, "payment_method")
    if obj["customer"] is None:
        raise Invalid("The payment method you provided is not attached to a customer.")
    obj["customer"] = None
    c.put(obj)
    c.emit("payment_method.detached", obj)
    return obj


def create_customer(c: Call) -> Obj:
    names = ("email", "name", "phone", "description", "preferred_locales")
    customer = c.new("cus", "customer", **{name: c.params.get(name) for name in names})
    customer["invoice_settings"] = c.params.get("invoice_settings") or {}
    c.put(customer)
    c.emit("customer.created", customer)
    return customer


def retrieve_customer(c: Call, customer: str) -> Obj:
    return c.get(customer, "customer")


def update_customer(c: Call, customer: str) -> Obj:
    obj = c.get(customer, "customer")
    for name in ("email", "name", "phone", "description", "preferred_locales", "invoice_settings"):
        if name in c.params:
            obj[name] = c.params[name]
    return c.put(obj)


def delete_customer(c: Call, customer: str) -> Obj:
    obj = c.get(customer, "customer")
    for method in c.store.all("payment_method", c.account):
        if method["customer"] == customer:
            method["customer"] = None
            c.put(method)
    c.put({"id": obj["id"], "object": "customer", "created": obj["created"], "deleted": True})
    return {"id": obj["id"], "object": "customer", "deleted": True}


def list_customers(c: Call) -> Obj:
    return c.page("customer", "/v1/customers", email=c.params.get("email"))


def create_setup_intent(c: Call) -> Obj:
    intent = c.new(
        "seti",
        "setup_intent",
        automatic_payment_methods=c.params.get("automatic_payment_methods"),
        cancellation_reason=None,
        customer=c.params.get("customer"),
        description=c.params.get("description"),
        last_setup_error=None,
        next_action=None,
        payment_method=c.params.get("payment_method"),
        payment_method_types=["card"],
        status="requires_payment_method",
        usage=c.params.get("usage", "off_session"),
    )
    intent["client_secret"] = f"{intent['id']}_secret_{secrets.token_hex(12)}"
    c.put(intent)
    c.emit("setup_intent.created", intent)
    return _confirm_setup(c, intent) if c.params.get("confirm") else intent


def _setup(c: Call, intent: str) -> Obj:
    obj = c.get(intent, "setup_intent")
    if c.browser and c.params.get("client_secret") != obj["client_secret"]:
        raise NotFound(intent, "setup_intent")
    return obj


def retrieve_setup_intent(c: Call, intent: str) -> Obj:
    return _setup(c, intent)


def confirm_setup_intent(c: Call, intent: str) -> Obj:
    obj = _setup(c, intent)
    if obj["status"] in ("succeeded", "canceled"):
        raise Invalid(
            f"You cannot confirm this SetupIntent because it is {obj['status']}.",
            code="setup_intent_unexpected_state",
        )
    obj["payment_method"] = c.params.get("payment_method") or obj["payment_method"]
    return _confirm_setup(c, obj)


def _confirm_setup(c: Call, obj: Obj) -> Obj:
    card = card_of(c.store, obj["payment_method"], c.account)
    if card.decline and card.token != "pm_card_chargeCustomerFail":  # noqa: S105  a test card's name
        code, decline_code, message = card.decline
        obj.update(status="requires_payment_method", payment_method=None)
        c.put(obj)
        c.emit("setup_intent.setup_failed", obj)
        raise Declined(message, code=code, decline_code=decline_code)
    obj["payment_method"] = concrete(c, obj["payment_method"])
    if card.authentication:
        obj.update(status="requires_action", next_action={"type": "use_stripe_sdk"})
        c.put(obj)
        c.emit("setup_intent.requires_action", obj)
        return obj
    return finish_setup(c, obj)


def finish_setup(c: Call, obj: Obj) -> Obj:
    """The card is saved (after 3-D Secure where the card asks for it)."""
    if obj["customer"]:
        attach_to(c, obj["payment_method"], obj["customer"])
    obj.update(status="succeeded", next_action=None)
    c.put(obj)
    c.emit("setup_intent.succeeded", obj)
    return obj


def cancel_setup_intent(c: Call, intent: str) -> Obj:
    obj = _setup(c, intent)
    if obj["status"] in ("succeeded", "canceled"):
        raise Invalid(
            f"You cannot cancel this SetupIntent because it is {obj['status']}.",
            code="setup_intent_unexpected_state",
        )
    obj.update(status="canceled", cancellation_reason=c.params.get("cancellation_reason"))
    c.put(obj)
    c.emit("setup_intent.canceled", obj)
    return obj
