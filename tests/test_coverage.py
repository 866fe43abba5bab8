"""Every action of every version has its handler or its order, and docs/ocpp.md says so."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator
from io import StringIO
from typing import Any

import pytest
from django.core.management import call_command

from stations import commands
from stations.catalogue import COMMANDS
from stations.models import Command, Station
from stations.ocpp import coverage, fastpath
from stations.ocpp.consumer import DIALECTS
from tests import make, said
from tests.gateway import Raw, db, gateway, raw
from tests.said import Heard, Said
from tests.test_commands_delivery import SAID, answer, dialect_of, ended, order, take

pytestmark = pytest.mark.slow

VERSIONS = list(DIALECTS)

AREAS = [
    importlib.import_module(f"tests.said.{one.name}") for one in pkgutil.iter_modules(said.__path__)
]
ORDERS: list[tuple[str, Said]] = [
    (name, one)
    for area in AREAS
    for name, given in getattr(area, "ORDERS", {}).items()
    for one in (given if isinstance(given, list) else [given])
]
HEARD: list[tuple[str, Heard]] = [
    (action, one)
    for area in AREAS
    for action, given in getattr(area, "HEARD", {}).items()
    for one in (given if isinstance(given, list) else [given])
]
on_the_wire = pytest.mark.django_db(transaction=True)


@pytest.fixture
def url() -> Iterator[str]:
    with gateway() as address:
        yield address


def test_every_action_has_a_handler_or_an_order() -> None:
    lacking = {
        f"{version} {action}"
        for version, actions in coverage.missing().items()
        for action in actions
    }
    assert lacking == set()


def test_docs_ocpp_is_fresh() -> None:
    call_command("ocpp", "--check", stdout=StringIO())


def test_every_order_has_a_method_in_exactly_the_versions_it_names() -> None:
    named = {name: set(spec.says) for name, spec in COMMANDS.items()}
    methods = {
        name: {version for version, dialect in DIALECTS.items() if hasattr(dialect, name)}
        for name in COMMANDS
    }
    assert methods == named


def test_every_order_names_actions_its_versions_know() -> None:
    unknown = {
        (name, version, action)
        for name, spec in COMMANDS.items()
        for version, actions in spec.says.items()
        for action in actions or ("nothing",)
        if action not in DIALECTS[version].actions
    }
    assert unknown == set()


def test_every_order_and_every_action_of_a_charger_is_shown_here() -> None:
    assert {name for name, _ in ORDERS} | set(SAID) == set(COMMANDS)
    said_actions = {
        (name, version, expected[0])
        for name, one in ORDERS
        for version in VERSIONS
        if (expected := one.expected(version))
    }
    declared = {
        (name, version, action)
        for name, spec in COMMANDS.items()
        if name not in SAID
        for version, actions in spec.says.items()
        for action in actions
    }
    assert said_actions == declared


def test_every_action_of_a_charger_is_told_here_in_every_version() -> None:
    handled = {
        (line.version, line.action) for line in coverage.lines() if line.direction == coverage.IN
    }
    assert {(version, action) for action, one in HEARD for version in one.versions} == handled


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(("name", "one"), ORDERS, ids=[name for name, _ in ORDERS])
def test_an_order_says_exactly_this(version: str, name: str, one: Said) -> None:
    expected = one.expected(version)
    if expected is None:  # another example, or no version of it
        return
    command = Command(pk=9, name=name, args=commands.check(name, one.args))
    assert dialect_of(version)._request(command) == expected


@on_the_wire
@pytest.mark.parametrize("version", VERSIONS)
async def test_every_order_is_sent_answered_and_kept(url: str, version: str) -> None:
    station = await db(make.station)(identity="CP1", version=version, connectors=2)
    mine = [(name, one) for name, one in ORDERS if one.expected(version)]
    async with raw(url + "CP1", version) as socket:
        await Raw(socket).boot(version)
        for name, one in mine:
            action, _ = one.expected(version)
            sent = await order("CP1", name, **one.args)
            call = await take(socket, action)
            fastpath.validate_request(version, action, call[3])
            fastpath.validate_response(version, action, one.answer)
            await answer(socket, call, one.answer)
            row = await ended(sent)
            assert (row.status, row.response) == (one.status, one.answer), (name, row.error)
            if one.kept is not None:
                assert await db(_kept)(one, station), f"what {name} was answered is not kept"


@on_the_wire
@pytest.mark.parametrize("version", VERSIONS)
async def test_every_call_is_answered_and_kept(url: str, version: str) -> None:
    station = await db(make.station)(identity="CP1", version=version, connectors=2)
    mine = [(action, one) for action, one in HEARD if version in one.versions]
    async with raw(url + "CP1", version) as socket:
        charger = Raw(socket)
        await charger.boot(version)
        for action, one in mine:
            if action in DIALECTS[version].sends:
                await socket.send(fastpath.dumps([6, f"s-{action}", action, one.payload]))
                await charger.call("Heartbeat", {})
            else:
                frame = await charger.call(action, one.payload)
                assert frame[0] == 3, (action, frame)
                fastpath.validate_response(version, action, frame[2])
                assert frame[2].items() >= one.answer.items(), (action, frame)
            assert await db(_kept)(one, station), f"what {action} means is not kept"


def _kept(one: Any, station: Station) -> bool:
    station.refresh_from_db()
    return bool(one.kept(station))
