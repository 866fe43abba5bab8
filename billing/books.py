"""The daily look at the books: is every session settled exactly once, does everything add up?

check()     a list of findings, each a sentence with what it is about; empty is well
run()       the same, told in the journal and as an incident that clears by itself
"""

from __future__ import annotations

import datetime as dt
from dataclasses import asdict, dataclass

from django.db import transaction
from django.db.models import Q, Sum
from django.utils import timezone
from django.utils.translation import gettext as _

from monitoring import incidents
from monitoring.models import Session
from monitoring.models.health import Severity
from stations import journal

from . import ledger, statements, wallet
from .models import Charge, Entry, Invoice, Movement, Posting
from .models.charges import ChargeState
from .models.payments import PaymentState
from .refunds import OPEN
from .transitions import COLLECTED

S = ChargeState
SETTLED_WITHIN = dt.timedelta(hours=2)
LOOK_BACK = dt.timedelta(days=45)
LIMIT = 200  # findings of a kind; more are counted by the next look


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that does not add up."""

    kind: str  # unbalanced, unsettled, twice, unbooked, open, unmatched, clearing
    about: str  # session-17, invoice-R-2026-000001, payment-…
    text: str


def run(now: dt.datetime | None = None) -> list[Finding]:
    """Read the statements, look at everything, say what was found."""
    now = now or timezone.now()
    statements.take(now)
    statements.write_off_lost_disputes()
    found = check(now)
    with transaction.atomic():
        journal.record("books.checked", "", findings=len(found))
    if found:
        incidents.raise_(
            "books",
            _("%(n)s findings: the books, the provider and the sessions do not agree.")
            % {"n": len(found)},
            severity=Severity.TICKET,
            evidence={"findings": [asdict(one) for one in found[:20]]},
        )
    else:
        incidents.clear("books", healed_by=_("Everything adds up again."))
    return found


def check(now: dt.datetime | None = None) -> list[Finding]:
    """Every finding, in the order of their weight."""
    now = now or timezone.now()
    return [
        *unbalanced(),
        *completeness(now),
        *unbooked(),
        *open_payments(now),
        *wallets(),
        *unmatched(),
    ]


def unbalanced() -> list[Finding]:
    """Entries whose postings do not sum to zero in each currency."""
    rows = (
        Posting.objects.values("entry_id", "account__currency")
        .annotate(sum=Sum("amount_minor"))
        .exclude(sum=0)
    )
    return [
        Finding("unbalanced", f"entry-{row['entry_id']}", f"The postings sum to {row['sum']}.")
        for row in rows[:LIMIT]
    ]


def completeness(now: dt.datetime) -> list[Finding]:
    """Each closed session has exactly one of: charged, waived, held."""
    closed = Session.objects.filter(
        state=Session.State.CLOSED,
        closed_at__lt=now - SETTLED_WITHIN,
        started_at__gt=now - LOOK_BACK,
    ).select_related("charge__invoice")
    monthly = Q(charge__state=S.UNPAID, charge__house_account__isnull=False)
    done = Q(charge__state__in=[S.WAIVED, S.HELD]) | monthly
    done |= Q(charge__state=S.INVOICED, charge__invoice__isnull=False)
    found = [
        Finding("unsettled", f"session-{session.pk}", "Neither charged, nor waived, nor held.")
        for session in closed.exclude(done).order_by("pk")[:LIMIT]
    ]
    billed = Charge.objects.filter(
        state__in=[S.WAIVED, S.HELD], session__started_at__gt=now - LOOK_BACK
    )
    for charge in billed.exclude(invoice=None)[:LIMIT]:
        text = f"It is {charge.state}, and has the document {charge.invoice}."
        found.append(Finding("twice", f"session-{charge.session_id}", text))
    return found


def unbooked() -> list[Finding]:
    """Documents and collected payments without their entry in the ledger."""
    keys = set(
        Entry.objects.filter(
            Q(idempotency_key__startswith="invoice:") | Q(idempotency_key__startswith="capture:")
        ).values_list("idempotency_key", flat=True)
    )
    numbers = Invoice.objects.values_list("number", flat=True).iterator()
    charged = Charge.objects.filter(state=S.INVOICED, payment__state__in=COLLECTED)
    paid = charged.exclude(paid_minor=0).values_list("payment_id", flat=True).iterator()
    missing = [f"invoice-{number}" for number in numbers if f"invoice:{number}" not in keys]
    missing += [f"payment-{pk}" for pk in paid if f"capture:{pk}" not in keys]
    text = "Issued or collected, but not in the books."
    return [Finding("unbooked", about, text) for about in missing[:LIMIT]]


def open_payments(now: dt.datetime) -> list[Finding]:
    """Card payments whose documents and money do not cancel out, with nothing under way."""
    found = []
    charges = Charge.objects.filter(
        state=S.INVOICED,
        payment__state__in=[s for s in COLLECTED if s != PaymentState.DISPUTED],
        session__started_at__gt=now - LOOK_BACK,
    ).exclude(paid_minor=0)
    owed = {
        row["owner"]: row["balance_minor"]
        for row in ledger.trial_balance()
        if row["account"] == ledger.Kind.RECEIVABLE
    }
    for charge in charges.select_related("payment").iterator():
        balance = owed.get(ledger.customer_of(charge), 0)
        if balance and not charge.payment.refunds.filter(state__in=OPEN).exists():  # type: ignore[union-attr]
            text = f"Documents less money are {balance}, and nothing is under way."
            found.append(Finding("open", f"payment-{charge.payment_id}", text))
    return found[:LIMIT]


def wallets() -> list[Finding]:
    """Prepaid balances that are not what the ledger says."""
    text = "The balance is not what the ledger says."
    return [Finding("wallet", f"wallet-{one.pk}", text) for one in wallet.differences()]


def unmatched() -> list[Finding]:
    """Movements at a provider that our books do not explain."""
    rows = Movement.objects.exclude(problem="")
    return [Finding("unmatched", f"movement-{row.ref}", row.problem) for row in rows[:LIMIT]]


def clearing(provider: str) -> dict[str, tuple[int, int]]:
    """By currency: what our books say lies with the provider, and what its statement says."""
    said: dict[str, int] = {}
    for currency, amount, fee in Movement.objects.filter(provider=provider).values_list(
        "currency", "amount_minor", "fee_minor"
    ):
        said[currency] = said.get(currency, 0) + amount - fee
    ours = ledger.balance(kind=ledger.Kind.PSP_CLEARING, owner=provider)
    return {c: (ours.get(c, 0), said.get(c, 0)) for c in sorted({*ours, *said})}
