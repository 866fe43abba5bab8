"""Gaps in what a station told of a transaction: asked for, filled, or given up."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from django.db import transaction
from django.utils import timezone

from monitoring import gaps, sessions
from monitoring.facts import Update
from monitoring.models import Session
from stations import journal
from stations.models import Command, Station
from tests import make
from tests.charger import Charger
from tests.gateway import db, gateway
from tests.test_sessions import put, start, stop

LONG_AGO = timezone.now() - timedelta(minutes=30)


@pytest.fixture
def station(db: None) -> Station:
    make.token(uid="TAG1")
    return make.station(version="2.0.1", connected=True)


def told(status: str = "accepted", **answer: Any) -> None:
    """The station answers the question about its transaction."""
    command = Command.objects.latest("pk")
    command.status, command.response = status, answer
    command.save()
    gaps.answered(command)


def gap(station: Station, ref: str = "tx-1") -> Session:
    """A session of which event 1 is missing."""
    put(start(station, ref, seq_no=0, at=LONG_AGO))
    put(Update(station.pk, ref, LONG_AGO, LONG_AGO, seq_no=2))
    return Session.objects.get(ref=ref)


def test_a_station_is_asked_about_a_gap_and_not_twice(station: Station) -> None:
    session = gap(station)
    assert gaps.tick() == 1
    command = Command.objects.get()
    assert (command.name, command.args) == ("get_transaction_status", {"ref": "tx-1"})
    assert command.subject == f"session-{session.pk}"
    assert gaps.tick() == 0
    assert gaps.tick(timezone.now() + timedelta(minutes=20)) == 1


def test_nobody_is_asked_where_nothing_is_missing_or_nobody_listens(station: Station) -> None:
    put(start(station, "whole", seq_no=0, at=LONG_AGO))
    put(Update(station.pk, "whole", LONG_AGO, LONG_AGO, seq_no=1))
    gap(make.station(version="2.0.1", connected=False), "offline")
    old = make.station(version="1.6", connected=True)
    put(stop(old, "4711", at=LONG_AGO))  # an orphan of 1.6, which knows no such question
    put(start(station, "now", seq_no=0, at=timezone.now(), evse=2))
    put(Update(station.pk, "now", timezone.now(), timezone.now(), seq_no=2))
    assert gaps.tick() == 0


def test_while_messages_wait_so_do_we(station: Station) -> None:
    gap(station)
    gaps.tick()
    told(messagesInQueue=True, ongoingIndicator=True)
    told("failed")
    assert Session.objects.get().flags == ["seq-gap"]


def test_what_is_lost_is_marked_and_a_transaction_that_ended_untold_is_closed(
    station: Station,
) -> None:
    gap(station)
    gaps.tick()
    told(messagesInQueue=False, ongoingIndicator=False)
    row = Session.objects.get()
    assert (row.flags, row.state) == (["lost-events", "seq-gap"], "active")
    assert sessions.close_due() == 1
    row.refresh_from_db()
    assert (row.state, row.flags) == ("closed", ["lost-events", "no-stop", "seq-gap"])
    assert gaps.tick(timezone.now() + timedelta(hours=1)) == 0


def test_a_running_transaction_goes_on_and_a_gap_filled_after_all_is_none(
    station: Station,
) -> None:
    gap(station)
    gaps.tick()
    told(messagesInQueue=False, ongoingIndicator=True)
    assert Session.objects.get().close_by is None
    put(Update(station.pk, "tx-1", LONG_AGO, LONG_AGO, seq_no=1))
    assert Session.objects.get().flags == []
    told(messagesInQueue=False, ongoingIndicator=False)  # an answer that is taken late
    assert Session.objects.get().close_by is None


def _asked() -> bool:
    gaps.tick()
    journal.catch_up()
    return "lost-events" in Session.objects.get().flags


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("version", ["2.0.1", "2.1"])
async def test_a_charger_that_lost_an_event_is_asked_and_answers(version: str) -> None:
    await db(make.station)(identity="CP1", version=version)
    await db(make.token)(uid="TAG1")
    with gateway() as url:
        async with Charger(url.removesuffix("/"), "CP1", version) as charger:
            await charger.boot()
            station = await db(Station.objects.get)()
            await db(lambda: gap(station))()
            async with asyncio.timeout(10):
                while not await db(_asked)():  # noqa: ASYNC110  the database cannot wake us
                    await asyncio.sleep(0.05)
            asked = await charger.expect("GetTransactionStatus")
    assert asked == {"transactionId": "tx-1"}


def test_an_answer_about_a_session_that_is_gone_is_nobodys(station: Station) -> None:
    gap(station)
    gaps.tick()
    with transaction.atomic():
        Session.objects.all().delete()
    told(messagesInQueue=False)
    assert Session.objects.count() == 0
