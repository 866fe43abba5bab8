"""What a browser may hear of the stream of changes."""

import re
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import AnonymousUser
from django.contrib.sessions.backends.db import SessionStore
from django.test import RequestFactory
from django.utils import timezone

from billing.models import Charge
from config import urls  # noqa: F401  each app says beside its URLs who hears its topics
from monitoring.models import Incident, Severity
from stations import live
from stations.models import Command, CommandBatch, Station, User
from stations.views import allowed_topics
from tests import make

pytestmark = pytest.mark.django_db


def visit(user: Any) -> Any:
    """A request of a signed-in person, as the stream keeps it."""
    request = RequestFactory().get("/live/")
    request.user, request.session = user, SessionStore()
    request.session["_auth_user_id"] = str(user.pk)
    request.session.save()
    return request


def heard(user: Any, *topics: str) -> set[str]:
    return set(allowed_topics(visit(user), list(topics)))


def topics_of(station: Station) -> set[str]:
    """One topic of every kind about a station."""
    session = make.session(station)
    now = timezone.now()
    batch = CommandBatch.objects.create(name="reset", args={})
    command = Command.objects.create(
        station=station, name="reset", batch=batch, created_at=now, expires_at=now
    )
    incident = Incident.objects.create(
        site=station.site, station=station, family="hardware", rule="faulted",
        severity=Severity.PAGE, opened_at=now, summary="Faulted",
    )  # fmt: skip
    charge = Charge.objects.create(session=session, currency="EUR")
    connector = station.connectors.get()
    return {
        f"station-{station.pk}", f"connector-{connector.pk}", f"session-{session.pk}",
        f"command-{command.pk}", f"commandbatch-{batch.pk}", f"incident-{incident.pk}",
        f"charge-{charge.pk}",
    }  # fmt: skip


def test_staff_of_one_site_hear_its_topics_and_no_others() -> None:
    here, there = make.site(), make.site()
    mine, others = topics_of(make.station(site=here)), topics_of(make.station(site=there))
    homeless = topics_of(make.station())
    local, chief = make.member("Operations", here), make.member("Operations")
    assert heard(local, *mine, *others, *homeless) == mine
    assert heard(chief, *mine, *others, *homeless) == mine | others | homeless


def test_what_a_group_may_not_view_it_does_not_hear() -> None:
    station = make.station()
    session = make.session(station)
    nobody = make.user(is_staff=True)
    assert heard(nobody, "fleet", "incidents", f"station-{station.pk}") == set()
    reader = make.member("Read-only")
    assert heard(reader, "fleet", f"session-{session.pk}") == {"fleet", f"session-{session.pk}"}


def test_drivers_guests_and_the_signed_out_hear_nothing_of_staffs() -> None:
    assert heard(make.user(), "fleet") == set()
    assert heard(AnonymousUser(), "fleet") == set()
    request = visit(make.staff())
    assert set(allowed_topics(request, ["fleet"])) == {"fleet"}
    SessionStore().delete(request.session.session_key)
    assert allowed_topics(request, ["fleet"]) == {}


def test_an_open_stream_notices_that_a_person_was_made_inactive() -> None:
    boss = make.staff()
    request = visit(boss)
    User.objects.filter(pk=boss.pk).update(is_active=False)
    assert allowed_topics(request, ["fleet"]) == {}


@pytest.mark.parametrize("topic", ["orders-1", "nonsense", "station-", "station-x", "payment-17"])
def test_topics_of_processes_and_nonsense_are_heard_by_nobody(topic: str) -> None:
    make.station()
    assert heard(make.staff(), topic) == set()


def test_who_hears_a_topic_costs_three_questions_however_many_are_asked(
    django_assert_num_queries: Any,
) -> None:
    site = make.site()
    topics = [f"station-{make.station(site=site).pk}" for _ in range(40)]
    request = visit(make.member("Operations", site))
    with django_assert_num_queries(6):  # session, person, sites, two of permissions, stations
        assert len(allowed_topics(request, topics)) == 40


def test_every_topic_a_page_of_the_back_office_asks_for_has_its_rule() -> None:
    asked = set()
    for page in Path("templates/admin").rglob("*.html"):
        for topics in re.findall(r'data-live="([^"]*)"', page.read_text()):
            asked |= {re.split(r"[-{]", one)[0] for one in topics.split(",")}
    assert asked - {""} <= live.HEARINGS.keys()
