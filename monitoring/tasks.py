"""Slow work of the monitoring app. Every task finds its work in rows and is idempotent."""

from celery import shared_task

from monitoring import alerts


@shared_task(name="monitoring.tasks.evaluate_rules")
def evaluate_rules() -> None:
    """Run the alert rules that are due."""
    alerts.tick()
