"""The seller, its number series, issued documents as snapshots, and the mail that carries them."""

from __future__ import annotations

from typing import Any

from django.core.exceptions import ValidationError
from django.db import models
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from djmoney.models.fields import MoneyField

from stations.state import Lifecycle


class Seller(models.Model):
    """The legal and VAT identity that issues documents. One operator has one or more."""

    name = models.CharField(_("trade name"), max_length=120)
    legal_name = models.CharField(_("legal name"), max_length=200)
    street = models.CharField(_("street"), max_length=200)
    postcode = models.CharField(_("postcode"), max_length=20)
    city = models.CharField(_("city"), max_length=100)
    country = models.CharField(_("country"), max_length=2, help_text=_("ISO 3166, e.g. DE"))
    vat_id = models.CharField(_("VAT id"), max_length=20, blank=True)
    tax_number = models.CharField(_("tax number"), max_length=30, blank=True)
    register = models.CharField(
        _("register entry"), max_length=120, blank=True, help_text=_("e.g. HRB 12345 Berlin")
    )
    email = models.EmailField(_("e-mail"))
    phone = models.CharField(_("phone"), max_length=40, blank=True)
    website = models.URLField(_("website"), blank=True)
    iban = models.CharField("IBAN", max_length=34, blank=True)
    bic = models.CharField("BIC", max_length=11, blank=True)
    series_prefix = models.CharField(
        _("number prefix"),
        max_length=10,
        default="R",
        help_text=_("Invoice numbers read PREFIX-YEAR-000001."),
    )
    time_zone = models.CharField(_("time zone"), max_length=64, default="UTC")
    colour = models.CharField(_("colour"), max_length=7, default="#0f766e")
    logo = models.BinaryField(_("logo"), null=True, blank=True)
    logo_type = models.CharField(max_length=20, blank=True, editable=False)
    is_default = models.BooleanField(_("default"), default=True)
    reminders = models.BooleanField(
        _("send reminders"),
        default=False,
        help_text=_("For invoices that are not paid in time, by the steps below."),
    )
    datev_consultant = models.PositiveIntegerField(
        _("DATEV consultant number"), null=True, blank=True
    )
    datev_client = models.PositiveIntegerField(_("DATEV client number"), null=True, blank=True)
    datev_debtor = models.CharField(_("collective debtor account"), max_length=9, default="10000")
    datev_accounts = models.CharField(
        _("revenue accounts"),
        max_length=300,
        default="DE 19=8400, DE 7=8300, AE=8337, *=8200",
        help_text=_(
            "COUNTRY RATE=ACCOUNT, separated by commas; AE is reverse charge, * whatever is left. "
            "The default is SKR 03."
        ),
    )

    class Meta:
        verbose_name = _("seller")
        verbose_name_plural = _("sellers")
        ordering = ["name"]
        constraints = [
            models.UniqueConstraint(
                fields=["is_default"],
                condition=Q(is_default=True),
                name="seller_one_default",
                violation_error_message=_("There is already a default seller."),
            ),
            models.UniqueConstraint(fields=["series_prefix"], name="seller_prefix_once"),
        ]

    def __str__(self) -> str:
        return self.name


class DocumentKind(models.TextChoices):
    """What a document is."""

    INVOICE = "invoice", _("invoice")
    CREDIT_NOTE = "credit_note", _("credit note")
    RECEIPT = "receipt", _("receipt")


class Series(models.Model):
    """The counter of one gapless series; its row is locked while a document is issued."""

    seller = models.ForeignKey(Seller, on_delete=models.PROTECT, related_name="series")
    year = models.PositiveSmallIntegerField(_("year"))
    kind = models.CharField(_("kind"), max_length=12, choices=DocumentKind.choices)
    last_number = models.PositiveIntegerField(_("last number"), default=0)
    last_hash = models.CharField(_("last hash"), max_length=64, blank=True)

    class Meta:
        verbose_name = _("number series")
        verbose_name_plural = _("number series")
        ordering = ["seller", "-year", "kind"]
        constraints = [
            models.UniqueConstraint(fields=["seller", "year", "kind"], name="series_once"),
        ]

    def __str__(self) -> str:
        return f"{self.seller} {self.year} {self.get_kind_display()}"


class InvoiceQuerySet(models.QuerySet["Invoice"]):
    """Issued documents: added and read, nothing else."""

    def update(self, **kwargs: Any) -> int:
        """Refuse: an issued document never changes."""
        raise ValidationError(IMMUTABLE)

    def delete(self) -> tuple[int, dict[str, int]]:
        """Refuse: an issued document never goes away."""
        raise ValidationError(IMMUTABLE)


IMMUTABLE = _("An issued document cannot be changed or deleted. Issue a credit note instead.")


class Invoice(models.Model):
    """An issued document: a number, a snapshot of everything on it, and a hash chained per series.

    Never updated, never deleted (this class, and a database trigger). The PDF and the mail that
    carried it are rows of their own.
    """

    Kind = DocumentKind

    seller = models.ForeignKey(Seller, on_delete=models.PROTECT, related_name="documents")
    series = models.ForeignKey(Series, on_delete=models.PROTECT, related_name="documents")
    kind = models.CharField(_("kind"), max_length=12, choices=DocumentKind.choices)
    sequence = models.PositiveIntegerField(_("sequence"))
    number = models.CharField(_("number"), max_length=40, unique=True)
    issued_at = models.DateTimeField(_("issued"), default=timezone.now)
    language = models.CharField(_("language"), max_length=10, default="en")
    customer_name = models.CharField(_("customer"), max_length=200, blank=True)
    house_account = models.ForeignKey(
        "billing.HouseAccount",
        on_delete=models.PROTECT,
        null=True,
        blank=True,
        related_name="documents",
        verbose_name=_("house account"),
    )
    corrects = models.ForeignKey(
        "self",
        on_delete=models.PROTECT,
        null=True,
        blank=True,
        related_name="corrections",
        verbose_name=_("corrects"),
    )
    idempotency_key = models.CharField(max_length=100, unique=True, editable=False)

    currency = models.CharField(_("currency"), max_length=3)
    net = MoneyField(_("net"), max_digits=14, decimal_places=3, currency_field_name="currency")
    vat = MoneyField(_("VAT"), max_digits=14, decimal_places=3, currency_field_name="currency")
    gross = MoneyField(_("gross"), max_digits=14, decimal_places=3, currency_field_name="currency")
    gross_minor = models.BigIntegerField(_("gross (minor units)"))

    snapshot = models.JSONField(_("snapshot"))
    previous_hash = models.CharField(_("previous hash"), max_length=64, blank=True)
    sha256 = models.CharField("SHA-256", max_length=64)

    objects = InvoiceQuerySet.as_manager()

    class Meta:
        verbose_name = _("invoice")
        verbose_name_plural = _("invoices")
        ordering = ["-issued_at", "-id"]
        constraints = [
            models.UniqueConstraint(fields=["series", "sequence"], name="invoice_sequence_once"),
            models.CheckConstraint(
                condition=~Q(kind=DocumentKind.CREDIT_NOTE) | Q(corrects__isnull=False),
                name="credit_note_names_what_it_corrects",
            ),
        ]

    def __str__(self) -> str:
        return self.number

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Insert; any later save is refused."""
        if not self._state.adding:
            raise ValidationError(IMMUTABLE)
        super().save(*args, **kwargs)

    def delete(self, *args: Any, **kwargs: Any) -> tuple[int, dict[str, int]]:
        """Refuse."""
        raise ValidationError(IMMUTABLE)


class InvoiceFile(models.Model):
    """A document rendered from its snapshot: rendered once, then served as it is."""

    class Format(models.TextChoices):
        """The file's format."""

        PDF = "pdf", "PDF"
        XML = "xml", "Factur-X (CII)"
        UBL = "ubl", "UBL"

    invoice = models.ForeignKey(Invoice, on_delete=models.PROTECT, related_name="files")
    format = models.CharField(max_length=8, choices=Format.choices)
    content = models.BinaryField()
    sha256 = models.CharField(max_length=64)
    rendered_at = models.DateTimeField(default=timezone.now)

    class Meta:
        verbose_name = _("rendered document")
        verbose_name_plural = _("rendered documents")
        constraints = [
            models.UniqueConstraint(fields=["invoice", "format"], name="invoice_file_once"),
        ]

    def __str__(self) -> str:
        return f"{self.invoice}.{self.format}"


class MailState(Lifecycle):
    """Where a mail is."""

    QUEUED = "queued", _("queued")
    SENDING = "sending", _("sending")
    SENT = "sent", _("sent")
    FAILED = "failed", _("failed")


MailState.TRANSITIONS = {
    MailState.QUEUED: {MailState.SENDING},
    MailState.SENDING: {MailState.SENT, MailState.QUEUED, MailState.FAILED},
    MailState.FAILED: {MailState.QUEUED},
    MailState.SENT: set(),
}


class Mail(models.Model):
    """One mail to a customer; the key makes it one, however often the task runs."""

    State = MailState

    key = models.CharField(_("key"), max_length=100, unique=True)
    kind = models.CharField(_("kind"), max_length=40)
    to = models.EmailField(_("to"))
    language = models.CharField(_("language"), max_length=10, default="en")
    context = models.JSONField(default=dict, blank=True)
    invoice = models.ForeignKey(
        Invoice,
        on_delete=models.PROTECT,
        null=True,
        blank=True,
        related_name="mails",
        verbose_name=_("document"),
    )
    payment = models.ForeignKey(
        "billing.Payment",
        on_delete=models.SET_NULL,
        null=True,
        blank=True,
        related_name="mails",
        verbose_name=_("payment"),
    )
    state = models.CharField(
        _("state"), max_length=10, choices=MailState.choices, default=MailState.QUEUED
    )
    version = models.PositiveIntegerField(default=0)
    attempts = models.PositiveIntegerField(_("attempts"), default=0)
    last_error = models.CharField(_("last error"), max_length=200, blank=True)
    created_at = models.DateTimeField(_("created"), default=timezone.now)
    next_try_at = models.DateTimeField(_("next try"), null=True, blank=True)
    sent_at = models.DateTimeField(_("sent"), null=True, blank=True)

    class Meta:
        verbose_name = _("mail")
        verbose_name_plural = _("mails")
        ordering = ["-created_at"]
        indexes = [models.Index(fields=["state", "next_try_at"], name="mail_state_next_try")]

    def __str__(self) -> str:
        return f"{self.kind} → {self.to}"
