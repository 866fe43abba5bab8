"""News: written with what it tells of, reacted to after commit, never lost."""

from datetime import timedelta

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
