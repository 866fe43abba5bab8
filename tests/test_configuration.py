"""Reported configuration: keys in both families, what is kept, what is drift."""

from __future__ import annotations

from datetime import timedelta
from importlib import import_module

import pytest
from django.apps import apps
from django.db import IntegrityError, connection, transaction
from django.utils import timezone

from stations import configuration
from stations.configuration import Key, Reported, parse_key
from stations.models import Entry, Variable
from tests import make


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("TxCtrlr.TxStartPoint", Key("TxStartPoint", "TxCtrlr")),
        ("HeartbeatInterval", Key("HeartbeatInterval", "OCPPCommCtrlr")),
        (
            "Connector[left]@2.1.Available[x]",
            Key("Available", "Connector", "left", 2, 1, "x"),
        ),
        ("EVSE@3.Power", Key("Power", "EVSE", "", 3)),
    ],
)
def test_a_key_names_a_variable(text: str, key: Key) -> None:
    assert parse_key(text) == key


@pytest.mark.parametrize("text", ["", "Nothing", "a.b.c", ".x", "x.", "A[.B"])
def test_what_names_no_variable_is_refused_in_words(text: str) -> None:
    with pytest.raises(configuration.BadKey, match=r"Component\.Variable"):
        parse_key(text)


@pytest.mark.django_db
def test_values_are_kept_once_and_secrets_never() -> None:
    station = make.station()
    first = [
        Reported(Key("HeartbeatInterval"), "300", read_only=False),
        Reported(Key("AuthorizationKey"), "secret"),
    ]
    assert configuration.store(station.pk, first) == 1
    assert configuration.store(station.pk, [Reported(Key("HeartbeatInterval"), "300")]) == 0
    assert configuration.store(station.pk, [Reported(Key("HeartbeatInterval"), "60")]) == 1
    row = Variable.objects.get()
    assert (row.name, row.value) == ("HeartbeatInterval", "60")
    news = Entry.objects.filter(kind="variables.reported").order_by("pk")
    assert [one.data["different"] for one in news] == [1, 0, 1]


@pytest.mark.django_db
def test_a_variable_without_an_evse_is_there_once() -> None:
    station = make.station()
    Variable.objects.create(station=station, name="X")
    with pytest.raises(IntegrityError), transaction.atomic():
        Variable.objects.create(station=station, name="X")
    Variable.objects.create(station=station, name="X", evse=1)
    with pytest.raises(IntegrityError), transaction.atomic():
        Variable.objects.create(station=station, name="X", evse=1)
    Variable.objects.create(station=station, name="X", evse=1, connector=1)
    assert Variable.objects.count() == 3


@pytest.mark.django_db
def test_what_was_kept_twice_becomes_one_row_with_what_was_wanted() -> None:
    merge = import_module("stations.migrations.0010_variables_deduplicated").merge
    station, now = make.station(), timezone.now()
    with connection.cursor() as cursor:  # the test's transaction brings it back
        cursor.execute("DROP INDEX variable_once")
    for value, age_s, wanted in (("1", 20, "5"), ("2", 10, None), ("3", 30, None)):
        Variable.objects.create(
            station=station,
            name="X",
            value=value,
            wanted=wanted,
            reported_at=now - timedelta(seconds=age_s),
        )
    Variable.objects.create(station=station, name="X", value="never reported")
    Variable.objects.create(station=station, name="X", evse=1, value="other")
    merge(apps, None)
    rows = Variable.objects.order_by("evse").values_list("evse", "value", "wanted")
    assert set(rows) == {(None, "2", "5"), (1, "other", None)}
