"""What about payments people are woken for or told, as incidents; and what heals by itself."""

from __future__ import annotations

from typing import Any

from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop

from billing.models import Payment
from billing.models.payments import PaymentState as State
from billing.money import money
from monitoring import incidents
from monitoring.models import Severity

INFO, WARN, TICKET, PAGE = Severity.INFO, Severity.WARN, Severity.TICKET, Severity.PAGE

# Code (up to a colon) → how much it matters, and the sentence.
ALARMS: dict[str, tuple[Severity, str]] = {
    "key_refused": (PAGE, gettext_noop("Stripe refuses our key: no new payments are taken.")),
    "capturing_stuck": (TICKET, gettext_noop("Collecting a payment fails again and again.")),
    "capture_refused": (TICKET, gettext_noop("Stripe refuses to collect a payment.")),
    "canceling_stuck": (TICKET, gettext_noop("A reservation could not be released yet.")),
    "capture_expired": (TICKET, gettext_noop("A reservation expired before it was collected.")),
    "uncollected": (TICKET, gettext_noop("A session ended and its payment is not collected.")),
    "hold_expires": (TICKET, gettext_noop("A session outlasts its reservation: it is stopped.")),
    "due_above_hold": (INFO, gettext_noop("A session cost more than was reserved.")),
    "money_without_session": (PAGE, gettext_noop("There is money without a session behind it.")),
    "session_after_release": (TICKET, gettext_noop("A session began after its money was free.")),
    "unknown_at_provider": (PAGE, gettext_noop("Stripe does not know one of our payments.")),
    "refund_failed": (TICKET, gettext_noop("A refund came back: pay it another way.")),
    "disputed": (TICKET, gettext_noop("A driver disputes a payment: answer with evidence.")),
    "early_fraud_warning": (TICKET, gettext_noop("A card's bank warns of fraud: refund early.")),
}
# These say the same whichever payment met them first.
SHARED = ("key_refused",)
# Reaching a state heals these.
HEALED_BY: dict[str, tuple[str, ...]] = {
    State.AUTHORIZED: ("key_refused",),
    State.CAPTURED: ("capturing_stuck", "capture_refused", "uncollected"),
    State.CANCELED: ("canceling_stuck", "capture_refused"),
    State.WRITTEN_OFF: ("capture_expired", "capture_refused", "disputed"),
}


def sound(payment: Payment, code: str, evidence: dict[str, Any]) -> None:
    """Open an incident at the payment's connector (or one for all, for what concerns all)."""
    severity, sentence = ALARMS.get(code.partition(":")[0], (TICKET, code))
    amount = money(payment.hold_minor, payment.currency)
    detail = {"payment": str(payment.pk), "hold": str(amount), **evidence}
    if code in SHARED:
        incidents.raise_(f"payment-{code}", _(sentence), severity=severity, evidence=detail)
        return
    incidents.raise_(
        f"payment-{code.partition(':')[0]}",
        _(sentence),
        severity=severity,
        key=f"{payment.pk}:{code}",
        connector=payment.connector,
        evidence=detail,
    )


def heal(payment: Payment, state: str) -> None:
    """Close the incidents that are over now that the payment is in `state`."""
    for code in HEALED_BY.get(state, ()):
        if code in SHARED:
            incidents.clear(f"payment-{code}", healed_by=_("A payment went through."))
        elif payment.transitions.filter(event=f"alert:{code}").exists():
            incidents.clear(
                f"payment-{code}",
                key=f"{payment.pk}:{code}",
                connector=payment.connector,
                healed_by=_("The payment went on."),
            )
