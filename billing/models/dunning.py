"""Money that comes by transfer, and the reminders for what does not come in time."""

from __future__ import annotations

from typing import ClassVar

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from djmoney.models.fields import MoneyField

from .invoices import Invoice, Seller


class DunningLevel(models.IntegerChoices):
    """How far the reminding has come."""

    FIRST = 1, _("reminder")
    SECOND = 2, _("second reminder")
    FINAL = 3, _("final notice")


class DunningStep(models.Model):
    """When a seller sends a reminder, and what it costs the customer."""

    seller = models.ForeignKey(Seller, on_delete=models.CASCADE, related_name="dunning_steps")
    level = models.PositiveSmallIntegerField(_("step"), choices=DunningLevel.choices)
    days = models.PositiveSmallIntegerField(
        _("days after"), help_text=_("After the due date; later steps: after the one before.")
    )
    fee = MoneyField(
        _("fee"),
        max_digits=14,
        decimal_places=3,
        default=0,
        default_currency="EUR",
        help_text=_("Only invoices in this currency bear it."),
    )

    objects: ClassVar[models.Manager[DunningStep]] = models.Manager()

    class Meta:
        verbose_name = _("reminder step")
        verbose_name_plural = _("reminder steps")
        ordering = ["seller", "level"]
        constraints = [
            models.UniqueConstraint(fields=["seller", "level"], name="dunning_step_once")
        ]

    def __str__(self) -> str:
        return str(self.get_level_display())


class Reminder(models.Model):
    """One reminder for one invoice; its mail goes by `billing.mail`."""

    invoice = models.ForeignKey(Invoice, on_delete=models.PROTECT, related_name="reminders")
    level = models.PositiveSmallIntegerField(_("step"), choices=DunningLevel.choices)
    issued_at = models.DateTimeField(_("issued"), default=timezone.now)
    due_on = models.DateField(_("to be paid until"))
    open_minor = models.BigIntegerField(_("open (minor units)"))
    fee_minor = models.BigIntegerField(_("fee (minor units)"), default=0)

    class Meta:
        verbose_name = _("reminder")
        verbose_name_plural = _("reminders")
        ordering = ["-issued_at"]
        constraints = [
            models.UniqueConstraint(fields=["invoice", "level"], name="reminder_once"),
            models.CheckConstraint(condition=Q(open_minor__gt=0), name="reminder_asks_for_money"),
        ]

    def __str__(self) -> str:
        return f"{self.get_level_display()} · {self.invoice}"


class BankReceipt(models.Model):
    """A transfer that arrived for an invoice; posted when it is written, never changed."""

    invoice = models.ForeignKey(Invoice, on_delete=models.PROTECT, related_name="receipts")
    amount_minor = models.BigIntegerField(_("amount (minor units)"))
    received_on = models.DateField(_("received"))
    reference = models.CharField(_("reference"), max_length=140, blank=True)
    key = models.CharField(max_length=100, unique=True, editable=False)
    by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, blank=True, related_name="+"
    )
    created_at = models.DateTimeField(_("written"), default=timezone.now)

    class Meta:
        verbose_name = _("bank receipt")
        verbose_name_plural = _("bank receipts")
        ordering = ["-received_on", "-pk"]
        constraints = [
            models.CheckConstraint(condition=Q(amount_minor__gt=0), name="bank_receipt_positive")
        ]

    def __str__(self) -> str:
        return f"{self.invoice} · {self.received_on}"
