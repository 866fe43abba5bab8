"""What a declaration of an order holds."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from django import forms
from django.db import models
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

V16: Final = "1.6"
V201: Final = "2.0.1"
V21: Final = "2.1"

# version → the OCPP actions that say an order in it
type Says = Mapping[str, tuple[str, ...]]


class Group(models.TextChoices):
    """Where the back office shows an order, in this order."""

    CHARGING = "charging", _("Charging")
    STATION = "station", _("Station")
    SMART = "smart", _("Smart charging")
    RESERVATION = "reservation", _("Reservations")
    TOKENS = "tokens", _("Tokens on the station")
    DISPLAY = "display", _("Display and tariffs")
    CONFIGURATION = "configuration", _("Configuration")
    MONITORING = "monitoring", _("Monitoring")
    SECURITY = "security", _("Security")
    FIRMWARE = "firmware", _("Firmware and logs")
    GRID = "grid", _("Grid and batteries")
    VENDOR = "vendor", _("Vendor")


def in_16(*actions: str) -> Says:
    """Say an order in OCPP 1.6 by these actions."""
    return {V16: actions}


def in_2x(*actions: str) -> Says:
    """Say an order in OCPP 2.0.1 and 2.1 by these actions."""
    return {V201: actions, V21: actions}


def in_21(*actions: str) -> Says:
    """Say an order in OCPP 2.1 alone."""
    return {V21: actions}


def in_all(*actions: str) -> Says:
    """Say an order in every version by the same actions."""
    return {V16: actions, V201: actions, V21: actions}


@dataclass(frozen=True, slots=True)
class Spec:
    """One kind of order: how it looks in the back office and how long it may take."""

    label: str | Promise
    icon: str  # Material symbol
    form: type[forms.Form] = forms.Form
    permission: str = "stations.operate_station"
    danger: bool = False  # red, and typed confirmation in the dialog
    ttl_s: int = 600  # how long it may wait for an offline station
    timeout_s: int = 60  # how long the charger may take to answer
    group: Group = Group.STATION
    says: Says = field(default_factory=dict)
    expects: tuple[str, ...] = ()  # actions with which the charger carries it out, after its answer
    one_station: bool = False  # means one session or connector: not offered for many stations

    def known_to(self, version: str) -> bool:
        """Tell whether a station of this version can be told so; one never seen may be any."""
        return not version or version in self.says
