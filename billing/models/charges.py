"""What a session costs and who bears it: charges and house accounts."""

from __future__ import annotations

from typing import ClassVar

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from djmoney.models.fields import MoneyField

from stations.state import Lifecycle


class HouseAccount(models.Model):
    """A customer who charges first and is invoiced monthly: a fleet, a tenant, the host."""

    name = models.CharField(_("name"), max_length=120)
    legal_name = models.CharField(_("legal name"), max_length=200, blank=True)
    street = models.CharField(_("street"), max_length=200, blank=True)
    postcode = models.CharField(_("postcode"), max_length=20, blank=True)
    city = models.CharField(_("city"), max_length=100, blank=True)
    country = models.CharField(_("country"), max_length=2, blank=True, help_text=_("e.g. DE"))
    vat_id = models.CharField(_("VAT id"), max_length=20, blank=True)
    reference = models.CharField(
        _("their reference"), max_length=100, blank=True, help_text=_("What they file it under")
    )
    order_number = models.CharField(
        _("order number"), max_length=100, blank=True, help_text=_("Theirs; on every invoice")
    )
    reverse_charge = models.BooleanField(
        _("reverse charge"),
        default=False,
        help_text=_(
            "A taxable dealer of electricity (another provider) seated in another country with a "
            "VAT id there: invoices bear no VAT, the customer accounts for it."
        ),
    )
    email = models.EmailField(_("e-mail for invoices"))
    language = models.CharField(_("language"), max_length=10, default="en")
    payment_days = models.PositiveSmallIntegerField(_("payment term in days"), default=14)
    is_active = models.BooleanField(_("active"), default=True)
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.SET_NULL,
        null=True,
        blank=True,
        related_name="house_accounts",
        verbose_name=_("person in charge"),
    )
    tokens = models.ManyToManyField(
        "stations.Token", blank=True, related_name="house_accounts", verbose_name=_("tokens")
    )
    created_at = models.DateTimeField(_("created"), auto_now_add=True)

    class Meta:
        verbose_name = _("house account")
        verbose_name_plural = _("house accounts")
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name


class CostCentre(models.Model):
    """Where a house account books what some of its cards charge."""

    account = models.ForeignKey(
        HouseAccount,
        on_delete=models.CASCADE,
        related_name="cost_centres",
        verbose_name=_("account"),
    )
    name = models.CharField(_("cost centre"), max_length=60)
    tokens = models.ManyToManyField(
        "stations.Token", blank=True, related_name="cost_centres", verbose_name=_("tokens")
    )

    class Meta:
        verbose_name = _("cost centre")
        verbose_name_plural = _("cost centres")
        ordering = ["name"]
        constraints = [models.UniqueConstraint(fields=["account", "name"], name="cost_centre_once")]

    def __str__(self) -> str:
        return self.name


class PriceInputs(models.Model):
    """Usage and tariff of something that was billed, under the SHA-256 the document names."""

    sha256 = models.CharField("SHA-256", max_length=64, primary_key=True)
    content = models.JSONField(_("usage and tariff"))

    class Meta:
        verbose_name = _("price inputs")
        verbose_name_plural = _("price inputs")

    def __str__(self) -> str:
        return self.sha256


class ChargeState(Lifecycle):
    """Where a charge is on its way to money; the table of moves follows."""

    OPEN = "open", _("session running")
    PRICED = "priced", _("priced")
    CAPTURING = "capturing", _("collecting")
    PAID = "paid", _("paid")
    UNPAID = "unpaid", _("on account")
    INVOICED = "invoiced", _("invoiced")
    HELD = "held", _("held for review")
    WAIVED = "waived", _("waived")


class HoldReason(models.TextChoices):
    """Why a person has to look at a charge before money moves."""

    NO_TARIFF = "no_tariff", _("no tariff was in force when the session began")
    NO_PAYER = "no_payer", _("the token belongs to nobody and nothing was paid in advance")
    BAD_TARIFF = "bad_tariff", _("the tariff could not be applied to this session")
    NO_ENERGY = "no_energy", _("the session's energy is not known")
    DOUBTFUL = "doubtful", _("the energy readings contradict each other")
    SIGNATURE = "signature", _("a signed meter reading does not verify")
    NO_SELLER = "no_seller", _("no seller is set up to issue invoices")
    CURRENCY = "currency", _("the payment is in another currency than the tariff")
    UNCOLLECTED = "uncollected", _("the payment could not be collected")


S = ChargeState


ChargeState.TRANSITIONS = {
    S.OPEN: {S.PRICED, S.HELD, S.WAIVED},
    S.PRICED: {S.CAPTURING, S.UNPAID, S.WAIVED, S.HELD},
    S.CAPTURING: {S.PAID, S.UNPAID, S.WAIVED, S.HELD},
    S.PAID: {S.INVOICED, S.HELD},
    S.UNPAID: {S.INVOICED, S.PAID, S.HELD, S.WAIVED},
    S.HELD: {S.OPEN, S.PRICED, S.WAIVED},
    S.INVOICED: set(),
    S.WAIVED: set(),
}


class Charge(models.Model):
    """The price of one session, who pays it, and how far its settlement has come.

    `usage`, `tariff_snapshot` and `engine` are the inputs, `segments` and `lines` the outputs of
    `billing.pricing`: a replay of the inputs gives the same cents.
    """

    State = ChargeState
    Hold = HoldReason

    session = models.OneToOneField(
        "monitoring.Session",
        on_delete=models.PROTECT,
        related_name="charge",
        verbose_name=_("session"),
    )
    state = models.CharField(
        _("state"), max_length=12, choices=ChargeState.choices, default=ChargeState.OPEN
    )
    version = models.PositiveIntegerField(default=0)
    hold_reason = models.CharField(
        _("held because"), max_length=20, choices=HoldReason.choices, blank=True
    )
    note = models.TextField(_("note"), blank=True)

    tariff = models.ForeignKey(
        "billing.Tariff",
        on_delete=models.PROTECT,
        null=True,
        blank=True,
        related_name="charges",
        verbose_name=_("tariff"),
    )
    tariff_snapshot = models.JSONField(_("tariff snapshot"), null=True, blank=True)
    usage = models.JSONField(_("usage"), null=True, blank=True)
    segments = models.JSONField(_("segments"), default=list, blank=True)
    lines = models.JSONField(_("lines"), default=list, blank=True)
    engine = models.CharField(_("engine version"), max_length=20, blank=True)
    doubts = models.JSONField(
        _("doubts"),
        default=list,
        blank=True,
        help_text=_("What was decided in the driver's favour; codes of billing.fairness."),
    )

    currency = models.CharField(_("currency"), max_length=3, default="EUR")
    net = MoneyField(
        _("net"), max_digits=14, decimal_places=3, null=True, currency_field_name="currency"
    )
    vat = MoneyField(
        _("VAT"), max_digits=14, decimal_places=3, null=True, currency_field_name="currency"
    )
    gross = MoneyField(
        _("gross"), max_digits=14, decimal_places=3, null=True, currency_field_name="currency"
    )
    gross_minor = models.BigIntegerField(_("gross (minor units)"), null=True, blank=True)
    paid_minor = models.BigIntegerField(_("paid (minor units)"), default=0)

    payment = models.OneToOneField(
        "billing.Payment",
        on_delete=models.PROTECT,
        null=True,
        blank=True,
        related_name="charge",
        verbose_name=_("payment"),
    )
    house_account = models.ForeignKey(
        HouseAccount,
        on_delete=models.PROTECT,
        null=True,
        blank=True,
        related_name="charges",
        verbose_name=_("house account"),
    )
    driver = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.PROTECT,
        null=True,
        blank=True,
        related_name="charges",
        verbose_name=_("driver"),
    )
    invoice = models.ForeignKey(
        "billing.Invoice",
        on_delete=models.PROTECT,
        null=True,
        blank=True,
        related_name="charges",
        verbose_name=_("invoice"),
    )
    created_at = models.DateTimeField(_("created"), default=timezone.now, db_index=True)
    priced_at = models.DateTimeField(_("priced"), null=True, blank=True)
    next_try_at = models.DateTimeField(_("next try"), null=True, blank=True)

    objects: ClassVar[models.Manager[Charge]] = models.Manager()

    class Meta:
        verbose_name = _("charge")
        verbose_name_plural = _("charges")
        ordering = ["-created_at"]
        constraints = [
            models.CheckConstraint(
                condition=~Q(state=S.HELD) | ~Q(hold_reason=""), name="charge_held_has_reason"
            ),
            models.CheckConstraint(
                condition=~Q(state=S.INVOICED) | Q(invoice__isnull=False),
                name="charge_invoiced_has_invoice",
            ),
            models.CheckConstraint(condition=Q(paid_minor__gte=0), name="charge_paid_positive"),
        ]
        indexes = [models.Index(fields=["state"], name="charge_state")]

    def __str__(self) -> str:
        return f"{self.session}"
