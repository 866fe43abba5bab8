"""manage.py wallets list | top-up | pay-out"""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Callable
from decimal import Decimal, InvalidOperation

from django.conf import settings
from django.core.management.base import CommandError

from billing import wallet
from billing.models import Wallet
from billing.money import from_minor, to_minor
from stations.console import OperatorCommand
from stations.models import User


class Command(OperatorCommand):
    """What drivers have paid in advance."""

    help = "Prepaid balances: list them, book what was paid in by transfer or given back."

    def verbs(self, add: Callable[..., ArgumentParser]) -> None:
        """The three verbs."""
        add("list", self.list, help="every balance")
        for verb, run in (("top-up", self.top_up), ("pay-out", self.pay_out)):
            parser = add(verb, run, help="book a bank transfer")
            parser.add_argument("email")
            parser.add_argument("amount", help="in units, e.g. 25.00")
            parser.add_argument("--currency", default=settings.DEFAULT_CURRENCY)
            parser.add_argument(
                "--reference",
                required=True,
                help="of the transfer: the same one is booked once",
            )

    def list(self) -> None:
        """Print balances."""
        self.show(
            [
                {
                    "driver": row.driver.email,
                    "currency": row.currency,
                    "balance": str(from_minor(row.balance_minor, row.currency)),
                }
                for row in Wallet.objects.select_related("driver")
            ]
        )

    def top_up(self, email: str, amount: str, currency: str, reference: str) -> None:
        """Book money that reached the bank."""
        self._book(wallet.top_up, "top-up", email, amount, currency, reference)

    def pay_out(self, email: str, amount: str, currency: str, reference: str) -> None:
        """Book money that was sent back."""
        self._book(wallet.pay_out, "pay-out", email, amount, currency, reference)

    def _book(
        self,
        run: Callable[..., bool],
        what: str,
        email: str,
        amount: str,
        currency: str,
        reference: str,
    ) -> None:
        driver = User.objects.filter(email__iexact=email).first()
        if driver is None:
            raise CommandError(f"There is no driver {email}.")
        try:
            minor = to_minor(Decimal(amount), currency)
            new = run(driver, minor, currency, key=f"{what}:{reference}"[:120])
        except InvalidOperation:
            raise CommandError(f"{amount} is no amount: write it as 25.00.") from None
        except wallet.NotPossible as error:
            raise CommandError(str(error)) from None
        balance = from_minor(wallet.balance_minor(driver, currency), currency)
        self.show({"driver": driver.email, "balance": str(balance), "booked": new})
