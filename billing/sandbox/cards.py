"""The test cards, by Stripe's numbers and tokens, and what each of them does."""

from __future__ import annotations

from dataclasses import dataclass

from billing.sandbox.errors import Invalid


@dataclass(frozen=True, slots=True)
class Card:
    """How a test card behaves. `decline` is (code, decline_code, message)."""

    number: str
    token: str
    brand: str = "visa"
    decline: tuple[str, str | None, str] | None = None
    authentication: bool = False
    refund: str = "succeeded"  # or "pending" (succeeds later), "failed" (fails later)
    dispute: str | None = None  # reason of the dispute that follows the capture


GENERIC = ("card_declined", "generic_decline", "Your card was declined.")
FUNDS = ("card_declined", "insufficient_funds", "Your card has insufficient funds.")
LOST = ("card_declined", "lost_card", "Your card was declined.")
STOLEN = ("card_declined", "stolen_card", "Your card was declined.")
EXPIRED = ("expired_card", None, "Your card has expired.")
CVC = ("incorrect_cvc", None, "Your card's security code is incorrect.")
PROCESSING = (
    "processing_error",
    None,
    "An error occurred while processing your card. Try again in a little bit.",
)

CARDS = (
    Card("4242424242424242", "pm_card_visa"),
    Card("5555555555554444", "pm_card_mastercard", brand="mastercard"),
    Card("378282246310005", "pm_card_amex", brand="amex"),
    Card("4000000000000002", "pm_card_visa_chargeDeclined", decline=GENERIC),
    Card("4000000000000341", "pm_card_chargeCustomerFail", decline=GENERIC),
    Card("4000000000009995", "pm_card_visa_chargeDeclinedInsufficientFunds", decline=FUNDS),
    Card("4000000000009987", "pm_card_visa_chargeDeclinedLostCard", decline=LOST),
    Card("4000000000009979", "pm_card_visa_chargeDeclinedStolenCard", decline=STOLEN),
    Card("4000000000000069", "pm_card_chargeDeclinedExpiredCard", decline=EXPIRED),
    Card("4000000000000127", "pm_card_chargeDeclinedIncorrectCvc", decline=CVC),
    Card("4000000000000119", "pm_card_chargeDeclinedProcessingError", decline=PROCESSING),
    Card("4000002500003155", "pm_card_authenticationRequiredOnSetup", authentication=True),
    Card("4000002760003184", "pm_card_authenticationRequired", authentication=True),
    Card(
        "4000008400001629",
        "pm_card_authenticationRequiredChargeDeclinedInsufficientFunds",
        authentication=True,
        decline=FUNDS,
    ),
    Card("4000000000005126", "pm_card_refundFail", refund="failed"),
    Card("4000000000007726", "pm_card_pendingRefund", refund="pending"),
    Card("4000000000000259", "pm_card_createDispute", dispute="fraudulent"),
)
BY_NUMBER = {card.number: card for card in CARDS}
BY_TOKEN = {card.token: card for card in CARDS}


def find(number: str) -> Card:
    """The card with this number, or Stripe's answer to a number that is none of its own."""
    digits = number.replace(" ", "").replace("-", "")
    if digits not in BY_NUMBER:
        raise Invalid(
            "Your card number is not a test card of the sandbox: use 4242 4242 4242 4242.",
            code="incorrect_number",
            param="number",
        )
    return BY_NUMBER[digits]
