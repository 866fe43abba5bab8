"""Sessions priced a second on one core: the engine alone, in memory, as `settle` calls it.

    python -m bench.pricing [--sessions 100000] [--periods 20]

Every session has its own times, energies and a pause; the tariffs ask everything the engine can
answer: time of day, weekdays, kWh tiers, duration, power, parking, a step and a price limit.
"""

from __future__ import annotations

import argparse
import datetime as dt
import random
import time
from collections.abc import Iterator
from fractions import Fraction
from itertools import batched
from typing import Any
from zoneinfo import ZoneInfo

from billing.ocpi import read_tariff
from billing.periods import Period, Usage
from billing.pricing import Plan, price
from billing.totals import total_up

from .report import conditions, table, write

GOAL_S = 60.0  # for 100,000 sessions of 20 periods
CHUNK = 2_000  # sessions in memory at once


def _component(kind: str, amount: float, step: int = 1) -> dict[str, Any]:
    return {"type": kind, "price": amount, "vat": 19, "step_size": step}


TARIFFS: dict[str, dict[str, Any]] = {
    "kWh": {"currency": "EUR", "elements": [{"price_components": [_component("ENERGY", 0.49)]}]},
    "kWh, occupancy after 4 h, cap": {
        "currency": "EUR",
        "max_price": {"before_taxes": 40},
        "elements": [
            {
                "price_components": [_component("PARKING_TIME", 6.0, 60)],
                "restrictions": {"min_duration": 14400, "start_time": "08:00", "end_time": "22:00"},
            },
            {"price_components": [_component("ENERGY", 0.49), _component("FLAT", 0.5)]},
        ],
    },
    "day and night, weekdays, tiers, power": {
        "currency": "EUR",
        "elements": [
            {
                "price_components": [_component("ENERGY", 0.29)],
                "restrictions": {"start_time": "22:00", "end_time": "06:00"},
            },
            {
                "price_components": [_component("ENERGY", 0.39), _component("TIME", 0.6)],
                "restrictions": {"day_of_week": ["SATURDAY", "SUNDAY"], "max_kwh": 20},
            },
            {
                "price_components": [_component("ENERGY", 0.59)],
                "restrictions": {"min_power": 16},
            },
            {"price_components": [_component("ENERGY", 0.49), _component("PARKING_TIME", 3.0)]},
        ],
    },
}


def sessions(count: int, periods: int, seed: int = 7) -> Iterator[Usage]:
    """`count` sessions of `periods` periods of about a quarter of an hour, the last two parked."""
    rng = random.Random(seed)
    zone = ZoneInfo("Europe/Berlin")
    for _ in range(count):
        at = dt.datetime(2026, 1, 1, tzinfo=dt.UTC) + dt.timedelta(seconds=rng.randrange(31536000))
        first, found = at, []
        for n in range(periods):
            seconds = rng.randrange(600, 1200)
            charging = n < periods - 2
            wh = rng.randrange(500, 5500) if charging else 0
            power = Fraction(wh * 3600, seconds * 1000)
            found.append(
                Period(
                    at,
                    at := at + dt.timedelta(seconds=seconds),
                    wh,
                    charging_s=seconds if charging else 0,
                    parking_s=0 if charging else seconds,
                    min_kw=power,
                    max_kw=power,
                )
            )
        yield Usage(tuple(found), zone, started=first)


def seconds_for(plan: Plan, usages: list[Usage]) -> float:
    """CPU seconds to price `usages` and to round each bill to money."""
    begin = time.process_time()
    for usage in usages:
        total_up(plan, price(plan, usage))
    return time.process_time() - begin


def main() -> None:
    """Measure each tariff and write the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--sessions", type=int, default=100_000)
    parser.add_argument("--periods", type=int, default=20)
    options = parser.parse_args()
    rows = []
    for name, tariff in TARIFFS.items():
        plan, usages = read_tariff(tariff), sessions(options.sessions, options.periods)
        took = sum(seconds_for(plan, list(chunk)) for chunk in batched(usages, CHUNK, strict=False))
        rows.append([name, f"{took:.1f}", f"{options.sessions / took:,.0f}"])
    write(
        "pricing",
        f"{conditions()}\n\n{options.sessions:,} sessions of {options.periods} periods, one core; "
        f"our goal is {GOAL_S:.0f} s for 100,000 of 20.\n\n"
        + table(["tariff", "CPU s", "sessions a second"], rows),
    )


if __name__ == "__main__":
    main()
