"""What past sessions would have cost with another tariff: nothing is written.

Each priced charge keeps its usage, so the engine can be run again with any tariff.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field

from django.db.models import QuerySet
from django.utils import timezone

from .models import Charge
from .pricing import Plan, price
from .totals import total_up
from .usage import from_json

MOST = 2_000  # sessions; a simulation is looked at while it is awaited


@dataclass(slots=True)
class Row:
    """One session: what it cost, what it would have; minor units with taxes."""

    charge: Charge
    was_minor: int
    would_minor: int

    @property
    def difference_minor(self) -> int:
        """Above zero: dearer with the other tariff."""
        return self.would_minor - self.was_minor


@dataclass(slots=True)
class Simulation:
    """All of them, and their sums. `skipped`: priced in another currency."""

    currency: str
    rows: list[Row] = field(default_factory=list)
    skipped: int = 0

    @property
    def was_minor(self) -> int:
        """What they cost."""
        return sum(row.was_minor for row in self.rows)

    @property
    def would_minor(self) -> int:
        """What they would have cost."""
        return sum(row.would_minor for row in self.rows)

    @property
    def dearer(self) -> int:
        """Sessions that would have cost more."""
        return sum(row.difference_minor > 0 for row in self.rows)


def past(days: int, key: str = "") -> QuerySet[Charge]:
    """Charges priced in the last `days`, of one tariff where `key` names it; newest first."""
    rows = Charge.objects.filter(
        usage__isnull=False, priced_at__gte=timezone.now() - dt.timedelta(days=days)
    )
    if key:
        rows = rows.filter(tariff__key=key)
    return rows.select_related("session__station", "payment").order_by("-priced_at")


def would_have_cost(plan: Plan, charges: QuerySet[Charge]) -> Simulation:
    """Price the usage of each charge with `plan`; what was reserved caps both alike."""
    result = Simulation(plan.currency)
    for charge in charges[:MOST]:
        if charge.currency != plan.currency or charge.usage is None:
            result.skipped += 1
            continue
        most = None if charge.payment is None else charge.payment.hold_minor
        totals = total_up(plan, price(plan, from_json(charge.usage)), most)
        result.rows.append(Row(charge, charge.gross_minor or 0, totals.gross_minor))
    return result
