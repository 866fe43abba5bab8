"""Sessions and their readings, in 2.x's shape; 1.6 is lifted to it."""

from django.db import models
from django.utils.translation import gettext_lazy as _

from stations.models import Connector, Station, Token
from stations.state import Lifecycle


class Session(models.Model):
    """One transaction of a charger. `stopped_at` ends energy, `closed_at` ends occupancy.

    Registers are integer milliwatt-hours (chargers send fractions of a Wh); `energy_wh` is what the
    determination ladder says (billing notes §2), whole Wh, rounded down: doubt favours the driver.
    """

    class State(Lifecycle):
        ACTIVE = "active", _("Charging")
        STOPPED = "stopped", _("Stopped, still plugged in")
        CLOSED = "closed", _("Ended")

    class Source(models.TextChoices):
        """The rung of the ladder that gave the energy."""

        NONE = "", _("none")
        SIGNED = "signed", _("signed meter values")
        REGISTERS = "registers", _("start and stop registers")
        PROVISIONAL = "provisional", _("last plausible register")

    station = models.ForeignKey(  # session_once is its index
        Station, models.PROTECT, related_name="sessions", db_index=False
    )
    connector = models.ForeignKey(
        Connector, models.SET_NULL, null=True, blank=True, related_name="sessions"
    )
    ref = models.CharField(
        _("transaction"), max_length=64, help_text=_("The charger's id; in 1.6 the number we gave.")
    )
    number = models.BigIntegerField(
        unique=True, null=True, editable=False, help_text=_("1.6 transactionId, from a sequence.")
    )
    natural_key = models.CharField(
        max_length=160,
        null=True,
        editable=False,
        help_text=_("1.6: what makes a resent StartTransaction the same session."),
    )
    state = models.CharField(_("state"), max_length=8, choices=State, default=State.ACTIVE)
    # who
    token = models.ForeignKey(
        Token, models.SET_NULL, null=True, blank=True, related_name="sessions"
    )
    token_uid = models.CharField(_("token"), max_length=255, blank=True)
    token_type = models.CharField(max_length=20, blank=True)
    authorization = models.CharField(
        _("answered"), max_length=20, blank=True, help_text=_("idTagInfo / idTokenInfo status.")
    )
    remote_start_id = models.BigIntegerField(null=True, blank=True)
    stop_token_uid = models.CharField(max_length=255, blank=True)
    stop_reason = models.CharField(_("stop reason"), max_length=40, blank=True)
    # when: the charger's times, and when we heard
    started_at = models.DateTimeField(_("started"))
    started_received_at = models.DateTimeField()
    stopped_at = models.DateTimeField(_("stopped"), null=True, blank=True)
    stopped_received_at = models.DateTimeField(null=True, blank=True)
    closed_at = models.DateTimeField(_("ended"), null=True, blank=True)
    close_by = models.DateTimeField(
        null=True, blank=True, help_text=_("The deadline that closes it if the bay never frees.")
    )
    # energy
    meter_start_mwh = models.BigIntegerField(null=True)
    meter_stop_mwh = models.BigIntegerField(null=True)
    streak_start_mwh = models.BigIntegerField(  # meter_start, or where the readings began
        null=True, editable=False
    )
    last_register_mwh = models.BigIntegerField(null=True)
    energy_wh = models.BigIntegerField(_("energy (Wh)"), default=0)
    energy_source = models.CharField(
        _("energy from"), max_length=12, choices=Source, blank=True, default=Source.NONE
    )
    # what the portal and the start page show, without reading the readings
    power_w = models.FloatField(_("power (W)"), null=True)
    soc_percent = models.FloatField(_("state of charge (%)"), null=True)
    last_reading_at = models.DateTimeField(null=True)
    charging_state = models.CharField(
        max_length=20, blank=True, help_text=_("2.x chargingState; 1.6 from the connector.")
    )
    seq_no = models.IntegerField(null=True, help_text=_("2.x: the highest seen."))
    seq_seen = models.JSONField(
        default=list, editable=False, help_text=_("2.x: ranges of sequence numbers seen.")
    )
    offline = models.BooleanField(_("while offline"), default=False)
    flags = models.JSONField(
        _("doubts"), default=list, blank=True, help_text=_("Words such as seq-gap, clock, falling.")
    )
    review = models.CharField(
        _("needs review"),
        max_length=40,
        blank=True,
        help_text=_("Why a person must look before it is billed: orphan-stop, refused-start, …"),
    )

    class Meta:
        verbose_name = _("session")
        verbose_name_plural = _("sessions")
        ordering = ["-started_at"]
        constraints = [
            models.UniqueConstraint(fields=["station", "ref"], name="session_once"),
            models.UniqueConstraint(fields=["natural_key"], name="session_natural_key"),
        ]
        indexes = [
            models.Index(fields=["-started_at"], name="session_started"),
            models.Index(
                fields=["station", "connector"],
                name="session_open",
                condition=models.Q(closed_at=None),
            ),
            models.Index(
                fields=["close_by"], name="session_due", condition=models.Q(closed_at=None)
            ),
            models.Index(fields=["token_uid"], name="session_token"),
            models.Index(fields=["id"], name="session_review", condition=~models.Q(review="")),
        ]

    def __str__(self) -> str:
        return f"{self.station_id} · {self.ref}"


Session.State.TRANSITIONS = {
    Session.State.ACTIVE: {Session.State.STOPPED, Session.State.CLOSED},
    Session.State.STOPPED: {Session.State.CLOSED},
}


class Reading(models.Model):
    """What a charger measured at one moment of a session: one wide row.

    Key (session, at, n); `n` is a digest of context and content, so that the last periodic and the
    End reading of one second both stay while a retransmission is one row. Written by the group
    commit; on PostgreSQL partitioned by month. Not registered in the admin: the session shows it.
    """

    pk = models.CompositePrimaryKey("session_id", "at", "n")
    session = models.ForeignKey(  # the key begins with it: an index of its own would only cost
        Session, models.DO_NOTHING, related_name="readings", db_constraint=False, db_index=False
    )
    at = models.DateTimeField()
    n = models.BigIntegerField()
    received_at = models.DateTimeField()
    context = models.CharField(max_length=24, blank=True)
    register_mwh = models.BigIntegerField(null=True, help_text="Energy.Active.Import.Register")
    export_mwh = models.BigIntegerField(null=True, help_text="Energy.Active.Export.Register")
    power_w = models.FloatField(null=True)
    offered_w = models.FloatField(null=True)
    current_a = models.FloatField(null=True, help_text="largest phase")
    current_l1_a = models.FloatField(null=True)
    current_l2_a = models.FloatField(null=True)
    current_l3_a = models.FloatField(null=True)
    voltage_v = models.FloatField(null=True)
    offered_a = models.FloatField(null=True)
    soc_percent = models.FloatField(null=True)
    temperature_c = models.FloatField(null=True)
    charging_state = models.CharField(max_length=20, blank=True)
    extra = models.JSONField(null=True, help_text="Other measurands, as sent.")
    signed = models.TextField(blank=True, help_text="Signed meter value, byte for byte.")

    class Meta:
        ordering = ["session_id", "at", "n"]

    def __str__(self) -> str:
        return f"{self.session_id} {self.at:%H:%M:%S} {self.register_mwh}"
