"""One request in, one reply out: keys, idempotency, faults, routing.

Everything a request does happens in one transaction of the sandbox's own books, under its lock:
two requests never interleave, and a killed process leaves all of a request or nothing.
"""

from __future__ import annotations

import fnmatch
import hashlib
import json
import random
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode

import stripe

from billing import sandbox
from billing.sandbox import balance, methods, payment_intents, refunds, validation
from billing.sandbox.call import Call
from billing.sandbox.errors import ApiError, Malformed, Refused, public
from billing.sandbox.events import Courier
from billing.sandbox.store import Obj, Store

OPERATIONS: dict[str, Callable[..., Obj]] = {
    "payment_intents.create": payment_intents.create,
    "payment_intents.update": payment_intents.update,
    "payment_intents.retrieve": payment_intents.retrieve,
    "payment_intents.list": payment_intents.listing,
    "payment_intents.confirm": payment_intents.confirm,
    "payment_intents.capture": payment_intents.capture,
    "payment_intents.cancel": payment_intents.cancel,
    "payment_intents.increment_authorization": payment_intents.increment_authorization,
    "payment_methods.create": methods.create_payment_method,
    "payment_methods.retrieve": methods.retrieve_payment_method,
    "payment_methods.list": methods.list_payment_methods,
    "payment_methods.attach": methods.attach,
    "payment_methods.detach": methods.detach,
    "customers.create": methods.create_customer,
    "customers.retrieve": methods.retrieve_customer,
    "customers.update": methods.update_customer,
    "customers.delete": methods.delete_customer,
    "customers.list": methods.list_customers,
    "customer_payment_methods.list": methods.list_payment_methods,
    "setup_intents.create": methods.create_setup_intent,
    "setup_intents.retrieve": methods.retrieve_setup_intent,
    "setup_intents.confirm": methods.confirm_setup_intent,
    "setup_intents.cancel": methods.cancel_setup_intent,
    "refunds.create": refunds.create,
    "refunds.retrieve": refunds.retrieve,
    "refunds.list": refunds.listing,
    "balance_transactions.list": balance.listing,
    "charges.retrieve": refunds.retrieve_charge,
    "charges.list": refunds.list_charges,
    "disputes.retrieve": refunds.retrieve_dispute,
    "disputes.list": refunds.list_disputes,
    "events.retrieve": refunds.retrieve_event,
    "events.list": refunds.list_events,
}
FOR_BROWSERS = {
    "payment_intents.retrieve", "payment_intents.confirm", "payment_methods.create",
    "setup_intents.retrieve", "setup_intents.confirm",
}  # fmt: skip
# Operations that move or hold money: refused without an idempotency key of our own making.
# The SDK's automatic key is random: it protects one call, not the task that is run again.
NEED_OWN_KEY = {
    "payment_intents.create", "payment_intents.confirm", "payment_intents.capture",
    "payment_intents.cancel", "payment_intents.increment_authorization", "refunds.create",
    "customers.create", "setup_intents.create",
}  # fmt: skip
OWN_KEY_PREFIX = "csms:"
SAVED_HEADERS = {"Stripe-Should-Retry": "false"}


@dataclass(slots=True)
class Reply:
    """What goes back. `lost`: nothing does, the connection breaks."""

    status: int
    body: Obj
    headers: dict[str, str] = field(default_factory=dict)
    lost: bool = False


class Sandbox:
    """The stand-in's front door. `path`: where its books are kept."""

    def __init__(
        self,
        path: Path | str,
        *,
        webhook_secret: str = "",
        webhook_url: str = "",
        seed: int | None = None,
        secret_key: str = "",
    ) -> None:
        """Open the books at `path`. With `secret_key` only that key is a server's."""
        sandbox.require()
        self.secret_key = secret_key
        self.store = Store(path)
        self.store.set_setting("api_version", stripe.api_version)
        self.webhook_secret = webhook_secret
        self.rng = random.Random(seed)  # noqa: S311  chooses faults, not secrets
        self.courier = Courier(self.store, webhook_secret, webhook_url) if webhook_url else None
        if self.courier:
            self.courier.start()

    def close(self) -> None:
        if self.courier:
            self.courier.stop()
        self.store.close()

    def handle(self, verb: str, path: str, headers: Mapping[str, str], form: str) -> Reply:
        """Answer one request. `form`: the urlencoded body, or the query of a GET."""
        head = {name.lower(): value for name, value in headers.items()}
        key = head.get("idempotency-key", "") if verb == "POST" else ""
        name = "unknown"
        try:
            with self.store.transaction():
                operation, ids = validation.find(verb, path)
                name = operation.name
                reply = self._answer(operation, ids, head, key, verb, path, form)
                self.store.log_call(
                    name, path, key, reply.status,
                    replayed="Idempotent-Replayed" in reply.headers,
                )  # fmt: skip
        except ApiError as error:
            self.store.log_call(name, path, key, error.status)
            reply = Reply(error.status, {"error": error.body})
        reply.headers.setdefault("Request-Id", f"req_{secrets.token_hex(7)}")
        if self.courier:
            self.courier.wake.set()
        return reply

    def _answer(
        self, operation: validation.Operation, ids: dict[str, str], head: dict[str, str],
        key: str, verb: str, path: str, form: str,
    ) -> Reply:  # fmt: skip
        form, browser = self._authenticate(operation.name, head, form)
        account = head.get("stripe-account", "")
        given = validation.parse_form(form)
        # A browser proves itself with the client secret, which the server's SDK has no word for.
        secret = given.pop("client_secret", None) if browser else None
        params = validation.check(operation, given)
        if secret is not None:
            params["client_secret"] = secret
        if operation.name in NEED_OWN_KEY and not browser and not key.startswith(OWN_KEY_PREFIX):
            raise Malformed(
                f"{operation.name} moves money: it needs our own deterministic idempotency key.",
                code="idempotency_key_missing",
            )
        fingerprint = hashlib.sha256(
            json.dumps([verb, path, sorted(parse_qsl(form, keep_blank_values=True))]).encode()
        ).hexdigest()
        stored = self.store.answer(account, key) if key else None
        fault = self._fault(operation.name)
        if fault == "rate_limit":
            return _error(429, "Too many requests hit the API too quickly.", "rate_limit")
        if fault == "lose_request":
            return Reply(0, {}, lost=True)
        if stored is not None:
            reply = _replay(stored, fingerprint, key)
        else:
            call = Call(self.store, account, params, key, browser, self.rng)
            reply = self._execute(operation.name, call, ids, fault)
            if key:
                self.store.keep_answer(account, key, fingerprint, reply.status, reply.body)
        reply.lost = fault == "lose_reply"
        return reply

    def _execute(self, name: str, call: Call, ids: dict[str, str], fault: str) -> Reply:
        self.tick()
        if fault == "error_500":
            return _error(500, "An unknown error occurred.", None)
        if name not in OPERATIONS:
            raise Malformed(f"The sandbox does not serve {name}.")
        try:
            obj = OPERATIONS[name](call, **ids)
        except ApiError as error:
            if not error.stored:
                raise
            return Reply(error.status, {"error": public(error.body)})
        if fault == "error_500_after":
            return _error(500, "An unknown error occurred.", None)
        body = public(obj)
        for wish in call.params.get("expand") or []:
            self._expand(body, wish.split("."))
        return Reply(200, body)

    def _authenticate(self, name: str, head: dict[str, str], form: str) -> tuple[str, bool]:
        """Check the API key, from the header or (browsers) the form. Returns form without it."""
        pairs = parse_qsl(form, keep_blank_values=True)
        key = head.get("authorization", "").removeprefix("Bearer ").strip()
        if not key:
            key = next((value for field, value in pairs if field == "key"), "")
            form = urlencode([pair for pair in pairs if pair[0] != "key"])
        if key.startswith(("sk_test_", "rk_test_")):
            if self.secret_key and key != self.secret_key:
                raise Refused("Invalid API Key provided.")
            if key == self.store.setting("revoked_key"):
                raise Refused("Expired API Key provided.", code="api_key_expired")
            return form, False
        if key.startswith("pk_test_"):
            if name not in FOR_BROWSERS:
                raise Refused(
                    "This API call cannot be made with a publishable API key.",
                    code="secret_key_required",
                )
            return form, True
        raise Refused("Invalid API Key provided: the sandbox takes test keys only.")

    def _fault(self, operation: str) -> str:
        """The fault waiting for this operation, used up once."""
        rows = self.store.db.execute(
            "SELECT id, operation, kind FROM faults WHERE remaining > 0 ORDER BY id"
        ).fetchall()
        for row_id, pattern, kind in rows:
            if fnmatch.fnmatch(operation, pattern):
                self.store.db.execute(
                    "UPDATE faults SET remaining = remaining - 1 WHERE id = ?", (row_id,)
                )
                return str(kind)
        return ""

    def tick(self) -> None:
        """What time does by itself: holds expire, late refunds settle."""
        call = Call(self.store, "", {}, rng=self.rng)
        with self.store.transaction():
            payment_intents.expire_due(call)
            refunds.settle_due(call)

    def _expand(self, node: Any, path: list[str]) -> None:
        if not path or not isinstance(node, dict):
            return
        value = node.get(path[0])
        if isinstance(value, list):
            for item in value:
                self._expand(item, path[1:])
            return
        if isinstance(value, str) and (found := self.store.get(value)) is not None:
            value = node[path[0]] = public(found)
        self._expand(value, path[1:])


def _error(status: int, message: str, code: str | None) -> Reply:
    body: Obj = {"message": message, "type": "api_error"}
    if code:
        body["code"] = code
    return Reply(status, {"error": body}, dict(SAVED_HEADERS))


def _replay(stored: tuple[str, int, Obj], fingerprint: str, key: str) -> Reply:
    """The stored answer again, or the error for a key used with other parameters."""
    if stored[0] != fingerprint:
        return Reply(
            400,
            {
                "error": {
                    "type": "idempotency_error",
                    "message": "Keys for idempotent requests can only be used with the same "
                    f"parameters they were first used with. Try using a key other than '{key}'.",
                }
            },
        )
    headers = {"Idempotent-Replayed": "true"}
    if stored[1] >= 500:
        headers |= SAVED_HEADERS
    return Reply(stored[1], stored[2], headers)
