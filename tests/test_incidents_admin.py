"""The inbox and an incident's page: what staff see and do; a pinned number of queries."""

from datetime import timedelta
from typing import Any

import pytest
from django.core import mail
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from monitoring import incidents
from monitoring.models import Alert, Contact, Exclusion, Incident, PlaybookSetting, Severity
from stations.models import Entry
from tests import make

pytestmark = pytest.mark.django_db


@pytest.fixture
def staff(client: Client) -> Any:
    person = make.staff()
    client.force_login(person)
    return person


def fault(**fields: Any) -> Incident:
    station = fields.pop("station", None) or make.station(site=make.site())
    return incidents.raise_(
        "faulted",
        "Connector 1: Internal error",
        family="fault",
        severity=Severity.PAGE,
        station=station,
        evidence={"action": "Restart once; then a visit."},
        **fields,
    )


def test_the_inbox_lists_many_incidents_in_few_queries(
    client: Client, staff: Any, django_assert_max_num_queries: Any
) -> None:
    for _ in range(30):
        fault()
    address = reverse("admin:monitoring_incident_changelist")
    client.get(address)
    with django_assert_max_num_queries(20):
        answer = client.get(f"{address}?inbox=open")
    assert answer.content.decode().count("Connector 1: Internal error") == 30


def test_the_page_tells_the_story_in_few_queries(
    client: Client, staff: Any, django_assert_max_num_queries: Any
) -> None:
    incident = fault()
    incidents.note(incident, "Called the site.", staff)
    address = reverse("admin:monitoring_incident_change", args=[incident.pk])
    client.get(address)
    with django_assert_max_num_queries(24):
        text = client.get(address).content.decode()
    for words in (
        "Internal error",
        "Called the site.",
        "Restart once; then a visit.",
        "for five minutes",
    ):
        assert words in text
    bare = client.get(address, headers={"X-Live": "1"}).content.decode()
    assert "Called the site." in bare
    assert "<nav" not in bare


def test_staff_acknowledge_assign_note_snooze_and_resolve(client: Client, staff: Any) -> None:
    incident, other = fault(), make.staff()

    def do(verb: str, **data: Any) -> None:
        answer = client.post(
            reverse("admin:monitoring_incident_do", args=[incident.pk, verb]), data
        )
        assert answer.status_code == 302

    do("acknowledge")
    do("assign", to=other.pk)
    do("note", text="On it.")
    do("snooze", hours="4")
    do("resolve", text="Fuse replaced.")
    do("acknowledge")  # too late: a message, no error
    incident.refresh_from_db()
    assert incident.state == "resolved"
    assert incident.resolution == "Fuse replaced."
    assert incident.assigned_to == other
    told = Entry.objects.filter(subject=f"incident-{incident.pk}", actor=staff).order_by("pk")
    assert list(told.values_list("kind", flat=True)) == [
        "incident.acknowledged",
        "incident.assigned",
        "incident.noted",
        "incident.snoozed",
        "incident.resolved",
    ]


def test_who_may_only_look_may_not_act(client: Client) -> None:
    from django.contrib.auth.models import Permission

    reader = make.user(is_staff=True)
    reader.user_permissions.add(Permission.objects.get(codename="view_incident"))
    client.force_login(reader)
    incident = fault()
    assert (
        client.get(reverse("admin:monitoring_incident_change", args=[incident.pk])).status_code
        == 200
    )
    answer = client.post(reverse("admin:monitoring_incident_do", args=[incident.pk, "resolve"]))
    assert answer.status_code == 403
    incident.refresh_from_db()
    assert incident.state == "open"


def test_staff_of_one_site_do_not_see_anothers(client: Client) -> None:
    mine, theirs = make.site(), make.site()
    person = make.staff()
    person.sites.add(mine)
    client.force_login(person)
    seen = fault(station=make.station(site=mine))
    hidden = fault(station=make.station(site=theirs))
    at = [reverse("admin:monitoring_incident_change", args=[one.pk]) for one in (seen, hidden)]
    assert [client.get(address).status_code for address in at] == [200, 404]
    do = reverse("admin:monitoring_incident_do", args=[hidden.pk, "resolve"])
    assert client.post(do).status_code == 404


def test_a_stations_page_shows_its_open_incidents(client: Client, staff: Any) -> None:
    incident = fault()
    assert incident.station is not None
    page = reverse("admin:stations_station_change", args=[incident.station.pk])
    assert "Internal error" in client.get(page).content.decode()


@pytest.mark.parametrize(
    "name",
    [
        "alert",
        "contact",
        "notice",
        "silence",
        "maintenancewindow",
        "exclusion",
        "rulesetting",
        "playbooksetting",
        "playbookrun",
        "faultcode",
    ],
)
def test_every_list_and_form_opens(client: Client, staff: Any, name: str) -> None:
    fault()
    assert client.get(reverse(f"admin:monitoring_{name}_changelist")).status_code == 200
    add = client.get(reverse(f"admin:monitoring_{name}_add"))
    assert add.status_code == (403 if name in ("alert", "notice", "playbookrun") else 200)


def test_a_playbook_is_turned_on_by_name(client: Client, staff: Any) -> None:
    address = reverse("admin:monitoring_playbooksetting_add")
    assert client.post(address, {"playbook": "P9", "mode": "on"}).status_code == 200
    client.post(address, {"playbook": "P2", "mode": "on"})
    row = PlaybookSetting.objects.get()
    assert (row.playbook, row.mode, row.changed_by) == ("P2", "on", staff)


def test_a_contact_gets_a_test(client: Client, staff: Any) -> None:
    contact = Contact.objects.create(name="A", email="a@example.com")
    answer = client.post(
        reverse("admin:monitoring_contact_changelist"),
        {"action": "send_test", "_selected_action": [contact.pk]},
    )
    assert answer.status_code == 302
    assert [message.subject for message in mail.outbox] == [
        "[Test] This is a test. Nothing is wrong."
    ]
    assert not Incident.objects.exists()


def test_an_approved_exclusion_cannot_be_changed(client: Client, staff: Any) -> None:
    incident = fault()
    one = Exclusion.objects.create(
        station=incident.station,
        reason="utility",
        started_at=incident.opened_at,
        ended_at=incident.opened_at.replace(year=incident.opened_at.year + 1),
        evidence="Ticket",
    )
    client.post(
        reverse("admin:monitoring_exclusion_changelist"),
        {"action": "approve", "_selected_action": [one.pk]},
    )
    one.refresh_from_db()
    assert one.approved_by == staff
    change = reverse("admin:monitoring_exclusion_change", args=[one.pk])
    assert client.post(change, {"reason": "vandalism"}).status_code == 403
    assert Alert.objects.count() == 1


def test_the_inbox_stands_by_what_matters_then_by_age_and_what_is_over_comes_last(
    client: Client, staff: Any
) -> None:
    now = timezone.now()
    hours = timedelta(hours=1)
    for name, severity, opened, ended in (
        ("old ticket", Severity.TICKET, 9, None),
        ("new page", Severity.PAGE, 1, None),
        ("old page", Severity.PAGE, 5, None),
        ("over long ago", Severity.CRITICAL, 9, 8),
        ("just over", Severity.CRITICAL, 9, 1),
    ):
        Incident.objects.create(
            summary=name, severity=severity, family="fault", rule="faulted",
            opened_at=now - opened * hours, resolved_at=ended and now - ended * hours,
            state=Incident.State.RESOLVED if ended else Incident.State.OPEN,
        )  # fmt: skip
    shown = client.get("/admin/monitoring/incident/").context["cl"].result_list
    assert [one.summary for one in shown] == [
        "old page", "new page", "old ticket", "just over", "over long ago",
    ]  # fmt: skip
