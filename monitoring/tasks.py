"""Slow work of the monitoring app. Every task finds its work in rows and is idempotent."""

from celery import shared_task

from monitoring import alerts, notices


@shared_task(name="monitoring.tasks.evaluate_rules")
def evaluate_rules() -> None:
    """Run the alert rules that are due."""
    alerts.tick()


@shared_task(name="monitoring.tasks.send_notices")
def send_notices() -> None:
    """Tell contacts of incidents: write what is due into the outbox and send it."""
    notices.plan()
    notices.deliver()
