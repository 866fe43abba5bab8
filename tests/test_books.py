"""The books: reversal, the provider's statement, and that every session is settled exactly once."""

import json
from datetime import timedelta
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.db import IntegrityError, connection, transaction
from django.utils import timezone

from billing import books, ledger, payments, refunds, settlement, statements, tariffs
from billing.models import Account, Charge, Entry, Movement, Posting
from billing.models.ledger import AccountKind as Kind
from billing.sandbox import control
from billing.sandbox.engine import Sandbox
from monitoring.models import Incident, Session
from stations import journal
from tests import make, paying

pytestmark = pytest.mark.django_db(transaction=True)


def billed() -> Charge:
    make.tariff()
    make.seller()
    session = make.session(
        make.station(),
        token=make.token(user=make.user()),
        closed_at=timezone.now() - timedelta(hours=3),
    )
    charge = settlement.settle(session.pk)
    assert charge is not None
    return charge


def paid(box: Sandbox) -> Charge:
    """A card payment of 5.95 that went all the way."""
    make.tariff()
    make.seller()
    at = paying.connector()
    shown = tariffs.snapshot_for(at.station, timezone.now())
    assert shown is not None
    begun = paying.begin(at, tariff_snapshot=shown[1])
    control.pay(box, paying.intent_of(begun.payment))
    payments.returned(begun.payment)
    session = paying.session_of(begun.payment)
    long_ago = timezone.now() - timedelta(hours=3)
    Session.objects.filter(pk=session.pk).update(
        state="closed",
        started_at=long_ago - timedelta(hours=1),
        started_received_at=long_ago - timedelta(hours=1),
        stopped_at=long_ago,
        closed_at=long_ago,
    )
    charge = settlement.settle(session.pk)
    assert charge is not None
    assert charge.state == Charge.State.INVOICED
    return charge


# --- entries --------------------------------------------------------------------------------------


def test_a_reversal_undoes_an_entry_once_by_a_new_one() -> None:
    charge = billed()
    entry = Entry.objects.get()
    undone = ledger.reverse(entry, "booked twice")
    assert ledger.reverse(entry, "again").pk == undone.pk
    assert undone.reverses == entry
    assert {row["balance_minor"] for row in ledger.trial_balance()} == {0}
    assert charge.invoice is not None


def test_balances_can_be_asked_for_a_day_in_the_past() -> None:
    billed()
    assert ledger.trial_balance(timezone.now() - timedelta(days=1)) == []
    now = ledger.trial_balance()
    assert sum(row["balance_minor"] for row in now) == 0
    assert {row["account"]: row["balance_minor"] for row in now if row["account"] != "revenue"} == {
        "receivable": 595,
        "vat": -95,
    }


def test_an_entry_that_does_not_sum_to_zero_is_refused_by_postgresql_and_found_elsewhere() -> None:
    def crooked() -> None:
        with transaction.atomic():
            entry = Entry.objects.create(idempotency_key="crooked", reason="test")
            account = Account.objects.create(kind=Kind.BANK, currency="EUR")
            Posting.objects.create(entry=entry, account=account, amount_minor=1)

    if connection.vendor == "postgresql":  # by a deferred trigger
        with pytest.raises(IntegrityError, match="do not sum to zero"):
            crooked()
    else:
        crooked()
        assert [one.kind for one in books.unbalanced()] == ["unbalanced"]


# --- completeness ---------------------------------------------------------------------------------


def test_a_closed_session_is_charged_waived_or_held_and_nothing_else() -> None:
    charge = billed()
    assert books.check() == []
    lost = make.session(make.station(), closed_at=timezone.now() - timedelta(hours=3))
    found = books.check()
    assert [(one.kind, one.about) for one in found] == [("unsettled", f"session-{lost.pk}")]
    settlement.settle(lost.pk)  # its token is nobody's: held
    assert books.check() == []
    Charge.objects.filter(pk=charge.pk).update(state="waived")
    assert [one.kind for one in books.check()] == ["twice"]


def test_a_house_accounts_session_may_wait_for_its_month() -> None:
    make.tariff()
    token = make.token()
    make.house_account(token)
    session = make.session(
        make.station(), token=token, closed_at=timezone.now() - timedelta(hours=3)
    )
    settlement.settle(session.pk)
    assert books.check() == []


# --- the provider's statement ---------------------------------------------------------------------


def test_fees_and_payouts_are_booked_once_and_the_clearing_account_agrees(box: Sandbox) -> None:
    charge = paid(box)
    assert charge.payment is not None
    refunds.request(charge.payment, 95, "goodwill")
    journal.catch_up()
    control.pay_out(box, 400)
    assert books.run() == []
    assert books.run() == []
    assert sorted(Movement.objects.values_list("kind", flat=True)) == ["charge", "payout", "refund"]
    assert ledger.balance(kind=Kind.PSP_FEES) == {"EUR": 34}  # 1.5 % of 5.95 rounded up, and 0.25
    assert ledger.balance(kind=Kind.BANK) == {"EUR": 400}
    assert books.clearing("stripe") == {"EUR": (66, 66)}  # 595 - 95 - 34 - 400
    assert ledger.balance(kind=Kind.RECEIVABLE) == {"EUR": 0}


@pytest.mark.parametrize(("won", "owed", "written_off"), [(True, 0, {}), (False, 0, {"EUR": 595})])
def test_a_dispute_takes_the_money_back_and_ends_in_the_books(
    box: Sandbox, won: bool, owed: int, written_off: dict[str, int]
) -> None:
    charge = paid(box)
    assert charge.payment is not None
    dispute = control.dispute(box, paying.intent_of(charge.payment))
    paying.deliver(box)
    books.run()
    assert ledger.balance(kind=Kind.RECEIVABLE) == {"EUR": 595}
    control.close_dispute(box, dispute["id"], won)
    paying.deliver(box)
    books.run()
    assert ledger.balance(kind=Kind.RECEIVABLE) == {"EUR": owed}
    assert ledger.balance(kind=Kind.WRITE_OFF) == written_off
    ours, theirs = books.clearing("stripe")["EUR"]
    assert ours == theirs
    assert books.check() == []


def test_money_that_our_books_do_not_know_is_found_and_an_incident_until_it_is_explained(
    box: Sandbox,
) -> None:
    charge = paid(box)
    payment = charge.payment
    assert payment is not None
    control.refund_in_dashboard(box, paying.intent_of(payment), 100)
    statements.take(timezone.now())
    (found,) = books.check()
    assert (found.kind, found.text) == ("unmatched", "A refund that we do not know.")
    books.run()
    assert Incident.objects.filter(rule="books", resolved_at=None).exists()
    paying.deliver(box)  # the webhook at last: the refund becomes a row of ours
    assert books.run() == []
    assert not Incident.objects.filter(rule="books", resolved_at=None).exists()


# --- the command ----------------------------------------------------------------------------------


def test_the_command_checks_lists_exports_and_reverses() -> None:
    charge = billed()
    out = StringIO()
    call_command("ledger", "check", stdout=out)
    assert out.getvalue().strip() == "Everything adds up."
    out = StringIO()
    call_command("ledger", "balances", "--json", stdout=out)
    assert sum(row["balance_minor"] for row in json.loads(out.getvalue())) == 0
    out = StringIO()
    call_command("ledger", "export", stdout=out)
    assert out.getvalue().splitlines()[0].startswith("occurred,entry,reason")
    assert len(out.getvalue().splitlines()) == 1 + Posting.objects.count()
    assert charge.invoice is not None
    key = f"invoice:{charge.invoice.number}"
    call_command("ledger", "reverse", key, "--reason", "test", stdout=StringIO())
    assert ledger.balance(kind=Kind.RECEIVABLE) == {"EUR": 0}
    with pytest.raises(CommandError, match="There is no entry"):
        call_command("ledger", "reverse", "nothing", "--reason", "x")
