"""Orders: what is queued, claimed once, ended once, and swept."""

from datetime import timedelta

import pytest
from django.utils import timezone

from stations import commands
from stations.models import Command, Entry
from tests import make

pytestmark = pytest.mark.django_db


def test_sending_writes_a_queued_row_and_news() -> None:
    station = make.station()
    command = commands.send(station, "reset", hard=True, subject="job-7")
    assert (command.status, command.args) == ("queued", {"hard": True})
    news = Entry.objects.get(kind="command.queued")
    assert (news.station, news.data["subject"]) == (station, "job-7")


def test_an_unknown_command_and_wrong_arguments_are_refused_in_words() -> None:
    station = make.station()
    with pytest.raises(commands.UnknownCommand, match="no command “explode”"):
        commands.send(station, "explode")
    with pytest.raises(commands.BadArguments, match="evse"):
        commands.send(station, "unlock")
    with pytest.raises(commands.BadArguments, match="takes no colour"):
        commands.send(station, "reset", colour="red")
    assert Command.objects.count() == 0


def test_only_one_of_two_sockets_claims_a_command() -> None:
    command = commands.send(make.station(), "clear_cache")
    frame = {"message_id": "1", "action": "ClearCache", "request": {}}
    assert commands.claim(command, epoch=1, **frame)
    assert not commands.claim(command, epoch=2, **frame)
    command.refresh_from_db()
    assert (command.status, command.epoch) == ("sent", 1)


def test_a_command_ends_once_and_keeps_a_late_answer() -> None:
    command = commands.send(make.station(), "clear_cache")
    commands.claim(command, epoch=1, message_id="1", action="ClearCache", request={})
    assert commands.finish(command.pk, Command.Status.TIMED_OUT, error="No answer.")
    assert not commands.finish(command.pk, Command.Status.ACCEPTED, response={"status": "Accepted"})
    command.refresh_from_db()
    assert (command.status, command.response) == ("timed_out", {"status": "Accepted"})
    assert Entry.objects.filter(kind="command.finished").count() == 1


def test_the_sweep_ends_what_expired_unsent() -> None:
    command = commands.send(make.station(), "clear_cache")
    Command.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    assert not commands.claim(command, epoch=1, message_id="1", action="x", request={})
    assert commands.sweep() == 1
    command.refresh_from_db()
    assert command.status == "expired"


@pytest.mark.parametrize(
    ("name", "given", "kept"),
    [
        ("change_availability", {"operative": False, "evse": 1}, {"operative": False, "evse": 1}),
        ("get_configuration", {"keys": ["A", "B"]}, {"keys": ["A", "B"]}),
        ("get_configuration", {}, {}),
        ("remote_start", {"evse": 1, "token_uid": "T"}, {"evse": 1, "token_uid": "T"}),
    ],
)
def test_arguments_are_cleaned_to_json(name: str, given: dict, kept: dict) -> None:
    assert commands.check(name, given) == kept
