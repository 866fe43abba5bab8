"""One request on its way through the sandbox, and the few things every operation does."""

from __future__ import annotations

import random
import secrets
from dataclasses import dataclass, field
from typing import Any

from billing.sandbox import events
from billing.sandbox.errors import NotFound, public
from billing.sandbox.store import Obj, Store


@dataclass(slots=True)
class Call:
    """What an operation needs to know: who asks, what for, and on which books."""

    store: Store
    account: str
    params: dict[str, Any]
    key: str = ""
    browser: bool = False  # a publishable key: may only touch what it holds the secret of
    rng: random.Random = field(default_factory=random.Random)

    def now(self) -> int:
        return self.store.now()

    def get(self, obj_id: str, noun: str) -> Obj:
        """An object of this account. Raises `NotFound`."""
        obj = self.store.get(obj_id, self.account)
        if obj is None or obj["object"] != noun:
            raise NotFound(obj_id, noun)
        return obj

    def put(self, obj: Obj) -> Obj:
        return self.store.put(obj, self.account)

    def emit(self, kind: str, obj: Obj) -> None:
        events.emit(self.store, self.account, kind, obj, self.key, self.rng)

    def new(self, prefix: str, noun: str, **values: Any) -> Obj:
        """A new object with what all of Stripe's objects have."""
        return {
            "id": f"{prefix}_{secrets.token_hex(12)}",
            "object": noun,
            "created": self.now(),
            "livemode": False,
            "metadata": self.params.get("metadata") or {},
            **values,
        }

    def page(self, kind: str, url: str, **wanted: Any) -> Obj:
        """A list answer: newest first, `limit`, `starting_after`, `created`, exact filters."""
        rows = self.store.all(kind, self.account)
        rows = [r for r in rows if all(r.get(k) == v for k, v in wanted.items() if v is not None)]
        created = self.params.get("created")
        if isinstance(created, dict):
            rows = [r for r in rows if _within(r["created"], created)]
        elif created is not None:
            rows = [r for r in rows if r["created"] == created]
        after = self.params.get("starting_after")
        if after:
            ids = [r["id"] for r in rows]
            rows = rows[ids.index(after) + 1 :] if after in ids else []
        limit = int(self.params.get("limit") or 10)
        return {
            "object": "list",
            "url": url,
            "has_more": len(rows) > limit,
            "data": [public(r) for r in rows[:limit]],
        }


def _within(value: int, bounds: dict[str, int]) -> bool:
    tests = {
        "gt": value > bounds.get("gt", value - 1),
        "gte": value >= bounds.get("gte", value),
        "lt": value < bounds.get("lt", value + 1),
        "lte": value <= bounds.get("lte", value),
    }
    return all(tests.values())
