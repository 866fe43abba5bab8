"""The monitoring app."""

from django.apps import AppConfig


class MonitoringConfig(AppConfig):
    """What happens at the stations: sessions, readings, incidents, uptime."""

    name = "monitoring"
    verbose_name = "Monitoring"
