"""manage.py ledger check | balances | export | reverse"""

from __future__ import annotations

import csv
import io
from argparse import ArgumentParser
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from django.core.management.base import CommandError

from billing import books, ledger
from billing.models import Entry, Posting
from stations.console import OperatorCommand, moment

COLUMNS = ("occurred", "entry", "reason", "object", "account", "owner", "currency", "amount_minor")


class Command(OperatorCommand):
    """The books: do they add up, what stands on each account, what happened."""

    help = "The books: check them, their balances, an export, a reversal."

    def verbs(self, add: Callable[..., ArgumentParser]) -> None:
        """The four verbs."""
        check = add(
            "check", self.check_books, help="everything that does not add up; exit 1 if any"
        )
        check.add_argument(
            "--read", action="store_true", help="read the provider's statement first"
        )
        add("balances", self.balances, help="every account").add_argument("--at", type=moment)
        export = add("export", self.export, help="postings as CSV")
        export.add_argument("--since", type=moment)
        export.add_argument("--until", type=moment)
        reverse = add("reverse", self.reverse, help="undo an entry by a new one")
        reverse.add_argument("key", help="the entry's idempotency key")
        reverse.add_argument("--reason", required=True)

    def check_books(self, read: bool) -> None:
        """Print the findings."""
        found = books.run() if read else books.check()
        if found or self.as_json:
            self.show([asdict(one) for one in found])
        else:
            self.stdout.write("Everything adds up.")
        if found:
            raise CommandError(f"{len(found)} findings.")

    def balances(self, at: Any) -> None:
        """Print the trial balance."""
        self.show(ledger.trial_balance(at))

    def export(self, since: Any, until: Any) -> None:
        """Print postings in the order they occurred."""
        rows = Posting.objects.select_related("entry", "account").order_by(
            "entry__occurred_at", "pk"
        )
        if since is not None:
            rows = rows.filter(entry__occurred_at__gte=since)
        if until is not None:
            rows = rows.filter(entry__occurred_at__lt=until)
        found = [dict(zip(COLUMNS, _row(one), strict=True)) for one in rows.iterator()]
        if self.as_json:
            self.show(found)
            return
        out = io.StringIO()
        writer = csv.DictWriter(out, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(found)
        self.stdout.write(out.getvalue(), ending="")

    def reverse(self, key: str, reason: str) -> None:
        """Post the opposite of an entry."""
        entry = Entry.objects.filter(idempotency_key=key).first()
        if entry is None:
            raise CommandError(f"There is no entry {key!r}; see: manage.py ledger export.")
        undone = ledger.reverse(entry, reason[:60])
        self.show({"entry": undone.idempotency_key, "reverses": key})


def _row(posting: Posting) -> tuple[Any, ...]:
    entry, account = posting.entry, posting.account
    about = f"{entry.object_type} {entry.object_id}".strip()
    return (
        entry.occurred_at.isoformat(),
        entry.idempotency_key,
        entry.reason,
        about,
        account.kind,
        account.owner,
        account.currency,
        posting.amount_minor,
    )
