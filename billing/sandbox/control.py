"""The control door: what a test, the demo or a developer may do to the world behind Stripe.

Not part of Stripe's API. Over HTTP it is `POST <sandbox>/_control/<action>/` with a JSON object of
the arguments below; in a process that holds the `Sandbox`, call the functions.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import Any

from billing.sandbox import balance, methods, payment_intents, refunds
from billing.sandbox.call import Call
from billing.sandbox.engine import Sandbox
from billing.sandbox.errors import Declined, public, unexpected_state
from billing.sandbox.store import Obj

FAULTS = ("lose_request", "lose_reply", "error_500", "error_500_after", "rate_limit")


def fault(box: Sandbox, operation: str, kind: str, times: int = 1) -> Obj:
    """The next `times` calls of `operation` ("payment_intents.capture", wildcards) go wrong.

    lose_request: nothing done, no answer. lose_reply: done, no answer. error_500: nothing done, 500
    stored under the key. error_500_after: done, 500 stored under the key. rate_limit: 429.
    """
    if kind not in FAULTS:
        raise ValueError(f"unknown fault {kind!r}: use one of {', '.join(FAULTS)}")
    with box.store.transaction():
        box.store.db.execute(
            "INSERT INTO faults (operation, kind, remaining) VALUES (?, ?, ?)",
            (operation, kind, times),
        )
    return {"operation": operation, "kind": kind, "times": times}


def clear_faults(box: Sandbox) -> Obj:
    """No more faults; webhooks arrive."""
    with box.store.transaction():
        box.store.db.execute("DELETE FROM faults")
        box.store.set_setting("webhooks", {})
    return {}


def webhooks(
    box: Sandbox, drop: float = 0, duplicate: float = 0, delay_s: float = 0, shuffle: bool = False
) -> Obj:
    """How webhooks of the events to come fare. `drop`, `duplicate`: 0 to 1."""
    how = {"drop": drop, "duplicate": duplicate, "delay_s": delay_s, "shuffle": shuffle}
    box.store.set_setting("webhooks", how)
    return how


def redeliver(box: Sandbox, event: str) -> Obj:
    """Send an event's webhook (again)."""
    with box.store.transaction():
        box.store.db.execute(
            "INSERT INTO deliveries (event, due) VALUES (?, ?)", (event, time.time())
        )
    return {"event": event}


def advance(box: Sandbox, seconds: int) -> Obj:
    """Move the sandbox's clock forward; holds expire on the way."""
    offset = int(box.store.setting("clock_offset_s", 0)) + seconds
    box.store.set_setting("clock_offset_s", offset)
    box.tick()
    return {"now": box.store.now()}


def incremental(box: Sandbox, status: str | None) -> Obj:
    """Whether holds may be raised: None (never), "available", "declined" (offered, refused)."""
    box.store.set_setting("incremental", status)
    return {"incremental": status}


def revoke_key(box: Sandbox, key: str | None) -> Obj:
    """From now on this secret key answers 401 (None: no key does)."""
    box.store.set_setting("revoked_key", key)
    return {"revoked": key}


def authenticate(box: Sandbox, intent: str, passed: bool = True) -> Obj:
    """The driver passed (or failed) the bank's 3-D Secure page."""
    with box.store.transaction():
        c = _call(box, intent)
        if intent.startswith("seti_"):
            return public(methods.finish_setup(c, c.get(intent, "setup_intent")))  # type: ignore[no-any-return]
        return public(payment_intents.authenticate(c, intent, passed=passed))  # type: ignore[no-any-return]


def pay(box: Sandbox, intent: str, payment_method: str = "pm_card_visa") -> Obj:
    """Do what the driver's browser does: confirm with this card; a decline shows in the intent."""
    with box.store.transaction():
        c = _call(box, intent)
        c.params = {"payment_method": payment_method}
        with contextlib.suppress(Declined):
            payment_intents.confirm(c, intent)
        return public(c.get(intent, "payment_intent"))  # type: ignore[no-any-return]


def expire(box: Sandbox, intent: str) -> Obj:
    """The hold's window ends now."""
    with box.store.transaction():
        c = _call(box, intent)
        pi = c.get(intent, "payment_intent")
        if pi["status"] != "requires_capture":
            raise unexpected_state(pi, "expired")
        pi["_capture_before"] = 0
        c.put(pi)
        box.tick()
        return public(c.get(intent, "payment_intent"))  # type: ignore[no-any-return]


def dispute(box: Sandbox, intent: str, reason: str = "fraudulent") -> Obj:
    """The cardholder disputes what was captured."""
    with box.store.transaction():
        c = _call(box, intent)
        charge = c.get(intent, "payment_intent")["latest_charge"]
        return public(refunds.open_dispute(c, charge, reason))  # type: ignore[no-any-return]


def close_dispute(box: Sandbox, dispute: str, won: bool) -> Obj:
    """The bank decides a dispute."""
    with box.store.transaction():
        return public(refunds.close_dispute(_call(box, dispute), dispute, won=won))  # type: ignore[no-any-return]


def fail_refund(box: Sandbox, refund: str) -> Obj:
    """A refund comes back."""
    with box.store.transaction():
        return public(refunds.fail(_call(box, refund), refund))  # type: ignore[no-any-return]


def refund_in_dashboard(box: Sandbox, intent: str, amount: int | None = None) -> Obj:
    """Somebody refunds in Stripe's own dashboard, past us."""
    with box.store.transaction():
        c = _call(box, intent)
        c.params = {"payment_intent": intent} | ({} if amount is None else {"amount": amount})
        return public(refunds.create(c))  # type: ignore[no-any-return]


def pay_out(box: Sandbox, amount: int, currency: str = "eur") -> Obj:
    """The provider pays collected money out to the bank."""
    with box.store.transaction():
        return balance.pay_out(Call(box.store, "", {}), amount, currency)


def _call(box: Sandbox, obj_id: str) -> Call:
    return Call(box.store, box.store.account_of(obj_id), {}, rng=box.rng)


ACTIONS: dict[str, Callable[..., Any]] = {
    f.__name__: f
    for f in (
        fault, clear_faults, webhooks, redeliver, advance, incremental, revoke_key, authenticate,
        pay, expire, dispute, close_dispute, fail_refund, refund_in_dashboard, pay_out,
    )
}  # fmt: skip
