"""Payments with a provider, their history, refunds, and the provider's events.

Amounts are integers in the provider's minor unit of the payment's currency (see
`billing.money.to_provider_minor`), so that our books and the provider's can be compared exactly.
"""

from __future__ import annotations

import uuid

from django.conf import settings
from django.db import models
from django.db.models import F, Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from stations.state import Lifecycle, transitions


class PaymentState(Lifecycle):
    """Where a payment is; the table of moves follows."""

    CREATED = "created", _("created")
    AUTHORIZING = "authorizing", _("authorising")
    REQUIRES_ACTION = "requires_action", _("waiting for the bank's confirmation")
    AUTHORIZED = "authorized", _("amount reserved")
    FAILED = "failed", _("declined")
    CANCELING = "canceling", _("releasing")
    CANCELED = "canceled", _("released")
    CAPTURING = "capturing", _("collecting")
    CAPTURED = "captured", _("paid")
    CAPTURE_FAILED = "capture_failed", _("collection failed, will be retried")
    CAPTURE_EXPIRED = "capture_expired", _("reservation expired before collection")
    COLLECTING = "collecting", _("collecting anew")
    WRITTEN_OFF = "written_off", _("written off")
    REFUNDING = "refunding", _("refunding")
    PARTIALLY_REFUNDED = "partially_refunded", _("partly refunded")
    REFUNDED = "refunded", _("refunded")
    DISPUTED = "disputed", _("disputed")


S = PaymentState

# One unsettled start per connector: a second driver cannot pay for a connector somebody has paid
# for. Collecting what is due happens after the cable is out, so it no longer blocks the connector.
HOLDS_CONNECTOR = (S.CREATED, S.AUTHORIZING, S.REQUIRES_ACTION, S.AUTHORIZED)


PaymentState.TRANSITIONS = {
    S.CREATED: {S.AUTHORIZING, S.FAILED, S.CANCELING, S.CANCELED},
    S.AUTHORIZING: {S.REQUIRES_ACTION, S.AUTHORIZED, S.FAILED, S.CANCELING, S.CANCELED},
    S.REQUIRES_ACTION: {S.AUTHORIZING, S.AUTHORIZED, S.FAILED, S.CANCELING, S.CANCELED},
    S.FAILED: {S.AUTHORIZING, S.CANCELING, S.CANCELED},
    S.AUTHORIZED: {S.CAPTURING, S.CANCELING, S.CANCELED, S.CAPTURE_EXPIRED},
    S.CANCELING: {S.CANCELED, S.CAPTURED},
    S.CAPTURING: {S.CAPTURED, S.CAPTURE_FAILED, S.CAPTURE_EXPIRED, S.CANCELING},
    S.CAPTURE_FAILED: {S.CAPTURING, S.CAPTURED, S.CAPTURE_EXPIRED, S.WRITTEN_OFF},
    S.CAPTURE_EXPIRED: {S.COLLECTING, S.WRITTEN_OFF},
    S.COLLECTING: {S.CAPTURED, S.CAPTURE_EXPIRED, S.WRITTEN_OFF},
    S.CAPTURED: {S.REFUNDING, S.PARTIALLY_REFUNDED, S.REFUNDED, S.DISPUTED},
    S.REFUNDING: {S.CAPTURED, S.PARTIALLY_REFUNDED, S.REFUNDED, S.DISPUTED},
    S.PARTIALLY_REFUNDED: {S.REFUNDING, S.REFUNDED, S.CAPTURED, S.DISPUTED},
    S.REFUNDED: {S.PARTIALLY_REFUNDED, S.CAPTURED, S.DISPUTED},
    S.DISPUTED: {S.CAPTURED, S.PARTIALLY_REFUNDED, S.REFUNDED, S.WRITTEN_OFF},
    S.CANCELED: set(),
    S.WRITTEN_OFF: set(),
}


class Payment(models.Model):
    """One driver's payment for one session: a hold, then a capture of at most the hold."""

    State = PaymentState
    TRANSITIONS = transitions(PaymentState)

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    provider = models.CharField(_("provider"), max_length=20)
    provider_account = models.CharField(_("provider account"), max_length=64, blank=True)
    provider_ref = models.CharField(
        _("provider's reference"),
        max_length=255,
        null=True,
        blank=True,
        unique=True,
        help_text=_("The intent at the provider, e.g. pi_…"),
    )
    connector = models.ForeignKey(
        "stations.Connector",
        on_delete=models.PROTECT,
        related_name="payments",
        verbose_name=_("connector"),
    )
    session = models.ForeignKey(
        "monitoring.Session",
        on_delete=models.PROTECT,
        null=True,
        blank=True,
        related_name="payments",
        verbose_name=_("session"),
    )
    driver = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.SET_NULL,
        null=True,
        blank=True,
        related_name="payments",
        verbose_name=_("driver"),
    )
    email = models.EmailField(_("e-mail"), blank=True)
    language = models.CharField(_("language"), max_length=10, default="en")
    billing_details = models.JSONField(
        _("billing details"),
        default=dict,
        blank=True,
        help_text=_("Name, company, vat_id, street, postcode, city, country: as the driver gave."),
    )

    currency = models.CharField(_("currency"), max_length=3)
    hold_minor = models.BigIntegerField(_("reserved (minor units)"))
    due_minor = models.BigIntegerField(_("due (minor units)"), null=True, blank=True)
    captured_minor = models.BigIntegerField(_("collected (minor units)"), default=0)
    refunded_minor = models.BigIntegerField(_("refunded (minor units)"), default=0)
    capture_before = models.DateTimeField(_("collect before"), null=True, blank=True)

    state = models.CharField(
        _("state"), max_length=20, choices=PaymentState.choices, default=PaymentState.CREATED
    )
    version = models.PositiveIntegerField(_("version"), default=0)
    attempt = models.PositiveIntegerField(_("attempt"), default=1)
    round = models.PositiveIntegerField(_("round"), default=1)
    last_error_code = models.CharField(_("last error"), max_length=80, blank=True)
    next_try_at = models.DateTimeField(_("next try"), null=True, blank=True)
    deadline_at = models.DateTimeField(_("deadline"), null=True, blank=True)

    start_token = models.CharField(
        _("start token"),
        max_length=36,
        null=True,
        blank=True,
        unique=True,
        help_text=_("The idTag the remote start carries; binds the session to this payment."),
    )
    start_command = models.ForeignKey(
        "stations.Command",
        on_delete=models.SET_NULL,
        null=True,
        blank=True,
        related_name="+",
        verbose_name=_("start command"),
    )
    live_hash = models.CharField(max_length=64, null=True, unique=True, editable=False)
    live_until = models.DateTimeField(null=True, editable=False)
    receipt_hash = models.CharField(max_length=64, null=True, unique=True, editable=False)
    receipt_until = models.DateTimeField(null=True, editable=False)
    tariff_snapshot = models.JSONField(_("tariff snapshot"), default=dict)

    created_at = models.DateTimeField(_("created"), default=timezone.now, db_index=True)
    updated_at = models.DateTimeField(_("updated"), auto_now=True)

    class Meta:
        verbose_name = _("payment")
        verbose_name_plural = _("payments")
        ordering = ["-created_at"]
        constraints = [
            models.UniqueConstraint(
                fields=["connector"],
                condition=Q(state__in=HOLDS_CONNECTOR),
                name="payment_one_active_per_connector",
            ),
            models.UniqueConstraint(
                fields=["session"],
                condition=Q(session__isnull=False),
                name="payment_one_per_session",
            ),
            models.CheckConstraint(
                condition=Q(captured_minor__gte=0) & Q(captured_minor__lte=F("hold_minor")),
                name="payment_captured_within_hold",
            ),
            models.CheckConstraint(
                condition=Q(refunded_minor__gte=0) & Q(refunded_minor__lte=F("captured_minor")),
                name="payment_refunded_within_captured",
            ),
            models.CheckConstraint(condition=Q(hold_minor__gte=0), name="payment_hold_positive"),
        ]
        indexes = [
            models.Index(
                fields=["next_try_at"],
                condition=Q(next_try_at__isnull=False),
                name="payment_to_retry",
            ),
            models.Index(fields=["state", "deadline_at"], name="payment_state_deadline"),
        ]

    def __str__(self) -> str:
        return f"{self.provider} {str(self.id)[:8]}"


class PaymentTransition(models.Model):
    """One change of a payment's state: append-only audit."""

    payment = models.ForeignKey(Payment, on_delete=models.CASCADE, related_name="transitions")
    at = models.DateTimeField(default=timezone.now)
    from_state = models.CharField(max_length=20, blank=True)
    to_state = models.CharField(max_length=20)
    event = models.CharField(max_length=80)
    detail = models.JSONField(default=dict, blank=True)

    class Meta:
        verbose_name = _("payment transition")
        verbose_name_plural = _("payment transitions")
        ordering = ["payment", "id"]

    def __str__(self) -> str:
        return f"{self.from_state} → {self.to_state}"


class RefundState(Lifecycle):
    """Where a refund is."""

    REQUESTED = "requested", _("requested")
    PENDING = "pending", _("at the provider")
    SUCCEEDED = "succeeded", _("paid back")
    FAILED = "failed", _("failed")
    CANCELED = "canceled", _("cancelled")


RefundState.TRANSITIONS = {
    RefundState.REQUESTED: {
        RefundState.PENDING,
        RefundState.SUCCEEDED,
        RefundState.FAILED,
        RefundState.CANCELED,
    },
    RefundState.PENDING: {RefundState.SUCCEEDED, RefundState.FAILED, RefundState.CANCELED},
    RefundState.SUCCEEDED: {RefundState.FAILED},
    RefundState.FAILED: set(),
    RefundState.CANCELED: set(),
}


class Refund(models.Model):
    """Money to give back. The amount never changes: the idempotency key stands on it."""

    State = RefundState
    TRANSITIONS = transitions(RefundState)

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    payment = models.ForeignKey(Payment, on_delete=models.PROTECT, related_name="refunds")
    amount_minor = models.BigIntegerField(_("amount (minor units)"))
    reason = models.CharField(_("reason"), max_length=200)
    state = models.CharField(
        _("state"), max_length=20, choices=RefundState.choices, default=RefundState.REQUESTED
    )
    version = models.PositiveIntegerField(default=0)
    provider_ref = models.CharField(max_length=255, null=True, blank=True, unique=True)
    last_error_code = models.CharField(max_length=80, blank=True)
    next_try_at = models.DateTimeField(null=True, blank=True)
    requested_by = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.SET_NULL,
        null=True,
        blank=True,
        related_name="+",
        verbose_name=_("requested by"),
    )
    credit_note = models.OneToOneField(
        "billing.Invoice",
        on_delete=models.PROTECT,
        null=True,
        blank=True,
        related_name="refund",
        verbose_name=_("credit note"),
    )
    created_at = models.DateTimeField(_("created"), default=timezone.now)

    class Meta:
        verbose_name = _("refund")
        verbose_name_plural = _("refunds")
        ordering = ["-created_at"]
        constraints = [
            models.CheckConstraint(condition=Q(amount_minor__gt=0), name="refund_positive"),
        ]

    def __str__(self) -> str:
        return f"{self.payment} −{self.amount_minor}"


class ProviderEvent(models.Model):
    """An event a provider sent us; the primary key makes a redelivery one row."""

    id = models.CharField(primary_key=True, max_length=255)
    provider = models.CharField(max_length=20)
    account = models.CharField(max_length=64, blank=True)
    type = models.CharField(max_length=100)
    livemode = models.BooleanField(default=False)
    created_at = models.DateTimeField(help_text=_("The provider's own time of the event."))
    payload = models.JSONField(default=dict)
    received_at = models.DateTimeField(default=timezone.now)
    applied_at = models.DateTimeField(null=True, blank=True)
    error = models.TextField(blank=True)

    class Meta:
        verbose_name = _("provider event")
        verbose_name_plural = _("provider events")
        ordering = ["-received_at"]
        indexes = [
            models.Index(
                fields=["received_at"],
                condition=Q(applied_at__isnull=True),
                name="provider_event_unapplied",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.type} {self.id}"
