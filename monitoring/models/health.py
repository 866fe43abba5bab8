"""Health: the uptime ledger, what excuses an outage, alerts and the incidents they form."""

from django.conf import settings
from django.db import models
from django.utils.translation import gettext_lazy as _

from stations.models import Connector, Site, Station
from stations.state import Lifecycle


class Severity(models.IntegerChoices):
    """How much it matters: a page wakes somebody, a ticket can wait for the morning."""

    INFO = 10, _("Information")
    WARN = 20, _("Warning")
    TICKET = 30, _("Ticket")
    PAGE = 40, _("Page")
    CRITICAL = 50, _("Critical")

    @property
    def word(self) -> str:
        """The word scripts and metrics use: `page`."""
        return self.name.lower()


class PortInterval(models.Model):
    """One stretch of one kind of evidence: the socket, a connector's status, or a session.

    The ledger is a fold of the journal: `key` names the entry or session behind a row, so that
    writing it again changes nothing. Policies (`monitoring/uptime.py`) decide what is an outage.
    A row without a connector speaks of the whole station. Times are UTC; no end means until now.
    """

    class Source(models.TextChoices):
        LINK = "link", _("connection")
        STATUS = "status", _("status")
        SESSION = "session", _("session")

    station = models.ForeignKey(Station, models.CASCADE, related_name="intervals")
    connector = models.ForeignKey(
        Connector, models.CASCADE, null=True, blank=True, related_name="intervals"
    )
    source = models.CharField(_("from"), max_length=8, choices=Source)
    state = models.CharField(_("state"), max_length=20)
    error_code = models.CharField(_("error code"), max_length=50, blank=True)
    started_at = models.DateTimeField(_("from time"))
    ended_at = models.DateTimeField(_("to time"), null=True, blank=True)
    key = models.CharField(_("evidence"), max_length=40, unique=True)
    order = models.BigIntegerField(help_text=_("Journal entry: decides between equal times."))

    class Meta:
        verbose_name = _("uptime interval")
        verbose_name_plural = _("uptime ledger")
        ordering = ["station", "source", "started_at", "order"]
        indexes = [
            models.Index(fields=["station", "started_at"], name="interval_of_station"),
            models.Index(
                fields=["station", "connector", "source", "started_at", "order"],
                name="interval_line",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.station_id}/{self.connector_id or '-'} {self.state} {self.started_at}"


class Exclusion(models.Model):
    """Time a policy may leave out of the outage, with evidence. Counts only when approved."""

    class Reason(models.TextChoices):
        UTILITY = "utility", _("Power supply interrupted")
        VEHICLE = "vehicle", _("Fault of the vehicle")
        MAINTENANCE = "maintenance", _("Scheduled maintenance")
        VANDALISM = "vandalism", _("Vandalism")
        DISASTER = "disaster", _("Natural disaster")
        HOURS = "hours", _("Outside opening hours")
        TELECOM = "telecom", _("Telecom network down")

    site = models.ForeignKey(Site, models.CASCADE, null=True, blank=True)
    station = models.ForeignKey(Station, models.CASCADE, null=True, blank=True)
    reason = models.CharField(_("reason"), max_length=12, choices=Reason)
    started_at = models.DateTimeField(_("from"))
    ended_at = models.DateTimeField(_("to"))
    evidence = models.TextField(
        _("evidence"), help_text=_("What shows it: the utility's ticket, a police report, a photo.")
    )
    approved_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.SET_NULL, null=True, blank=True, verbose_name=_("approved")
    )
    created_at = models.DateTimeField(_("created"), auto_now_add=True)

    class Meta:
        verbose_name = _("exclusion")
        verbose_name_plural = _("exclusions")
        ordering = ["-started_at"]
        constraints = [
            models.CheckConstraint(
                condition=models.Q(ended_at__gt=models.F("started_at")), name="exclusion_forward"
            ),
            models.CheckConstraint(
                condition=models.Q(site__isnull=False) ^ models.Q(station__isnull=False),
                name="exclusion_scope",
            ),
        ]
        permissions = [("approve_exclusion", _("Can approve exclusions"))]

    def __str__(self) -> str:
        return f"{self.get_reason_display()} {self.started_at:%Y-%m-%d}"


class MaintenanceWindow(models.Model):
    """A planned outage: rules keep quiet until it ends, and the ledger knows it was planned."""

    site = models.ForeignKey(Site, models.CASCADE, null=True, blank=True)
    station = models.ForeignKey(
        Station, models.CASCADE, null=True, blank=True, related_name="maintenance"
    )
    starts_at = models.DateTimeField(_("from"))
    ends_at = models.DateTimeField(_("to"))
    reason = models.CharField(_("reason"), max_length=200)
    source = models.CharField(
        _("announced by"), max_length=60, blank=True, help_text=_("job-7, or a person's name.")
    )
    created_at = models.DateTimeField(_("created"), auto_now_add=True)

    class Meta:
        verbose_name = _("maintenance window")
        verbose_name_plural = _("maintenance windows")
        ordering = ["-starts_at"]
        constraints = [
            models.CheckConstraint(
                condition=models.Q(ends_at__gte=models.F("starts_at")), name="maintenance_forward"
            ),
            models.CheckConstraint(
                condition=models.Q(site__isnull=False) ^ models.Q(station__isnull=False),
                name="maintenance_scope",
            ),
            models.UniqueConstraint(
                fields=["source", "station"],
                name="maintenance_once",
                condition=models.Q(station__isnull=False) & ~models.Q(source=""),
            ),
        ]
        indexes = [models.Index(fields=["ends_at"], name="maintenance_ends")]

    def __str__(self) -> str:
        return f"{self.reason} ({self.starts_at:%Y-%m-%d %H:%M})"


class Incident(models.Model):
    """Alerts with one cause: what people are told, own and close. The timeline is the journal's."""

    class State(Lifecycle):
        OPEN = "open", _("Open")
        ACKNOWLEDGED = "acknowledged", _("Acknowledged")
        RESOLVED = "resolved", _("Resolved")

    class Resolver(models.TextChoices):
        AUTO = "auto", _("by itself")
        PLAYBOOK = "playbook", _("by a playbook")
        PERSON = "person", _("by a person")

    site = models.ForeignKey(Site, models.SET_NULL, null=True, blank=True, related_name="incidents")
    station = models.ForeignKey(
        Station, models.SET_NULL, null=True, blank=True, related_name="incidents"
    )
    connector = models.ForeignKey(Connector, models.SET_NULL, null=True, blank=True)
    family = models.CharField(_("cause"), max_length=20)
    rule = models.CharField(_("rule"), max_length=40)
    severity = models.PositiveSmallIntegerField(_("severity"), choices=Severity)
    state = models.CharField(_("state"), max_length=12, choices=State, default=State.OPEN)
    summary = models.CharField(_("summary"), max_length=300)
    opened_at = models.DateTimeField(_("opened"))
    acknowledged_at = models.DateTimeField(_("acknowledged"), null=True, blank=True)
    acknowledged_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.SET_NULL, null=True, blank=True, related_name="+"
    )
    assigned_to = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        models.SET_NULL,
        null=True,
        blank=True,
        related_name="incidents",
        verbose_name=_("assigned to"),
    )
    snoozed_until = models.DateTimeField(_("snoozed until"), null=True, blank=True)
    resolved_at = models.DateTimeField(_("resolved"), null=True, blank=True)
    resolver = models.CharField(_("resolved by"), max_length=8, choices=Resolver, blank=True)
    resolution = models.CharField(_("what healed it"), max_length=300, blank=True)
    reopened = models.PositiveSmallIntegerField(_("reopened"), default=0)
    # telling people: when the first notices are due, and the escalation chain
    notify_at = models.DateTimeField(null=True, editable=False)
    escalate_at = models.DateTimeField(null=True, editable=False)
    level = models.PositiveSmallIntegerField(default=0, editable=False)
    told_severity = models.PositiveSmallIntegerField(default=0, editable=False)

    class Meta:
        verbose_name = _("incident")
        verbose_name_plural = _("incidents")
        ordering = ["-opened_at"]
        indexes = [
            models.Index(
                fields=["-severity", "opened_at"],
                name="incident_open",
                condition=models.Q(state__in=["open", "acknowledged"]),
            ),
            models.Index(fields=["-opened_at"], name="incident_opened"),
            models.Index(
                fields=["notify_at"],
                name="incident_to_tell",
                condition=models.Q(notify_at__isnull=False),
            ),
            models.Index(
                fields=["escalate_at"],
                name="incident_to_escalate",
                condition=models.Q(escalate_at__isnull=False),
            ),
        ]
        permissions = [("handle_incident", _("Can acknowledge, assign and resolve incidents"))]

    def __str__(self) -> str:
        return f"#{self.pk} {self.summary}"


Incident.State.TRANSITIONS = {
    Incident.State.OPEN: {Incident.State.ACKNOWLEDGED, Incident.State.RESOLVED},
    Incident.State.ACKNOWLEDGED: {Incident.State.OPEN, Incident.State.RESOLVED},
    Incident.State.RESOLVED: {Incident.State.OPEN},
}


class Alert(models.Model):
    """One rule's condition about one thing. `fingerprint` is unique among open alerts.

    OK (no row) → pending ─for→ verifying ─probe failed→ firing → acknowledged → resolved.
    `holds` says whether the condition is true now: one that a person resolved stays quiet until
    its condition has been false.
    """

    class State(Lifecycle):
        PENDING = "pending", _("Pending")
        VERIFYING = "verifying", _("Being verified")
        FIRING = "firing", _("Firing")
        ACKED = "acked", _("Acknowledged")
        RESOLVED = "resolved", _("Resolved")

    fingerprint = models.CharField(max_length=40)
    rule = models.CharField(_("rule"), max_length=40)
    family = models.CharField(_("cause"), max_length=20)
    site = models.ForeignKey(Site, models.SET_NULL, null=True, blank=True)
    station = models.ForeignKey(
        Station, models.CASCADE, null=True, blank=True, related_name="alerts"
    )
    connector = models.ForeignKey(
        Connector, models.CASCADE, null=True, blank=True, related_name="alerts"
    )
    key = models.CharField(_("about"), max_length=80, blank=True)
    severity = models.PositiveSmallIntegerField(_("severity"), choices=Severity)
    state = models.CharField(_("state"), max_length=10, choices=State, default=State.PENDING)
    holds = models.BooleanField(_("condition is true"), default=True)
    summary = models.CharField(_("summary"), max_length=300)
    evidence = models.JSONField(_("evidence"), default=dict)
    since = models.DateTimeField(_("since"))
    verify_until = models.DateTimeField(null=True, blank=True)
    fired_at = models.DateTimeField(_("fired"), null=True, blank=True)
    clear_since = models.DateTimeField(null=True, blank=True)
    resolved_at = models.DateTimeField(_("resolved"), null=True, blank=True)
    suppressed = models.CharField(
        _("held back by"), max_length=60, blank=True, help_text=_("maintenance-3, offline, …")
    )
    flapping = models.BooleanField(_("flapping"), default=False)
    changes = models.JSONField(default=list, editable=False)
    incident = models.ForeignKey(
        Incident, models.CASCADE, null=True, blank=True, related_name="alerts"
    )

    class Meta:
        verbose_name = _("alert")
        verbose_name_plural = _("alerts")
        ordering = ["-since"]
        constraints = [
            models.UniqueConstraint(
                fields=["fingerprint"],
                name="alert_once",
                condition=models.Q(state__in=["pending", "verifying", "firing", "acked"]),
            )
        ]
        indexes = [
            models.Index(
                fields=["rule"],
                name="alert_watched",
                condition=models.Q(state__in=["pending", "verifying", "firing", "acked"])
                | models.Q(holds=True),
            ),
            models.Index(fields=["fingerprint", "-resolved_at"], name="alert_reopen"),
        ]

    def __str__(self) -> str:
        return f"{self.rule} ({self.state}): {self.summary}"


Alert.State.TRANSITIONS = {
    Alert.State.PENDING: {Alert.State.VERIFYING, Alert.State.FIRING, Alert.State.RESOLVED},
    Alert.State.VERIFYING: {Alert.State.FIRING, Alert.State.RESOLVED},
    Alert.State.FIRING: {Alert.State.ACKED, Alert.State.RESOLVED},
    Alert.State.ACKED: {Alert.State.FIRING, Alert.State.RESOLVED},
    Alert.State.RESOLVED: {Alert.State.PENDING},  # soon again: the same incident
}


class Silence(models.Model):
    """Nobody is told of matching incidents until it ends. They are still recorded."""

    rule = models.CharField(_("rule"), max_length=40, blank=True, help_text=_("Empty: every rule."))
    site = models.ForeignKey(Site, models.CASCADE, null=True, blank=True)
    station = models.ForeignKey(Station, models.CASCADE, null=True, blank=True)
    until = models.DateTimeField(_("until"))
    reason = models.CharField(_("reason"), max_length=200)
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.SET_NULL, null=True, blank=True, editable=False
    )
    created_at = models.DateTimeField(_("created"), auto_now_add=True)

    class Meta:
        verbose_name = _("silence")
        verbose_name_plural = _("silences")
        ordering = ["-until"]

    def __str__(self) -> str:
        return f"{self.rule or '*'} → {self.until:%Y-%m-%d %H:%M}"


class RuleSetting(models.Model):
    """What this operator changed about one rule; a rule without a row is as shipped."""

    rule = models.CharField(_("rule"), max_length=40, unique=True)
    enabled = models.BooleanField(_("enabled"), default=True)
    severity = models.PositiveSmallIntegerField(
        _("severity"), choices=Severity, null=True, blank=True, help_text=_("Empty: as shipped.")
    )
    for_s = models.PositiveIntegerField(
        _("must hold for (s)"), null=True, blank=True, help_text=_("Empty: as shipped.")
    )
    clear_for_s = models.PositiveIntegerField(
        _("must be over for (s)"), null=True, blank=True, help_text=_("Empty: as shipped.")
    )

    class Meta:
        verbose_name = _("rule setting")
        verbose_name_plural = _("rule settings")
        ordering = ["rule"]

    def __str__(self) -> str:
        return self.rule


class FaultCode(models.Model):
    """What a vendor's error code means. Rows here go before the table that is shipped."""

    class Class(models.TextChoices):
        SAFETY = "S", _("Safety")
        CRITICAL = "C", _("Critical")
        WARNING = "W", _("Warning")
        INFO = "I", _("Information")

    namespace = models.CharField(
        _("list"), max_length=40, help_text=_("mrec, evgo, or vendor:NAME as the station says it.")
    )
    code = models.CharField(_("code"), max_length=50)
    name = models.CharField(_("name"), max_length=80)
    fault_class = models.CharField(_("class"), max_length=1, choices=Class, default=Class.CRITICAL)
    driver_message = models.CharField(_("what the driver reads"), max_length=200, blank=True)
    staff_action = models.CharField(_("what staff do"), max_length=300, blank=True)

    class Meta:
        verbose_name = _("fault code")
        verbose_name_plural = _("fault codes")
        ordering = ["namespace", "code"]
        constraints = [
            models.UniqueConstraint(fields=["namespace", "code"], name="fault_code_once")
        ]

    def __str__(self) -> str:
        return f"{self.namespace} {self.code}"


class Tick(models.Model):
    """The heartbeat of one scheduled task: when it last ended, how, and where it had come to."""

    name = models.CharField(primary_key=True, max_length=100)
    at = models.DateTimeField(null=True)
    seconds = models.FloatField(default=0)
    failing_since = models.DateTimeField(null=True)
    error = models.CharField(max_length=300, blank=True)
    cursor = models.BigIntegerField(default=0)
    data = models.JSONField(default=dict)
    locked_until = models.DateTimeField(null=True)

    class Meta:
        verbose_name = _("tick")
        verbose_name_plural = _("ticks")

    def __str__(self) -> str:
        return self.name
