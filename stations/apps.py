"""The stations app: the shared ground of all others."""

from django.apps import AppConfig


class StationsConfig(AppConfig):
    """Sites, stations, people, the wire and the journal."""

    name = "stations"
    verbose_name = "Network"
