"""The firmware app."""

from django.apps import AppConfig


class FirmwareConfig(AppConfig):
    """Firmware images and campaigns."""

    name = "firmware"
    verbose_name = "Firmware"
