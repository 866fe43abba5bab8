"""`manage.py stations`, `commands` and `messages`: what they print and what they refuse."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from stations import commands, security
from stations.models import Command, Message, Station
from tests import make
from tests.running import ROOT

pytestmark = [pytest.mark.django_db, pytest.mark.slow]


def manage(*arguments: str) -> Any:
    out = StringIO()
    call_command(*arguments, "--json", stdout=out)
    return json.loads(out.getvalue())


def test_a_station_is_added_with_everything_it_needs() -> None:
    row = manage(
        "stations",
        "add",
        "CP 1",
        "--connectors=2",
        "--site=Depot",
        "--time-zone=Europe/Paris",
        "--password=secret",
        "--version=2.0.1",
        "--public",
    )
    assert (row["identity"], row["version"], row["state"]) == ("CP 1", "2.0.1", "accepted")
    station = Station.objects.get()
    assert (station.public, station.security_profile, station.site.time_zone) == (
        True,
        1,
        "Europe/Paris",
    )
    assert security.verify_password("secret", station.password_hash)
    assert [one["number"] for one in row["connectors"]] == [1, 2]
    code = row["connectors"][0]["code"]
    assert row["connectors"][0]["url"].endswith(f"/c/{code}")
    assert manage("stations", "list") == [row]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["a/b"], "no slash"),
        (["x" * 49], "48 characters"),
        (["CP", "--connectors=0"], "1 to 100"),
        (["CP", "--site=S", "--time-zone=Mars"], "not a time zone"),
        (["CP", "--time-zone=Europe/Berlin"], "--site"),
        (["OLD"], "already"),
    ],
)
def test_bad_input_is_refused_in_a_sentence(arguments: list[str], sentence: str) -> None:
    make.station(identity="OLD")
    with pytest.raises(CommandError, match=sentence):
        manage("stations", "add", *arguments)


def test_an_order_is_queued_and_shown() -> None:
    make.station(identity="CP")
    row = manage("commands", "send", "CP", "reset", '{"hard": true}')
    assert (row["name"], row["station"], row["status"]) == ("reset", "CP", "queued")
    assert Command.objects.get(pk=row["id"]).args == {"hard": True}


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["NOBODY", "reset"], "no station NOBODY"),
        (["CP", "explode"], "no command"),
        (["CP", "reset", "[]"], "JSON object"),
        (["CP", "reset", "{"], "JSON object"),
        (["CP", "unlock"], "evse"),
    ],
)
def test_a_bad_order_is_refused_in_a_sentence(arguments: list[str], sentence: str) -> None:
    make.station(identity="CP")
    with pytest.raises(CommandError, match=sentence):
        manage("commands", "send", *arguments)


class Answering:
    """Ends the order that waits, as a charger's answer would."""

    def __init__(self, status: str, error: str = "") -> None:
        self.status, self.error = status, error

    def __call__(self, _seconds: float) -> None:
        for order in Command.objects.filter(status="queued"):
            commands.claim(order, epoch=1, message_id="m", action="Reset", request={})
            commands.finish(order.pk, Command.Status(self.status), error=self.error)


@pytest.mark.parametrize("status", ["accepted", "scheduled"])
def test_waiting_for_an_order_that_is_carried_out(monkeypatch, status: str) -> None:
    make.station(identity="CP")
    monkeypatch.setattr(time, "sleep", Answering(status))
    assert manage("commands", "send", "CP", "reset", "--wait=5")["status"] == status


@pytest.mark.parametrize(
    ("status", "error", "sentence"),
    [
        ("rejected", "Rejected", "CP, reset: Refused by the charger: Rejected."),
        ("failed", "NotSupported: no.", "CP, reset: Failed: NotSupported: no."),
        ("timed_out", "", "CP, reset: No answer."),
    ],
)
def test_waiting_for_an_order_that_fails_is_an_error(
    monkeypatch, capsys, status: str, error: str, sentence: str
) -> None:
    make.station(identity="CP")
    monkeypatch.setattr(time, "sleep", Answering(status, error))
    with pytest.raises(CommandError) as caught:
        call_command("commands", "send", "CP", "reset", "--wait=5", "--json")
    assert (str(caught.value), caught.value.returncode) == (sentence, 1)
    assert json.loads(capsys.readouterr().out)["status"] == status


def test_waiting_in_vain_is_an_error_and_not_waiting_is_none() -> None:
    make.station(identity="CP")
    assert manage("commands", "send", "CP", "reset")["status"] == "queued"
    with pytest.raises(CommandError, match=r"CP has not answered reset within 0\.1 s; order \d+"):
        manage("commands", "send", "CP", "reset", "--wait=0.1")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["commands", "send"], "Give ID, NAME. See: manage.py commands send --help"),
        (["commands"], "Give VERB. See: manage.py commands --help"),
        (["stations", "add", "X", "--colour=red"], "--colour=red is not understood: leave it out."),
        (["commands", "send", "A", "reset", "--wait=x"], "invalid float value: 'x'."),
        (["stations", "explode"], "invalid choice: 'explode'"),
    ],
)
def test_what_cannot_be_parsed_is_one_sentence(arguments: list[str], sentence: str) -> None:
    done = subprocess.run(
        [sys.executable, "manage.py", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert sentence in done.stderr
    assert done.stderr.count("\n") == 1
    with pytest.raises(CommandError) as caught:
        call_command(*arguments)
    assert "usage" not in str(caught.value)


def test_frames_are_listed_with_payload_and_answer() -> None:
    station = make.station(identity="CP")
    now = timezone.now()
    rows = [
        Message(at=now.replace(year=2020), station=station, direction="in", payload="broken {"),
        Message(
            at=now,
            station=station,
            direction="in",
            action="Heartbeat",
            message_id="7",
            payload="{}",
            answer='{"currentTime":"x"}',
            latency_ms=1.5,
        ),
    ]
    Message.objects.bulk_create(rows)
    listed = manage("messages", "list", "--station=CP")
    assert [row["payload"] for row in listed] == ["broken {", {}]
    assert listed[1] == {
        "at": now.isoformat(),
        "direction": "in",
        "action": "Heartbeat",
        "id": "7",
        "payload": {},
        "answer": {"currentTime": "x"},
        "latency_ms": 1.5,
        "error": "",
    }
    assert len(manage("messages", "list", "--station=CP", "--since=2021-01-01T00:00:00Z")) == 1
    with pytest.raises(CommandError, match="--since"):
        manage("messages", "list", "--station=CP", "--since=yesterday")
