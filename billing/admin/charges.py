"""Charges in the back office: what each session costs, its whole story, what waits for a person.

Session → price → payment → refunds → documents → mails → postings, on one page.
"""

from __future__ import annotations

import datetime as dt
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.template.loader import render_to_string
from django.urls import URLPattern, path
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_POST
from unfold.admin import TabularInline
from unfold.widgets import UnfoldAdminSelectWidget

from billing import corrections, fairness, invoicing, settlement, timeline, words
from billing.documents import Words
from billing.models import Charge, CostCentre, Entry, HouseAccount, Tariff
from billing.settlement import NotNow
from monitoring import signed
from monitoring.models import Session
from stations.admin.base import Facts, StaffAdmin, chip, described, kwh, moment, section

TONES = {
    "open": "blue",
    "priced": "blue",
    "capturing": "amber",
    "paid": "green",
    "unpaid": "amber",
    "invoiced": "green",
    "held": "red",
    "waived": "grey",
}
SEGMENT_ROWS = 200


class ReleaseForm(forms.Form):
    """Let a held charge go on; a tariff where none was in force."""

    tariff = forms.ModelChoiceField(
        Tariff.objects.order_by("key", "-version"), required=False, widget=UnfoldAdminSelectWidget
    )


@admin.register(Charge)
class ChargeAdmin(Facts, StaffAdmin):
    """What sessions cost and who bears it."""

    site_path = "session__station__site"
    list_display = ("started", "where", "payer", "energy", "gross_column", "state_chip", "document")
    list_display_links = ("started",)
    list_filter = ("state", "hold_reason", "currency")
    list_select_related = (
        "session__station",
        "session__connector__evse",
        "payment",
        "house_account",
        "driver",
        "invoice",
    )
    search_fields = (
        "session__ref",
        "session__token_uid",
        "session__station__identity",
        "invoice__number",
        "payment__email",
    )
    search_help_text = gettext_lazy("Transaction, token, station, invoice number or e-mail")
    ordering = ("-session__started_at",)
    export_fields = (
        "session__started_at",
        "session__station__identity",
        "session__ref",
        "session__energy_wh",
        "currency",
        "net",
        "vat",
        "gross",
        "paid_minor",
        "state",
        "hold_reason",
        "invoice__number",
    )

    def get_queryset(self, request: HttpRequest) -> Any:
        """Without the long JSON columns, which only the page shows."""
        return super().get_queryset(request).defer("usage", "segments", "invoice__snapshot")

    @described(gettext_lazy("started"), order="session__started_at")
    def started(self, charge: Charge) -> SafeString:
        """When the session began."""
        return moment(charge.session.started_at)

    @described(gettext_lazy("where"), order="session__station__identity")
    def where(self, charge: Charge) -> str:
        """Station and connector."""
        connector = charge.session.connector
        number = f" · {connector.evse.number}" if connector is not None else ""
        return f"{charge.session.station}{number}"

    @described(gettext_lazy("payer"))
    def payer(self, charge: Charge) -> str:
        """Who pays."""
        return payer_of(charge)

    @described(gettext_lazy("energy"), order="session__energy_wh")
    def energy(self, charge: Charge) -> SafeString:
        """The session's energy."""
        return format_html('<span class="num">{}</span>', kwh(charge.session.energy_wh))

    @described(gettext_lazy("price"), order="gross_minor")
    def gross_column(self, charge: Charge) -> SafeString:
        """The price with taxes."""
        return format_html('<span class="num">{}</span>', amount(charge, charge.gross_minor))

    @described(gettext_lazy("state"), order="state")
    def state_chip(self, charge: Charge) -> SafeString:
        """How far it has come; why it is held."""
        return state_chip(charge)

    @described(gettext_lazy("document"))
    def document(self, charge: Charge) -> str:
        """The invoice's number."""
        return charge.invoice.number if charge.invoice is not None else "–"

    actions = ("release_selected",)

    @admin.action(description=gettext_lazy("Release the held ones"), permissions=["decide"])
    def release_selected(self, request: HttpRequest, queryset: Any) -> None:
        """Try the held ones again: with a tariff assigned or a token enrolled since."""
        held = Charge.objects.filter(pk__in=queryset.values("pk"), state=Charge.State.HELD)
        left = sum(settlement.resume(c).state == Charge.State.HELD for c in held[:500])
        if left:
            self.message_user(
                request, _("%(n)s are still held: open them to see why.") % {"n": left}, "warning"
            )
        else:
            self.message_user(request, _("Released."))

    def has_decide_permission(self, request: HttpRequest) -> bool:
        """Who may release and waive."""
        user: Any = request.user
        return bool(user.has_perm("billing.change_charge"))

    # the page

    def get_urls(self) -> list[URLPattern]:
        """What people decide."""
        wrap = self.admin_site.admin_view
        return [
            path(
                "<int:pk>/release/",
                wrap(require_POST(self.release_view)),
                name="billing_charge_release",
            ),
            path(
                "<int:pk>/waive/", wrap(require_POST(self.waive_view)), name="billing_charge_waive"
            ),
            path("<int:pk>/explained/", wrap(self.explained_view), name="billing_charge_explained"),
            path("<int:pk>/signed.xml", wrap(self.signed_view), name="billing_charge_signed"),
            *super().get_urls(),
        ]

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        """Tell the story of one bill."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        rows = Charge.objects.filter(pk__in=self.get_queryset(request).values("pk"))
        charge = get_object_or_404(
            rows.select_related(*self.list_select_related, "session__token", "tariff"), pk=object_id
        )
        context = self.admin_site.each_context(request) | story(charge)
        user: Any = request.user
        context |= {
            "opts": self.opts,
            "title": f"{charge.session.station} · {charge.session.ref}",
            "may_decide": user.has_perm("billing.change_charge"),
            "release_form": ReleaseForm(),
        }
        return render(request, "admin/billing/charge/page.html", context)

    def signed_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Hand out the session's signed readings, for the S.A.F.E. transparency software."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        charge = get_object_or_404(self.get_queryset(request), pk=pk)
        records = signed.checked_of(charge.session)
        if not records:
            messages.error(request, _("This session has no signed meter readings."))
            return redirect("admin:billing_charge_explained", pk)
        answer = HttpResponse(signed.transparency_xml(records), content_type="application/xml")
        answer["Content-Disposition"] = 'attachment; filename="signed-readings.xml"'
        return answer

    def explained_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Show the bill stretch by stretch, computed again."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        rows = Charge.objects.filter(pk__in=self.get_queryset(request).values("pk"))
        charge = get_object_or_404(
            rows.select_related("session__station__site", "invoice", "payment"), pk=pk
        )
        try:
            found = timeline.timeline_of(charge)
        except NotNow as error:
            messages.error(request, str(error))
            return redirect("admin:billing_charge_change", pk)
        context = self.admin_site.each_context(request) | {
            "opts": self.opts,
            "title": _("How it adds up"),
            "charge": charge,
            "timeline": timeline.in_words(found, "en"),
            "signed": signed.checked_of(charge.session),
        }
        return render(request, "admin/billing/charge/explained.html", context)

    def release_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Let a held charge go on."""
        charge = self._deciding(request, pk)
        form = ReleaseForm(request.POST)
        if not form.is_valid():
            messages.error(request, _("Choose a tariff of the list."))
            return redirect("admin:billing_charge_change", pk)
        try:
            charge = settlement.resume(charge, tariff=form.cleaned_data["tariff"])
        except NotNow as error:
            messages.error(request, str(error))
        else:
            messages.info(request, _("The bill is now: %(state)s.") % {
                "state": charge.get_state_display()
            })  # fmt: skip
        return redirect("admin:billing_charge_change", pk)

    def waive_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Let the driver off."""
        charge = self._deciding(request, pk)
        try:
            settlement.waive(charge, str(request.POST.get("note") or ""))
        except NotNow as error:
            messages.error(request, str(error))
        else:
            messages.success(request, _("Nothing is charged for this session."))
        return redirect("admin:billing_charge_change", pk)

    def _deciding(self, request: HttpRequest, pk: int) -> Charge:
        user: Any = request.user
        if not user.has_perm("billing.change_charge"):
            raise PermissionDenied
        return Charge.objects.get(pk=get_object_or_404(self.get_queryset(request), pk=pk).pk)


def state_chip(charge: Charge) -> SafeString:
    """The state in colour and words; a held one says why."""
    said = charge.get_state_display()
    title = charge.get_hold_reason_display() if charge.hold_reason else charge.note
    return chip(said, TONES.get(charge.state, ""), title=str(title))


def payer_of(charge: Charge) -> str:
    """Who pays, in a few words."""
    if charge.house_account is not None:
        return str(charge.house_account)
    if charge.payment is not None:
        return charge.payment.email or _("card payment")
    if charge.driver is not None:
        return str(charge.driver)
    return charge.session.token_uid or "–"


def amount(charge: Charge, minor: int | None) -> str:
    """An amount of this charge in words."""
    return "–" if minor is None else Words("en", charge.currency).money(minor)


def story(charge: Charge) -> dict[str, Any]:
    """Everything the page of one bill shows."""
    say = Words("en", charge.currency)
    zone = charge.session.station.zone.key
    payment, invoice = charge.payment, charge.invoice
    documents = [] if invoice is None else list(corrections.documents_of(charge))
    refunds = [] if payment is None else list(payment.refunds.order_by("created_at"))
    subjects = [("invoice", str(document.pk)) for document in documents]
    subjects += [("payment", str(payment.pk))] if payment is not None else []
    subjects += [("refund", str(refund.pk)) for refund in refunds]
    place = {"time_zone": zone}
    return {
        "charge": charge,
        "session": charge.session,
        "chip": state_chip(charge),
        "payer": payer_of(charge),
        "energy": kwh(charge.session.energy_wh),
        "gross": amount(charge, charge.gross_minor),
        "net": amount(charge, sum(x["net_minor"] for x in charge.lines) if charge.lines else None),
        "vat": amount(charge, sum(x["vat_minor"] for x in charge.lines) if charge.lines else None),
        "paid": amount(charge, charge.paid_minor),
        "prices": words.describe(charge.tariff_snapshot["ocpi"]) if charge.tariff_snapshot else [],
        "snapshot": charge.tariff_snapshot,
        "lines": [say.line(line, place) for line in charge.lines],
        "doubts": [fairness.sentence(code) or code for code in charge.doubts],
        "segments": [_segment(row) for row in charge.segments[:SEGMENT_ROWS]],
        "more_segments": max(0, len(charge.segments) - SEGMENT_ROWS),
        "payment": payment,
        "transitions": [] if payment is None else list(payment.transitions.order_by("pk")),
        "refunds": [(refund, amount(charge, refund.amount_minor)) for refund in refunds],
        "documents": [(document, say.money(document.gross_minor)) for document in documents],
        "mails": [mail for document in documents for mail in document.mails.order_by("pk")],
        "entries": Entry.objects.filter(
            object_type__in={kind for kind, _id in subjects},
            object_id__in=[key for _kind, key in subjects],
        )
        .order_by("pk")
        .prefetch_related("postings__account")
        if subjects
        else [],
        "is_held": charge.state == Charge.State.HELD,
        "may_waive": charge.state in (Charge.State.HELD, Charge.State.UNPAID, Charge.State.OPEN),
    }


def _segment(row: dict[str, Any]) -> dict[str, Any]:
    """A stretch of the timeline for the page."""
    start, end = (dt.datetime.fromisoformat(row[name]) for name in ("from", "to"))
    return {
        "start": moment(start, "time"),
        "end": moment(end, "time"),
        "minutes": round((end - start).total_seconds() / 60, 1),
        "kwh": f"{row['wh'] / 1000:.3f}",
        "kind": {"charging": _("charging"), "parking": _("parked"), "paused": _("paused")}[
            row["kind"]
        ],
        "read": row["read"],
        "elements": ", ".join(f"{name} [{index}]" for name, index in row["elements"].items()),
    }


@section("session")
def bill_of_session(request: HttpRequest, session: Session) -> SafeString | str:
    """The price on the session's own page, with the way to its whole story."""
    user: Any = request.user
    charge = Charge.objects.filter(session=session).select_related("invoice").first()
    if charge is None or not user.has_perm("billing.view_charge"):
        return ""
    place = {"time_zone": session.station.zone.key}
    say = Words("en", charge.currency)
    return render_to_string(
        "admin/billing/charge/section.html",
        {
            "charge": charge,
            "chip": state_chip(charge),
            "gross": amount(charge, charge.gross_minor),
            "lines": [say.line(line, place) for line in charge.lines],
        },
        request,
    )


class CostCentreInline(TabularInline):  # type: ignore[misc]  # unfold ships no types
    """Where the account books which of its cards."""

    model = CostCentre
    extra = 0
    autocomplete_fields = ("tokens",)


@admin.register(HouseAccount)
class HouseAccountAdmin(StaffAdmin):
    """Customers who charge first and are invoiced monthly."""

    list_display = ("name", "email", "waiting", "is_active")
    list_filter = ("is_active",)
    search_fields = ("name", "legal_name", "email", "tokens__uid")
    filter_horizontal = ("tokens",)
    autocomplete_fields = ()
    raw_id_fields = ("user",)
    fieldsets = (
        (None, {"fields": ("name", "is_active", "user", "tokens")}),
        (
            _("Invoices"),
            {"fields": (("email", "language"), "reference", "order_number", "payment_days")},
        ),
        (
            _("Address"),
            {
                "fields": (
                    *("legal_name", "street", ("postcode", "city"), "country"),
                    *("vat_id", "reverse_charge"),
                )
            },
        ),
    )
    inlines = (CostCentreInline,)
    actions = ("invoice_now",)

    def get_queryset(self, request: HttpRequest) -> Any:
        """With what waits for the next invoice."""
        return super().get_queryset(request).prefetch_related("charges")

    @described(gettext_lazy("not yet invoiced"))
    def waiting(self, account: HouseAccount) -> SafeString:
        """How many sessions wait for the next invoice, and their sum."""
        sums: dict[str, int] = {}
        unpaid = [c for c in account.charges.all() if c.state == Charge.State.UNPAID]
        for charge in unpaid:
            sums[charge.currency] = sums.get(charge.currency, 0) + (charge.gross_minor or 0)
        said = ", ".join(Words("en", currency).money(minor) for currency, minor in sums.items())
        return format_html('<span class="num">{} · {}</span>', len(unpaid), said or "–")

    @admin.action(description=gettext_lazy("Invoice everything up to now"))
    def invoice_now(self, request: HttpRequest, queryset: Any) -> None:
        """Issue the collective invoices without waiting for the month's end."""
        user: Any = request.user
        if not user.has_perm("billing.add_invoice"):
            raise PermissionDenied
        now = dt.datetime.now(dt.UTC)
        issued = [
            invoice
            for account in queryset
            for invoice in invoicing.invoice_month(account, now.year, now.month)
        ]
        numbers = ", ".join(invoice.number for invoice in issued)
        self.message_user(request, numbers or _("There is nothing to invoice."))
