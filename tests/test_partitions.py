"""Old rows leave by partition on PostgreSQL, by deletion on SQLite."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from stations import partitions
from stations.models import Message
from stations.tasks import FRAMES, keep_frames
from tests import make

MONTHS = partitions.Table("monitoring_reading")


def frame(at: datetime) -> Message:
    return Message.objects.create(at=at, station=make.station(), direction="in", action="Heartbeat")


def test_periods_are_calendar_months_or_weeks_from_monday() -> None:
    sunday = datetime(2026, 11, 22, 23, 59, tzinfo=UTC)
    assert FRAMES.begin(sunday) == datetime(2026, 11, 16, tzinfo=UTC)
    assert FRAMES.following(FRAMES.begin(sunday)) == datetime(2026, 11, 23, tzinfo=UTC)
    assert MONTHS.begin(sunday) == datetime(2026, 11, 1, tzinfo=UTC)
    assert MONTHS.following(datetime(2026, 12, 1, tzinfo=UTC)) == datetime(2027, 1, 1, tzinfo=UTC)
    assert MONTHS.partition(datetime(2027, 1, 1, tzinfo=UTC)) == "monitoring_reading_20270101"


@pytest.mark.django_db
def test_frames_are_kept_as_long_as_the_setting_says(settings: Any) -> None:
    settings.FRAMES_KEPT_DAYS = 30
    now = timezone.now()
    old, kept = frame(now - timedelta(days=45)), frame(now - timedelta(days=15))
    absurd = frame(datetime(1970, 1, 1, tzinfo=UTC))
    keep_frames()
    assert set(Message.objects.values_list("pk", flat=True)) == {kept.pk}
    assert old.pk < kept.pk < absurd.pk


@pytest.mark.django_db
def test_a_partition_made_late_takes_over_its_rows() -> None:
    if connection.vendor != "postgresql":  # its tables are plain: nothing to make
        assert partitions.ensure(FRAMES) == []
        return
    at = timezone.now() + timedelta(days=400)
    row = frame(at)
    made = partitions.ensure(FRAMES, at)
    assert FRAMES.partition(FRAMES.begin(at)) in made
    with connection.cursor() as cursor:
        cursor.execute("SELECT tableoid::regclass::text FROM stations_message")
        assert cursor.fetchone() == (FRAMES.partition(FRAMES.begin(at)),)
    assert Message.objects.get() == row
    assert partitions.ensure(FRAMES, at) == []


@pytest.mark.django_db
def test_what_is_too_old_goes_at_once() -> None:
    at = timezone.now() - timedelta(days=200)
    partitions.ensure(FRAMES, at)
    frame(at)
    before = at + timedelta(days=60)
    gone = partitions.prune(FRAMES, before)
    assert gone == (4 if connection.vendor == "postgresql" else 1)  # partitions, or rows
    assert not Message.objects.exists()
