"""Quirk profiles: which fits, and what each repair changes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib import import_module
from typing import Any

import pytest
from django.apps import apps

from stations import quirks
from stations.models import QuirkProfile
from stations.ocpp.consumer import DIALECTS
from stations.ocpp.fastpath import V16, request_validator
from tests import make

STAMP = "2026-11-22T10:00:00Z"


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    quirks.forget()
    yield
    quirks.forget()


@pytest.mark.django_db
def test_the_profile_of_a_make_is_found_by_vendor_model_and_firmware() -> None:
    every = QuirkProfile.objects.create(name="all", vendor="ACME")
    some = QuirkProfile.objects.create(
        name="some", vendor="ACME", model_pattern="X.*", firmware_from="1.9", firmware_to="1.10"
    )
    QuirkProfile.objects.create(name="broken", vendor="ACME", model_pattern="(")
    assert quirks.profile_for("acme", "X1", "1.9.5") == some
    assert quirks.profile_for("Acme", "X1", "1.10") == some
    assert quirks.profile_for("Acme", "X1", "1.11") == every
    assert quirks.profile_for("Acme", "X1", "1.8") == every
    assert quirks.profile_for("Acme", "Y", "1.9") == every
    assert quirks.profile_for("Other", "X1", "1.9") is None


def meter(*samples: dict[str, Any]) -> dict[str, Any]:
    return {
        "connectorId": 1,
        "meterValue": [{"timestamp": STAMP, "sampledValue": list(samples)}],
    }


@pytest.mark.parametrize(
    ("name", "action", "broken", "repaired"),
    [
        (
            "lone_meter_value",
            "MeterValues",
            {"connectorId": 1, "meterValue": meter({"value": "1"})["meterValue"][0]},
            meter({"value": "1"}),
        ),
        ("numeric_values", "MeterValues", meter({"value": 1.5}), meter({"value": "1.5"})),
        (
            "unknown_units",
            "MeterValues",
            meter({"value": "1", "unit": "Watts"}),
            meter({"value": "1"}),
        ),
        (
            "other_error",
            "StatusNotification",
            {"connectorId": 1, "errorCode": "Error", "status": "Faulted"},
            {
                "connectorId": 1,
                "errorCode": "OtherError",
                "status": "Faulted",
                "vendorErrorCode": "Error",
            },
        ),
        (
            "long_id_tag",
            "Authorize",
            {"idTag": "04AABBCCDDEEFF_serial12345"},
            {"idTag": "04AABBCCDDEEFF"},
        ),
    ],
)
def test_each_repair_makes_its_payload_valid(name, action, broken, repaired) -> None:
    validator = request_validator(V16, action)
    assert not validator.is_valid(broken)
    done = quirks.tolerate(
        {"repairs": list(quirks.REPAIRS)}, action, broken, lambda: validator.is_valid(broken)
    )
    assert (done, broken) == (name, repaired)


@pytest.mark.django_db
def test_a_built_in_profile_that_somebody_changed_stays_as_it_is() -> None:
    import_module("stations.migrations.0013_known_quirks").ship(apps, None)
    QuirkProfile.objects.filter(name__startswith="Huawei").update(settings={"timeout_s": 5})
    QuirkProfile.objects.filter(name__startswith="ABB").delete()
    import_module("stations.migrations.0019_more_known_quirks").ship(apps, None)
    assert QuirkProfile.objects.get(name__startswith="Huawei").settings == {"timeout_s": 5}


def test_without_a_profile_nothing_is_repaired() -> None:
    broken = meter({"value": 1.5})
    assert quirks.tolerate({}, "MeterValues", broken, lambda: True) == ""
    assert broken == meter({"value": 1.5})


def ship() -> None:
    for migration in ("0013_known_quirks", "0019_more_known_quirks"):
        import_module(f"stations.migrations.{migration}").ship(apps, None)


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("vendor", "model", "settings"),
    [
        (
            "HUAWEI",
            "FusionCharge",
            {"repairs": ["lone_meter_value"], "lowest_limit": {"A": 6, "W": 1380}},
        ),
        (
            "Keba AG",
            "KC-P30",
            {"repairs": ["long_id_tag"], "normalise": ["serial_behind_tag"]},
        ),
        ("ABB", "Terra AC wallbox", {"stack_level": 0}),
        ("ABB", "Other", None),
        ("AEFA", "Any", {"text_repairs": ["empty_transaction_id"]}),
        ("OpenEVSE", "", {"repairs": ["numeric_values"]}),
        ("Chargeamps", "HALO", {"repairs": ["unknown_units"]}),
        ("Wall Box Chargers", "PPR1", {"hold_s": 60}),
        ("growatt", "THOR", {"local_time": True}),
        ("Grizzl-E", "Smart", {"version": "1.6", "ask_all_keys": True}),
        ("ACME", "AC1", None),
    ],
)
def test_known_makes_are_tolerated_out_of_the_box(vendor, model, settings) -> None:
    ship()
    found = quirks.profile_for(vendor, model, "1.0")
    assert (found and found.settings) == settings


@pytest.mark.django_db
def test_every_built_in_profile_can_be_carried_out_and_an_own_one_goes_first() -> None:
    ship()
    ship()
    rows = QuirkProfile.objects.filter(built_in=True)
    known = {
        *("version", "repairs", "timeout_s", "local_time", "deaf_after", "hold_s"),
        *("text_repairs", "normalise", "trigger_on_boot", "ask_all_keys", "stack_level"),
        *("lowest_limit", "max_as_default"),
    }
    assert len(rows) == 14
    for row in rows:
        re.compile(row.vendor)
        assert set(row.settings) <= known
        assert set(row.settings.get("repairs", ())) <= quirks.REPAIRS.keys()
        assert set(row.settings.get("normalise", ())) <= quirks.NORMALISERS.keys()
        assert set(row.settings.get("text_repairs", ())) <= quirks.TEXT_REPAIRS.keys()
        assert row.settings.get("version", "1.6") in DIALECTS
    own = QuirkProfile.objects.create(name="ours", vendor="Huawei")
    QuirkProfile.objects.filter(built_in=True, name__startswith="Huawei").delete()
    ship()  # newer than ours by now
    assert quirks.profile_for("Huawei", "X", "1") == own


@pytest.mark.django_db
def test_built_in_profiles_and_what_they_tolerated_are_seen_in_the_admin(client) -> None:
    ship()
    huawei = QuirkProfile.objects.get(name__startswith="Huawei")
    quirks.count(huawei.pk, "lone_meter_value")
    quirks.count(huawei.pk, "lone_meter_value")
    client.force_login(make.staff())
    page = client.get("/admin/stations/quirkprofile/?q=Huawei").content.decode()
    assert "repairs: lone_meter_value" in page
    assert ">2<" in page.replace(" ", "").replace("\n", "")
    page = client.get(f"/admin/stations/quirkprofile/{huawei.pk}/change/").content.decode()
    assert "Huawei.*" in page
