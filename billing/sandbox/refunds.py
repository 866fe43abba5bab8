"""Money back: refunds (also those that fail days later), charges read, disputes."""

from __future__ import annotations

from billing.sandbox import cards
from billing.sandbox.call import Call
from billing.sandbox.errors import Invalid, NotFound
from billing.sandbox.store import Obj

SETTLES_AFTER_S = 5  # when the cards that refund late make up their mind


def create(c: Call) -> Obj:
    p = c.params
    charge = _charge_to_refund(c)
    left = charge["amount_captured"] - charge["amount_refunded"]
    if charge["refunded"] or left == 0:
        raise Invalid(
            f"Charge {charge['id']} has already been refunded.", code="charge_already_refunded"
        )
    amount = p.get("amount", left)
    if amount < 1:
        raise Invalid("Invalid positive integer", code="parameter_invalid_integer", param="amount")
    if amount > left:
        raise Invalid(
            f"Refund amount ({amount}) is greater than unrefunded amount on charge ({left})",
            param="amount",
        )
    card = cards.BY_NUMBER[charge["_card"]]
    refund = c.new(
        "re",
        "refund",
        amount=amount,
        balance_transaction=None,
        charge=charge["id"],
        currency=charge["currency"],
        failure_reason=None,
        payment_intent=charge["payment_intent"],
        reason=p.get("reason"),
        status="pending" if card.refund == "pending" else "succeeded",
        _later=None if card.refund == "succeeded" else card.refund,
    )
    charge["amount_refunded"] += amount
    charge["refunded"] = charge["amount_refunded"] == charge["amount_captured"]
    c.put(refund)
    c.put(charge)
    c.emit("refund.created", refund)
    c.emit("charge.refunded", charge)
    return refund


def _charge_to_refund(c: Call) -> Obj:
    p = c.params
    if p.get("charge"):
        charge = c.get(p["charge"], "charge")
    elif p.get("payment_intent"):
        intent = c.get(p["payment_intent"], "payment_intent")
        if intent["status"] != "succeeded" or not intent["latest_charge"]:
            raise Invalid(
                f"This PaymentIntent ({intent['id']}) does not have a successful charge to refund.",
                code="payment_intent_unexpected_state",
            )
        charge = c.get(intent["latest_charge"], "charge")
    else:
        raise Invalid("One of the following params should be provided: charge, payment_intent.")
    if not charge["captured"]:
        raise Invalid("The charge has not been captured.", code="charge_not_refundable")
    return charge


def retrieve(c: Call, refund: str) -> Obj:
    return c.get(refund, "refund")


def listing(c: Call) -> Obj:
    return c.page(
        "refund",
        "/v1/refunds",
        payment_intent=c.params.get("payment_intent"),
        charge=c.params.get("charge"),
    )


def settle_due(c: Call) -> None:
    """Late refunds arrive or fail."""
    now = c.now()
    for later in ("failed", "pending"):
        for refund in c.store.having("refund", "_later", later):
            if refund["created"] + SETTLES_AFTER_S > now:
                continue
            own = Call(c.store, c.store.account_of(refund["id"]), {}, rng=c.rng)
            if later == "failed":
                fail(own, refund["id"])
                continue
            refund.update(status="succeeded", _later=None)
            own.put(refund)
            own.emit("refund.updated", refund)


def fail(c: Call, refund_id: str, reason: str = "lost_or_stolen_card") -> Obj:
    """The bank sent the money back to us: the refund failed after all."""
    refund = c.get(refund_id, "refund")
    if refund["status"] in ("failed", "canceled"):
        raise Invalid(f"Refund {refund_id} already {refund['status']}.")
    charge = c.get(refund["charge"], "charge")
    refund.update(status="failed", failure_reason=reason, _later=None)
    charge["amount_refunded"] -= refund["amount"]
    charge["refunded"] = False
    c.put(refund)
    c.put(charge)
    c.emit("refund.updated", refund)
    c.emit("refund.failed", refund)
    return refund


def retrieve_charge(c: Call, charge: str) -> Obj:
    return c.get(charge, "charge")


def list_charges(c: Call) -> Obj:
    return c.page("charge", "/v1/charges", payment_intent=c.params.get("payment_intent"))


def open_dispute(c: Call, charge_id: str, reason: str = "fraudulent") -> Obj:
    """The cardholder disputes a captured charge."""
    charge = c.get(charge_id, "charge")
    if not charge["captured"]:
        raise Invalid("Only a captured charge can be disputed.")
    dispute = c.new(
        "dp",
        "dispute",
        amount=charge["amount_captured"] - charge["amount_refunded"],
        charge=charge["id"],
        currency=charge["currency"],
        evidence_details={"due_by": c.now() + 7 * 86400, "submission_count": 0},
        is_charge_refundable=False,
        payment_intent=charge["payment_intent"],
        reason=reason,
        status="needs_response",
    )
    charge["disputed"] = True
    c.put(charge)
    c.put(dispute)
    c.emit("charge.dispute.created", dispute)
    c.emit("charge.dispute.funds_withdrawn", dispute)
    return dispute


def close_dispute(c: Call, dispute_id: str, *, won: bool) -> Obj:
    """The bank decided."""
    dispute = c.get(dispute_id, "dispute")
    dispute["status"] = "won" if won else "lost"
    c.put(dispute)
    if won:
        c.emit("charge.dispute.funds_reinstated", dispute)
    c.emit("charge.dispute.closed", dispute)
    return dispute


def retrieve_dispute(c: Call, dispute: str) -> Obj:
    return c.get(dispute, "dispute")


def list_disputes(c: Call) -> Obj:
    return c.page(
        "dispute",
        "/v1/disputes",
        payment_intent=c.params.get("payment_intent"),
        charge=c.params.get("charge"),
    )


def list_events(c: Call) -> Obj:
    """Events, optionally of some types, or those whose delivery did not succeed."""
    page = {**c.params, "limit": 10**6, "starting_after": None}
    rows = Call(c.store, c.account, page).page("event", "/v1/events")["data"]
    types = c.params.get("types") or ([c.params["type"]] if c.params.get("type") else None)
    if types:
        rows = [row for row in rows if row["type"] in types]
    if "delivery_success" in c.params:
        wanted = 0 if c.params["delivery_success"] else 1
        rows = [row for row in rows if row["pending_webhooks"] == wanted]
    after = c.params.get("starting_after")
    if after:
        ids = [row["id"] for row in rows]
        rows = rows[ids.index(after) + 1 :] if after in ids else []
    limit = int(c.params.get("limit") or 10)
    return {
        "object": "list",
        "url": "/v1/events",
        "has_more": len(rows) > limit,
        "data": rows[:limit],
    }


def retrieve_event(c: Call, id: str) -> Obj:
    event = c.store.get(id, c.account)
    if event is None:
        raise NotFound(id, "event")
    return event
