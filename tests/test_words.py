"""Staff read words: no key of the machine stands on a page."""

import re
from pathlib import Path

import pytest
from django.contrib import admin
from django.test import Client
from django.utils import timezone

from firmware import failures
from monitoring.admin.looks import RULE_WORDS, playbook_words, rule_words
from monitoring.models import Alert, Severity
from monitoring.playbooks import PLAYBOOKS
from monitoring.rules import RULES
from stations.admin.timeline import SENTENCES
from stations.models import Command
from tests import make

SOURCES = [
    path
    for app in ("stations", "monitoring", "firmware", "billing")
    for path in Path(app).rglob("*.py")
    if "migrations" not in path.parts
]


def test_every_rule_and_playbook_has_a_name_and_unknown_keys_become_words() -> None:
    assert RULES.keys() <= RULE_WORDS.keys()
    assert all(playbook_words(key) == one.title for key, one in PLAYBOOKS.items())
    assert rule_words("mass-disconnect") == "Many stations offline"
    assert rule_words("payment-capture_refused") == "Payment capture refused"


def test_every_failure_of_an_update_has_words() -> None:
    text = "".join(path.read_text() for path in SOURCES if path.parts[0] == "firmware")
    named = set(re.findall(r'failure(?: = |=)"([a-z-]+)"', text))
    named |= set(re.findall(r': "([a-z]+-[a-z-]+)"', Path("firmware/jobs.py").read_text()))
    named |= set(re.findall(r'"([a-z]+-[a-z]+)"', Path("firmware/planning.py").read_text()))
    assert len(named) > 12
    assert named <= failures.WORDS.keys()


def test_every_kind_of_news_has_a_sentence() -> None:
    admin.autodiscover()
    told = r'(?:record|entry|news|_record)\(\s*"([a-z]+\.[a-z_]+)"'
    kinds = {kind for path in SOURCES for kind in re.findall(told, path.read_text())}
    assert len(kinds) > 40
    assert kinds - SENTENCES.keys() == set()


@pytest.mark.django_db
def test_lists_say_rules_and_senders_in_words(client: Client) -> None:
    client.force_login(make.staff())
    station = make.station()
    now = timezone.now()
    Alert.objects.create(
        rule="zombie-tx", fingerprint="x", family="metering", station=station,
        severity=Severity.PAGE, since=now, summary="Open", state=Alert.State.FIRING,
    )  # fmt: skip
    Command.objects.create(
        station=station, name="reset", subject="job-7", created_at=now, expires_at=now
    )
    alerts = client.get("/admin/monitoring/alert/").content.decode()
    assert "Session without a car" in alerts
    assert "zombie-tx" not in alerts
    commands = client.get("/admin/stations/command/").content.decode()
    assert "a campaign" in commands
    assert "job-7" not in commands
