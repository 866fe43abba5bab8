"""What drivers have paid in advance, and vouchers that add to it."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _


class Wallet(models.Model):
    """A driver's balance in one currency; the ledger's account `wallet` has its history.

    The database refuses a balance below zero: two spends at once cannot both succeed.
    """

    driver = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.PROTECT,
        related_name="wallets",
        verbose_name=_("driver"),
    )
    currency = models.CharField(_("currency"), max_length=3)
    balance_minor = models.BigIntegerField(_("balance (minor units)"), default=0)

    class Meta:
        verbose_name = _("wallet")
        verbose_name_plural = _("wallets")
        ordering = ["driver_id", "currency"]
        constraints = [
            models.UniqueConstraint(fields=["driver", "currency"], name="wallet_once"),
            models.CheckConstraint(condition=Q(balance_minor__gte=0), name="wallet_not_negative"),
        ]

    def __str__(self) -> str:
        return f"{self.driver} {self.currency}"


class Voucher(models.Model):
    """A code that adds an amount to the wallet of the one driver who redeems it."""

    code = models.CharField(_("code"), max_length=40, unique=True)
    currency = models.CharField(_("currency"), max_length=3, default="EUR")
    amount_minor = models.BigIntegerField(_("amount (minor units)"))
    valid_until = models.DateTimeField(_("valid until"), null=True, blank=True)
    note = models.CharField(_("note"), max_length=200, blank=True)
    created_at = models.DateTimeField(_("created"), default=timezone.now)
    redeemed_by = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.PROTECT,
        null=True,
        blank=True,
        editable=False,
        related_name="vouchers",
        verbose_name=_("redeemed by"),
    )
    redeemed_at = models.DateTimeField(_("redeemed"), null=True, blank=True, editable=False)

    class Meta:
        verbose_name = _("voucher")
        verbose_name_plural = _("vouchers")
        ordering = ["-created_at"]
        constraints = [
            models.CheckConstraint(condition=Q(amount_minor__gt=0), name="voucher_positive"),
        ]

    def __str__(self) -> str:
        return self.code
