"""Metrics: counted cheaply, shown to whoever knows the token, agreeing with deploy/."""

import json
import re
import shutil
import subprocess
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import time_machine
from django.test import Client
from django.utils import timezone
from prometheus_client.parser import text_string_to_metric_families

from monitoring import incidents, metrics, tasks, ticks
from monitoring.models import Contact, Notice, Tick
from tests import make
from tests.conftest import missing

DEPLOY = Path(__file__).resolve().parent.parent / "deploy"


@pytest.fixture(autouse=True)
def asked_afresh() -> None:
    metrics.rows.forget()
    ticks._written.clear()


def scrape(client: Client, settings: Any, query: str = "") -> dict[str, Any]:
    settings.METRICS_TOKEN = "sesame"
    answer = client.get(f"/metrics{query}", headers={"Authorization": "Bearer sesame"})
    assert answer.status_code == 200
    families = text_string_to_metric_families(answer.content.decode())
    return {family.name: family for family in families}


def value(family: Any, **labels: str) -> float:
    (found,) = [sample.value for sample in family.samples if sample.labels == labels]
    return found


@pytest.mark.django_db
def test_metrics_need_the_token(client: Client, settings: Any) -> None:
    settings.METRICS_TOKEN = ""
    assert client.get("/metrics").status_code == 403
    settings.METRICS_TOKEN = "sesame"
    assert client.get("/metrics").status_code == 401
    wrong = client.get("/metrics", headers={"Authorization": "Bearer guess"})
    assert wrong.status_code == 401


@pytest.mark.django_db
def test_the_rows_are_counted_and_asked_every_thirty_seconds(
    client: Client, settings: Any, django_assert_max_num_queries: Any
) -> None:
    station = make.station(2, vendor="Acme", connected=True, last_seen_at=timezone.now())
    make.station(vendor="Acme", last_seen_at=timezone.now())
    make.station(1, vendor="Bolt")
    station.connectors.filter(evse__number=1).update(status="Faulted", error_code="GroundFailure")
    make.session(station, state="active", stopped_at=None, closed_at=None, power_w=11_000)
    incidents.raise_("x", "Something", station=station)
    with django_assert_max_num_queries(16):
        found = scrape(client, settings)
    assert value(found["csms_stations"], vendor="Acme", connection="connected") == 1
    assert value(found["csms_stations"], vendor="Acme", connection="offline") == 1
    assert value(found["csms_stations"], vendor="Bolt", connection="never") == 1
    assert value(found["csms_evses"], vendor="Acme", state="Faulted") == 1
    assert value(found["csms_faults_open"], code="GroundFailure", **{"class": "S"}) == 1
    assert value(found["csms_sessions_active"]) == 1
    assert value(found["csms_power_watts"]) == 11_000
    assert value(found["csms_incidents_open"], severity="ticket") == 1
    with django_assert_max_num_queries(0):
        scrape(client, settings)


@pytest.mark.django_db
def test_messages_are_counted_by_action_and_result(client: Client, settings: Any) -> None:
    before = metrics._row(("1.6", "TestAction", "in", "ok"))[0]
    for seconds in (0.0004, 0.004, 20.0):
        metrics.observe_message("1.6", "TestAction", "in", "ok", seconds)
    found = scrape(client, settings, "?only=process")
    labels = {"version": "1.6", "action": "TestAction", "direction": "in", "result": "ok"}
    assert value_of(found["csms_ocpp_messages"], "_total", labels) == before + 3
    duration = found["csms_ocpp_call_duration_seconds"]
    mine = {"action": "TestAction", "direction": "in"}
    assert value_of(duration, "_bucket", mine | {"le": "0.001"}) == 1
    assert value_of(duration, "_bucket", mine | {"le": "0.005"}) == 2
    assert value_of(duration, "_bucket", mine | {"le": "+Inf"}) == 3
    assert "csms_stations" not in found


def value_of(family: Any, suffix: str, labels: dict[str, str]) -> float:
    (found,) = [
        sample.value
        for sample in family.samples
        if sample.name == family.name + suffix and sample.labels == labels
    ]
    return found


def test_counting_a_message_costs_less_than_two_microseconds() -> None:
    rounds = 20_000
    best = min(_time_of(rounds) for _ in range(7))
    assert best / rounds < 2e-6


def _time_of(rounds: int) -> float:
    begun = time.perf_counter()
    for _ in range(rounds):
        metrics.observe_message("1.6", "Heartbeat", "in", "ok", 0.003)
    return time.perf_counter() - begun


def test_a_charger_that_invents_actions_cannot_grow_the_series(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(metrics, "MAX_SERIES", len(getattr(metrics._local, "rows", {})) + 2)
    for n in range(50):
        metrics.observe_message("1.6", f"Invented{n}", "in", "error", 0.001)
    invented = {key for key in metrics._local.rows if key[1].startswith("Invented")}
    assert len(invented) <= 2
    assert ("1.6", "other", "in", "error") in metrics._local.rows


# --- deploy ---------------------------------------------------------------------------------------


def mentioned() -> set[str]:
    """Names of metrics in the dashboard and the rules."""
    dashboard = json.loads((DEPLOY / "grafana/charging.json").read_text())
    expressions = [
        target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", [])
    ]
    rules = re.sub(r"#.*", "", (DEPLOY / "prometheus/rules.yml").read_text())
    return set(re.findall(r"\bcsms_\w+", " ".join([*expressions, rules])))


@pytest.mark.django_db
def test_dashboard_and_rules_ask_only_for_what_is_exported(client: Client, settings: Any) -> None:
    metrics.observe_message("1.6", "Heartbeat", "in", "ok", 0.001)
    incident = incidents.raise_("x", "Something")
    incidents.clear("x")
    Notice.objects.create(
        incident=incident,
        contact=Contact.objects.create(name="A", email="a@example.com"),
        event="opened",
        created_at=timezone.now(),
        due_at=timezone.now(),
    )
    exported = set()
    for family in scrape(client, settings).values():
        exported.add(family.name)
        exported |= {sample.name for sample in family.samples}
        exported |= {family.name + "_total"} if family.type == "counter" else set()
        if family.type == "histogram":
            exported |= {f"{family.name}_{end}" for end in ("bucket", "sum", "count")}
    assert mentioned() - exported == set()
    assert len(mentioned()) > 12


@pytest.mark.services
def test_promtool_accepts_rules_and_configuration(tmp_path: Path) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        missing("promtool is missing: sudo apt-get install prometheus")
    token = tmp_path / "token"
    token.write_text("x")
    config = (DEPLOY / "prometheus/prometheus.yml").read_text()
    (tmp_path / "prometheus.yml").write_text(
        config.replace("/etc/prometheus/csms-metrics-token", str(token))
    )
    shutil.copy(DEPLOY / "prometheus/rules.yml", tmp_path)
    done = subprocess.run(
        [promtool, "check", "config", str(tmp_path / "prometheus.yml")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "7 rules found" in done.stdout


# --- ticks and readiness --------------------------------------------------------------------------


@pytest.mark.django_db
def test_ready_while_the_schedule_ticks_and_not_when_it_stops(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ticks, "STARTED_AT", timezone.now())
    assert client.get("/readyz").json() == {
        "ready": True,
        "database": "ok",
        "broker": "ok",
        "ticks": "ok",
    }
    later = timezone.now() + timedelta(days=5)
    with time_machine.travel(later, tick=False):
        for task in set(ticks.schedule().values()) - {"monitoring.tasks.write_ledger"}:
            ticks.beat(task, 0.1)
        answer = client.get("/readyz")
    assert answer.status_code == 503
    assert answer.json()["ticks"] == {"uptime ledger": "never"}


@pytest.mark.django_db
def test_a_scheduled_task_notes_that_it_ended_and_how() -> None:
    task = tasks.write_ledger
    task.apply()
    row = Tick.objects.get(pk=task.name)
    assert row.at is not None
    assert row.error == ""
    task.after_return("FAILURE", ValueError("no"), "id", (), {}, None)
    row.refresh_from_db()
    assert row.error == "ValueError('no')"
    assert row.failing_since is not None
    task.apply()
    row.refresh_from_db()
    assert (row.error, row.failing_since) == ("", None)


@pytest.mark.django_db
def test_a_tick_is_held_by_one_and_given_back() -> None:
    with ticks.exclusive("t", ttl_s=60) as first:
        assert first is not None
        first.cursor = 17
        with ticks.exclusive("t", ttl_s=60) as second:
            assert second is None
    with ticks.exclusive("t", ttl_s=60) as again:
        assert again is not None
        assert again.cursor == 17
        Tick.objects.filter(pk="t").update(locked_until=timezone.now() - timedelta(seconds=1))
        with ticks.exclusive("t", ttl_s=60) as heir:  # the holder was killed
            assert heir is not None
