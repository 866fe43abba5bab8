"""What a driver reads at the station: its tariff (OCPP 2.1 I07) and what a session costs (I02).

Only stations that say they can show it are told: 2.x by `TariffCostCtrlr.Enabled[Tariff|Cost]`, 1.6
by `CustomDisplayCostAndPrice` (OCA application note on California pricing). Ticks compare what was
told last with what is true, so a missed tick costs nothing. A tariff that OCPP cannot say exactly
is not told at all: a wrong price on a display is worse than none.
"""

from __future__ import annotations

import copy
from datetime import timedelta
from fractions import Fraction
from typing import Any, Final

from django.db import transaction
from django.utils import timezone

from billing.models import Charge, Tariff
from billing.models.tariffs import TariffQuerySet
from billing.money import from_minor
from billing.ocpi import read_tariff
from billing.pricing import Component, Dimension, Plan, Restrictions, price
from billing.totals import total_up
from billing.usage import usage_of
from monitoring.models import Session
from stations import commands, journal
from stations.models import Command, Entry, Holding, Station, Variable

PLACES: Final = 6  # decimals a station is told; a price that needs more is not exact
SESSIONS_A_TICK: Final = 200
FINAL_WITHIN: Final = timedelta(minutes=15)
OPEN: Final = (Command.Status.QUEUED, Command.Status.SENT)
# dimension → (part of TariffType, its price's name, ours per theirs)
PARTS: Final = {
    Dimension.ENERGY: ("energy", "priceKwh", 1),
    Dimension.TIME: ("chargingTime", "priceMinute", 60),
    Dimension.PARKING_TIME: ("idleTime", "priceMinute", 60),
    Dimension.FLAT: ("fixedFee", "priceFixed", 1),
}


class NotExact(Exception):
    """OCPP's tariff cannot say this one exactly; the text says why."""


# --- tariffs --------------------------------------------------------------------------------------


def tariff_type(tariff: Tariff) -> dict[str, Any]:
    """Return a tariff as OCPP 2.1's TariffType. Raises NotExact.

    Exact is: one price a dimension at all times, without steps, before tax (OCPP adds tax), and
    amounts of at most six decimals.
    """
    plan = read_tariff(tariff.ocpi, strict=False)
    told: dict[str, Any] = {"tariffId": f"{tariff.key}-{tariff.version}"[:60]}
    told["currency"] = plan.currency
    for element in plan.elements:
        if element.restrictions != Restrictions():
            raise NotExact("A price holds only at times or under conditions.")
        for dimension, component in element.components.items():
            part, name, divisor = PARTS[dimension]
            if part in told:
                continue  # the first element in order sets the price of a dimension
            told[part] = _part(plan, component, name, divisor)
    for name, before, after in (
        ("minCost", plan.min_before, plan.min_after),
        ("maxCost", plan.max_before, plan.max_after),
    ):
        limits = {"exclTax": _exact(before), "inclTax": _exact(after)}
        if given := {key: value for key, value in limits.items() if value is not None}:
            told[name] = given
    return told


def _part(plan: Plan, component: Component, name: str, divisor: int) -> dict[str, Any]:
    if component.step > 1 and component.dimension is not Dimension.FLAT:
        raise NotExact(f"{component.dimension} is billed in steps of {component.step}.")
    if plan.tax == "YES" and component.vat:
        raise NotExact("Prices include tax; OCPP adds it to prices before tax.")
    part: dict[str, Any] = {"prices": [{name: _exact(component.price / divisor)}]}
    if component.vat is not None and plan.tax == "NO":
        part["taxRates"] = [{"type": "VAT", "tax": _exact(component.vat * 100)}]
    return part


def _exact(amount: Fraction | None) -> float | None:
    if amount is None:
        return None
    if (amount * 10**PLACES).denominator != 1:
        raise NotExact(f"A price of {float(amount):.8f} has more than {PLACES} decimals.")
    return float(amount)


def showing(what: str) -> list[Station]:
    """Return the connected stations that show `what` ("Tariff" or "Cost") to drivers."""
    enabled = Variable.objects.filter(
        attribute="Actual", value__iexact="true", station__connected=True,
        station__state=Station.State.ACCEPTED,
    )  # fmt: skip
    rows = enabled.filter(component="TariffCostCtrlr", name="Enabled", instance=what)
    if what == "Cost":
        rows |= enabled.filter(component="", name="CustomDisplayCostAndPrice")
    found = Station.objects.filter(pk__in=rows.values("station"))
    return list((found if what == "Cost" else found.filter(version="2.1")).select_related("site"))


def tell_tariffs() -> int:
    """Tell each 2.1 station that shows tariffs the one in force, where it differs; return how many.

    Where the tariff cannot be said exactly, one it was told earlier is taken away.
    """
    return sum(_tell_tariff(station) for station in showing("Tariff"))


def _tell_tariff(station: Station) -> bool:
    rows: TariffQuerySet = Tariff.objects.all()
    tariff = rows.in_force(station, timezone.now())
    held = Holding.objects.filter(
        station=station, kind=Holding.Kind.TARIFF, key="default-0"
    ).first()
    wanted, why = None, ""
    if tariff is not None:
        try:
            wanted = tariff_type(tariff)
        except NotExact as error:
            why = str(error)
    if why:
        _say_why(station, tariff, why)
    known = held.data.get("tariff") if held else None
    if wanted == known or (wanted is None and held is None):
        return False
    name = "set_default_tariff" if wanted else "clear_tariffs"
    args: dict[str, Any] = (
        {"tariff": wanted} if wanted else {"tariffs": [held.label if held else ""]}
    )
    subject = f"tariff-{tariff.pk if tariff else 0}"
    if _ordered(station, name, subject, within=timedelta(hours=1)):
        return False  # under way, or refused not long ago
    commands.send(station, name, subject=subject, **args)
    return True


def _say_why(station: Station, tariff: Tariff | None, why: str) -> None:
    """Record once a tariff why a station is not told it."""
    key = tariff.pk if tariff else 0
    last = Entry.objects.filter(station=station, kind="tariff.not_told").order_by("-id").first()
    if last is None or last.data.get("tariff") != key:
        with transaction.atomic():
            journal.record("tariff.not_told", station, tariff=key, why=why)


def _ordered(station: Station, name: str, subject: str, *, within: timedelta) -> bool:
    rows = Command.objects.filter(station=station, name=name, subject=subject)
    return rows.filter(created_at__gte=timezone.now() - within).exists()


# --- cost -----------------------------------------------------------------------------------------


def tell_costs() -> int:
    """Tell stations that show it what their sessions cost so far, and finally; return how many."""
    stations = showing("Cost")
    if not stations:
        return 0
    charges = Charge.objects.filter(
        session__station__in=stations, tariff_snapshot__isnull=False
    ).select_related("session__station__site", "session__connector")
    running = charges.filter(session__state=Session.State.ACTIVE)
    ended = charges.filter(
        gross_minor__isnull=False, session__stopped_at__gte=timezone.now() - FINAL_WITHIN
    )
    told = sum(_tell_final(charge) for charge in ended[:SESSIONS_A_TICK])
    return told + sum(_tell_running(charge) for charge in running[:SESSIONS_A_TICK])


def so_far(charge: Charge) -> int:
    """Return what a running session has cost until now, in minor units with tax."""
    session = copy.copy(charge.session)
    if session.stopped_at is None:
        session.stopped_at = timezone.now()
    plan = read_tariff((charge.tariff_snapshot or {})["ocpi"], strict=False)
    return total_up(plan, price(plan, usage_of(session))).gross_minor


def _tell_running(charge: Charge) -> bool:
    session = charge.session
    if session.stopped_at is not None:
        return False  # what occupying the bay adds comes with the final cost
    return _tell(
        charge,
        f"cost-{session.pk}",
        so_far(charge),
        energy_wh=(session.meter_start_mwh or 0) // 1000 + (session.energy_wh or 0),
        idle=str(session.charging_state).startswith("Suspended"),
    )


def _tell_final(charge: Charge) -> bool:
    minor = charge.gross_minor or 0
    text = f"{from_minor(minor, charge.currency)} {charge.currency}"
    return _tell(charge, f"final-{charge.session_id}", minor, final=True, text=text)


def _tell(charge: Charge, subject: str, minor: int, **more: Any) -> bool:
    """Order the cost to be shown, unless just that was said or is under way."""
    total = str(from_minor(minor, charge.currency))
    last = Command.objects.filter(subject=subject).order_by("-id").first()
    if last is not None and (last.status in OPEN or _told(last) == total):
        return False
    station = charge.session.station
    commands.send(
        station, "cost_updated", subject=subject, ref=charge.session.ref, total=total,
        **{key: value for key, value in more.items() if value not in (None, "")},
    )  # fmt: skip
    return True


def _told(command: Command) -> str:
    return str(command.args.get("total", ""))
