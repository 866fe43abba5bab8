"""Prepaid balances: paid in, spent, given back, redeemed; never below zero, by whatever race."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.db import IntegrityError, connection, transaction
from django.test import Client
from django.utils import timezone

from billing import books, documents, ledger, settlement, wallet
from billing.models import Charge, Entry, Voucher, Wallet
from billing.models.ledger import AccountKind as Kind
from monitoring.models import Session
from stations import journal
from stations.models import User
from tests import make

pytestmark = pytest.mark.django_db


def bill(driver: User) -> Charge:
    charge = settlement.settle(make.session(make.station(), token=make.token(user=driver)).pk)
    assert charge is not None
    return charge


def test_a_bill_is_paid_from_the_balance_and_says_so() -> None:
    make.tariff()
    make.seller()
    driver = make.user()
    assert wallet.top_up(driver, 1000, "EUR", key="transfer:1")
    assert not wallet.top_up(driver, 1000, "EUR", key="transfer:1")
    charge = bill(driver)
    assert (charge.state, charge.paid_minor) == ("invoiced", 595)
    assert wallet.balance_minor(driver, "EUR") == 405
    assert ledger.balance(kind=Kind.RECEIVABLE) == {"EUR": 0}
    assert charge.invoice is not None
    assert "from your balance" in documents.html_of(charge.invoice)
    settlement.settle(charge.session_id)
    assert wallet.balance_minor(driver, "EUR") == 405
    assert bill(driver).paid_minor == 0  # 4.05 does not cover it: it stays on account
    assert books.check() == []


def test_what_a_correction_gives_back_returns_to_the_balance() -> None:
    make.tariff()
    make.seller()
    driver = make.user()
    wallet.top_up(driver, 1000, "EUR", key="transfer:1")
    charge = bill(driver)
    Session.objects.filter(pk=charge.session_id).update(energy_wh=8_000)
    for _ in range(2):
        with transaction.atomic():
            journal.record("session.corrected", charge.session, energy_wh=8_000)
        journal.catch_up()
    assert wallet.balance_minor(driver, "EUR") == 1000 - 500
    assert ledger.balance(kind=Kind.RECEIVABLE) == {"EUR": 0}
    assert books.unbalanced() == []
    assert wallet.differences() == []


def test_a_balance_is_paid_out_as_far_as_it_goes() -> None:
    driver = make.user()
    wallet.top_up(driver, 1000, "EUR", key="transfer:1")
    with pytest.raises(wallet.NotPossible, match="too low"):
        wallet.pay_out(driver, 1001, "EUR", key="back:1")
    wallet.pay_out(driver, 1000, "EUR", key="back:2")
    assert ledger.balance(kind=Kind.BANK) == {"EUR": 0}
    with pytest.raises(IntegrityError, match="wallet_not_negative"), transaction.atomic():
        Wallet.objects.update(balance_minor=-1)


@pytest.mark.django_db(transaction=True)
def test_two_connections_cannot_spend_the_same_money() -> None:
    driver = make.user()
    wallet.top_up(driver, 1000, "EUR", key="transfer:1")

    def spend(n: int) -> bool:
        try:
            return wallet.pay_out(driver, 300, "EUR", key=f"back:{n}")
        except wallet.NotPossible:
            return False
        finally:
            connection.close()

    with ThreadPoolExecutor(8) as pool:
        done = list(pool.map(spend, range(12)))
    assert (done.count(True), wallet.balance_minor(driver, "EUR")) == (3, 100)
    assert Entry.objects.count() == 1 + 3
    assert wallet.differences() == []


@pytest.mark.django_db(transaction=True)
def test_a_code_is_redeemed_by_one_driver_once() -> None:
    Voucher.objects.create(code="WELCOME", amount_minor=500)
    drivers = [make.user() for _ in range(6)]

    def redeem(driver: User) -> bool:
        try:
            wallet.redeem(driver, " welcome ")
        except wallet.NotPossible:
            return False
        finally:
            connection.close()
        return True

    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(redeem, drivers)).count(True) == 1
    assert sum(Wallet.objects.values_list("balance_minor", flat=True)) == 500
    assert ledger.balance(kind=Kind.WRITE_OFF, owner="vouchers") == {"EUR": 500}


def test_a_driver_redeems_a_code_on_the_account_page(client: Client) -> None:
    driver = make.user()
    client.force_login(driver)
    Voucher.objects.create(code="SUN", amount_minor=500)
    Voucher.objects.create(
        code="OLD", amount_minor=500, valid_until=timezone.now() - timedelta(days=1)
    )
    page = client.post("/account/redeem", {"code": "sun"}, follow=True).content.decode()
    assert "€5.00 added to your balance." in page
    page = client.post("/account/redeem", {"code": "OLD"}, follow=True).content.decode()
    assert "This code is not valid, or it has been used." in page
    for _ in range(10):
        page = client.post("/account/redeem", {"code": "X"}, follow=True).content.decode()
    assert "Too many tries." in page
    assert wallet.balance_minor(driver, "EUR") == 500


def test_transfers_are_booked_from_a_terminal() -> None:
    driver = make.user()
    call_command("wallets", "top-up", driver.email, "25.00", "--reference", "B1", stdout=StringIO())
    out = StringIO()
    call_command("wallets", "list", stdout=out)
    assert "25.00" in out.getvalue()
    with pytest.raises(CommandError, match="too low"):
        call_command("wallets", "pay-out", driver.email, "26", "--reference", "B2")
