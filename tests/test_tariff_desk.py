"""The tariff desk: lint, simulation, groups, OCPI in and out."""

import json
from datetime import timedelta
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from billing import settlement, simulation, tariffs
from billing.lint import lint
from billing.models import Charge, DriverGroup, Tariff
from billing.ocpi import as_version, read_tariff
from billing.pricing import price
from tests import make

from .test_pricing import component, element, session, tariff

ENERGY = component("ENERGY", 0.5, 19)


def codes(given: dict[str, Any], **where: Any) -> list[tuple[str, str, int | None]]:
    return [(one.code, one.level, one.element) for one in lint(read_tariff(given), **where)]


@pytest.mark.parametrize(
    ("given", "where", "expected"),
    [
        (tariff(element(ENERGY)), {}, []),
        (
            tariff(element(ENERGY, start_time="08:00", end_time="20:00")),
            {},
            [("gap", "warning", None)],
        ),
        (
            tariff(
                element(ENERGY, start_time="08:00", end_time="20:00"),
                element(ENERGY, start_time="20:00", end_time="08:00"),
            ),
            {},
            [],
        ),
        (
            tariff(
                element(ENERGY, start_time="08:00", end_time="20:00"),
                element(component("ENERGY", 0.4, 19), start_time="18:00", end_time="22:00"),
                element(ENERGY),
            ),
            {},
            [("overlap", "warning", 1)],
        ),
        (
            tariff(element(ENERGY), element(component("ENERGY", 0.4, 19), min_kwh=20)),
            {},
            [("unreachable", "warning", 1)],
        ),
        (
            tariff(element(ENERGY, min_kwh=10, max_kwh=10), element(ENERGY)),
            {},
            [("unreachable", "warning", 0)],
        ),
        (tariff(element(component("ENERGY", 0.5, 19, 1000))), {}, [("step", "warning", 0)]),
        (tariff(element(component("ENERGY", 0.5))), {}, [("vat", "warning", 0)]),
        (
            tariff(element(ENERGY, component("FLAT", 1, 19))),
            {"power_kw": 150},
            [("afir", "error", 0)],
        ),
        (
            tariff(element(ENERGY, component("PARKING_TIME", 6, 19))),
            {"power_kw": 150},
            [],
        ),
        (tariff(element(ENERGY, component("FLAT", 1, 19))), {"power_kw": 22}, []),
        (
            tariff(element(component("ENERGY", 0.4, 19), max_power=11), element(ENERGY)),
            {"eichrecht": True},
            [("eichrecht", "warning", 0)],
        ),
        (
            tariff(element(ENERGY, min_power=11)),
            {},
            [("gap", "warning", None), ("power", "warning", None)],
        ),
        (
            tariff(
                element(ENERGY, component("FLAT", 1, 19)),
                element(component("FLAT", 2, 19), start_time="08:00", end_time="20:00"),
            ),
            {},
            [("flats", "warning", 1), ("unreachable", "warning", 1)],
        ),
    ],
)
def test_the_lint_says_what_is_odd(
    given: dict[str, Any], where: Any, expected: list[tuple[str, str, int | None]]
) -> None:
    assert codes(given, **where) == expected


def test_times_that_a_clock_change_skips_or_repeats_are_said() -> None:
    night = tariff(element(ENERGY, start_time="02:30", end_time="05:00"), element(ENERGY))
    said = [one.text for one in lint(read_tariff(night), zone="Europe/Berlin")]
    assert sorted(text.split(" on ")[0] for text in said) == [
        "02:30 comes twice",
        "02:30 does not exist",
    ]
    assert codes(night, zone="UTC") == []


# --- versions of OCPI -----------------------------------------------------------------------------


def test_both_versions_of_ocpi_cost_the_same() -> None:
    given = tariff(
        element(component("ENERGY", 0.595, 19), component("FLAT", 1.19, 19)),
        tax_included="YES",
        max_price={"before_taxes": 50, "after_taxes": 59.5},
    )
    old = as_version(given, "2.2.1")
    assert (old["max_price"], "tax_included" in old) == ({"excl_vat": 50, "incl_vat": 59.5}, False)
    used = session((3600, 10_000, "charging"))
    bills = [price(read_tariff(one), used) for one in (given, old, as_version(given, "2.3.0"))]
    assert {(float(bill.before), float(bill.after)) for bill in bills} == {(6.0, 7.14)}


# --- in the back office ---------------------------------------------------------------------------


@pytest.fixture
def staff(client: Client) -> Client:
    client.force_login(make.staff())
    return client


@pytest.mark.django_db
def test_the_desk_shows_remarks_and_what_past_sessions_would_have_cost(staff: Client) -> None:
    cheap = make.tariff()
    make.seller()
    for _ in range(3):
        one = make.session(make.station(), token=make.token(user=make.user()))
        settlement.settle(one.pk)
    dear = tariffs.publish(
        make.ocpi_tariff({"type": "ENERGY", "price": 1.0, "vat": 19.0, "step_size": 1000})
    )
    result = simulation.would_have_cost(read_tariff(dear.ocpi), simulation.past(30, cheap.key))
    assert (result.was_minor, result.would_minor, result.dearer) == (3 * 595, 3 * 1190, 3)
    page = staff.get(reverse("admin:billing_tariff_simulate", args=[dear.pk]))
    assert "€35.70" in page.content.decode()
    change = staff.get(reverse("admin:billing_tariff_change", args=[dear.pk])).content.decode()
    assert "is rounded up to 1000 Wh a session" in change
    assert Charge.objects.filter(gross_minor=595).count() == 3
    file = staff.get(reverse("admin:billing_tariff_ocpi", args=[dear.pk, "2.2.1"]))
    assert read_tariff(json.loads(file.content)).currency == "EUR"
    assert dear.key in file["Content-Disposition"]


@pytest.mark.django_db
def test_a_tariff_is_imported_from_a_file(staff: Client) -> None:
    given = make.ocpi_tariff()
    now = timezone.localtime()
    form = {
        "name": "Imported",
        "valid_from_0": f"{now:%Y-%m-%d}",
        "valid_from_1": f"{now:%H:%M:%S}",
        "valid_until_0": "",
        "valid_until_1": "",
        "file": SimpleUploadedFile("tariff.json", json.dumps(given).encode()),
    }
    answer = staff.post(reverse("admin:billing_tariff_add"), form)
    assert answer.status_code == 302, answer.content.decode()[:4000]
    assert Tariff.objects.get().ocpi["elements"] == given["elements"]
    bad = form | {"file": SimpleUploadedFile("tariff.json", b"kWh: 0.4")}
    assert (
        "This file is not JSON."
        in staff.post(reverse("admin:billing_tariff_add"), bad).content.decode()
    )


@pytest.mark.django_db
def test_a_groups_tariff_goes_before_the_default_and_after_station_and_site() -> None:
    make.tariff()
    group = DriverGroup.objects.create(name="Employees")
    driver, guest = make.user(), make.user()
    group.drivers.add(driver)
    long_ago = timezone.now() - timedelta(days=9)
    tenth = make.ocpi_tariff({"type": "ENERGY", "price": 0.1, "vat": 19.0})
    cheap = tariffs.publish(tenth, valid_from=long_ago)
    tariffs.assign(cheap.key, group)
    make.seller()
    station = make.station(site=make.site())

    def cost(who: Any) -> int | None:
        charge = settlement.settle(make.session(station, token=make.token(user=who)).pk)
        assert charge is not None
        return charge.gross_minor

    assert (cost(driver), cost(guest)) == (119, 595)
    sites = tariffs.publish(make.ocpi_tariff({"type": "ENERGY", "price": 0.2, "vat": 19.0}))
    tariffs.assign(sites.key, station.site)
    in_force = Tariff.objects.all().in_force(station, timezone.now(), driver.pk)
    assert in_force == sites
    assert tariffs.in_force_at([station], timezone.now(), driver.pk) == {station.pk: sites}
    assert tariffs.in_force_at([make.station()], timezone.now(), driver.pk).popitem()[1] == cheap
