"""The monitoring app."""

from django.apps import AppConfig


class MonitoringConfig(AppConfig):
    """What happens at the stations: sessions, readings, incidents, uptime."""

    name = "monitoring"
    verbose_name = "Monitoring"

    def ready(self) -> None:
        """Register the writer's lanes, in whatever process may write."""
        from monitoring import sessions  # noqa: F401
