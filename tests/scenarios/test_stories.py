"""From the plug to the invoice, the same story in every dialect: equal rows, equal bills."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.core.files.base import ContentFile
from django.test import Client
from django.utils import timezone

from billing import settlement
from billing.models import Charge, HouseAccount, Payment, Tariff
from billing.sandbox.engine import Sandbox
from firmware import campaigns, images
from firmware.models import Campaign, UpdateJob
from monitoring.models import Session
from stations import commands, journal
from stations.models import Command, Connector, Station
from stations.simulator.clock import Clock
from stations.simulator.model import Status
from tests import make, paying
from tests.charger import VERSIONS, Charger
from tests.gateway import gateway

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.parametrize("version", VERSIONS),
]
db = sync_to_async(thread_sensitive=False)
WAIT_S = 10.0
# 10 kWh at 0.40 and a start at 1.00, 19 % VAT on top: 5.95
TEN_KWH = [("ENERGY", "10", 476), ("FLAT", "1", 119)]


@pytest.fixture
def url(settings: Any) -> Iterator[str]:
    with gateway() as address:
        settings.PUBLIC_URL = address.replace("ws://", "http://").removesuffix("/ocpp/")
        yield address.removesuffix("/")


def place(version: str, **fields: Any) -> Station:
    """A public station with a price, a seller and a house account for the tag FLEET."""
    make.tariff()
    make.seller()
    account = HouseAccount.objects.create(name="Fleet", email="fleet@example.com")
    account.tokens.add(make.token(uid="FLEET"))
    return make.station(identity="CP1", version=version, public=True, **fields)


async def until(true: Callable[[], Any], what: str) -> None:
    """Wait until a question to the database is answered with yes."""
    async with asyncio.timeout(WAIT_S):
        while not await db(true)():  # noqa: ASYNC110  the database cannot wake us
            await asyncio.sleep(0.05)
    assert await db(true)(), what


def bill() -> dict[str, Any]:
    """What the one session became: its energy, its charge and its document, without identities."""
    journal.catch_up()
    session = Session.objects.get()
    charge = Charge.objects.select_related("invoice").get(session=session)
    return {
        "session": (session.state, session.energy_wh, session.energy_source, session.review),
        "charge": (charge.state, charge.gross_minor, charge.currency),
        "lines": [
            (line["dimension"], line.get("quantity"), line["gross_minor"]) for line in charge.lines
        ],
        "invoice": None
        if charge.invoice is None
        else (charge.invoice.kind, charge.invoice.gross_minor, charge.invoice.snapshot["rates"]),
    }


async def test_a_fleet_card_charges_on_account(url: str, version: str) -> None:
    await db(place)(version)
    began = timezone.now() - timedelta(hours=1)
    async with Charger(url, "CP1", version) as charger:
        await charger.boot()
        await charger.plug(1)
        tx = await charger.start(1, "FLEET", at=began, register_wh=1_000)
        await charger.meter(tx, 4_000, at=began + timedelta(minutes=20))
        await charger.stop(tx, 10_000, at=began + timedelta(minutes=50))
        await charger.unplug(1)
    found = await db(bill)()
    assert found["session"] == ("closed", 10_000, "registers", "")
    assert found["charge"][0] == "unpaid"
    assert found["invoice"] is None
    assert sorted(found["lines"]) == TEN_KWH


async def test_what_happened_offline_costs_the_same(url: str, version: str) -> None:
    await db(place)(version)
    began = timezone.now() - timedelta(hours=1)
    async with Charger(url, "CP1", version) as charger:
        await charger.boot()
        await charger.plug(1)
        tx = await charger.start(1, "FLEET", at=began, register_wh=1_000)
        await charger.offline()
        await charger.meter(tx, 4_000, at=began + timedelta(minutes=20))
        await charger.stop(tx, 10_000, at=began + timedelta(minutes=50))
        await charger.unplug(1)
        await charger.online()
    found = await db(bill)()
    assert found["session"] == ("closed", 10_000, "registers", "")
    assert sorted(found["lines"]) == TEN_KWH
    stopped = await db(lambda: Session.objects.get().stopped_at)()
    assert abs(stopped - (began + timedelta(minutes=50))) < timedelta(seconds=1)


async def test_a_strangers_token_is_refused_and_what_flowed_is_held(url: str, version: str) -> None:
    await db(place)(version)
    async with Charger(url, "CP1", version) as charger:
        await charger.boot()
        await charger.plug(1)
        tx = await charger.start(1, "STRANGER", register_wh=0)
        assert not tx.accepted
        await charger.stop(tx, 2_000)
        await charger.unplug(1)
    found = await db(bill)()
    assert found["session"][:2] == ("closed", 2_000)
    assert found["session"][3] == "refused-start"
    assert found["charge"][0] == "held"
    assert found["invoice"] is None


async def guest_pays(box: Sandbox, connector: Connector) -> Payment:
    """A stranger presses pay on the phone and passes the card."""

    def press() -> Payment:
        sent = {"cap": 3000, "tariff": Tariff.objects.get().sha256, "email": "guest@example.com"}
        answer = Client().post(f"/c/{connector.code}/pay", sent)
        assert answer.status_code == 200, answer.content
        payment = Payment.objects.get()
        paying.control.pay(box, paying.intent_of(payment))
        paying.deliver(box)
        payment.refresh_from_db()
        return payment

    return await db(press)()


async def test_a_guest_pays_charges_and_gets_the_invoice(
    url: str, version: str, box: Sandbox
) -> None:
    station = await db(place)(version)
    connector = await db(station.connectors.get)()
    async with Charger(url, "CP1", version) as charger:
        await charger.boot()
        await charger.plug(1)
        payment = await guest_pays(box, connector)
        assert payment.state == "authorized"
        name = "RemoteStartTransaction" if version == "1.6" else "RequestStartTransaction"
        asked = await charger.expect(name)
        token = asked["idTag"] if version == "1.6" else asked["idToken"]["idToken"]
        assert token == payment.start_token
        await until(lambda: Session.objects.exists(), "the charger starts by itself")
        await charger.settled()
        (tx,) = charger.station.transactions
        await charger.stop(tx, 1_000, at=timezone.now() + timedelta(minutes=40))
        await charger.unplug(1)
    await until(lambda: Session.objects.filter(state="closed").exists(), "closed")
    found = await db(bill)()
    assert found["session"] == ("closed", 1_000, "registers", "")
    assert found["charge"] == ("invoiced", 167, "EUR")
    assert found["invoice"][1] == 167
    await db(payment.refresh_from_db)()
    assert (payment.state, payment.captured_minor) == ("captured", 167)
    assert (await db(paying.intent)(box, payment))["amount_received"] == 167


async def test_a_refused_remote_start_releases_the_reservation(
    url: str, version: str, box: Sandbox
) -> None:
    station = await db(place)(version)
    connector = await db(station.connectors.get)()
    async with Charger(url, "CP1", version) as charger:
        await charger.boot()
        charger.station.operative = False  # and has not said so yet
        await guest_pays(box, connector)
        await until(
            lambda: Command.objects.filter(name="remote_start", status="rejected").exists(),
            "the charger refused",
        )
        await db(journal.catch_up)()
    payment = await db(Payment.objects.get)()
    assert (payment.state, payment.captured_minor) == ("canceled", 0)
    assert (await db(paying.intent)(box, payment))["status"] == "canceled"


async def test_an_orphan_stop_is_kept_for_review_and_answered(url: str, version: str) -> None:
    await db(place)(version)
    async with Charger(url, "CP1", version) as charger:
        await charger.boot()
        answer = await charger.call(*orphan(version))
        assert "status" not in answer
    session = await db(Session.objects.get)()
    # 1.6 names a transaction we never gave; in 2.x an end says enough to make a session of.
    assert session.review == "orphan-stop" if version == "1.6" else session.flags == ["no-start"]
    await db(journal.catch_up)()
    states = await db(lambda: set(Charge.objects.values_list("state", flat=True)))()
    assert states <= {"held"}


def orphan(version: str) -> tuple[str, dict[str, Any]]:
    """The end of a session nobody has heard of."""
    now = timezone.now().isoformat().replace("+00:00", "Z")
    if version == "1.6":
        return "StopTransaction", {"transactionId": 424_242, "meterStop": 5_000, "timestamp": now}
    return "TransactionEvent", {
        "eventType": "Ended",
        "timestamp": now,
        "triggerReason": "EVDeparted",
        "seqNo": 3,
        "transactionInfo": {"transactionId": "nobody-knows", "stoppedReason": "EVDisconnected"},
        "evse": {"id": 1, "connectorId": 1},
    }


async def test_a_campaign_updates_a_station_that_downloads_and_boots_anew(
    url: str, version: str, settings: Any, tmp_path: Path
) -> None:
    settings.MEDIA_ROOT = tmp_path

    def prepare() -> Campaign:
        station = Station.objects.get(identity="CP1")
        Connector.objects.filter(station=station).update(status="Available")
        release = images.add(
            ContentFile(b"firmware" * 50_000, name="pillar-9.9.9.bin"),
            vendor=station.vendor,
            model=station.model,
            version="9.9.9",
        )
        made = campaigns.create("all", release, [station], waves=["100%"], bake_s=0, probation_s=0)
        campaigns.start(made)
        return made

    def drive() -> bool:
        journal.catch_up()
        campaigns.tick()
        return Campaign.objects.filter(state="completed").exists()

    await db(place)(version)
    async with Charger(url, "CP1", version, clock=Clock(speed=60)) as charger:
        await charger.boot()
        await db(prepare)()
        async with asyncio.timeout(30):
            while not await db(drive)():  # noqa: ASYNC110
                await asyncio.sleep(0.1)
    job = await db(UpdateJob.objects.select_related("station").get)()
    assert (job.state, job.station.firmware) == ("succeeded", "9.9.9")
    said = await db(lambda: [event.text for event in job.events.all()])()
    assert "fetched all 400000 bytes" in said
    assert "booted with 9.9.9" in said


async def test_an_order_ends_once_with_the_chargers_answer(url: str, version: str) -> None:
    station = await db(place)(version)
    async with Charger(url, "CP1", version) as charger:
        await charger.boot()
        order = await db(commands.send)(station, "trigger_message", message="Heartbeat")
        await until(lambda: Command.objects.get(pk=order.pk).answered_at, "answered")
    await db(order.refresh_from_db)()
    assert order.status == "accepted"
    assert order.response["status"] == "Accepted"
    ended = journal.Entry.objects.filter(kind="command.finished", subject=f"command-{order.pk}")
    assert await db(ended.count)() == 1


async def test_settling_twice_changes_nothing(url: str, version: str) -> None:
    await db(place)(version)
    async with Charger(url, "CP1", version) as charger:
        await charger.boot()
        tx = await charger.start(1, "FLEET", register_wh=0)
        await charger.stop(tx, 5_000)
        await charger.status(1, Status.AVAILABLE)
    first = await db(bill)()
    session = await db(Session.objects.get)()
    await db(settlement.settle)(session.pk)
    assert await db(bill)() == first
    assert await db(Charge.objects.count)() == 1
