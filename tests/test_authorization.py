"""May this token charge here, now? Decided a batch at a time."""

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from monitoring import authorization
from monitoring.authorization import Request, Verdict
from monitoring.models import Session
from stations.models import Token
from tests import make

pytestmark = pytest.mark.django_db


def decide(uid: str, **fields: Any) -> Verdict:
    return authorization.decide([Request(uid, **fields)])[0]


def test_a_known_token_is_accepted_in_any_case_with_its_group_and_language() -> None:
    token = make.token(uid="AbCd", group="FLEET", user=make.user(language="de"))
    assert decide("aBcD") == Verdict("Accepted", token.pk, "FLEET", None, "de")


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"status": Token.Status.BLOCKED}, "Blocked"),
        ({"status": Token.Status.UNKNOWN}, "Unknown"),
        ({"expires_at": timezone.now() - timedelta(seconds=1)}, "Expired"),
        ({"max_sessions": 0}, "ConcurrentTx"),
        ({"expires_at": timezone.now() + timedelta(hours=1), "type": "Central"}, "Accepted"),
    ],
)
def test_status_expiry_and_limit_decide(fields: dict[str, Any], status: str) -> None:
    make.token(uid="T", **fields)
    verdict = decide("T")
    assert (verdict.status, verdict.accepted) == (status, status == "Accepted")


def test_only_running_sessions_count_and_not_the_one_asked_for() -> None:
    token, station = make.token(uid="T", max_sessions=1), make.station()
    running = make.session(station, token=token, state=Session.State.ACTIVE)
    make.session(station, token=token, state=Session.State.CLOSED)
    assert decide("T").status == "ConcurrentTx"
    assert decide("T", session_id=running.pk).status == "Accepted"


def test_a_session_begun_earlier_in_the_batch_counts() -> None:
    make.token(uid="T", max_sessions=1)
    verdicts = authorization.decide([Request("T", starts=True), Request("T", starts=True)])
    assert [verdict.status for verdict in verdicts] == ["Accepted", "ConcurrentTx"]


def test_an_unknown_card_is_kept_once_so_that_staff_can_enrol_it() -> None:
    verdicts = authorization.decide([Request("New"), Request("NEW"), Request("a\x00b")])
    assert [verdict.status for verdict in verdicts] == ["Unknown"] * 3
    assert decide("new").status == "Unknown"
    assert Token.objects.get().status == Token.Status.UNKNOWN


def test_strangers_cannot_fill_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(authorization, "MAX_STRANGERS", 3)
    authorization.decide([Request(f"X{n}") for n in range(10)])
    decide("Y")
    assert Token.objects.count() == 3


def test_a_station_that_asks_nobody_is_not_refused() -> None:
    assert decide("", token_type="NoAuthorization") == Verdict("Accepted")


def test_a_batch_takes_two_queries(django_assert_num_queries: Any) -> None:
    for n in range(20):
        make.token(uid=f"T{n}", max_sessions=2)
    with django_assert_num_queries(2):
        verdicts = authorization.decide([Request(f"T{n}") for n in range(20)])
    assert {verdict.status for verdict in verdicts} == {"Accepted"}


def test_a_master_pass_is_known_and_starts_nothing(settings: Any) -> None:
    settings.MASTER_PASS_GROUP = "SERVICE"
    make.token(uid="PASS", group="SERVICE")
    assert (decide("PASS").status, decide("PASS").group) == ("Accepted", "SERVICE")
    assert decide("PASS", starts=True).status == "Invalid"
    settings.MASTER_PASS_GROUP = ""
    assert decide("PASS", starts=True).status == "Accepted"


def test_who_may_stop_what_another_token_started(settings: Any) -> None:
    settings.MASTER_PASS_GROUP = "SERVICE"
    for uid, group in (("A", "FLEET"), ("B", "FLEET"), ("C", "OTHER"), ("D", ""), ("E", ""),
                       ("PASS", "SERVICE")):  # fmt: skip
        make.token(uid=uid, group=group)
    asked = [("A", "a"), ("A", "B"), ("A", "C"), ("D", "E"), ("A", "PASS"), ("D", "NOBODY")]
    assert authorization.may_stop(asked) == [True, True, False, False, True, False]
