"""Payments in the back office: every move of a payment, and giving money back."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import URLPattern, path
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_POST

from billing import payments, refunds
from billing.documents import Words
from billing.models import Payment, ProviderEvent, Refund
from billing.money import from_minor, step_minor, to_minor
from billing.providers.stripe import configuration
from billing.transitions import COLLECTED, PaymentError
from stations.admin.base import Facts, StaffAdmin, chip, described, moment

S = Payment.State
TONES = {
    S.CREATED: "grey", S.AUTHORIZING: "blue", S.REQUIRES_ACTION: "blue", S.AUTHORIZED: "blue",
    S.FAILED: "grey", S.CANCELING: "amber", S.CANCELED: "grey", S.CAPTURING: "amber",
    S.CAPTURED: "green", S.CAPTURE_FAILED: "red", S.CAPTURE_EXPIRED: "red", S.COLLECTING: "amber",
    S.WRITTEN_OFF: "red", S.REFUNDING: "amber", S.PARTIALLY_REFUNDED: "violet",
    S.REFUNDED: "violet", S.DISPUTED: "red",
}  # fmt: skip
REFUND_TONES = {
    Refund.State.REQUESTED: "amber", Refund.State.PENDING: "amber",
    Refund.State.SUCCEEDED: "green", Refund.State.FAILED: "red", Refund.State.CANCELED: "grey",
}  # fmt: skip
DASHBOARD = "https://dashboard.stripe.com/"


class RefundForm(forms.Form):
    """How much is given back, and why."""

    amount = forms.DecimalField(min_value=Decimal(0), max_digits=14, decimal_places=3)
    reason = forms.CharField(max_length=200)

    def __init__(self, currency: str, data: Any = None) -> None:
        super().__init__(data)
        self.currency = currency

    def clean_amount(self) -> int:
        """Return the amount in minor units; nothing is rounded in silence."""
        given: Decimal = self.cleaned_data["amount"]
        minor = to_minor(given, self.currency)
        if from_minor(minor, self.currency) != given:
            raise forms.ValidationError(_("This currency has no such fraction."))
        return minor


@admin.register(Payment)
class PaymentAdmin(Facts, StaffAdmin):
    """What drivers reserved and paid."""

    site_path = "connector__station__site"
    list_display = (
        "began", "where", "driver_column", "hold", "collected", "given_back", "state_chip",
        "reference",
    )  # fmt: skip
    list_display_links = ("began",)
    list_filter = ("state", "provider", "currency")
    list_select_related = ("connector__station", "connector__evse", "driver")
    search_fields = ("=id", "=provider_ref", "email", "connector__station__identity")
    search_help_text = gettext_lazy("Reference (pi_…), e-mail, station, or our own id")
    date_hierarchy = "created_at"
    export_fields = (
        "created_at", "id", "provider", "provider_ref", "connector__station__identity",
        "session__ref", "currency", "hold_minor", "due_minor", "captured_minor", "refunded_minor",
        "state", "last_error_code",
    )  # fmt: skip

    def get_queryset(self, request: HttpRequest) -> Any:
        """Without the tariff's copy, which is long."""
        return super().get_queryset(request).defer("tariff_snapshot")

    @described(gettext_lazy("began"), order="created_at")
    def began(self, payment: Payment) -> SafeString:
        """When the driver pressed pay."""
        return moment(payment.created_at)

    @described(gettext_lazy("where"), order="connector__station__identity")
    def where(self, payment: Payment) -> str:
        """Station and connector."""
        return f"{payment.connector.station} · {payment.connector.evse.number}"

    @described(gettext_lazy("driver"))
    def driver_column(self, payment: Payment) -> str:
        """Who pays, as far as we know."""
        return str(payment.driver or payment.email or _("guest"))

    @described(gettext_lazy("reserved"), order="hold_minor")
    def hold(self, payment: Payment) -> SafeString:
        """The hold."""
        return _num(payment, payment.hold_minor)

    @described(gettext_lazy("collected"), order="captured_minor")
    def collected(self, payment: Payment) -> SafeString:
        """What was collected."""
        return _num(payment, payment.captured_minor or None)

    @described(gettext_lazy("given back"), order="refunded_minor")
    def given_back(self, payment: Payment) -> SafeString:
        """What was refunded."""
        return _num(payment, payment.refunded_minor or None)

    @described(gettext_lazy("state"), order="state")
    def state_chip(self, payment: Payment) -> SafeString:
        """The state in colour and words."""
        return _chip(payment)

    @described(gettext_lazy("reference"), order="provider_ref")
    def reference(self, payment: Payment) -> SafeString:
        """The provider's reference."""
        return format_html(
            '<span class="mono quiet cut" title="{0}">{0}</span>', payment.provider_ref or "–"
        )

    # the page

    def get_urls(self) -> list[URLPattern]:
        """What people decide."""
        wrap = self.admin_site.admin_view
        views = {
            "refund": self.refund_view, "look": self.look_view, "write-off": self.write_off_view,
        }  # fmt: skip
        return [
            *(
                path(
                    f"<uuid:pk>/{name}/",
                    wrap(require_POST(view)),
                    name=f"billing_payment_{name.replace('-', '_')}",
                )
                for name, view in views.items()
            ),
            *super().get_urls(),
        ]

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        """Tell the story of one payment."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        payment = self._payment(request, object_id)
        user: Any = request.user
        left = refunds.remaining_minor(payment)
        refundable = payment.state in COLLECTED and payment.state != S.DISPUTED and left > 0
        context = self.admin_site.each_context(request) | story(payment)
        context |= {
            "opts": self.opts,
            "title": f"{payment.connector.station} · {str(payment.pk)[:8]}",
            "left": left,
            "left_decimal": from_minor(left, payment.currency),
            "step": from_minor(step_minor(payment.currency), payment.currency),
            "left_words": _said(payment, left),
            "may_refund": refundable and user.has_perm("billing.add_refund"),
            "may_write_off": payment.state in (S.CAPTURE_EXPIRED, S.CAPTURE_FAILED)
            and user.has_perm("billing.change_payment"),
            "may_look": payment.provider_ref is not None
            and user.has_perm("billing.change_payment"),
        }
        return render(request, "admin/billing/payment/page.html", context)

    def refund_view(self, request: HttpRequest, pk: str) -> HttpResponse:
        """Give money back."""
        self._require(request, "billing.add_refund")
        payment = self._payment(request, pk)
        form = RefundForm(payment.currency, request.POST)
        user: Any = request.user
        if not form.is_valid():
            messages.error(
                request, " ".join(str(e) for texts in form.errors.values() for e in texts)
            )
            return redirect("admin:billing_payment_change", pk)
        try:
            refund = refunds.request(
                payment, form.cleaned_data["amount"], form.cleaned_data["reason"], user
            )
        except PaymentError as error:
            messages.error(request, str(error))
        else:
            said = {
                "amount": _said(payment, refund.amount_minor),
                "state": refund.get_state_display(),
            }
            messages.info(request, _("Refund of %(amount)s: %(state)s.") % said)
        return redirect("admin:billing_payment_change", pk)

    def look_view(self, request: HttpRequest, pk: str) -> HttpResponse:
        """Read the payment at its provider now, and go on from there."""
        self._require(request, "billing.change_payment")
        payment = payments.refresh(self._payment(request, pk).pk, f"asked by {request.user}")
        said = _("The payment is: %(state)s.") % {"state": payment.get_state_display()}
        messages.info(request, said)
        return redirect("admin:billing_payment_change", pk)

    def write_off_view(self, request: HttpRequest, pk: str) -> HttpResponse:
        """Give up what could not be collected."""
        self._require(request, "billing.change_payment")
        payment = self._payment(request, pk)
        try:
            payments.write_off(payment, str(request.POST.get("reason") or ""))
        except PaymentError as error:
            messages.error(request, str(error))
        else:
            messages.success(request, _("The amount is written off."))
        return redirect("admin:billing_payment_change", pk)

    def _payment(self, request: HttpRequest, pk: str) -> Payment:
        rows = Payment.objects.filter(pk__in=self.get_queryset(request).values("pk"))
        return get_object_or_404(
            rows.select_related(*self.list_select_related, "session", "start_command", "charge"),
            pk=pk,
        )

    def _require(self, request: HttpRequest, permission: str) -> None:
        user: Any = request.user
        if not user.has_perm(permission):
            raise PermissionDenied


def _said(payment: Payment, minor: int | None) -> str:
    return "–" if minor is None else Words("en", payment.currency).money(minor)


def _num(payment: Payment, minor: int | None) -> SafeString:
    return format_html('<span class="num">{}</span>', _said(payment, minor))


def _chip(payment: Payment) -> SafeString:
    return chip(payment.get_state_display(), TONES[S(payment.state)], title=payment.last_error_code)


def story(payment: Payment) -> dict[str, Any]:
    """Everything the page of one payment shows."""
    conf = configuration()
    mode = "" if conf is None or conf.livemode else "test/"
    link = ""
    if payment.provider == "stripe" and payment.provider_ref and conf and not conf.sandbox:
        link = f"{DASHBOARD}{mode}payments/{payment.provider_ref}"
    events = ProviderEvent.objects.none()
    if payment.provider_ref:
        events = ProviderEvent.objects.filter(payload__id=payment.provider_ref)
        events |= ProviderEvent.objects.filter(payload__payment_intent=payment.provider_ref)
    return {
        "payment": payment,
        "chip": _chip(payment),
        "charge": getattr(payment, "charge", None),
        "dashboard": link,
        "sandbox": bool(conf and conf.sandbox),
        "amounts": [
            (_("reserved"), _said(payment, payment.hold_minor)),
            (_("due"), _said(payment, payment.due_minor)),
            (_("collected"), _said(payment, payment.captured_minor)),
            (_("given back"), _said(payment, payment.refunded_minor)),
        ],
        "times": [
            (_("began"), moment(payment.created_at)),
            (_("collect before"), moment(payment.capture_before)),
            (_("deadline"), moment(payment.deadline_at)),
            (_("next try"), moment(payment.next_try_at)),
        ],
        "transitions": [
            (row, row.from_state == row.to_state, row.event.startswith("alert:"))
            for row in payment.transitions.order_by("pk")
        ],
        "refunds": [
            (row, _said(payment, row.amount_minor),
             chip(row.get_state_display(), REFUND_TONES[Refund.State(row.state)]))
            for row in payment.refunds.select_related("requested_by").order_by("created_at")
        ],
        "events": list(events.order_by("received_at")[:100]),
    }  # fmt: skip
