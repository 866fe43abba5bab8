"""Events and their delivery to our webhook: signed, retried, and as unreliable as asked.

The settings "webhooks" = {"drop": 0..1, "duplicate": 0..1, "shuffle": bool, "delay_s": seconds}
decide at the moment an event happens what will become of its delivery. The event itself always
exists: `events.list` is how a lost webhook is found again.
"""

from __future__ import annotations

import json
import logging
import random
import secrets
import threading
import time
from collections.abc import Callable
from typing import Any

import requests
from stripe import WebhookSignature

from billing.sandbox.errors import public
from billing.sandbox.store import Obj, Store

log = logging.getLogger(__name__)

RETRIES_S = (1, 3, 10, 30, 120)  # pauses after a failed delivery; then it is given up
LEASE_S = 30.0  # a delivery whose sender died is due again after this


def emit(store: Store, account: str, kind: str, obj: Obj, key: str, rng: random.Random) -> Obj:
    """Write an event and, unless webhooks are told to lose it, its delivery."""
    event: Obj = {
        "id": f"evt_{secrets.token_hex(12)}",
        "object": "event",
        "api_version": store.setting("api_version", ""),
        "created": store.now(),
        "data": {"object": public(obj)},
        "livemode": False,
        "pending_webhooks": 1,
        "request": {"id": None, "idempotency_key": key or None},
        "type": kind,
    }
    if account:
        event["account"] = account
    store.put(event, account)
    how = store.setting("webhooks", {})
    if rng.random() < how.get("drop", 0):
        return event
    copies = 2 if rng.random() < how.get("duplicate", 0) else 1
    for _ in range(copies):
        wait = float(how.get("delay_s", 0))
        if how.get("shuffle"):
            wait += rng.random() * 0.5
        store.db.execute(
            "INSERT INTO deliveries (event, due) VALUES (?, ?)", (event["id"], time.time() + wait)
        )
    return event


def deliver_due(
    store: Store, secret: str, post: Callable[[bytes, str], int], *, everything: bool = False
) -> int:
    """Deliver what is due through `post(body, signature) -> status`; how many went out well.

    `everything` ignores the due times but keeps their order, so a shuffle shows at once.
    """
    done = 0
    until = time.time() + (10**9 if everything else 0)
    while True:
        claim = _claim(store, until)
        if claim is None:
            return done
        delivery, event_id, attempts = claim
        if _deliver(store, secret, post, event_id):
            done += 1
            _settle(store, delivery, "delivered")
        elif everything or attempts >= len(RETRIES_S):
            _settle(store, delivery, "failed")
        else:
            with store.transaction():
                store.db.execute(
                    "UPDATE deliveries SET due = ? WHERE id = ?",
                    (time.time() + RETRIES_S[attempts], delivery),
                )


def _claim(store: Store, until: float) -> tuple[int, str, int] | None:
    with store.transaction():
        row = store.db.execute(
            "SELECT id, event, attempts FROM deliveries WHERE state = 'waiting' AND due <= ? "
            "ORDER BY due, id LIMIT 1",
            (until,),
        ).fetchone()
        if row is None:
            return None
        store.db.execute(
            "UPDATE deliveries SET due = ?, attempts = attempts + 1 WHERE id = ?",
            (time.time() + LEASE_S, row[0]),
        )
    return int(row[0]), str(row[1]), int(row[2])


def _deliver(store: Store, secret: str, post: Callable[[bytes, str], int], event_id: str) -> bool:
    event = store.get(event_id)
    if event is None:
        return True
    body = json.dumps(public(event))
    signature = WebhookSignature.generate_signature_header(body, secret)
    try:
        ok = 200 <= post(body.encode(), signature) < 300
    except (requests.RequestException, OSError) as error:
        log.info("sandbox: webhook %s not delivered: %s", event_id, error)
        return False
    if ok:
        event["pending_webhooks"] = 0
        store.put(event, store.account_of(event_id))
    return ok


def _settle(store: Store, delivery: int, state: str) -> None:
    with store.transaction():
        store.db.execute("UPDATE deliveries SET state = ? WHERE id = ?", (state, delivery))


class Courier(threading.Thread):
    """Posts due events to our webhook over HTTP, in a thread of its own."""

    def __init__(self, store: Store, secret: str, url: str) -> None:
        super().__init__(name="sandbox-courier", daemon=True)
        self.store, self.secret, self.url = store, secret, url
        self.wake = threading.Event()
        self.stopping = False
        self.session = requests.Session()
        self.session.trust_env = False  # loopback only: never through a proxy

    def run(self) -> None:
        while not self.stopping:
            try:
                deliver_due(self.store, self.secret, self.post)
            except Exception:  # the next round tries again
                log.exception("sandbox: delivery of webhooks failed, trying again")
            self.wake.wait(0.5)
            self.wake.clear()

    def post(self, body: bytes, signature: str) -> int:
        headers: dict[str, Any] = {
            "Content-Type": "application/json; charset=utf-8",
            "Stripe-Signature": signature,
            "User-Agent": "Stripe/1.0 (sandbox)",
        }
        return self.session.post(self.url, data=body, headers=headers, timeout=10).status_code

    def stop(self) -> None:
        self.stopping = True
        self.wake.set()
        if self.is_alive():
            self.join(timeout=5)
        self.session.close()
