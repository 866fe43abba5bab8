"""`manage.py sessions` and `manage.py tokens`."""

import json
from datetime import UTC, datetime
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from stations.models import Token
from tests import make

pytestmark = pytest.mark.django_db


def run(*words: str) -> Any:
    out = StringIO()
    call_command(*words, "--json", stdout=out)
    return json.loads(out.getvalue())


def test_sessions_are_listed_with_the_keys_scripts_rely_on() -> None:
    station = make.station(identity="CP-1")
    at = datetime(2026, 11, 22, 8, tzinfo=UTC)
    make.session(station, ref="17", started_at=at, stopped_at=at, token_uid="TAG")
    make.session(make.station(identity="CP-2"), started_at=at)
    [row] = run("sessions", "list", "--station", "CP-1")
    assert row["id"] == station.sessions.get().pk
    assert row | {"id": 0} == {
        "id": 0,
        "ref": "17",
        "station": "CP-1",
        "connector": 1,
        "token": "TAG",
        "started": "2026-11-22T08:00:00+00:00",
        "stopped": "2026-11-22T08:00:00+00:00",
        "closed": row["closed"],
        "energy_wh": 10_000,
        "energy_source": "registers",
        "state": "closed",
        "review": "",
        "flags": [],
        "cost": None,
        "currency": None,
    }
    assert len(run("sessions", "list", "--since", "2026-11-22")) == 2
    assert run("sessions", "list", "--since", "2026-11-22T08:00:01Z") == []


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["sessions", "list", "--station", "CP-9"], "There is no station CP-9"),
        (["sessions", "list", "--since", "yesterday"], "yesterday is no date"),
        (["tokens", "add", " "], "1 to 255 printable"),
        (["tokens", "add", "T", "--driver", "nobody"], "no e-mail address"),
    ],
)
def test_bad_input_gets_one_sentence(words: list[str], sentence: str) -> None:
    with pytest.raises(CommandError, match=sentence):
        run(*words)


def test_a_token_is_added_with_its_driver() -> None:
    row = run("tokens", "add", "AABB", "--driver", "New@Example.com", "--expires", "2027-01-01")
    token = Token.objects.get()
    assert token.user is not None
    assert (token.uid, token.status, token.user.email) == ("AABB", "accepted", "new@example.com")
    assert row["expires"] == "2027-01-01T00:00:00+00:00"
    with pytest.raises(CommandError, match="already"):
        run("tokens", "add", "aabb")


def test_a_card_that_waits_is_enrolled() -> None:
    make.token(uid="AABB", status=Token.Status.UNKNOWN)
    run("tokens", "add", "aabb", "--status", "blocked")
    assert Token.objects.get().status == "blocked"
    assert [row["uid"] for row in run("tokens", "list")] == ["AABB"]
