"""A small append-only double-entry ledger: accounts, entries, postings."""

from __future__ import annotations

from typing import Any

from django.core.exceptions import ValidationError
from django.db import models
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

APPEND_ONLY = _("The ledger is append-only. Post a reversing entry instead.")


class AccountKind(models.TextChoices):
    """What an account stands for. A debit is positive, a credit negative."""

    RECEIVABLE = "receivable", _("receivable from a customer")
    REVENUE = "revenue", _("revenue")
    VAT = "vat", _("VAT payable")
    PSP_CLEARING = "psp_clearing", _("with the payment provider")
    PSP_FEES = "psp_fees", _("payment provider's fees")
    BANK = "bank", _("bank")
    CREDIT = "credit", _("credit of a customer")
    WRITE_OFF = "write_off", _("written off")
    ROUNDING = "rounding", _("rounding")
    WALLET = "wallet", _("prepaid by a driver")
    HOST = "host", _("owed to a host")
    SUSPENSE = "suspense", _("not yet explained")


class Account(models.Model):
    """One account of one owner in one currency, e.g. vat of "DE 19" in EUR."""

    Kind = AccountKind

    kind = models.CharField(_("kind"), max_length=20, choices=AccountKind.choices)
    owner = models.CharField(_("owner"), max_length=80, blank=True)
    currency = models.CharField(_("currency"), max_length=3)

    class Meta:
        verbose_name = _("ledger account")
        verbose_name_plural = _("ledger accounts")
        ordering = ["kind", "owner", "currency"]
        constraints = [
            models.UniqueConstraint(fields=["kind", "owner", "currency"], name="account_once"),
        ]

    def __str__(self) -> str:
        return ":".join(part for part in (self.kind, self.owner, self.currency) if part)


class AppendOnlyQuerySet[M: models.Model](models.QuerySet[M]):
    """Rows that are added and read, nothing else."""

    def update(self, **kwargs: Any) -> int:
        """Refuse."""
        raise ValidationError(APPEND_ONLY)

    def delete(self) -> tuple[int, dict[str, int]]:
        """Refuse."""
        raise ValidationError(APPEND_ONLY)


class AppendOnly(models.Model):
    """A row that is written once."""

    class Meta:
        abstract = True

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Insert; any later save is refused."""
        if not self._state.adding:
            raise ValidationError(APPEND_ONLY)
        super().save(*args, **kwargs)

    def delete(self, *args: Any, **kwargs: Any) -> tuple[int, dict[str, int]]:
        """Refuse."""
        raise ValidationError(APPEND_ONLY)


class Entry(AppendOnly):
    """One business event in the books; the idempotency key makes it one."""

    idempotency_key = models.CharField(_("idempotency key"), max_length=120, unique=True)
    occurred_at = models.DateTimeField(_("occurred"), default=timezone.now, db_index=True)
    reason = models.CharField(_("reason"), max_length=60)
    object_type = models.CharField(_("object"), max_length=60, blank=True)
    object_id = models.CharField(_("object id"), max_length=64, blank=True)
    reverses = models.OneToOneField(
        "self",
        on_delete=models.PROTECT,
        null=True,
        blank=True,
        related_name="reversed_by",
        verbose_name=_("reverses"),
    )
    created_at = models.DateTimeField(_("created"), auto_now_add=True)

    objects = AppendOnlyQuerySet.as_manager()

    class Meta:
        verbose_name = _("ledger entry")
        verbose_name_plural = _("ledger entries")
        ordering = ["-occurred_at", "-id"]
        indexes = [models.Index(fields=["object_type", "object_id"], name="entry_object")]

    def __str__(self) -> str:
        return f"{self.reason} {self.object_type} {self.object_id}".strip()


class Posting(AppendOnly):
    """One signed amount on one account. The postings of an entry sum to zero per currency."""

    entry = models.ForeignKey(Entry, on_delete=models.PROTECT, related_name="postings")
    account = models.ForeignKey(Account, on_delete=models.PROTECT, related_name="postings")
    amount_minor = models.BigIntegerField(_("amount (minor units)"))

    objects = AppendOnlyQuerySet.as_manager()

    class Meta:
        verbose_name = _("ledger posting")
        verbose_name_plural = _("ledger postings")
        ordering = ["entry", "id"]
        constraints = [
            models.CheckConstraint(condition=~Q(amount_minor=0), name="posting_not_zero"),
        ]

    def __str__(self) -> str:
        return f"{self.account} {self.amount_minor:+d}"


class Movement(models.Model):
    """One line of a payment provider's statement: booked, and matched with what we expected."""

    class Kind(models.TextChoices):
        """What moved the money."""

        CHARGE = "charge", _("collected")
        REFUND = "refund", _("paid back")
        DISPUTE = "dispute", _("disputed")
        PAYOUT = "payout", _("paid out to the bank")
        OTHER = "other", _("other")

    provider = models.CharField(_("provider"), max_length=20)
    provider_account = models.CharField(max_length=64, blank=True)
    ref = models.CharField(_("reference"), max_length=255, unique=True)
    kind = models.CharField(_("kind"), max_length=10, choices=Kind)
    at = models.DateTimeField(_("at"), db_index=True)
    currency = models.CharField(_("currency"), max_length=3)
    amount_minor = models.BigIntegerField(_("amount (minor units)"))
    fee_minor = models.BigIntegerField(_("fee (minor units)"), default=0)
    payment = models.ForeignKey(
        "billing.Payment",
        on_delete=models.PROTECT,
        null=True,
        blank=True,
        related_name="movements",
        verbose_name=_("payment"),
    )
    problem = models.CharField(
        _("does not match"), max_length=200, blank=True, help_text=_("Empty when it is as booked.")
    )

    class Meta:
        verbose_name = _("provider's movement")
        verbose_name_plural = _("provider's movements")
        ordering = ["-at", "-id"]

    def __str__(self) -> str:
        return f"{self.provider} {self.ref}"
