"""The tariff desk: what the lint says where a tariff applies, and what past sessions would cost."""

from __future__ import annotations

from typing import Any

from django.db.models import Max, Q
from django.http import QueryDict

from billing import simulation
from billing.documents import Words
from billing.lint import Remark, lint
from billing.models import Tariff, TariffAssignment
from billing.ocpi import read_tariff
from stations.models import Connector, Site

TONES = {"error": "red", "warning": "amber", "note": "blue"}
DAYS = 30
SHOWN = 100


def remarks(tariff: Tariff) -> list[Remark]:
    """The lint's remarks, for the strongest connector, the countries and zone of its places."""
    assigned = TariffAssignment.objects.filter(key=tariff.key)
    everywhere = assigned.filter(Q(is_default=True) | Q(group__isnull=False)).exists()
    here = Q()
    if not everywhere:
        here = Q(station__in=assigned.values("station")) | Q(
            station__site__in=assigned.values("site")
        )
    connectors = Connector.objects.filter(here, station__public=True)
    power_w = connectors.aggregate(most=Max("max_power_w"))["most"] or 0
    sites = Site.objects.filter(pk__in=Connector.objects.filter(here).values("station__site"))
    places = list(sites.values_list("country", "time_zone")[:200])
    return lint(
        read_tariff(tariff.ocpi, strict=False),
        power_kw=power_w / 1000,
        eichrecht=any(country == "DE" for country, _zone in places),
        zone=places[0][1] if places else "UTC",
    )


def simulated(tariff: Tariff, asked: QueryDict) -> dict[str, Any]:
    """The page of one simulation: `days` back, all sessions or those of this tariff (`own`)."""
    given = str(asked.get("days", ""))
    days = min(int(given), 365) if given.isdigit() else DAYS
    own = asked.get("own") == "1"
    charges = simulation.past(days, tariff.key if own else "")
    result = simulation.would_have_cost(read_tariff(tariff.ocpi, strict=False), charges)
    say = Words("en", result.currency)
    rows = sorted(result.rows, key=lambda row: -abs(row.difference_minor))
    return {
        "days": days,
        "own": own,
        "count": len(result.rows),
        "skipped": result.skipped,
        "dearer": result.dearer,
        "cheaper": sum(row.difference_minor < 0 for row in result.rows),
        "was": say.money(result.was_minor),
        "would": say.money(result.would_minor),
        "difference": say.money(result.would_minor - result.was_minor),
        "rows": [
            (
                row.charge,
                say.money(row.was_minor),
                say.money(row.would_minor),
                say.money(row.difference_minor),
            )
            for row in rows[:SHOWN]
        ],
        "more": max(0, len(rows) - SHOWN),
    }
