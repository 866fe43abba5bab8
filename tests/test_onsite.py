"""What the driver reads at the station: the tariff where OCPP says it exactly, the running cost."""

from __future__ import annotations

from typing import Any

import pytest
from django.utils import timezone

from billing import onsite, settlement, tariffs
from billing.models import Charge
from monitoring.models import Session
from stations import configuration
from stations.configuration import Key, Reported
from stations.models import Command, Entry, Holding, Station
from tests import make
from tests.charger import VERSIONS, Charger
from tests.gateway import db, gateway

pytestmark = pytest.mark.django_db


def shows(station: Station, what: str) -> None:
    """Let the station say that it shows tariffs or costs."""
    key = Key("CustomDisplayCostAndPrice")
    if station.version != "1.6":
        key = Key("Enabled", "TariffCostCtrlr", instance=what)
    configuration.store(station.pk, [Reported(key, "true")])


def test_a_simple_tariff_is_said_exactly() -> None:
    tariff = make.tariff(
        {"type": "ENERGY", "price": 0.40, "vat": 19.0, "step_size": 1},
        {"type": "TIME", "price": 3.00, "vat": 19.0, "step_size": 1},
        {"type": "PARKING_TIME", "price": 6.00, "step_size": 1},
        {"type": "FLAT", "price": 1.00, "vat": 7.0, "step_size": 1},
        max_price={"excl_vat": 50.0, "incl_vat": 59.5},
    )
    assert onsite.tariff_type(tariff) == {
        "tariffId": f"{tariff.key}-1",
        "currency": "EUR",
        "energy": {"prices": [{"priceKwh": 0.4}], "taxRates": [{"type": "VAT", "tax": 19.0}]},
        "chargingTime": {
            "prices": [{"priceMinute": 0.05}],
            "taxRates": [{"type": "VAT", "tax": 19.0}],
        },
        "idleTime": {"prices": [{"priceMinute": 0.1}]},
        "fixedFee": {"prices": [{"priceFixed": 1.0}], "taxRates": [{"type": "VAT", "tax": 7.0}]},
        "maxCost": {"exclTax": 50.0, "inclTax": 59.5},
    }


@pytest.mark.parametrize(
    ("component", "fields", "why"),
    [
        ({"type": "TIME", "price": 1.00, "step_size": 1}, {}, "more than 6 decimals"),
        ({"type": "ENERGY", "price": 0.4, "step_size": 1000}, {}, "steps of 1000"),
        (
            {"type": "ENERGY", "price": 0.4, "vat": 19.0, "step_size": 1},
            {"tax_included": "YES"},
            "include tax",
        ),
    ],
)
def test_what_cannot_be_said_exactly_is_not_said(
    component: dict[str, Any], fields: dict[str, Any], why: str
) -> None:
    with pytest.raises(onsite.NotExact, match=why):
        onsite.tariff_type(make.tariff(component, **fields))


def test_a_price_at_some_hours_is_not_said() -> None:
    night = {
        "price_components": [{"type": "ENERGY", "price": 0.2, "step_size": 1}],
        "restrictions": {"start_time": "22:00", "end_time": "06:00"},
    }
    with pytest.raises(onsite.NotExact, match="conditions"):
        onsite.tariff_type(make.tariff(elements=[night]))


def accepted(station: Station, name: str) -> Command:
    """Let the newest order of a name end as accepted."""
    order = Command.objects.filter(station=station, name=name).latest("pk")
    Command.objects.filter(pk=order.pk).update(status=Command.Status.ACCEPTED)
    return order


def test_only_a_station_that_shows_tariffs_is_told_and_once() -> None:
    make.tariff()
    station = make.station(version="2.1", connected=True)
    make.station(version="2.1", connected=True)
    older = make.station(version="2.0.1", connected=True)
    shows(older, "Tariff")
    assert onsite.tell_tariffs() == 0
    shows(station, "Tariff")
    assert (onsite.tell_tariffs(), onsite.tell_tariffs()) == (1, 0)
    order = accepted(station, "set_default_tariff")
    kind, told = Holding.Kind.TARIFF, order.args["tariff"]
    Holding.objects.create(
        station=station, kind=kind, key="default-0", label=told["tariffId"],
        data={"tariff": told}, told_at=timezone.now(),
    )  # fmt: skip
    Command.objects.all().delete()
    assert onsite.tell_tariffs() == 0
    make.tariff({"type": "TIME", "price": 1.00, "step_size": 1})  # not exact: the old one goes
    assert onsite.tell_tariffs() == 1
    assert Command.objects.get().name == "clear_tariffs"
    assert "6 decimals" in Entry.objects.get(kind="tariff.not_told").data["why"]
    onsite.tell_tariffs()
    assert Entry.objects.filter(kind="tariff.not_told").count() == 1


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("version", VERSIONS)
async def test_running_and_final_cost_reach_the_display(version: str) -> None:
    def network() -> Station:
        tariffs.assign(make.tariff().key, None)
        make.token(uid="TAG1")
        station = make.station(identity="CP1", version=version)
        shows(station, "Cost")
        return station

    def running() -> int:
        settlement.open_charge(Session.objects.get())
        return onsite.tell_costs()

    def final() -> int:
        Charge.objects.update(gross_minor=357)
        return onsite.tell_costs()

    await db(network)()
    with gateway() as url:
        async with Charger(url.removesuffix("/"), "CP1", version) as charger:
            await charger.boot()
            await charger.plug(1)
            tx = await charger.start(1, "TAG1", register_wh=100_000)
            await charger.meter(tx, 5_000)
            assert await db(running)() == 1
            action = "DataTransfer" if version == "1.6" else "CostUpdated"
            shown = await charger.expect(action)
            if version == "1.6":
                assert shown["vendorId"] == "org.openchargealliance.costmsg"
                assert '"meterValue":105000,"cost":3.57' in shown["data"]
            else:
                assert shown["totalCost"] == 3.57  # 1.00 + 5 × 0.40, with 19 % VAT
            await charger.stop(tx, 5_000)
            assert await db(final)() == 1
            shown = await charger.expect(action)
            if version == "1.6":
                assert shown["messageId"] == "FinalCost"
                assert '"cost":3.57,"priceText":"3.57 EUR"' in shown["data"]
            else:
                assert shown["totalCost"] == 3.57
            assert await db(onsite.tell_costs)() == 0


def test_a_station_that_shows_no_cost_is_told_none() -> None:
    make.tariff()
    station = make.station(connected=True)
    session = make.session(station, state=Session.State.ACTIVE, stopped_at=None, closed_at=None)
    settlement.open_charge(session)
    assert onsite.tell_costs() == 0
