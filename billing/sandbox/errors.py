"""What the sandbox answers when it refuses, in Stripe's own shape.

ApiError
├── Invalid       400 invalid_request_error   (stored under the idempotency key)
├── Malformed     400 invalid_request_error   (validation failed: not stored)
├── NotFound      404 resource_missing
├── Declined      402 card_error
└── Refused       401, 403
"""

from __future__ import annotations

from typing import Any


class ApiError(Exception):
    """An answer that is not 2xx."""

    status = 400
    kind = "invalid_request_error"
    stored = True  # whether the idempotency key keeps this answer

    def __init__(
        self, message: str, *, code: str | None = None, param: str | None = None, **extra: Any
    ) -> None:
        super().__init__(message)
        self.body: dict[str, Any] = {"message": message, "type": self.kind}
        for name, value in {"code": code, "param": param, **extra}.items():
            if value is not None:
                self.body[name] = value


class Invalid(ApiError):
    """The request was understood and cannot be done."""


class Malformed(ApiError):
    """The request failed validation before anything began."""

    stored = False


class NotFound(ApiError):
    """No such object in this account."""

    status = 404

    def __init__(self, obj_id: str, noun: str) -> None:
        super().__init__(f"No such {noun}: '{obj_id}'", code="resource_missing", param="id")


class Declined(ApiError):
    """The card said no."""

    status = 402
    kind = "card_error"


class Refused(ApiError):
    """The key may not do this."""

    status = 401
    stored = False


def unexpected_state(intent: dict[str, Any], doing: str) -> Invalid:
    """`payment_intent_unexpected_state`, with the intent in the error as Stripe sends it."""
    return Invalid(
        f"This PaymentIntent could not be {doing} because it has a status of {intent['status']}.",
        code="payment_intent_unexpected_state",
        payment_intent=public(intent),
    )


def public(obj: Any) -> Any:
    """A copy without the sandbox's own keys (those that begin with an underscore)."""
    if isinstance(obj, dict):
        return {k: public(v) for k, v in obj.items() if not k.startswith("_")}
    if isinstance(obj, list):
        return [public(v) for v in obj]
    return obj
