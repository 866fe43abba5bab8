"""A charging session in each version: what the wire says and what is kept."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from monitoring.models import Reading, Session
from stations.models import Connector, Message
from stations.ocpp.fastpath import validate_response
from tests import make
from tests.charger import VERSIONS, Charger
from tests.gateway import db, gateway

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def url() -> Iterator[str]:
    with gateway() as address:
        yield address


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_session_is_the_same_in_every_version(url: str, version: str) -> None:
    await db(make.station)(identity="CP1", version=version, connectors=2)
    await db(make.token)(uid="TAG1")
    async with Charger(url.removesuffix("/"), "CP1", version) as charger:
        assert (await charger.boot())["status"] == "Accepted"
        await charger.plug(1)
        assert await charger.authorize("TAG1") == "Accepted"
        assert await charger.authorize("NOBODY") in ("Invalid", "Unknown")
        tx = await charger.start(1, "TAG1", register_wh=100_000)
        assert tx.accepted
        await charger.meter(tx, 1_500)
        await charger.stop(tx, 3_000)
        await charger.unplug(1)
    session = await db(Session.objects.select_related("connector__evse", "token").get)()
    assert (session.energy_wh, session.token.uid, session.connector.evse.number) == (
        3000,
        "TAG1",
        1,
    )
    assert (session.meter_start_mwh, session.meter_stop_mwh) == (100_000_000, 103_000_000)
    assert session.state == "closed"
    registers = await db(lambda: set(Reading.objects.values_list("register_mwh", flat=True)))()
    assert 101_500_000 in registers
    statuses = await db(lambda: set(Connector.objects.values_list("status", flat=True)))()
    assert statuses == {"Available"}


@pytest.mark.parametrize("version", VERSIONS)
async def test_every_answer_of_ours_fits_its_schema(url: str, version: str) -> None:
    await db(make.station)(identity="CP1", version=version, connectors=2)
    async with Charger(url.removesuffix("/"), "CP1", version) as charger:
        await charger.boot()
        await charger.plug(1)
        await charger.authorize("NOBODY")
        tx = await charger.start(1, "NOBODY")
        await charger.meter(tx, 100)
        await charger.stop(tx, 200)
        actions = {f[1]: f[2] for way, f in charger.frames if way == "out" and f[0] == 2}
        replies = [f for way, f in charger.frames if way == "in" and f[0] == 3]
        answers = [(actions[f[1]], f[2]) for f in replies]
        errors = [f for way, f in charger.frames if way == "in" and f[0] == 4]
    assert errors == []
    assert {action for action, _ in answers} >= {"BootNotification", "Authorize"}
    for action, payload in answers:
        validate_response(version, action, payload)
    answered = Message.objects.filter(direction="in").exclude(answer="")
    logged = await db(lambda: set(answered.values_list("message_id", flat=True)))()
    assert {f[1] for f in replies} <= logged
