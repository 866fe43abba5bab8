"""News: written with what it tells of, reacted to after commit, never lost."""

import threading
from datetime import timedelta
from typing import Any

import pytest
from celery import current_app, shared_task
from django.db import transaction
from django.utils import timezone

from stations import journal
from stations.models import Entry
from tests import make

heard: list[int] = []


@shared_task(name="tests.listen")
def listen(entry_id: int) -> None:
    heard.append(entry_id)


@shared_task(name="tests.fail")
def fail(entry_id: int) -> None:
    raise ValueError("no")


@pytest.fixture
def reactions(monkeypatch: pytest.MonkeyPatch) -> None:
    heard.clear()
    table = {"it.worked": ["tests.listen"], "it.failed": ["tests.fail"]}
    monkeypatch.setattr(journal, "reactions", lambda: table)
    assert "tests.listen" in current_app.tasks


@pytest.mark.django_db(transaction=True)
def test_news_outside_a_transaction_is_refused() -> None:
    with pytest.raises(RuntimeError, match="atomic"):
        journal.record("it.worked")


@pytest.mark.django_db
def test_an_entry_names_its_subject_station_and_actor() -> None:
    station, user = make.station(), make.user()
    with transaction.atomic(), journal.acting_as(user):
        news = journal.record("station.moved", station, to="Berlin")
    news.refresh_from_db()
    assert (news.subject, news.station, news.actor) == (f"station-{station.pk}", station, user)
    assert news.data == {"to": "Berlin"}
    assert not news.pending


@pytest.mark.django_db
def test_a_reaction_runs_once_and_a_failed_one_stays_pending(reactions: None) -> None:
    with transaction.atomic():
        good, bad = journal.record("it.worked"), journal.record("it.failed")
    journal.react([good.pk, bad.pk])
    journal.react([good.pk, bad.pk])
    assert heard == [good.pk]
    bad.refresh_from_db()
    assert (bad.pending, bad.attempts) == (True, 2)
    assert not Entry.objects.get(pk=good.pk).pending


@pytest.mark.django_db
def test_an_entry_taken_on_by_another_worker_is_left_to_it_until_its_lease_ends(
    reactions: None,
) -> None:
    with transaction.atomic():
        news = journal.record("it.worked")
    now = timezone.now()
    Entry.objects.update(claimed_at=now, at=now - timedelta(hours=1))
    journal.react([news.pk])
    assert journal.overdue() == heard == []
    Entry.objects.update(claimed_at=now - timedelta(seconds=journal.LEASE_S + 1))
    assert journal.overdue() == [news.pk]
    journal.react([news.pk])
    assert heard == [news.pk]


@pytest.mark.django_db
def test_a_worker_rests_after_a_reaction_only_while_chargers_keep_its_process_busy(
    reactions: None, monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    rests: list[float] = []
    monkeypatch.setattr(journal.time, "sleep", rests.append)
    monkeypatch.setattr(journal.writer, "busy", lambda: True)
    settings.EMBEDDED = True
    with transaction.atomic():
        news = [journal.record("it.worked") for _ in range(3)]
    journal.react([one.pk for one in news])
    assert len(rests) == 3
    assert all(0 < rest <= 2 for rest in rests)
    settings.EMBEDDED = False
    with transaction.atomic():
        news = [journal.record("it.worked")]
    journal.react([news[0].pk])
    assert len(rests) == 3


@pytest.mark.django_db(transaction=True)
def test_what_the_writer_records_is_dispatched_by_another_thread(
    reactions: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[tuple[str, list[int]]] = []
    done = threading.Event()

    def dispatch(ids: list[int]) -> None:
        told.append((threading.current_thread().name, ids))
        done.set()

    monkeypatch.setattr(journal, "dispatch", dispatch)
    monkeypatch.setattr(journal.writer, "writing", lambda: True)
    with transaction.atomic():
        ids = [journal.record("it.worked").pk for _ in range(3)]
    assert done.wait(10)
    assert told == [("dispatch", ids)]
