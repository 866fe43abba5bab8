"""Prepaid balances: paid in, redeemed, spent on bills, given back. Never below zero.

Each movement is one transaction: the wallet's row changes by a conditional update and the ledger
gets its entry, whose key makes it one. A balance is not the payment of a supply yet: VAT is due on
the bill it pays (a voucher for many purposes).
"""

from __future__ import annotations

from django.db import transaction
from django.db.models import F, Q
from django.utils import timezone
from django.utils.translation import gettext as _

from stations import journal
from stations.models import User

from . import ledger
from .models import Charge, Entry, Voucher, Wallet

Kind = ledger.Kind


class NotPossible(ValueError):
    """The balance does not cover it, or the code is not good; the text says which."""


def balance_minor(driver: User, currency: str) -> int:
    """What a driver has, in minor units."""
    row = Wallet.objects.filter(driver=driver, currency=currency).first()
    return 0 if row is None else row.balance_minor


def top_up(driver: User, amount_minor: int, currency: str, *, key: str) -> bool:
    """Add money that reached the bank; False when `key` was booked before."""
    return _add(driver, amount_minor, currency, key, "wallet.topped_up", (Kind.BANK, "wallets"))


def pay_out(driver: User, amount_minor: int, currency: str, *, key: str) -> bool:
    """Give balance back to the driver's bank account. Raises NotPossible for more than there is."""
    rows: list[ledger.Row] = [(Kind.BANK, "wallets", -amount_minor)]
    return _take(driver, amount_minor, currency, key, "wallet.paid_out", rows)


def redeem(driver: User, code: str) -> Voucher:
    """Add a voucher's amount; each code once, whoever is first. Raises NotPossible."""
    now = timezone.now()
    good = Q(valid_until__isnull=True) | Q(valid_until__gt=now)
    with transaction.atomic():
        taken = Voucher.objects.filter(good, code__iexact=code.strip(), redeemed_by=None).update(
            redeemed_by=driver, redeemed_at=now
        )
        if not taken:
            raise NotPossible(_("This code is not valid, or it has been used."))
        voucher = Voucher.objects.get(code__iexact=code.strip())
        _add(
            driver,
            voucher.amount_minor,
            voucher.currency,
            f"voucher:{voucher.pk}",
            "voucher.redeemed",
            (Kind.WRITE_OFF, "vouchers"),
        )
    return voucher


def pay(charge: Charge) -> bool:
    """Pay a driver's bill from the balance, all of it or nothing; in the caller's transaction."""
    driver, amount = charge.driver, charge.gross_minor or 0
    if driver is None or amount <= 0 or charge.payment_id is not None:
        return False
    rows: list[ledger.Row] = [(Kind.RECEIVABLE, ledger.customer_of(charge), -amount)]
    try:
        return _take(driver, amount, charge.currency, f"spend:{charge.pk}", "wallet.spent", rows)
    except NotPossible:
        return False


def put_back(charge: Charge) -> None:
    """What a bill paid from the balance was too much, after a correction; once per amount."""
    surplus = charge.paid_minor - (charge.gross_minor or 0)
    if charge.driver is None or charge.payment_id is not None or surplus <= 0:
        return
    with transaction.atomic():
        locked = Charge.objects.select_for_update().get(pk=charge.pk)
        if locked.paid_minor != charge.paid_minor:
            return
        key = f"unspend:{charge.pk}:{charge.paid_minor}"
        owner = (Kind.RECEIVABLE, ledger.customer_of(charge))
        _add(charge.driver, surplus, charge.currency, key, "wallet.given_back", owner)
        Charge.objects.filter(pk=charge.pk).update(paid_minor=F("paid_minor") - surplus)


def _add(
    driver: User,
    amount_minor: int,
    currency: str,
    key: str,
    reason: str,
    debit: tuple[ledger.Kind, str],
) -> bool:
    if amount_minor <= 0:
        raise NotPossible(_("The amount must be more than nothing."))
    with transaction.atomic():
        Wallet.objects.get_or_create(driver=driver, currency=currency)
        wallet = Wallet.objects.select_for_update().get(driver=driver, currency=currency)
        if Entry.objects.filter(idempotency_key=key).exists():
            return False
        Wallet.objects.filter(pk=wallet.pk).update(balance_minor=F("balance_minor") + amount_minor)
        rows: list[ledger.Row] = [(*debit, amount_minor), _side(driver, -amount_minor)]
        ledger.post(key, reason, rows, currency, wallet)
        journal.record(reason, wallet, amount_minor=amount_minor, currency=currency)
    return True


def _take(
    driver: User,
    amount_minor: int,
    currency: str,
    key: str,
    reason: str,
    credit: list[ledger.Row],
) -> bool:
    if amount_minor <= 0:
        raise NotPossible(_("The amount must be more than nothing."))
    with transaction.atomic():
        rows = Wallet.objects.select_for_update().filter(driver=driver, currency=currency)
        wallet = rows.first()
        if wallet is not None and Entry.objects.filter(idempotency_key=key).exists():
            return False
        taken = wallet is not None and Wallet.objects.filter(
            pk=wallet.pk, balance_minor__gte=amount_minor
        ).update(balance_minor=F("balance_minor") - amount_minor)
        if wallet is None or not taken:
            raise NotPossible(_("Your balance is too low."))
        ledger.post(key, reason, [_side(driver, amount_minor), *credit], currency, wallet)
        journal.record(reason, wallet, amount_minor=-amount_minor, currency=currency)
    return True


def _side(driver: User, amount_minor: int) -> ledger.Row:
    return (Kind.WALLET, f"driver:{driver.pk}", amount_minor)


def differences() -> list[Wallet]:
    """Wallets whose balance is not what the ledger says; none, ever."""
    owed = {
        (row["owner"], row["currency"]): -row["balance_minor"]
        for row in ledger.trial_balance()
        if row["account"] == Kind.WALLET
    }
    return [
        wallet
        for wallet in Wallet.objects.select_related("driver")
        if owed.get((f"driver:{wallet.driver_id}", wallet.currency), 0) != wallet.balance_minor
    ]
