"""Assets: sites, stations, EVSEs, connectors, reported variables and quirk profiles."""

import secrets
import zoneinfo

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import models
from django.db.models.functions import Coalesce
from django.utils.translation import gettext_lazy as _

from stations.state import Lifecycle

_CODE_ALPHABET = "ABCDEFGHJKLMNPQRSTUVWXYZ23456789"  # no I, O, 0, 1: printed on a sticker


def portal_code() -> str:
    """Return a new code for a connector's pay page: 16 characters, 80 bits."""
    return "".join(secrets.choice(_CODE_ALPHABET) for _ in range(16))


def check_time_zone(name: str) -> None:
    """Raise ValidationError unless `name` is an IANA time zone."""
    if name not in zoneinfo.available_timezones():
        raise ValidationError(
            _("“%(name)s” is not a time zone. Write it as Europe/Berlin."), params={"name": name}
        )


class Site(models.Model):
    """A place with stations. Its time zone decides what a tariff's local time means."""

    name = models.CharField(_("name"), max_length=120, unique=True)
    address = models.CharField(_("address"), max_length=200, blank=True)
    postal_code = models.CharField(_("postal code"), max_length=16, blank=True)
    city = models.CharField(_("city"), max_length=80, blank=True)
    country = models.CharField(
        _("country"), max_length=2, default="DE", help_text=_("ISO 3166-1 alpha-2; decides VAT.")
    )
    latitude = models.DecimalField(
        _("latitude"), max_digits=9, decimal_places=6, null=True, blank=True
    )
    longitude = models.DecimalField(
        _("longitude"), max_digits=9, decimal_places=6, null=True, blank=True
    )
    time_zone = models.CharField(
        _("time zone"), max_length=40, default="Europe/Berlin", validators=[check_time_zone]
    )
    opening_hours = models.CharField(_("opening hours"), max_length=200, blank=True)
    support_phone = models.CharField(_("support phone"), max_length=40, blank=True)
    # power sharing (monitoring/sharing.py)
    power_limit_a = models.PositiveIntegerField(
        _("limit (A per phase)"),
        null=True,
        blank=True,
        help_text=_("What all sessions here may draw together. Empty: nothing is shared."),
    )
    power_minimum_a = models.PositiveIntegerField(
        _("minimum (A)"),
        default=6,
        help_text=_("What each session gets at least, or it waits. A car needs 6 A."),
    )
    power_offline_a = models.PositiveIntegerField(
        _("offline (A)"),
        null=True,
        blank=True,
        help_text=_("What each EVSE may draw when its station has lost us. Empty: an equal part."),
    )

    class Meta:
        verbose_name = _("site")
        verbose_name_plural = _("sites")
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name

    @property
    def zone(self) -> zoneinfo.ZoneInfo:
        """The site's time zone."""
        return zoneinfo.ZoneInfo(self.time_zone)


class QuirkProfile(models.Model):
    """How a make of charger misbehaves and what we tolerate, as data (protocol notes, quirks)."""

    name = models.CharField(_("name"), max_length=80, unique=True)
    built_in = models.BooleanField(
        _("built in"),
        default=False,
        editable=False,
        help_text=_("Came with the product. A profile of your own for the same make goes first."),
    )
    vendor = models.CharField(
        _("vendor"),
        max_length=50,
        help_text=_("The name or a regular expression, compared without case."),
    )
    model_pattern = models.CharField(
        _("model"), max_length=100, default=".*", help_text=_("A regular expression.")
    )
    firmware_from = models.CharField(_("from firmware"), max_length=50, blank=True)
    firmware_to = models.CharField(_("to firmware"), max_length=50, blank=True)
    settings = models.JSONField(_("settings"), default=dict, blank=True)
    tolerated = models.JSONField(_("tolerated"), default=dict, blank=True, editable=False)

    class Meta:
        verbose_name = _("quirk profile")
        verbose_name_plural = _("quirk profiles")
        ordering = ["vendor", "name"]

    def __str__(self) -> str:
        return self.name


class StationQuerySet(models.QuerySet["Station"]):
    """Stations by meaning."""

    def visible_to(self, user: "settings.AUTH_USER_MODEL") -> "StationQuerySet":  # type: ignore[name-defined]
        """Return those at the user's sites; all where the user has none chosen."""
        chosen = user.sites.values_list("pk", flat=True)
        return self.filter(site__in=chosen) if chosen.exists() else self

    def online(self) -> "StationQuerySet":
        """Return those with a live socket."""
        return self.filter(connected=True)


class Station(models.Model):
    """A charging station (2.x) or charge point (1.6), known by its OCPP identity."""

    class State(Lifecycle):
        PENDING = "pending", _("Pending approval")
        ACCEPTED = "accepted", _("In service")
        REJECTED = "rejected", _("Rejected")
        RETIRED = "retired", _("Retired")

    class Version(models.TextChoices):
        V16 = "1.6", "OCPP 1.6-J"
        V201 = "2.0.1", "OCPP 2.0.1"
        V21 = "2.1", "OCPP 2.1"

    identity = models.CharField(_("identity"), max_length=48, unique=True)
    name = models.CharField(_("name"), max_length=80, blank=True)
    site = models.ForeignKey(
        Site,
        models.SET_NULL,
        null=True,
        blank=True,
        related_name="stations",
        verbose_name=_("site"),
    )
    state = models.CharField(_("state"), max_length=10, choices=State, default=State.ACCEPTED)
    public = models.BooleanField(
        _("public"), default=False, help_text=_("Shown in the portal, open to anyone who pays.")
    )
    version = models.CharField(_("OCPP version"), max_length=5, choices=Version, blank=True)
    vendor = models.CharField(_("vendor"), max_length=50, blank=True)
    model = models.CharField(_("model"), max_length=50, blank=True)
    serial = models.CharField(_("serial number"), max_length=50, blank=True)
    firmware = models.CharField(_("firmware"), max_length=50, blank=True)
    iccid = models.CharField("ICCID", max_length=22, blank=True)
    imsi = models.CharField("IMSI", max_length=22, blank=True)
    modem_firmware = models.CharField(_("modem firmware"), max_length=50, blank=True)
    quirks = models.ForeignKey(
        QuirkProfile, models.SET_NULL, null=True, blank=True, verbose_name=_("quirk profile")
    )
    # security (protocol notes §5)
    security_profile = models.PositiveSmallIntegerField(_("security profile"), default=0)
    security_locked = models.BooleanField(
        _("locked"),
        default=False,
        db_default=False,
        help_text=_("The profile rises with the best one it connects with, and never falls."),
    )
    connected_profile = models.PositiveSmallIntegerField(
        _("connects with profile"), null=True, editable=False
    )
    password_hash = models.CharField(max_length=200, blank=True, editable=False)
    # the password on trial: it becomes the password when the station first connects with it
    next_password_hash = models.CharField(max_length=200, blank=True, default="", editable=False,
                                          db_default="")  # fmt: skip
    next_password_until = models.DateTimeField(null=True, editable=False)
    # presence: written by the socket's owner only
    connected = models.BooleanField(_("connected"), default=False, editable=False)
    epoch = models.BigIntegerField(
        default=0, editable=False, help_text=_("Counts connections; the newest socket owns it.")
    )
    gateway = models.CharField(max_length=80, blank=True, editable=False)
    connected_at = models.DateTimeField(_("connected at"), null=True, editable=False)
    disconnected_at = models.DateTimeField(_("disconnected at"), null=True, editable=False)
    last_seen_at = models.DateTimeField(_("last seen"), null=True, editable=False)
    booted_at = models.DateTimeField(_("booted"), null=True, editable=False)
    boot_reason = models.CharField(_("boot reason"), max_length=30, blank=True, editable=False)
    heartbeat_interval_s = models.PositiveIntegerField(_("heartbeat interval (s)"), default=300)
    clock_offset_s = models.FloatField(
        _("clock offset (s)"), null=True, editable=False, help_text=_("Charger's clock − ours.")
    )
    # connector 0: the station as a whole
    status = models.CharField(_("status"), max_length=20, blank=True, editable=False)
    status_at = models.DateTimeField(
        _("since"), null=True, editable=False, help_text=_("The charger's own time.")
    )
    error_code = models.CharField(_("error code"), max_length=50, blank=True, editable=False)
    power_priority = models.PositiveSmallIntegerField(
        _("power priority"),
        default=0,
        db_default=0,
        help_text=_("A higher number is served first at its site."),
    )
    notes = models.TextField(_("notes"), blank=True)
    created_at = models.DateTimeField(_("created"), auto_now_add=True)

    objects = StationQuerySet.as_manager()

    class Meta:
        verbose_name = _("station")
        verbose_name_plural = _("stations")
        ordering = ["identity"]
        permissions = [
            ("operate_station", _("Can send everyday commands to stations")),
            ("configure_station", _("Can read and change station configuration")),
            ("update_firmware", _("Can update firmware")),
            ("view_frames", _("Can read OCPP frames")),
            ("view_health", _("Can see how the servers are")),
        ]
        indexes = [
            # not by last_seen_at, which every sign of life changes: that update must stay cheap
            models.Index(fields=["connected"], name="station_presence"),
            models.Index(
                fields=["connected"], name="station_outcast", condition=models.Q(state="retired")
            ),
            models.Index(fields=["vendor", "model", "firmware"], name="station_make"),
        ]

    def __str__(self) -> str:
        return self.name or self.identity

    @property
    def zone(self) -> zoneinfo.ZoneInfo:
        """The time zone of the station's site; UTC without a site."""
        return self.site.zone if self.site else zoneinfo.ZoneInfo("UTC")


Station.State.TRANSITIONS = {
    Station.State.PENDING: {Station.State.ACCEPTED, Station.State.REJECTED},
    Station.State.ACCEPTED: {Station.State.RETIRED},
    Station.State.REJECTED: {Station.State.ACCEPTED, Station.State.PENDING},
    Station.State.RETIRED: {Station.State.ACCEPTED},
}


class Evse(models.Model):
    """An EVSE: charges one vehicle at a time. In 1.6 each connector is an EVSE of its own."""

    station = models.ForeignKey(Station, models.CASCADE, related_name="evses")
    number = models.PositiveIntegerField(_("number"))

    class Meta:
        verbose_name = "EVSE"
        verbose_name_plural = "EVSEs"
        ordering = ["station", "number"]
        constraints = [models.UniqueConstraint(fields=["station", "number"], name="evse_once")]

    def __str__(self) -> str:
        return f"{self.station} · {self.number}"


class Connector(models.Model):
    """A plug or socket. Its status speaks 1.6's nine words, which say more than 2.x's five."""

    class Status(models.TextChoices):
        """1.6 ChargePointStatus, plus 2.x Occupied where nothing finer is known, plus Unknown."""

        AVAILABLE = "Available", _("Available")
        PREPARING = "Preparing", _("Preparing")
        CHARGING = "Charging", _("Charging")
        SUSPENDED_EV = "SuspendedEV", _("Suspended by the vehicle")
        SUSPENDED_EVSE = "SuspendedEVSE", _("Suspended by the station")
        FINISHING = "Finishing", _("Finishing")
        OCCUPIED = "Occupied", _("Occupied")
        RESERVED = "Reserved", _("Reserved")
        UNAVAILABLE = "Unavailable", _("Out of service")
        FAULTED = "Faulted", _("Faulted")
        UNKNOWN = "Unknown", _("Unknown")

    class Type(models.TextChoices):
        """OCPI 2.3.0 ConnectorType, the common ones."""

        IEC_62196_T2 = "IEC_62196_T2", _("Type 2")
        IEC_62196_T2_COMBO = "IEC_62196_T2_COMBO", _("CCS2")
        IEC_62196_T1 = "IEC_62196_T1", _("Type 1")
        IEC_62196_T1_COMBO = "IEC_62196_T1_COMBO", _("CCS1")
        CHADEMO = "CHADEMO", "CHAdeMO"
        NACS = "SAE_J3400", "NACS"
        DOMESTIC_F = "DOMESTIC_F", _("Schuko")

    station = models.ForeignKey(Station, models.CASCADE, related_name="connectors")
    evse = models.ForeignKey(Evse, models.CASCADE, related_name="connectors")
    number = models.PositiveIntegerField(_("number"), help_text=_("Within its EVSE; 1 in 1.6."))
    type = models.CharField(_("type"), max_length=24, choices=Type, default=Type.IEC_62196_T2)
    max_power_w = models.PositiveIntegerField(_("power (W)"), default=22_000)
    phases = models.PositiveSmallIntegerField(
        _("phases"), choices=[(1, "1"), (3, "3")], default=3, db_default=3
    )
    code = models.CharField(_("portal code"), max_length=16, unique=True, default=portal_code)
    status = models.CharField(
        _("status"), max_length=16, choices=Status, default=Status.UNKNOWN, editable=False
    )
    status_at = models.DateTimeField(
        _("since"), null=True, editable=False, help_text=_("The charger's own time.")
    )
    status_received_at = models.DateTimeField(null=True, editable=False)
    error_code = models.CharField(_("error code"), max_length=50, blank=True, editable=False)
    vendor_error_code = models.CharField(max_length=50, blank=True, editable=False)
    info = models.CharField(_("info"), max_length=512, blank=True, editable=False)

    class Meta:
        verbose_name = _("connector")
        verbose_name_plural = _("connectors")
        ordering = ["station", "evse__number", "number"]
        constraints = [models.UniqueConstraint(fields=["evse", "number"], name="connector_once")]
        indexes = [models.Index(fields=["status"], name="connector_status")]

    def __str__(self) -> str:
        return f"{self.station} · {self.evse.number}" + (
            f".{self.number}" if self.number != 1 else ""
        )


class Variable(models.Model):
    """One reported value of the device model (2.x), or one configuration key (1.6).

    1.6 keys have an empty component. `wanted` is what we want it to be; a difference is drift.
    """

    station = models.ForeignKey(Station, models.CASCADE, related_name="variables")
    component = models.CharField(_("component"), max_length=50, blank=True)
    component_instance = models.CharField(max_length=50, blank=True)
    evse = models.PositiveIntegerField(null=True, blank=True)
    connector = models.PositiveIntegerField(null=True, blank=True)
    name = models.CharField(_("variable"), max_length=50)
    instance = models.CharField(max_length=50, blank=True)
    attribute = models.CharField(_("attribute"), max_length=10, default="Actual")
    value = models.TextField(_("reported"), null=True, blank=True)
    read_only = models.BooleanField(_("read-only"), default=False)
    data_type = models.CharField(max_length=20, blank=True)
    unit = models.CharField(max_length=16, blank=True)
    characteristics = models.JSONField(default=dict, blank=True)
    reported_at = models.DateTimeField(_("reported at"), null=True)
    wanted = models.TextField(_("wanted"), null=True, blank=True)
    pushed_at = models.DateTimeField(_("pushed at"), null=True, blank=True)
    reboot_required = models.BooleanField(_("waits for a reboot"), default=False)

    class Meta:
        verbose_name = _("variable")
        verbose_name_plural = _("variables")
        ordering = ["station", "component", "name"]
        constraints = [
            # by expressions: no EVSE is one place too, and NULLS NOT DISTINCT is PostgreSQL's alone
            models.UniqueConstraint(
                "station",
                "component",
                "component_instance",
                Coalesce("evse", models.Value(-1), output_field=models.IntegerField()),
                Coalesce("connector", models.Value(-1), output_field=models.IntegerField()),
                "name",
                "instance",
                "attribute",
                name="variable_once",
            )
        ]

    def __str__(self) -> str:
        return f"{self.component}.{self.name}" if self.component else self.name
