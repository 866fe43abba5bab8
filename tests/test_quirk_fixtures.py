"""Misbehaviour of real chargers, each played from its frames to its bill (see tests/quirks)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from importlib import import_module
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import orjson
import pytest
from django.apps import apps
from websockets.exceptions import ConnectionClosed

from billing.models import Charge, HouseAccount
from monitoring.models import Reading, Session
from stations import commands, journal, quirks
from stations.models import Command, Connector, Message, QuirkProfile, Station
from tests import make
from tests.gateway import ANSWER_S, db, gateway, raw

pytestmark = pytest.mark.slow

STORIES: dict[str, dict[str, Any]] = {
    path.stem: json.loads(path.read_text())
    for path in sorted((Path(__file__).parent / "quirks").glob("*.json"))
}
ZONE = ZoneInfo("America/New_York")


@pytest.fixture
def url() -> Iterator[str]:
    quirks.forget()
    with gateway() as address:
        yield address
    quirks.forget()


class Player:
    """Plays one file at a gateway."""

    def __init__(self, url: str, story: dict[str, Any]) -> None:
        self.url, self.story = url, story
        self.version = story["version"]
        self.began = datetime.now(UTC).replace(microsecond=0) - timedelta(minutes=70)
        self.transaction: int | None = None
        self.n = 0

    async def connect(self) -> None:
        """Open the socket with the subprotocol the charger offers."""
        self.socket = await raw(self.url + "CP1", self.story.get("offers", self.version))

    def filled(self, value: Any) -> Any:
        """A payload with its moments and the transaction's id put in."""
        if isinstance(value, dict):
            return {key: self.filled(one) for key, one in value.items()}
        if isinstance(value, list):
            return [self.filled(one) for one in value]
        if value == "$tx":
            return self.transaction
        if isinstance(value, str) and value.startswith("@"):
            minutes, _, local = value[1:].partition(" ")
            at = self.began + timedelta(minutes=float(minutes))
            if local:
                return at.astimezone(ZONE).replace(tzinfo=None).isoformat()
            return at.isoformat().replace("+00:00", "Z")
        return value

    async def play(self) -> None:
        """Do every step."""
        await self.connect()
        if self.version == "1.6":
            payload = {"chargePointVendor": self.story["vendor"],
                       "chargePointModel": self.story["model"]}  # fmt: skip
        else:
            payload = {"reason": "PowerUp", "chargingStation": {
                "vendorName": self.story["vendor"], "model": self.story["model"]}}  # fmt: skip
        self.boot = payload
        first = {"call": "BootNotification", "payload": payload, "id": "1"}
        if not self.story.get("boots", True):  # it never hears an answer to this one
            await self.socket.send(orjson.dumps([2, "1", first["call"], payload]).decode())
        else:
            await self.step(first | {"answer": {"status": "Accepted"}})
        for step in self.story["steps"]:
            await self.step(step)
        await self.socket.close()

    async def step(self, step: dict[str, Any]) -> None:
        """Do one step."""
        if "again" in step:
            if self.story.get("boots", True):
                await self.socket.close()
            with pytest.raises(ConnectionClosed):
                await asyncio.wait_for(self.socket.recv(), ANSWER_S)
            await self.connect()
        elif "order" in step or "takes" in step:
            await self.ordered(step)
        else:
            await self.say(step)

    async def say(self, step: dict[str, Any]) -> None:
        """Send a call; its answer has at least what the step says."""
        self.n += 1
        message_id = step.get("id", f"m{self.n}")
        if "text" in step:
            text = step["text"]
            for moment in ("@30", "@60"):
                text = text.replace(moment, self.filled(moment))
        else:
            payload = self.filled(step.get("payload", self.boot))
            text = orjson.dumps([2, message_id, step["call"], payload]).decode()
        await self.socket.send(text)
        while (frame := await self.heard())[0] == 2:
            pass
        assert frame[0] == 3, (step, frame)
        assert frame[2].items() >= step["answer"].items(), (step, frame)
        self.transaction = frame[2].get("transactionId", self.transaction)

    async def heard(self) -> list[Any]:
        """The next frame."""
        return orjson.loads(await asyncio.wait_for(self.socket.recv(), ANSWER_S))

    async def ordered(self, step: dict[str, Any]) -> None:
        """Give an order, or wait for one; take it as the charger would."""
        command = None
        if "order" in step:
            args = {
                key: str(self.transaction) if value == "$tx" else value
                for key, value in step["args"].items()
            }
            command = await db(_send)(step["order"], args)
        call = await self.heard()
        while call[:1] != [2] or call[2] != step["takes"]:
            call = await self.heard()
        check(call[3], step)
        if "error" in step:
            await self.socket.send(orjson.dumps([4, call[1], step["error"], "", {}]).decode())
        else:
            await self.socket.send(orjson.dumps([3, call[1], step["answer"]]).decode())
        if command is not None:
            ends = step.get("ends", "failed" if "error" in step else "accepted")
            async with asyncio.timeout(ANSWER_S):
                while (await db(Command.objects.get)(pk=command.pk)).status != ends:  # noqa: ASYNC110
                    await asyncio.sleep(0.05)


def check(payload: dict[str, Any], step: dict[str, Any]) -> None:
    """The call of ours is as this charger can take it."""
    assert payload.items() >= step.get("payload", {}).items()
    assert payload == step.get("exactly", payload)
    profile = payload.get("csChargingProfiles", {})
    for key, name in (("stack", "stackLevel"), ("purpose", "chargingProfilePurpose")):
        assert profile.get(name) == step.get(key, profile.get(name))
    if "limit" in step:
        periods = profile["chargingSchedule"]["chargingSchedulePeriod"]
        assert [period["limit"] for period in periods] == [step["limit"]]


def _send(name: str, args: dict[str, Any]) -> Command:
    return commands.send(Station.objects.get(), name, **args)


def _place(story: dict[str, Any]) -> None:
    for migration in ("0013_known_quirks", "0019_more_known_quirks"):
        import_module(f"stations.migrations.{migration}").ship(apps, None)
    make.tariff()
    make.seller()
    account = HouseAccount.objects.create(name="Fleet", email="fleet@example.com")
    account.tokens.add(make.token(uid="FLEET"))
    assigned = QuirkProfile.objects.filter(name=story.get("assigned", "")).first()
    if "profile" in story:
        QuirkProfile.objects.create(name="own", vendor=story["vendor"], settings=story["profile"])
    site = make.site(time_zone=ZONE.key)
    make.station(identity="CP1", version=story["version"], site=site, quirks=assigned)


def assert_became(story: dict[str, Any]) -> None:
    """The session, its bill and its readings are what the story says."""
    journal.catch_up()
    session = Session.objects.get()
    got = {
        "energy_wh": session.energy_wh,
        "source": session.energy_source,
        "state": session.state,
        "review": session.review,
        "flags": session.flags,
    }
    assert {key: got[key] for key in story["session"]} == story["session"]
    charge = Charge.objects.filter(session=session).first()
    billed = None if charge is None or charge.gross_minor in (None, 0) else charge.gross_minor
    assert billed == story["bill"]
    if "readings" in story:
        assert Reading.objects.filter(session=session).count() == story["readings"]
    if "duration_min" in story:
        assert session.stopped_at - session.started_at == timedelta(minutes=story["duration_min"])
    if "connector" in story:
        connector = Connector.objects.get()
        assert {key: getattr(connector, key) for key in story["connector"]} == story["connector"]
    repaired = Message.objects.filter(error__contains="repaired")
    texts = [step for step in story["steps"] if "text" in step]
    assert repaired.count() == len(texts)  # the raw text is kept beside what was made of it


def _tolerated(story: dict[str, Any]) -> bool:
    profile = Station.objects.get().quirks
    return (profile.tolerated if profile else {}) == story["tolerated"]


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("name", STORIES)
async def test_a_misbehaving_charger_is_billed_right(url: str, name: str) -> None:
    story = STORIES[name]
    await db(_place)(story)
    await Player(url, story).play()
    await db(assert_became)(story)
    async with asyncio.timeout(ANSWER_S):  # counted soon, by nobody who waits
        while not await db(_tolerated)(story):  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    assert await db(_tolerated)(story)
