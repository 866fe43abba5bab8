"""Which tariff applies, and that a used one never changes."""

import json
from datetime import timedelta
from io import StringIO
from pathlib import Path

import pytest
from django.core.exceptions import ValidationError
from django.core.management import CommandError, call_command
from django.db import IntegrityError, transaction
from django.utils import timezone

from billing import tariffs
from billing.models import Tariff, TariffAssignment
from tests import make

pytestmark = pytest.mark.django_db


def test_the_nearest_assignment_wins() -> None:
    site = make.site()
    here, there = make.station(site=site), make.station()
    keys = {}
    for name in ("own", "site", "default"):
        keys[name] = tariffs.publish(make.ocpi_tariff(id=name)).key
    tariffs.assign(keys["default"], None)
    tariffs.assign(keys["site"], site)
    in_force = Tariff.objects.all().in_force
    now = timezone.now()
    assert (in_force(here, now).key, in_force(there, now).key) == ("site", "default")
    tariffs.assign(keys["own"], here)
    assert in_force(here, now).key == "own"


def test_the_version_valid_at_the_moment_is_taken_and_a_hole_is_not_papered_over() -> None:
    station = make.station()
    now = timezone.now()
    first = tariffs.publish(make.ocpi_tariff(id="t"), valid_from=now - timedelta(days=9))
    tariffs.assign("t", None)
    dear = make.ocpi_tariff({"type": "ENERGY", "price": 1}, id="t")
    second = tariffs.publish(dear, valid_from=now - timedelta(days=1))
    in_force = Tariff.objects.all().in_force
    assert in_force(station, now - timedelta(days=2)) == first
    assert in_force(station, now) == second
    assert in_force(station, now - timedelta(days=10)) is None
    Tariff.objects.filter(pk=second.pk).update(valid_until=now)
    assert in_force(station, now) is None


def test_the_same_object_again_is_the_same_version() -> None:
    ocpi = make.ocpi_tariff(id="t")
    assert tariffs.publish(ocpi) == tariffs.publish(json.loads(json.dumps(ocpi)))
    assert Tariff.objects.count() == 1


def test_a_version_that_priced_a_session_never_changes() -> None:
    tariff = make.tariff()
    tariff.ocpi = make.ocpi_tariff(id="other")
    tariff.save()  # not used yet
    tariffs.snapshot_for(make.station(), timezone.now())
    tariff.refresh_from_db()
    tariff.valid_until = timezone.now() + timedelta(days=1)
    tariff.save()  # its end may still be set
    tariff.ocpi = tariff.ocpi | {"currency": "USD"}
    with pytest.raises(ValidationError, match="Add a new version"):
        tariff.save()


@pytest.mark.parametrize("fields", [{}, {"is_default": True, "site": True}])
def test_the_database_wants_exactly_one_target(fields: dict) -> None:
    if "site" in fields:
        fields = fields | {"site": make.site()}
    with pytest.raises(IntegrityError), transaction.atomic():
        TariffAssignment.objects.create(key="t", **fields)


def test_a_file_is_loaded_and_assigned(tmp_path: Path) -> None:
    site = make.site(name="Zoo")
    file = tmp_path / "t.json"
    file.write_text(json.dumps(make.ocpi_tariff(id="zoo")))
    out = StringIO()
    call_command("tariffs", "load", str(file), "--site", "Zoo", "--json", stdout=out)
    assert json.loads(out.getvalue())["version"] == 1
    assert TariffAssignment.objects.get().site == site
    assert Tariff.objects.get().ocpi["elements"][0]["price_components"][0]["price"] == 0.4
    with pytest.raises(CommandError, match="There is no site 'Nowhere'"):
        call_command("tariffs", "load", str(file), "--site", "Nowhere")
    file.write_text('{"id": "x"')
    with pytest.raises(CommandError, match="is not JSON"):
        call_command("tariffs", "load", str(file), "--default")
