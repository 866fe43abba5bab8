"""Commands from the back office: dialogs, permissions, typed confirmation, bulk, live answers."""

from typing import Any

import pytest
from django.test import Client
from django.utils.html import escape

from stations import commands
from stations.catalogue import COMMANDS
from stations.models import Command, CommandBatch, Connector, Station, Variable
from tests import make

pytestmark = [pytest.mark.django_db, pytest.mark.slow]

STATIONS = "/admin/stations/station/"


def dialog(station: Station, name: str) -> str:
    return f"{STATIONS}{station.pk}/order/{name}/"


@pytest.fixture
def staff(client: Client) -> Client:
    client.force_login(make.staff(name="Ada"))
    return client


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_a_dialog(staff: Client, name: str) -> None:
    station = make.station(2, connected=True)
    page = staff.get(dialog(station, name)).content.decode()
    assert 'id="dialog"' in page
    assert f"{escape(COMMANDS[name].label)}</h1>" in page
    assert "csrfmiddlewaretoken" in page


def test_a_post_sends_the_command_and_shows_its_live_row(staff: Client) -> None:
    station = make.station(connected=True)
    answer = staff.post(dialog(station, "unlock"), {"evse": "1"})
    command = Command.objects.get()
    assert (command.name, command.args, str(command.created_by)) == ("unlock", {"evse": 1}, "Ada")
    assert answer["HX-Retarget"] == "#dialog"
    assert f'data-live="command-{command.pk}"' in answer.content.decode()


def test_a_get_sends_nothing(staff: Client) -> None:
    station = make.station(connected=True)
    staff.get(dialog(station, "unlock"), {"evse": "1"})
    assert not Command.objects.exists()


def test_a_missing_argument_is_told_in_the_dialog(staff: Client) -> None:
    answer = staff.post(dialog(make.station(), "unlock"), {"evse": ""})
    assert "This field is required." in answer.content.decode()
    assert not Command.objects.exists()


def test_a_hard_reset_wants_the_identity_typed_a_soft_one_does_not(staff: Client) -> None:
    station = make.station(identity="CP-9", connected=True)
    refused = staff.post(dialog(station, "reset"), {"hard": "on"})
    assert "Type CP-9 to confirm." in refused.content.decode()
    staff.post(dialog(station, "reset"), {"hard": "on", "confirm": "CP-8"})
    assert not Command.objects.exists()
    staff.post(dialog(station, "reset"), {"hard": "on", "confirm": "CP-9"})
    staff.post(dialog(station, "reset"), {})
    hard = [command.args.get("hard", False) for command in Command.objects.order_by("pk")]
    assert hard == [True, False]


def test_the_dialog_offers_the_stations_own_connectors_and_sessions(staff: Client) -> None:
    station = make.station(2, connected=True)
    plug = station.connectors.get(evse__number=2)
    Connector.objects.filter(pk=plug.pk).update(status=Connector.Status.CHARGING)
    make.session(station, connector=plug, ref="tx-5", stopped_at=None, closed_at=None)
    assert "2 · Type 2 · Charging" in staff.get(dialog(station, "unlock")).content.decode()
    assert 'value="tx-5"' in staff.get(dialog(station, "remote_stop")).content.decode()


def test_a_changed_key_becomes_the_wanted_value(staff: Client) -> None:
    station = make.station(version="1.6", connected=True)
    Variable.objects.create(station=station, name="HeartbeatInterval", value="300")
    staff.post(dialog(station, "change_configuration"), {"key": "HeartbeatInterval", "value": "60"})
    row = Variable.objects.get()
    assert (row.value, row.wanted) == ("300", "60")
    assert Command.objects.get().args == {"key": "HeartbeatInterval", "value": "60"}


def test_a_password_key_is_sent_but_not_kept(staff: Client) -> None:
    station = make.station(version="1.6", connected=True)
    staff.post(dialog(station, "change_configuration"),
               {"key": "AuthorizationKey", "value": "0011223344556677"})  # fmt: skip
    assert Command.objects.get().args["value"] == "0011223344556677"
    assert not Variable.objects.exists()


def test_each_command_needs_its_own_permission(client: Client) -> None:
    station = make.station(connected=True)
    client.force_login(make.member("Support"))
    menu = client.get(f"{STATIONS}{station.pk}/change/").content.decode()
    assert "Unlock connector" in menu
    assert "Change configuration" not in menu
    assert client.post(dialog(station, "unlock"), {"evse": 1}).status_code == 200
    refused = client.post(dialog(station, "change_configuration"), {"key": "a", "value": "b"})
    assert refused.status_code == 403
    assert client.post(dialog(station, "update_firmware"), {}).status_code == 403
    assert Command.objects.count() == 1


def test_readers_see_no_actions_and_send_nothing(client: Client) -> None:
    station = make.station(connected=True)
    client.force_login(make.member("Read-only"))
    page = client.get(f"{STATIONS}{station.pk}/change/").content.decode()
    assert "actions-button" not in page
    assert client.post(dialog(station, "unlock"), {"evse": 1}).status_code == 403
    assert client.post(f"{STATIONS}bulk/", {"station": station.pk}).status_code == 403


def test_the_panel_goes_from_waiting_to_the_chargers_answer(staff: Client) -> None:
    station = make.station(connected=True)
    command = commands.send(station, "reset")
    url = f"/admin/stations/command/{command.pk}/panel/"
    assert "On its way to the station" in staff.get(url).content.decode()
    commands.claim(command, epoch=1, message_id="m1", action="Reset", request={"type": "Soft"})
    assert "Waiting for the station&#x27;s answer" in staff.get(url).content.decode().replace(
        "station's", "station&#x27;s"
    )
    commands.finish(command.pk, Command.Status.ACCEPTED, response={"status": "Accepted"})
    page = staff.get(url).content.decode()
    assert "data-live=" not in page
    assert '<span class="s">&quot;Accepted&quot;</span>' in page
    assert staff.get(f"/admin/stations/command/{command.pk}/change/").status_code == 200


def test_chosen_stations_get_one_command_after_a_confirm_page(staff: Client) -> None:
    stations = [make.station(connected=True), make.station()]
    chosen = {"action": "order_selected", "_selected_action": [one.pk for one in stations]}
    page = staff.post(STATIONS, chosen).content.decode()
    assert "Send a command to 2 stations" in page
    assert "1 of them is offline" in page
    assert not Command.objects.exists()
    form = {"station": [one.pk for one in stations], "command": "clear_cache", "_send": "1"}
    answer = staff.post(f"{STATIONS}bulk/", form)
    batch = CommandBatch.objects.get()
    assert answer["Location"] == f"/admin/stations/commandbatch/{batch.pk}/change/"
    assert batch.commands.count() == 2
    progress = staff.get(answer["Location"]).content.decode()
    assert f'data-live="commandbatch-{batch.pk}"' in progress
    for command in batch.commands.all():
        commands.claim(command, epoch=1, message_id="m", action="ClearCache", request={})
        commands.finish(command.pk, Command.Status.ACCEPTED, response={"status": "Accepted"})
    done = staff.get(answer["Location"]).content.decode()
    assert '<span class="n">2</span> Accepted' in done
    assert "data-live=" not in done


def test_a_hard_reset_of_many_wants_their_number_typed(staff: Client) -> None:
    stations = [make.station(), make.station(), make.station()]
    form = {"station": [one.pk for one in stations], "command": "reset", "hard": "on",
            "_send": "1"}  # fmt: skip
    assert "Type 3" in staff.post(f"{STATIONS}bulk/", form).content.decode()
    assert not CommandBatch.objects.exists()
    staff.post(f"{STATIONS}bulk/", form | {"confirm": "3"})
    assert Command.objects.filter(args={"hard": True}).count() == 3


@pytest.mark.parametrize("orders", [1, 12])
def test_lists_and_batch_ask_the_same_number_of_times(
    staff: Client, django_assert_num_queries: Any, orders: int
) -> None:
    batch = CommandBatch.objects.create(name="clear_cache")
    for _ in range(orders):
        commands.send(make.station(), "clear_cache", by=make.user(), batch=batch)
    urls = {"/admin/stations/command/": 10, f"/admin/stations/commandbatch/{batch.pk}/change/": 9}
    for url, queries in urls.items():
        staff.get(url)
        with django_assert_num_queries(queries):
            staff.get(url)


@pytest.mark.parametrize("model", ["command", "commandbatch", "message", "entry", "variable"])
def test_facts_cannot_be_added_edited_or_deleted(staff: Client, model: str) -> None:
    station = make.station()
    command = commands.send(station, "clear_cache")  # leaves an entry in the journal, too
    pk = {
        "command": command.pk,
        "commandbatch": CommandBatch.objects.create(name="clear_cache").pk,
        "message": make.frame(station).pk,
        "entry": 1,
        "variable": Variable.objects.create(station=station, name="K").pk,
    }[model]
    base = f"/admin/stations/{model}/"
    assert staff.get(f"{base}add/").status_code == 403
    assert staff.post(f"{base}{pk}/delete/", {"post": "yes"}).status_code in (403, 404)
    kept = command.__class__.objects.count()
    staff.post(base, {"action": "delete_selected", "_selected_action": [pk], "post": "yes"})
    assert Command.objects.count() == kept
    if model == "variable":
        staff.post(f"{base}{pk}/change/", {"value": "9"})
        assert Variable.objects.get().value is None
