"""Playbooks: what is tried to mend an alert by itself, step by step, each step behind guards.

A run belongs to one alert. Steps are orders (`commands.send`, subject `playbook-7`); whether one
helped is seen by the alert's condition, never by the charger's “Accepted”. Harmful steps are only
given where a `PlaybookSetting` says “on”; otherwise the run ends saying what it would have done.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction
from django.db.models import Exists, F, OuterRef, Q
from django.utils import timezone
from django.utils.translation import gettext as _

from monitoring import faults
from monitoring.grouping import LIT
from monitoring.models import (
    Alert,
    MaintenanceWindow,
    PlaybookRun,
    PlaybookSetting,
    PlaybookStep,
    Session,
)
from monitoring.rules import RULES
from stations import commands, journal, live
from stations.catalogue import COMMANDS
from stations.models import Connector, Station
from stations.state import try_advance

State, Mode = PlaybookRun.State, PlaybookSetting.Mode

FRESH = timedelta(minutes=10)  # alerts that fired longer ago are not taken up any more
BATCH = 100
STATION_RESETS, STATION_HARD_RESETS = 2, 1  # in a day
FLEET_PERCENT = 1  # of the stations may be reset in an hour
SITE_PAUSE = timedelta(minutes=15)  # between two stations of one site
BREAKER_RUNS, BREAKER_PERCENT = 20, 30
TEARDOWN = timedelta(minutes=5)
IDLE = {"Available", "Unavailable", "Faulted", "Unknown"}


@dataclass(frozen=True, slots=True)
class Step:
    """One order and how long its effect may take. `{evse}` in args is the connector's EVSE."""

    command: str
    wait_s: int
    args: tuple[tuple[str, Any], ...] = ()
    harmful: bool = False
    restores: bool = False  # given whatever happens: it undoes the step before

    def arguments(self, run: PlaybookRun) -> dict[str, Any]:
        """Return the command's arguments for this run."""
        evse = run.connector.evse.number if run.connector else None
        filled = {key: evse if value == "{evse}" else value for key, value in self.args}
        return {key: value for key, value in filled.items() if value is not None}


@dataclass(frozen=True, slots=True)
class Playbook:
    """A named ladder of steps, the gentlest first."""

    key: str
    title: str
    steps: tuple[Step, ...]
    on_safety: bool = False  # may act where there is danger: it only takes out of service
    at_connector: bool = False  # a vehicle may be plugged in; nothing may charge


def _ask(message: str, wait_s: int, *, evse: bool = True) -> Step:
    args = (("message", message), *((("evse", "{evse}"),) if evse else ()))
    return Step("trigger_message", wait_s, args)


_RESET = Step("reset", 300, harmful=True)
_EVSE = ("evse", "{evse}")
PLAYBOOKS = {
    playbook.key: playbook
    for playbook in (
        Playbook("P1", "Connection", (_ask("Heartbeat", 60, evse=False), _RESET)),
        Playbook(
            "P2",
            "Fault",
            (
                _ask("StatusNotification", 120),
                _RESET,
                Step("reset", 300, (("hard", True),), harmful=True),
            ),
        ),
        Playbook(
            "P3",
            "Stuck connector",
            (
                _ask("StatusNotification", 60),
                Step("change_availability", 10, (("operative", False), _EVSE), harmful=True),
                Step(
                    "change_availability",
                    60,
                    (("operative", True), _EVSE),
                    harmful=True,
                    restores=True,
                ),
                Step("unlock", 60, (_EVSE,), harmful=True),
            ),
            at_connector=True,
        ),
        Playbook("P5", "Open transaction", (_ask("MeterValues", 60),)),
        Playbook("P6", "No energy", (_RESET,)),
        Playbook(
            "block",
            "Take out of service",
            (Step("change_availability", 60, (("operative", False), _EVSE), harmful=True),),
            on_safety=True,
            at_connector=True,
        ),
    )
}


def tick(now: datetime | None = None) -> None:
    """Begin runs for alerts that just fired, and take every due run one step further."""
    now = now or timezone.now()
    _begin(now)
    due = PlaybookRun.objects.filter(state=State.RUNNING, next_at__lte=now)
    modes = {row.playbook: Mode(row.mode) for row in PlaybookSetting.objects.all()}
    rows = due.select_related("alert", "incident", "station__site", "connector__evse")
    for run in rows.order_by("next_at")[:BATCH]:
        step_on(run, modes.get(run.playbook, Mode.HARMLESS), now)


def _begin(now: datetime) -> None:
    """Write a run for each alert whose rule names a playbook and that has none since it fired."""
    tried = PlaybookRun.objects.filter(alert=OuterRef("pk"), started_at__gte=OuterRef("fired_at"))
    wanted = {rule.key: rule.playbook for rule in RULES.values() if rule.playbook in PLAYBOOKS}
    fresh = Alert.objects.filter(
        state__in=LIT,
        rule__in=wanted,
        holds=True,
        fired_at__gt=now - FRESH,
        station__isnull=False,
        incident__isnull=False,
    ).exclude(Exists(tried))
    PlaybookRun.objects.bulk_create(
        [
            PlaybookRun(
                playbook=wanted[alert.rule],
                alert=alert,
                incident_id=alert.incident_id or 0,
                station_id=alert.station_id or 0,
                connector_id=alert.connector_id,
                started_at=now,
                next_at=now,
            )
            for alert in fresh.order_by("pk")[:BATCH]
        ],
        ignore_conflicts=True,
    )


@transaction.atomic
def step_on(run: PlaybookRun, mode: PlaybookSetting.Mode, now: datetime) -> None:
    """Take a run one step further, or end it. Compare-and-set: two workers cannot both."""
    playbook = PLAYBOOKS[run.playbook]
    step = playbook.steps[run.step] if run.step < len(playbook.steps) else None
    wait, further = (timedelta(seconds=step.wait_s), 1) if step else (timedelta(), 0)
    taken = PlaybookRun.objects.filter(
        pk=run.pk, state=State.RUNNING, step=run.step, next_at=run.next_at
    ).update(next_at=now + wait, step=F("step") + further)
    if not taken:
        return
    _note_outcome(run)
    if step is not None and step.restores and _given(run, run.step - 1):
        _give(run, step, now)
    elif not (run.alert.holds and run.alert.state in LIT):
        done = run.steps.filter(dry=False).exists()
        text = _("The condition is over.") if done else _("It was over before the first step.")
        _end(run, State.HEALED, text, now)
    elif step is None:
        _end(run, State.FAILED, _("Every step was tried."), now)
    elif mode == Mode.OFF:
        _end(run, State.REFUSED, _("The playbook is turned off."), now)
    elif reason := refused(run, playbook, step, now):
        _keep(run, step, now, dry=True, outcome="refused")
        _end(run, State.REFUSED, reason, now)
    elif mode == Mode.DRY_RUN or (step.harmful and mode == Mode.HARMLESS):
        _keep(run, step, now, dry=True, outcome="would")
        label = str(COMMANDS[step.command].label)
        _end(run, State.DRY, _("Would now order: %(order)s") % {"order": label}, now)
    else:
        _give(run, step, now)


def _given(run: PlaybookRun, number: int) -> bool:
    return run.steps.filter(number=number, dry=False, command__isnull=False).exists()


def _give(run: PlaybookRun, step: Step, now: datetime) -> None:
    command = commands.send(
        run.station,
        step.command,
        subject=f"playbook-{run.pk}",
        expires_in_s=max(step.wait_s, 30),
        **step.arguments(run),
    )
    kept = _keep(run, step, now, dry=False, outcome="")
    PlaybookStep.objects.filter(pk=kept.pk).update(command=command)
    _tell(run, "playbook.stepped", command=step.command, args=step.arguments(run))


def _keep(run: PlaybookRun, step: Step, now: datetime, *, dry: bool, outcome: str) -> PlaybookStep:
    return PlaybookStep.objects.create(
        run=run,
        station_id=run.station_id,
        number=run.step,
        command_name=step.command,
        args=step.arguments(run),
        harmful=step.harmful,
        dry=dry,
        outcome=outcome,
        at=now,
    )


def _note_outcome(run: PlaybookRun) -> None:
    """Keep what became of the order before."""
    for step in run.steps.filter(outcome="", command__isnull=False).select_related("command"):
        if step.command is not None:
            PlaybookStep.objects.filter(pk=step.pk).update(outcome=step.command.status)


def _end(run: PlaybookRun, state: PlaybookRun.State, reason: str, now: datetime) -> None:
    if try_advance(PlaybookRun.objects.filter(pk=run.pk), state, ended_at=now, reason=reason[:200]):
        _tell(run, "playbook.ended", outcome=str(state), reason=reason[:200])


def _tell(run: PlaybookRun, kind: str, **data: Any) -> None:
    journal.record(kind, run.incident, run=run.pk, playbook=run.playbook, **data)
    live.touch(f"incident-{run.incident_id}", "incidents")


# --- guards ---------------------------------------------------------------------------------------


def refused(run: PlaybookRun, playbook: Playbook, step: Step, now: datetime) -> str:
    """Return why this step may not be given now; empty where every guard holds."""
    reason = _frozen(run, now) or _dangerous(run, playbook)
    if reason or not step.harmful:
        return reason
    return (
        ("" if run.station.connected else _("The station is not connected."))
        or _in_use(run, playbook, now)
        or (_over_budget(run, step, now) if step.command == "reset" else "")
        or _breaker(run)
    )


def _frozen(run: PlaybookRun, now: datetime) -> str:
    """Hold still while the fleet is gone or somebody works on the station."""
    if Alert.objects.filter(rule="mass-disconnect", state__in=LIT).exists():
        return _("Much of the fleet is gone: nothing is mended one by one.")
    here = Q(station=run.station_id)
    if run.station.site_id is not None:
        here |= Q(site=run.station.site_id)
    if MaintenanceWindow.objects.filter(here, starts_at__lte=now, ends_at__gt=now).exists():
        return _("Maintenance is announced.")
    return ""


def _dangerous(run: PlaybookRun, playbook: Playbook) -> str:
    """Never act from afar on what may hurt somebody."""
    if playbook.on_safety:
        return ""
    if Alert.objects.filter(
        rule="safety-fault", station=run.station_id, state__in=[*LIT, Alert.State.PENDING]
    ).exists():
        return _("There is a safety fault: somebody must look.")
    known = faults.table()
    for plug in Connector.objects.filter(
        station=run.station_id, status=Connector.Status.FAULTED
    ).select_related("station"):
        fault = faults.classify(plug.error_code, plug.vendor_error_code, plug.station.vendor, known)
        if fault.is_safety:
            return _("There is a safety fault: somebody must look.")
    return ""


def _in_use(run: PlaybookRun, playbook: Playbook, now: datetime) -> str:
    """Nobody's charging is ended; a vehicle that is plugged in elsewhere is left alone."""
    sessions = Session.objects.filter(station=run.station_id)
    if playbook.at_connector:
        mine = sessions.filter(connector=run.connector_id)
        if playbook.on_safety:
            return ""
        if mine.filter(state=Session.State.ACTIVE).exists():
            return _("A session is active on the connector.")
        if mine.filter(stopped_at__gt=now - TEARDOWN).exists():
            return _("A session ended less than five minutes ago.")
        return ""
    if sessions.filter(closed_at__isnull=True).exists():
        return _("A session is open on the station.")
    if Connector.objects.filter(station=run.station_id).exclude(status__in=IDLE).exists():
        return _("A connector of the station is in use or reserved.")
    return ""


def _over_budget(run: PlaybookRun, step: Step, now: datetime) -> str:
    """Resets are rationed: a station, a site, the fleet."""
    resets = PlaybookStep.objects.filter(command_name="reset", harmful=True, dry=False)
    mine = resets.filter(station=run.station_id, at__gt=now - timedelta(days=1))
    hard = sum(1 for given in mine if given.args.get("hard"))
    if mine.count() >= STATION_RESETS:
        return _("The station was reset twice within a day.")
    if dict(step.args).get("hard") and hard >= STATION_HARD_RESETS:
        return _("The station was reset hard within a day.")
    if run.station.site_id is not None and (
        resets.filter(station__site=run.station.site_id, at__gt=now - SITE_PAUSE)
        .exclude(station=run.station_id)
        .exists()
    ):
        return _("Another station of the site is being reset.")
    fleet = Station.objects.filter(state=Station.State.ACCEPTED).count()
    others = resets.filter(at__gt=now - timedelta(hours=1)).exclude(station=run.station_id)
    recent = others.values("station").distinct().count()
    if recent >= max(1, fleet * FLEET_PERCENT // 100):
        return _("One in a hundred stations was reset within the hour.")
    return ""


def _breaker(run: PlaybookRun) -> str:
    """A playbook that rarely helps this model is not tried again."""
    ended = PlaybookRun.objects.filter(
        playbook=run.playbook,
        station__vendor=run.station.vendor,
        station__model=run.station.model,
        state__in=[State.HEALED, State.FAILED],
    ).order_by("-pk")
    states: Sequence[str] = list(ended.values_list("state", flat=True)[:50])
    healed = sum(state == State.HEALED for state in states)
    if len(states) >= BREAKER_RUNS and healed * 100 < BREAKER_PERCENT * len(states):
        return _("It helped this model in only %(healed)d of %(all)d cases.") % {
            "healed": healed,
            "all": len(states),
        }
    return ""
