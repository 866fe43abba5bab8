"""Quirk profiles: which fits, and what each repair changes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from stations import quirks
from stations.models import QuirkProfile
from stations.ocpp.fastpath import V16, request_validator

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


def test_without_a_profile_nothing_is_repaired() -> None:
    broken = meter({"value": 1.5})
    assert quirks.tolerate({}, "MeterValues", broken, lambda: True) == ""
    assert broken == meter({"value": 1.5})
