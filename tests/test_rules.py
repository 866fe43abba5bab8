"""Each rule fires exactly when its condition has held long enough, and clears when it is over."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import time_machine
from django.db import transaction

from monitoring import alerts, incidents
from monitoring.models import Alert, Incident, RuleSetting, Session, Severity
from monitoring.rules import alert_after
from stations import journal
from stations.models import Command, Connector, Station, Variable
from tests import make

pytestmark = pytest.mark.django_db
T0 = datetime(2026, 3, 10, 12, 0, tzinfo=UTC)


def at(seconds: float) -> datetime:
    """The moment `seconds` after noon."""
    return T0 + timedelta(seconds=seconds)


def look(seconds: float) -> list[str]:
    """Evaluate every rule then; return the rules of unresolved incidents."""
    with time_machine.travel(at(seconds), tick=False):
        alerts.evaluate()
    rows = Incident.objects.filter(state__in=["open", "acknowledged"]).order_by("pk")
    return list(rows.values_list("rule", flat=True))


def online(**fields: Any) -> Station:
    """A station that is connected and was heard from far in the future of every test."""
    connectors = fields.pop("connectors", 1)
    return make.station(
        connectors,
        **{
            "connected": True,
            "connected_at": T0,
            "last_seen_at": T0 + timedelta(days=30),
            "heartbeat_interval_s": 300,
        }
        | fields,
    )


def status(station: Station, value: str, when: datetime = T0, **fields: Any) -> Connector:
    connector = station.connectors.get(evse__number=fields.pop("evse", 1))
    for name, new in (
        {"status": value, "status_at": when, "status_received_at": when} | fields
    ).items():
        setattr(connector, name, new)
    connector.save()
    return connector


def happened(kind: str, station: Station, seconds: float, **data: Any) -> None:
    with time_machine.travel(at(seconds), tick=False), transaction.atomic():
        journal.record(kind, station, **data)


@pytest.mark.parametrize(
    ("heartbeat_s", "silence_s"), [(10, 150), (45, 150), (300, 660), (420, 900), (3600, 900)]
)
def test_a_station_is_overdue_after_two_heartbeats_and_a_minute(
    heartbeat_s: int, silence_s: int
) -> None:
    assert alert_after(T0, heartbeat_s) == at(silence_s)
    online(last_seen_at=T0, heartbeat_interval_s=heartbeat_s, connected=False)
    assert look(silence_s - 1) == []
    assert look(silence_s) == ["offline"]


def test_offline_ends_when_any_frame_comes_in_and_says_so() -> None:
    station = online(last_seen_at=T0, connected=False)
    assert look(660) == ["offline"]
    Station.objects.filter(pk=station.pk).update(last_seen_at=at(700), connected=True)
    assert look(700) == []
    incident = Incident.objects.get()
    assert (incident.state, incident.resolver) == ("resolved", "auto")
    assert incident.resolution == "Heard from again."


def test_a_half_open_socket_is_asked_before_anybody_is_told() -> None:
    station = online(last_seen_at=T0)
    assert look(660) == []
    probe = Command.objects.get()
    alert = Alert.objects.get()
    assert (probe.name, probe.args, probe.subject) == (
        "trigger_message",
        {"message": "Heartbeat"},
        f"alert-{alert.pk}",
    )
    assert look(700) == []
    assert look(705) == ["offline"]
    assert Command.objects.count() == 1
    Station.objects.filter(pk=station.pk).update(last_seen_at=at(710))
    assert look(710) == []


def test_an_answered_probe_means_nobody_is_told() -> None:
    station = online(last_seen_at=T0)
    look(660)
    Station.objects.filter(pk=station.pk).update(last_seen_at=at(661))
    assert look(670) == []
    assert Incident.objects.count() == Alert.objects.count() == 0


def test_a_probe_that_timed_out_ends_the_wait() -> None:
    online(last_seen_at=T0)
    look(660)
    Command.objects.update(status=Command.Status.TIMED_OUT)
    assert look(670) == ["offline"]


def test_stations_not_in_service_or_never_seen_are_not_offline() -> None:
    online(last_seen_at=T0, connected=False, state=Station.State.RETIRED)
    online(last_seen_at=T0, connected=False, state=Station.State.PENDING)
    online(last_seen_at=None, connected=False)
    assert look(9999) == []


def test_a_restart_we_ordered_gets_ten_minutes() -> None:
    station = online(last_seen_at=T0, heartbeat_interval_s=10, connected=False)
    happened("command.finished", station, 1, name="reset", status="accepted", subject="")
    assert look(160) == []
    assert look(602) == ["offline"]


def test_offline_is_a_page_for_dc_and_for_the_last_station_of_a_site() -> None:
    site = make.site()
    two = make.site()
    alone = online(last_seen_at=T0, connected=False, site=site)
    dc = online(last_seen_at=T0, connected=False)
    dc.connectors.update(type="CHADEMO")
    ticket = online(last_seen_at=T0, connected=False, site=two)
    online(site=two)
    look(660)
    found = dict(Incident.objects.values_list("station", "severity"))
    assert found == {
        alone.pk: Severity.PAGE,
        dc.pk: Severity.PAGE,
        ticket.pk: Severity.TICKET,
    }


def test_a_site_without_stations_is_one_incident_after_three_minutes() -> None:
    site = make.site(name="Harbour")
    for _ in range(4):
        online(last_seen_at=T0, connected=False, disconnected_at=T0, site=site)
    online(last_seen_at=at(9999), site=site)
    assert look(500) == []
    assert Alert.objects.get().rule == "site-offline"
    assert look(660) == []  # the stations wait for the site's verdict
    held = Alert.objects.filter(rule="offline").values_list("suppressed", flat=True)
    assert set(held) == {"site-offline"}
    assert look(680) == ["site-offline"]
    look(690)
    incident = Incident.objects.get()
    assert incident.summary == "Harbour: 4 of 5 stations are offline"
    assert incident.alerts.count() == 5


def test_a_station_that_fired_first_is_taken_under_its_site() -> None:
    site = make.site()
    early = online(last_seen_at=T0, connected=False, site=site)
    late = online(last_seen_at=at(2000), site=site)
    assert look(660) == ["offline"]
    Station.objects.filter(pk=late.pk).update(connected=False, last_seen_at=at(100))
    assert look(700) == ["offline"]
    assert look(880) == ["site-offline"]
    look(890)
    assert Incident.objects.filter(state="resolved").get().resolution.startswith("Part of incident")
    incident = Incident.objects.get(state="open")
    assert set(incident.alerts.values_list("rule", flat=True)) == {"offline", "site-offline"}
    Station.objects.filter(pk__in=[early.pk, late.pk]).update(connected=True, last_seen_at=at(1000))
    assert look(1000) == ["site-offline"]  # it must be over for a minute
    assert look(1060) == []


def test_a_mass_disconnect_holds_sites_and_stations_back() -> None:
    for _ in range(3):
        site = make.site()
        for _ in range(2):
            online(connected=False, last_seen_at=T0, disconnected_at=T0, site=site)
    for _ in range(10):
        online()
    assert look(10) == []
    assert look(189) == []
    assert look(190) == ["mass-disconnect"]
    assert look(700) == ["mass-disconnect"]
    assert Incident.objects.count() == 1
    Station.objects.update(connected=True, last_seen_at=at(5000))
    look(710)
    assert look(800) == []


def test_four_lost_stations_are_no_mass_disconnect() -> None:
    for _ in range(4):
        online(connected=False, disconnected_at=T0, last_seen_at=at(9000))
    look(10)
    assert look(400) == []


def test_a_fault_is_told_after_five_minutes_by_its_class() -> None:
    station = online(connectors=2)
    status(station, "Faulted", error_code="InternalError")
    status(station, "Faulted", error_code="WeakSignal", evse=2)
    assert look(299) == []
    assert look(300) == ["faulted"]
    incident = Incident.objects.get()
    assert incident.severity == Severity.PAGE
    assert set(incident.alerts.values_list("severity", flat=True)) == {
        Severity.PAGE,
        Severity.WARN,
    }
    station.connectors.update(status="Available", error_code="NoError")
    assert look(310) == ["faulted"]
    assert look(369) == ["faulted"]
    assert look(370) == []
    assert Incident.objects.get().resolution == "The connector reports Available."


def test_a_fault_is_not_healed_by_losing_the_connection() -> None:
    station = online()
    status(station, "Faulted", error_code="InternalError")
    assert look(300) == ["faulted"]
    Station.objects.update(connected=False)
    assert look(500) == ["faulted"]
    assert look(900) == ["faulted"]


@pytest.mark.parametrize(
    "codes",
    [
        {"error_code": "GroundFailure"},
        {"error_code": "OtherError", "vendor_error_code": "CX024"},
        {"error_code": "OtherError", "vendor_error_code": "X1, cx026"},
    ],
)
def test_a_safety_fault_is_critical_at_once(codes: dict[str, str]) -> None:
    status(online(), "Faulted", **codes)
    assert look(0) == ["safety-fault"]
    assert Incident.objects.get().severity == Severity.CRITICAL


def test_a_fault_of_the_whole_station_is_found_too() -> None:
    station = online(status="Faulted", error_code="InternalError")
    other = online(status="Faulted", error_code="GroundFailure")
    assert look(0) == ["safety-fault"]
    assert Incident.objects.get().station == other
    assert look(299) == ["safety-fault"]
    assert look(300) == ["safety-fault", "faulted"]
    assert Incident.objects.get(rule="faulted").summary == f"{station.identity}: Internal error"
    Station.objects.update(status="Available", error_code="NoError")
    look(310)
    assert look(370) == []


def test_preparing_too_long_is_stuck_unless_the_time_out_is_longer() -> None:
    station = online(connectors=2)
    status(station, "Preparing")
    assert look(899) == []
    assert look(900) == ["stuck-preparing"]
    Variable.objects.create(station=station, name="ConnectionTimeOut", value="600")
    assert look(901) == []
    Variable.objects.update(value="30")
    make.session(station, state="active", closed_at=None, stopped_at=None, started_at=T0)
    assert look(930) == []


def test_finishing_too_long_is_stuck_unless_a_session_still_occupies_the_bay() -> None:
    station = online()
    status(station, "Finishing")
    occupied = make.session(station, state="stopped", closed_at=None, started_at=T0)
    assert look(600) == []
    Session.objects.filter(pk=occupied.pk).update(state="closed", closed_at=at(600))
    assert look(600) == ["stuck-finishing"]
    station.connectors.update(status="Available")
    assert look(610) == []


def test_unavailable_is_a_ticket_after_half_an_hour_unless_somebody_asked() -> None:
    asked, alone = online(), online()
    for station in (asked, alone):
        status(station, "Unavailable")
    Command.objects.create(
        station=asked,
        name="change_availability",
        args={"operative": False, "evse": 1},
        status="accepted",
        created_at=T0,
        expires_at=T0,
    )
    assert look(1799) == []
    assert look(1800) == ["stuck-unavailable"]
    assert Incident.objects.get().station == alone


def test_an_open_session_on_a_free_bay_is_a_zombie() -> None:
    station = online()
    status(station, "Available")
    session = make.session(
        station, state="active", stopped_at=None, closed_at=None, started_received_at=T0
    )
    assert look(899) == []
    assert look(900) == ["zombie-tx"]
    Session.objects.filter(pk=session.pk).update(state="closed", closed_at=at(901))
    assert look(910) == []


def test_three_drivers_without_energy_are_found_and_one_charge_clears_it() -> None:
    station = online()
    for n, uid in enumerate("ABC"):
        make.session(
            station,
            token_uid=uid,
            started_at=at(n * 600),
            stopped_at=at(n * 600 + 200),
            energy_wh=20,
        )
        assert look(n * 600 + 300) == (["zero-energy"] if uid == "C" else [])
    assert look(80_000) == ["zero-energy"]  # nobody came since: not healed by time
    make.session(
        station, token_uid="D", started_at=at(80_000), stopped_at=at(80_600), energy_wh=9000
    )
    assert look(80_700) == []


def test_one_driver_failing_three_times_is_no_zero_energy() -> None:
    station = online()
    for n in range(3):
        make.session(
            station,
            token_uid="A",
            started_at=at(n * 600),
            stopped_at=at(n * 600 + 200),
            energy_wh=20,
        )
    assert look(2000) == []


def test_a_falling_register_is_a_ticket() -> None:
    station = online()
    make.session(station, started_at=T0, flags=["falling"])
    assert look(60) == ["meter-backwards"]


def test_three_boots_nobody_asked_for_are_a_loop() -> None:
    station = online()
    happened("station.booted", station, 0, reason="RemoteReset")
    for n in range(3):
        assert look(n * 60) == []
        happened("station.booted", station, n * 60 + 1, reason="")
    assert look(180) == ["reboot-loop"]
    assert look(3602) == ["reboot-loop"]
    assert look(4202) == []


def test_more_than_twenty_connections_an_hour_are_a_storm() -> None:
    station = online()
    for n in range(20):
        happened("station.connected", station, n)
    assert look(60) == []
    happened("station.connected", station, 61)
    assert look(62) == ["reconnect-storm"]


def test_a_wrong_clock_is_told_after_half_an_hour() -> None:
    station = online(clock_offset_s=-301.0)
    assert look(0) == []
    assert look(1799) == []
    assert look(1800) == ["clock-drift"]
    incident = Incident.objects.get()
    assert incident.severity == Severity.TICKET
    assert incident.summary == f"{station.identity}: the clock is 301 s slow"
    Station.objects.update(clock_offset_s=59.0)
    look(1900)
    assert look(2200) == []


def test_more_than_half_of_six_starts_refused_is_a_burst() -> None:
    station = online()
    for n in range(6):
        verdict = "rejected" if n % 2 == 0 else "accepted"
        happened("command.finished", station, n, name="remote_start", status=verdict, subject="")
    assert look(10) == []
    happened("command.finished", station, 11, name="remote_start", status="rejected", subject="")
    assert look(12) == ["reject-burst"]
    look(912)
    assert look(1300) == []


def test_a_critical_security_event_is_a_page_for_a_day_and_an_ordinary_one_is_none() -> None:
    station = online()
    happened("security.event_reported", station, 0, type="StartupOfTheDevice")
    assert look(1) == []
    happened("security.event_reported", station, 2, type="TamperDetectionActivated", info="lid")
    assert look(3) == ["security-event"]
    assert look(86_403) == []


def test_a_rule_can_be_turned_off_and_made_more_or_less_urgent() -> None:
    station = online()
    status(station, "Faulted", error_code="InternalError")
    own = RuleSetting.objects.create(rule="faulted", enabled=False)
    assert look(300) == []
    own.enabled, own.for_s, own.severity = True, 600, Severity.TICKET
    own.save()
    assert look(599) == []
    assert look(600) == ["faulted"]
    assert Incident.objects.get().severity == Severity.TICKET


def test_a_broken_rule_does_not_stop_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    from dataclasses import replace

    from monitoring.rules import RULES

    def broken(context: object) -> list[Any]:
        raise ValueError("no")

    monkeypatch.setitem(RULES, "clock-drift", replace(RULES["clock-drift"], find=broken))
    status(online(), "Faulted", error_code="GroundFailure")
    assert look(0) == ["safety-fault"]


def test_a_maintenance_window_holds_everything_but_danger_back_until_it_ends() -> None:
    station = online(connectors=2, last_seen_at=at(9999))
    status(station, "Faulted", error_code="InternalError")
    status(station, "Faulted", error_code="GroundFailure", evse=2)
    incidents.announce_maintenance(
        station=station, starts_at=T0, ends_at=at(900), reason="Firmware 2.1", source="job-7"
    )
    assert look(600) == ["safety-fault"]
    held = Alert.objects.get(rule="faulted")
    assert held.suppressed.startswith("maintenance-")
    look(900)
    held.refresh_from_db()
    assert held.state == "firing"
