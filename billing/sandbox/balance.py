"""What moved on the account's balance: collected, given back, disputed, paid out; with fees.

Fees are 1.5 % and 0.25 of a captured charge and 20.00 of a dispute, as European cards cost.
"""

from __future__ import annotations

from billing.sandbox.call import Call
from billing.sandbox.store import Obj

DISPUTE_FEE = 2000


def listing(c: Call) -> Obj:
    """Newest first; every object's movement has an id of its own that never changes."""
    moved: list[Obj] = []
    for charge in c.store.all("charge", c.account):
        if charge["captured"]:
            amount = charge["amount_captured"]
            fee = -(-amount * 15 // 1000) + 25
            moved.append(_row(charge, "charge", amount, fee))
    for refund in c.store.all("refund", c.account):
        moved.append(_row(refund, "refund", -refund["amount"], 0))
        if refund["status"] in ("failed", "canceled"):
            moved.append(_row(refund, "refund_failure", refund["amount"], 0, "back"))
    for dispute in c.store.all("dispute", c.account):
        moved.append(_row(dispute, "adjustment", -dispute["amount"], DISPUTE_FEE))
        if dispute["status"] == "won":
            moved.append(_row(dispute, "adjustment", dispute["amount"], 0, "won"))
    payouts = c.store.all("payout", c.account)
    moved += [_row(payout, "payout", -payout["amount"], 0) for payout in payouts]
    since = (c.params.get("created") or {}).get("gte", 0)
    moved = [row for row in moved if row["created"] >= since]
    moved.sort(key=lambda row: (row["created"], row["id"]), reverse=True)
    after = c.params.get("starting_after")
    if after:
        ids = [row["id"] for row in moved]
        moved = moved[ids.index(after) + 1 :] if after in ids else []
    limit = int(c.params.get("limit") or 10)
    return {
        "object": "list",
        "url": "/v1/balance_transactions",
        "has_more": len(moved) > limit,
        "data": moved[:limit],
    }


def _row(source: Obj, kind: str, amount: int, fee: int, suffix: str = "") -> Obj:
    return {
        "id": f"txn_{source['id']}{suffix}",
        "object": "balance_transaction",
        "amount": amount,
        "available_on": source["created"],
        "created": source["created"],
        "currency": source["currency"],
        "description": None,
        "exchange_rate": None,
        "fee": fee,
        "fee_details": [],
        "net": amount - fee,
        "reporting_category": "dispute" if kind == "adjustment" else kind,
        "source": source["id"],
        "status": "available",
        "type": kind,
    }


def pay_out(c: Call, amount: int, currency: str) -> Obj:
    """Money goes to the bank."""
    return c.put(c.new("po", "payout", amount=amount, currency=currency, status="paid"))
