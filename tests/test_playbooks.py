"""Playbooks: gentle first, judged by outcome, and every guard keeps the order from being given."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import time_machine

from monitoring import alerts, incidents, playbooks
from monitoring.models import (
    Alert,
    Incident,
    PlaybookRun,
    PlaybookSetting,
    PlaybookStep,
    Session,
)
from stations.models import Command, Entry, Station
from tests import make

pytestmark = pytest.mark.django_db
T0 = datetime(2026, 3, 10, 12, 0, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return T0 + timedelta(seconds=seconds)


def tick(seconds: float) -> None:
    with time_machine.travel(at(seconds), tick=False):
        alerts.evaluate()
        playbooks.tick()


def orders() -> list[tuple[str, dict[str, Any]]]:
    rows = Command.objects.filter(subject__startswith="playbook-").order_by("pk")
    return [(row.name, row.args) for row in rows]


def allow(playbook: str, mode: str = "on") -> None:
    PlaybookSetting.objects.update_or_create(playbook=playbook, defaults={"mode": mode})


def faulty(**fields: Any) -> Station:
    """A connected station with a fault since noon; a hundred others make the fleet."""
    station = make.station(
        2, **{"connected": True, "last_seen_at": at(99_999), "vendor": "Acme"} | fields
    )
    station.connectors.filter(evse__number=1).update(
        status="Faulted", error_code="InternalError", status_received_at=T0
    )
    station.connectors.filter(evse__number=2).update(status="Available")
    return station


ASK = ("trigger_message", {"message": "StatusNotification", "evse": 1})


def test_as_shipped_a_charger_is_asked_and_nothing_is_changed() -> None:
    faulty()
    tick(300)
    assert orders() == [ASK]
    tick(420)
    run = PlaybookRun.objects.get()
    assert (run.state, run.reason) == ("dry", "Would now order: Restart")
    tick(2000)
    assert orders() == [ASK]


def test_a_fault_is_asked_about_then_reset_softly_then_hard_and_then_given_up() -> None:
    allow("P2")
    faulty()
    tick(300)
    tick(419)
    assert orders() == [ASK]
    tick(420)
    assert orders()[1:] == [("reset", {"hard": False})]
    tick(720)
    assert orders()[2:] == [("reset", {"hard": True})]
    tick(1020)
    assert PlaybookRun.objects.get().state == "failed"
    assert len(orders()) == 3
    kinds = Entry.objects.filter(subject=f"incident-{Incident.objects.get().pk}")
    told = list(kinds.order_by("pk").values_list("kind", flat=True))
    assert told == ["incident.opened", *["playbook.stepped"] * 3, "playbook.ended"]


def test_what_a_reset_healed_says_so() -> None:
    allow("P2")
    station = faulty()
    tick(300)
    tick(420)
    Command.objects.filter(name="reset").update(status="accepted")
    station.connectors.update(status="Available", error_code="NoError")
    tick(450)
    tick(510)
    incident = Incident.objects.get()
    assert (incident.state, incident.resolver) == ("resolved", "playbook")
    assert incident.resolution == "P2: after “reset” the condition was over."
    tick(720)
    run = PlaybookRun.objects.get()
    assert (run.state, run.reason) == ("healed", "The condition is over.")
    assert run.steps.get(number=1).outcome == "accepted"


def test_a_dry_run_orders_nothing_at_all() -> None:
    allow("P2", "dry_run")
    faulty()
    tick(300)
    assert orders() == []
    assert PlaybookRun.objects.get().state == "dry"
    assert PlaybookStep.objects.get().dry


def test_turned_off_is_off() -> None:
    allow("P2", "off")
    faulty()
    tick(300)
    assert orders() == []
    assert PlaybookRun.objects.get().reason == "The playbook is turned off."


def test_a_stuck_connector_taken_out_of_service_is_always_put_back() -> None:
    allow("P3")
    station = make.station(connected=True, last_seen_at=at(99_999))
    station.connectors.update(status="Preparing", status_received_at=T0)
    tick(900)
    tick(960)
    assert orders()[1:] == [("change_availability", {"operative": False, "evse": 1})]
    station.connectors.update(status="Unavailable")  # the rule's condition is over by our own act
    incidents.announce_maintenance(
        station=station, starts_at=T0, ends_at=at(9999), reason="Somebody is there"
    )
    tick(970)
    assert orders()[2:] == [("change_availability", {"operative": True, "evse": 1})]
    tick(1030)
    assert PlaybookRun.objects.get().state == "healed"
    assert len(orders()) == 3


def test_danger_only_takes_the_connector_out_of_service() -> None:
    allow("block")
    allow("P2")
    station = faulty()
    station.connectors.filter(evse__number=1).update(error_code="GroundFailure")
    tick(0)
    assert orders() == [("change_availability", {"operative": False, "evse": 1})]


# --- guards: each keeps the reset from being given ----------------------------------------------


def charging(station: Station) -> None:
    make.session(station, state="active", stopped_at=None, closed_at=None, started_at=T0)


def plugged_in(station: Station) -> None:
    station.connectors.filter(evse__number=2).update(status="Preparing", status_received_at=at(400))


def reserved(station: Station) -> None:
    station.connectors.filter(evse__number=2).update(status="Reserved")


def danger_elsewhere(station: Station) -> None:
    station.connectors.filter(evse__number=2).update(
        status="Faulted", error_code="GroundFailure", status_received_at=at(400)
    )


def reset_twice(station: Station) -> None:
    for n in (1, 2):
        earlier_reset(station, at(-3600 * n))


def neighbour_reset(station: Station) -> None:
    earlier_reset(make.station(site=station.site), at(0))


def fleet_spent(station: Station) -> None:
    earlier_reset(make.station(), at(0))


def fleet_gone(station: Station) -> None:
    incidents.raise_("mass-disconnect", "Gone", family="connectivity")
    Alert.objects.filter(rule="mass-disconnect").update(holds=False)


def maintained(station: Station) -> None:
    incidents.announce_maintenance(
        site=station.site, starts_at=T0, ends_at=at(9999), reason="New cables"
    )


def rarely_helps(station: Station) -> None:
    incident = Incident.objects.get()
    for n in range(20):
        PlaybookRun.objects.create(
            playbook="P2",
            alert=incident.alerts.get(),
            incident=incident,
            station=station,
            state="healed" if n < 5 else "failed",
            next_at=at(-9999),
            started_at=at(-9999),
        )


def earlier_reset(station: Station, when: datetime) -> None:
    incident = Incident.objects.get(rule="faulted")
    run = PlaybookRun.objects.create(
        playbook="P2",
        alert=incident.alerts.get(),
        incident=incident,
        station=station,
        state="failed",
        next_at=when,
        started_at=when,
    )
    PlaybookStep.objects.create(
        run=run, station=station, number=0, command_name="reset", harmful=True, at=when
    )


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (charging, "A session is open on the station."),
        (plugged_in, "A connector of the station is in use or reserved."),
        (reserved, "A connector of the station is in use or reserved."),
        (danger_elsewhere, "There is a safety fault: somebody must look."),
        (reset_twice, "The station was reset twice within a day."),
        (neighbour_reset, "Another station of the site is being reset."),
        (fleet_spent, "One in a hundred stations was reset within the hour."),
        (fleet_gone, "Much of the fleet is gone: nothing is mended one by one."),
        (maintained, "Maintenance is announced."),
        (rarely_helps, "It helped this model in only 5 of 20 cases."),
    ],
)
def test_a_guard_keeps_the_reset_from_being_given(
    spoil: Callable[[Station], None], reason: str
) -> None:
    allow("P2")
    station = faulty(site=make.site())
    tick(300)
    with time_machine.travel(at(410), tick=False):
        spoil(station)
        playbooks.tick(at(420))
    run = PlaybookRun.objects.filter(started_at=at(300)).get()
    assert (run.state, run.reason) == ("refused", reason)
    assert [name for name, _args in orders()] == ["trigger_message"]


def test_a_second_hard_reset_within_a_day_is_refused() -> None:
    allow("P2")
    station = faulty()
    tick(300)
    tick(420)
    PlaybookStep.objects.filter(command_name="reset").update(args={"hard": True})
    tick(720)
    assert PlaybookRun.objects.get().reason == "The station was reset hard within a day."
    assert station.pk


def test_a_station_that_is_not_connected_is_not_reset() -> None:
    allow("P1")
    make.station(last_seen_at=T0, connected=False)
    tick(660)
    tick(720)
    assert [name for name, _args in orders()] == ["trigger_message"]
    assert PlaybookRun.objects.get().reason == "The station is not connected."


@pytest.mark.parametrize("spoil", ["active", "just ended"])
def test_a_connector_that_charges_or_just_did_is_left_alone(spoil: str) -> None:
    allow("P3")
    station = make.station(connected=True, last_seen_at=at(99_999))
    station.connectors.update(status="Finishing", status_received_at=T0)
    tick(600)
    with time_machine.travel(at(650), tick=False):
        make.session(
            station,
            state=Session.State.ACTIVE if spoil == "active" else Session.State.CLOSED,
            started_at=T0,
            stopped_at=None if spoil == "active" else at(640),
            closed_at=None if spoil == "active" else at(640),
        )
        playbooks.tick(at(660))
    assert [name for name, _args in orders()] == ["trigger_message"]
    assert PlaybookRun.objects.get().state == "refused"


def test_two_ticks_at_once_give_an_order_once() -> None:
    faulty()
    tick(300)
    PlaybookRun.objects.update(step=0, next_at=at(300))
    PlaybookStep.objects.all().delete()
    first, second = PlaybookRun.objects.get(), PlaybookRun.objects.get()
    for run in (first, second):
        playbooks.step_on(run, PlaybookSetting.Mode.HARMLESS, at(301))
    assert len(orders()) == 2  # the first tick's, and one more
