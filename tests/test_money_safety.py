"""Whatever happens to a bill, in whatever order and however often: the money is right.

Late stops that say less or more, reviews, refunds, credits, retries of every step, monthly runs and
lost webhooks are drawn at random. After each: the postings sum to zero, no document has changed, no
session is billed twice; at the end money and documents cancel out.
"""

from __future__ import annotations

import contextlib
from datetime import timedelta
from typing import Any

import pytest
from django.db import transaction
from django.utils import timezone
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from billing import books, corrections, invoicing, ledger, payments, refunds, settlement, tariffs
from billing.models import Charge, Invoice, Posting, Seller
from billing.models.ledger import AccountKind as Kind
from billing.models.tariffs import canonical
from billing.sandbox import control
from billing.sandbox.engine import Sandbox
from billing.settlement import NotNow
from billing.transitions import BadAmount, NotAllowed
from monitoring.models import Session
from stations import journal
from tests import make, paying

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]

ACTS = (
    *("late_stop", "late_stop", "late_stop", "correct", "settle", "refund", "credit"),
    *("doubt", "release", "month", "deliver", "waive", "resume", "books"),
)
STEPS = st.lists(st.tuples(st.sampled_from(ACTS), st.integers(0, 20_000)), min_size=3, max_size=9)


class Story:
    """One session, how it is paid, and what happens to it."""

    def __init__(self, box: Sandbox, kind: str, provisional: bool) -> None:
        self.box = box
        self.account: Any = None
        if not Seller.objects.exists():
            make.seller()
        make.tariff()
        long_ago = timezone.now() - timedelta(hours=3)
        ended = {
            "state": "closed",
            "started_at": long_ago - timedelta(hours=1),
            "started_received_at": long_ago - timedelta(hours=1),
            "stopped_at": long_ago,
            "closed_at": long_ago,
            "energy_wh": 10_000,
            "energy_source": "provisional" if provisional else "registers",
            "flags": ["no-stop"] if provisional else [],
        }
        if kind == "card":
            at = paying.connector()
            shown = tariffs.snapshot_for(at.station, timezone.now())
            assert shown is not None
            payment = paying.begin(at, tariff_snapshot=shown[1]).payment
            control.pay(box, paying.intent_of(payment))
            payments.returned(payment)
            self.session = paying.session_of(payment)
            Session.objects.filter(pk=self.session.pk).update(**ended)
        else:
            token = make.token(user=make.user())
            self.account = make.house_account(token) if kind == "house" else None
            self.session = make.session(make.station(), token=token, **ended)
        self.kind = kind
        self.issued: dict[str, bytes] = {}

    def charge(self) -> Charge:
        return Charge.objects.select_related("invoice", "payment").get(session=self.session)

    def act(self, name: str, n: int) -> None:
        """Do one thing; what the product refuses in so many words is fine."""
        with contextlib.suppress(NotNow, NotAllowed, BadAmount, ValueError):
            getattr(self, name)(n)
        self.look()

    def late_stop(self, wh: int) -> None:
        Session.objects.filter(pk=self.session.pk).update(
            energy_wh=wh, energy_source="registers", flags=[]
        )
        self.correct(wh)

    def correct(self, _n: int) -> None:
        self.session.refresh_from_db()
        with transaction.atomic():
            journal.record("session.corrected", self.session, energy_wh=self.session.energy_wh)
        journal.catch_up()

    def settle(self, _n: int) -> None:
        settlement.settle(self.session.pk)

    def refund(self, n: int) -> None:
        charge = self.charge()
        if charge.payment is not None:
            refunds.request(charge.payment, 1 + n % 300, "goodwill")
            if n % 2:
                journal.catch_up()

    def credit(self, n: int) -> None:
        charge = self.charge()
        if charge.invoice is not None and charge.payment is None:
            corrections.credit(charge.invoice, 1 + n % 300, "goodwill", key=f"manual:{n}")

    def doubt(self, _n: int) -> None:
        Session.objects.filter(pk=self.session.pk).update(review="meter-mismatch")

    def release(self, _n: int) -> None:
        Session.objects.filter(pk=self.session.pk).update(review="")
        with transaction.atomic():
            journal.record("session.reviewed", self.session, reason="meter-mismatch")
        journal.catch_up()

    def month(self, _n: int) -> None:
        if self.account is not None:
            later = timezone.now() + timedelta(days=1)
            invoicing.invoice_month(self.account, later.year, later.month)

    def deliver(self, _n: int) -> None:
        paying.deliver(self.box)

    def waive(self, _n: int) -> None:
        settlement.waive(self.charge(), "goodwill")

    def resume(self, _n: int) -> None:
        settlement.resume(self.charge())

    def books(self, _n: int) -> None:
        books.run()

    # what always holds

    def look(self) -> None:
        assert books.unbalanced() == []
        assert sum(Posting.objects.values_list("amount_minor", flat=True)) == 0
        for invoice in Invoice.objects.all():
            now = canonical([invoice.snapshot, invoice.sha256, invoice.gross_minor])
            assert self.issued.setdefault(invoice.number, now) == now
        assert invoicing.broken_links() == []
        charge = Charge.objects.filter(session=self.session).first()
        if charge is not None:
            self.look_at(charge)

    def look_at(self, charge: Charge) -> None:
        """The bill's documents are its price, less what was given by hand: never twice."""
        documents = corrections.documents_of(charge)
        if charge.state != Charge.State.INVOICED:
            assert not documents.exists()
            return
        by_hand = documents.exclude(idempotency_key__startswith="charge:")
        by_hand = by_hand.exclude(idempotency_key__startswith="house:")
        by_hand = by_hand.exclude(idempotency_key__startswith="taken-back:")
        given = sum(by_hand.values_list("gross_minor", flat=True))
        total = sum(documents.values_list("gross_minor", flat=True))
        assert total == (charge.gross_minor or 0) + given
        assert total >= 0
        if charge.payment is not None:
            charge.payment.refresh_from_db()
            assert charge.payment.refunded_minor <= charge.payment.captured_minor

    def end(self) -> None:
        """Everything told and done: money and documents cancel out."""
        paying.deliver(self.box)
        self.act("release", 0)
        self.act("month", 0)
        charge = self.charge()
        if charge.payment is not None:
            balance = ledger.balance(kind=Kind.RECEIVABLE, owner=ledger.customer_of(charge))
            assert balance.get("EUR", 0) == 0
            intent = paying.intent(self.box, charge.payment)
            kept = charge.payment.captured_minor - charge.payment.refunded_minor
            documents = corrections.documents_of(charge).values_list("gross_minor", flat=True)
            assert (intent["amount_received"], kept) == (charge.paid_minor, sum(documents))
        assert books.completeness(timezone.now()) == []


@pytest.mark.parametrize("kind", ["card", "driver", "house"])
@settings(
    max_examples=5,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(provisional=st.booleans(), steps=STEPS)
def test_no_order_of_events_bills_twice_or_loses_a_cent(
    box: Sandbox, kind: str, provisional: bool, steps: list[tuple[str, int]]
) -> None:
    story = Story(box, kind, provisional)
    story.act("settle", 0)
    for name, n in steps:
        if kind == "card" or name != "deliver":
            story.act(name, n)
    story.end()


def test_a_bill_that_rose_fell_and_was_refunded_ends_right(box: Sandbox) -> None:
    story = Story(box, "card", provisional=False)
    steps: list[Any] = [("settle", 0), ("late_stop", 5_000), ("refund", 101), ("late_stop", 2_000)]
    for name, n in [*steps, ("correct", 0), ("late_stop", 9_000), ("books", 0)]:
        story.act(name, n)
    story.end()
    documents = corrections.documents_of(story.charge()).values_list("kind", "gross_minor")
    assert list(documents) == [
        ("invoice", 595),
        ("credit_note", -595),  # 5 kWh: billed anew
        ("invoice", 357),
        ("credit_note", -102),  # goodwill
        ("credit_note", -41),  # 2 kWh is 2.14: what is left of the surplus
    ]
