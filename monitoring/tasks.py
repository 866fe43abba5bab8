"""Slow work of the monitoring app. Every task finds its work in rows and is idempotent."""

from celery import shared_task

from monitoring import alerts, gaps, ledger, notices, playbooks, profiles, sessions, sharing
from stations import partitions
from stations.models import Command, Entry

READINGS = partitions.Table("monitoring_reading")


@shared_task(name="monitoring.tasks.evaluate_rules")
def evaluate_rules() -> None:
    """Run the alert rules that are due."""
    alerts.tick()


@shared_task(name="monitoring.tasks.send_notices")
def send_notices() -> None:
    """Tell contacts of incidents: write what is due into the outbox and send it."""
    notices.plan()
    notices.deliver()


@shared_task(name="monitoring.tasks.close_sessions")
def close_sessions() -> None:
    """Close sessions whose deadline passed or whose station fell silent."""
    sessions.close_due()


@shared_task(name="monitoring.tasks.keep_readings")
def keep_readings() -> None:
    """Make room for the next months' readings. They are evidence of bills: none is dropped."""
    partitions.ensure(READINGS)


@shared_task(name="monitoring.tasks.write_ledger")
def write_ledger() -> None:
    """Fold the journal into the uptime ledger."""
    ledger.tick()


@shared_task(name="monitoring.tasks.run_playbooks")
def run_playbooks() -> None:
    """Take what is being mended one step further."""
    playbooks.tick()


@shared_task(name="monitoring.tasks.share_power")
def share_power() -> None:
    """Share the power of every site that has a limit."""
    sharing.tick()


@shared_task(name="monitoring.tasks.forget_profiles")
def forget_profiles() -> None:
    """Forget charging profiles that ran out and those of sessions that are over."""
    profiles.forget_ended()


@shared_task(name="monitoring.tasks.ask_for_gaps")
def ask_for_gaps() -> None:
    """Ask stations about transactions of which events are missing."""
    gaps.tick()


@shared_task(name="monitoring.tasks.transaction_told")
def transaction_told(entry_id: int) -> None:
    """Take what a station said about a transaction with a gap."""
    entry = Entry.objects.filter(pk=entry_id).values_list("data", flat=True).first() or {}
    if entry.get("name") == gaps.ASK and entry.get("subject", "").startswith("session-"):
        command = Command.objects.filter(pk=entry["command"]).first()
        if command is not None:
            gaps.answered(command)
