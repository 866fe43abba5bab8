"""Incidents: grouped, taken on, closed; told once."""

import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import time_machine
from django.core import mail
from django.db import connection

from monitoring import alerts, incidents, notices, tasks
from monitoring.alerts import flap_percent
from monitoring.models import Alert, Contact, Incident, Notice, Severity, Silence
from stations.models import Entry, Station
from stations.state import NotAllowed
from tests import make

T0 = datetime(2026, 3, 10, 12, 0, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return T0 + timedelta(seconds=seconds)


def contact(**fields: Any) -> Contact:
    return Contact.objects.create(
        **{"name": "On call", "email": "oncall@example.com", "time_zone": "UTC"} | fields
    )


def told(seconds: float) -> list[str]:
    """Plan and deliver then; return the subjects of the mails that left."""
    before = len(mail.outbox)
    with time_machine.travel(at(seconds), tick=False):
        notices.plan()
        notices.deliver()
    return [message.subject for message in mail.outbox[before:]]


def raised(seconds: float = 0, **fields: Any) -> Incident:
    with time_machine.travel(at(seconds), tick=False):
        return incidents.raise_(
            fields.pop("rule", "payments"),
            fields.pop("summary", "Payments fail"),
            **{"severity": Severity.PAGE} | fields,
        )


@pytest.mark.django_db
def test_saying_it_again_changes_the_words_and_opens_nothing() -> None:
    first = raised()
    again = raised(5, summary="Payments still fail", severity=Severity.CRITICAL)
    assert again.pk == first.pk
    assert (again.summary, again.severity) == ("Payments still fail", Severity.CRITICAL)
    assert Alert.objects.count() == 1


@pytest.mark.django_db
def test_it_ends_when_it_is_cleared_and_says_what_healed_it() -> None:
    raised()
    assert incidents.clear("payments", healed_by="A payment went through.")
    assert not incidents.clear("payments")
    incident = Incident.objects.get()
    assert (incident.state, incident.resolution) == ("resolved", "A payment went through.")
    kinds = Entry.objects.filter(subject=f"incident-{incident.pk}").order_by("pk")
    assert list(kinds.values_list("kind", flat=True)) == ["incident.opened", "incident.resolved"]


@pytest.mark.django_db
def test_alerts_of_a_site_within_a_minute_are_one_incident_and_later_ones_another() -> None:
    site = make.site()
    one, two, three = (make.station(site=site) for _ in range(3))
    first = raised(0, rule="x", family="fault", station=one)
    second = raised(59, rule="x", family="fault", station=two)
    third = raised(61, rule="x", family="fault", station=three)
    other = raised(59, rule="y", family="security", station=two)
    assert first.pk == second.pk
    assert len({first.pk, third.pk, other.pk}) == 3
    first.refresh_from_db()
    assert first.summary == "Payments fail, and 1 more stations"
    assert raised(500, rule="z", family="fault", station=two).pk in (first.pk, third.pk)


@pytest.mark.django_db
def test_taking_on_assigning_noting_and_closing_are_on_the_timeline() -> None:
    incident, anna, ben = raised(), make.staff(), make.staff()
    incidents.acknowledge(incident, anna)
    incidents.assign(incident, ben, anna)
    incidents.note(incident, "Called the utility.", anna)
    incidents.resolve(incident, ben, "Fuse replaced.")
    with pytest.raises(NotAllowed):
        incidents.resolve(incident, ben)
    with pytest.raises(NotAllowed):
        incidents.acknowledge(incident, ben)
    incident.refresh_from_db()
    assert (incident.resolver, incident.resolution) == ("person", "Fuse replaced.")
    assert (incident.acknowledged_by, incident.assigned_to) == (anna, ben)
    story = Entry.objects.filter(subject=f"incident-{incident.pk}").order_by("pk")
    assert [(one.kind, one.actor) for one in story] == [
        ("incident.opened", None),
        ("incident.acknowledged", anna),
        ("incident.assigned", anna),
        ("incident.noted", anna),
        ("incident.resolved", ben),
    ]


@pytest.mark.django_db
def test_what_a_person_closed_stays_quiet_until_it_has_been_over() -> None:
    station = make.station(last_seen_at=T0, connected=False)
    with time_machine.travel(at(660), tick=False):
        alerts.evaluate()
        incidents.resolve(Incident.objects.get(), make.staff())
    alerts.evaluate(at(670))
    assert Incident.objects.get().state == "resolved"
    Station.objects.update(last_seen_at=at(680))
    alerts.evaluate(at(690))
    Station.objects.update(last_seen_at=at(700))
    alerts.evaluate(at(700 + 660))
    incident = Incident.objects.get()
    assert (incident.state, incident.reopened) == ("open", 1)
    assert incident.station == station


@pytest.mark.django_db
def test_back_within_half_an_hour_is_the_same_incident_and_later_a_new_one() -> None:
    make.station(last_seen_at=T0, connected=False)
    alerts.evaluate(at(660))
    Station.objects.update(last_seen_at=at(670))
    alerts.evaluate(at(680))
    alerts.evaluate(at(670 + 660))
    assert Incident.objects.get().reopened == 1
    Station.objects.update(last_seen_at=at(2000))
    alerts.evaluate(at(2010))
    alerts.evaluate(at(2010 + 1801 + 660))
    assert Incident.objects.count() == 2


@pytest.mark.django_db
def test_a_flapping_condition_stays_one_open_incident() -> None:
    make.station(last_seen_at=T0, connected=False)
    for n in range(30):  # gone and back every minute
        Station.objects.update(last_seen_at=at(n * 60) if n % 2 else at(n * 60 - 1000))
        alerts.evaluate(at(n * 60))
    assert Incident.objects.count() == 1
    alert = Alert.objects.get()
    assert alert.flapping
    assert alert.state == "firing"
    reopened = Incident.objects.get().reopened
    assert reopened < 10
    Station.objects.update(last_seen_at=at(5000))
    alerts.evaluate(at(1900))
    assert Incident.objects.get().state == "open"  # not stable yet
    alerts.evaluate(at(4000))
    assert Incident.objects.get().state == "resolved"
    assert Incident.objects.get().reopened == reopened
    assert Entry.objects.filter(kind="incident.flapping").count() == 1


def test_flapping_is_nagios_weighted_share_of_changes() -> None:
    end = T0.timestamp()
    steady = flap_percent([end - 9999], T0)
    alternating = flap_percent([end - 60 * n - 30 for n in range(21)], T0)
    old = flap_percent([end - 60 * 19 - 30], T0)
    assert (steady, round(alternating), round(old)) == (0.0, 100, 4)


# --- telling people -------------------------------------------------------------------------------


@pytest.mark.django_db
def test_a_page_is_told_once_after_a_minute_and_its_end_once() -> None:
    contact()
    raised()
    assert told(59) == []
    assert told(60) == ["[Page] Payments fail"]
    assert told(61) == []
    with time_machine.travel(at(100), tick=False):
        incidents.clear("payments")
    assert told(101) == ["[Resolved] Payments fail"]
    assert told(9999) == []


@pytest.mark.django_db
def test_danger_is_told_at_once() -> None:
    contact()
    raised(severity=Severity.CRITICAL)
    assert told(0) == ["[Critical] Payments fail"]


@pytest.mark.django_db
def test_what_heals_within_the_minute_is_told_to_nobody() -> None:
    contact()
    raised()
    with time_machine.travel(at(30), tick=False):
        incidents.clear("payments")
    assert told(60) == []
    assert not Notice.objects.exists()


@pytest.mark.django_db
def test_growing_worse_is_told_again() -> None:
    contact()
    raised()
    told(60)
    raised(70, severity=Severity.CRITICAL)
    assert told(70) == ["[Critical] Payments fail"]


@pytest.mark.django_db
def test_tickets_wait_for_the_daily_mail_and_are_one_mail() -> None:
    contact(time_zone="Europe/Berlin")
    raised(rule="a", severity=Severity.TICKET)
    raised(rule="b", severity=Severity.TICKET, family="security")
    raised(rule="c", severity=Severity.WARN, family="clock")
    assert told(60) == []
    eight_in_berlin = (datetime(2026, 3, 11, 7, 0, tzinfo=UTC) - T0).total_seconds()
    assert told(eight_in_berlin - 1) == []
    assert told(eight_in_berlin) == ["2 incidents"]
    assert set(Notice.objects.values_list("state", flat=True)) == {"sent"}


@pytest.mark.django_db
def test_quiet_hours_wait_for_their_end_and_danger_does_not() -> None:
    contact(quiet_from="10:00", quiet_to="14:30")
    raised(rule="a")
    raised(rule="b", family="fault", severity=Severity.CRITICAL, summary="Danger")
    assert told(60) == ["[Critical] Danger"]
    assert told(2.5 * 3600 - 1) == []
    assert told(2.5 * 3600) == ["[Page] Payments fail"]


@pytest.mark.django_db
def test_what_heals_during_quiet_hours_is_dropped() -> None:
    contact(quiet_from="10:00", quiet_to="14:30")
    raised()
    told(60)
    with time_machine.travel(at(600), tick=False):
        incidents.clear("payments")
    assert told(9999) == []
    assert Notice.objects.get().state == "dropped"


@pytest.mark.django_db
def test_more_than_ten_in_ten_minutes_become_one_mail() -> None:
    contact()
    for n in range(25):
        raised(0, rule=f"r{n}", family=f"f{n}")
    first = told(60)
    assert len(first) == 10
    assert told(61) == []
    assert told(661) == ["15 incidents"]


@pytest.mark.django_db
def test_contacts_hear_of_their_sites_only() -> None:
    here, there = make.site(), make.site()
    contact(name="all", email="all@example.com")
    contact(name="there", email="there@example.com").sites.add(there)
    raised(station=make.station(site=here))
    told(60)
    assert [message.to for message in mail.outbox] == [["all@example.com"]]


@pytest.mark.django_db
def test_a_silence_keeps_quiet_until_it_ends() -> None:
    contact()
    raised()
    Silence.objects.create(rule="payments", until=at(600), reason="Known")
    assert told(60) == []
    assert told(599) == []
    assert told(600) == ["[Page] Payments fail"]


@pytest.mark.django_db
def test_without_acknowledgement_the_next_level_is_told() -> None:
    contact()
    contact(name="Boss", email="boss@example.com", level=2)
    contact(name="Chief", email="chief@example.com", level=3)
    incident = raised()
    assert len(told(60)) == 1
    assert told(60 + 899) == []
    assert told(60 + 900) == ["[Not acknowledged] Payments fail"]
    assert mail.outbox[-1].to == ["boss@example.com"]
    with time_machine.travel(at(1000), tick=False):
        incidents.acknowledge(incident, make.staff())
    assert told(9999) == []


@pytest.mark.django_db
def test_mail_that_cannot_leave_is_tried_again_later_and_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    contact()
    raised()

    def refuse(self: object) -> None:
        raise OSError("connection refused")

    monkeypatch.setattr("django.core.mail.EmailMessage.send", refuse)
    told(60)
    notice = Notice.objects.get()
    assert (notice.state, notice.attempts, notice.due_at) == ("queued", 1, at(90))
    told(90)
    notice.refresh_from_db()
    assert (notice.attempts, notice.due_at) == (2, at(150))
    for n in range(6):
        told(10_000 * (n + 1))
    notice.refresh_from_db()
    assert (notice.state, notice.attempts) == ("failed", 8)
    assert "connection refused" in notice.error


@pytest.mark.django_db
def test_a_mail_being_sent_when_the_process_died_is_not_sent_twice() -> None:
    contact()
    raised()
    with time_machine.travel(at(60), tick=False):
        notices.plan()
    Notice.objects.update(state="sending", claimed_at=at(60))
    assert told(600) == []
    assert told(661) == []
    assert Notice.objects.get().state == "failed"


@pytest.mark.django_db(transaction=True)
def test_two_processes_send_every_notice_once() -> None:
    contact()
    for n in range(9):
        raised(0, rule=f"r{n}", family=f"f{n}")
    barrier = threading.Barrier(2)
    failures: list[Exception] = []

    def work() -> None:
        try:
            barrier.wait()
            for _ in range(3):
                notices.plan(at(60))
                notices.deliver(at(61))
        except Exception as error:  # noqa: BLE001  shown below
            failures.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert len(mail.outbox) == 9
    assert Notice.objects.filter(state="sent").count() == 9


@pytest.mark.django_db
def test_the_tick_runs_each_rule_when_it_is_due_and_all_ticks_run_on_nothing() -> None:
    make.station(connected=True, last_seen_at=at(9999), clock_offset_s=400.0)
    alerts.tick(at(0))
    assert Alert.objects.filter(rule="clock-drift").count() == 1
    Alert.objects.all().delete()
    alerts.tick(at(10))  # the clock is looked at once a minute
    assert not Alert.objects.exists()
    alerts.tick(at(60))
    assert Alert.objects.count() == 1
    for task in (tasks.send_notices, tasks.run_playbooks, tasks.write_ledger):
        task.run()
    assert not Notice.objects.exists()
