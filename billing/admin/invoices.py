"""Documents in the back office: the list, a preview, the PDF, sending again, crediting; sellers."""

from __future__ import annotations

import base64
from io import BytesIO
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied, ValidationError
from django.db.models import OuterRef, Q, Subquery
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_POST
from PIL import Image, UnidentifiedImageError
from unfold.admin import TabularInline
from unfold.widgets import UnfoldAdminColorInputWidget, UnfoldAdminFileFieldWidget

from billing import corrections, documents, dunning, exports, files, mail
from billing.documents import Words
from billing.invoicing import SELLER_FIELDS
from billing.models import Charge, DunningStep, Invoice, Mail, Seller, Series
from billing.money import from_minor, to_minor
from stations.admin.base import Facts, StaffAdmin, chip, described, moment

KIND_TONES = {"invoice": "blue", "credit_note": "violet", "receipt": "grey"}
MAIL_TONES = {"queued": "amber", "sending": "blue", "sent": "green", "failed": "red"}
ZIP_DOCUMENTS = 200
LOGO_BYTES = 300_000
LOGO_TYPES = {"PNG": "image/png", "JPEG": "image/jpeg"}


@admin.register(Invoice)
class InvoiceAdmin(Facts, StaffAdmin):
    """Issued documents."""

    list_display = ("number_column", "kind_chip", "issued", "customer", "gross_column", "mailed")
    list_display_links = ("number_column",)
    list_filter = ("kind", "currency", "language")
    search_fields = ("number", "customer_name", "house_account__name", "charges__payment__email")
    search_help_text = gettext_lazy("Number, customer or a guest's e-mail")
    date_hierarchy = "issued_at"
    actions = ("as_zip", "as_datev")
    export_fields = (
        "number",
        "kind",
        "issued_at",
        "customer_name",
        "currency",
        "net",
        "vat",
        "gross",
        "corrects__number",
        "sha256",
    )

    def get_queryset(self, request: HttpRequest) -> Any:
        """Without the snapshots, which are long; with the mails, and who paid as a guest."""
        paid = Charge.objects.filter(
            Q(invoice=OuterRef("pk")) | Q(invoice=OuterRef("corrects")), payment__isnull=False
        )
        rows = super().get_queryset(request).defer("snapshot").prefetch_related("mails")
        return rows.annotate(guest=Subquery(paid.order_by().values("payment__email")[:1]))

    @described(gettext_lazy("number"), order="number")
    def number_column(self, invoice: Invoice) -> SafeString:
        """The number."""
        return format_html('<span class="mono">{}</span>', invoice.number)

    @described(gettext_lazy("kind"), order="kind")
    def kind_chip(self, invoice: Invoice) -> SafeString:
        """Invoice, credit note, receipt."""
        return chip(invoice.get_kind_display(), KIND_TONES.get(invoice.kind, ""))

    @described(gettext_lazy("issued"), order="issued_at")
    def issued(self, invoice: Invoice) -> SafeString:
        """When."""
        return moment(invoice.issued_at)

    @described(gettext_lazy("customer"), order="customer_name")
    def customer(self, invoice: Invoice) -> str:
        """To whom; a guest is known by the e-mail of the payment, if one was given."""
        if invoice.customer_name:
            return invoice.customer_name
        mail = getattr(invoice, "guest", "")
        return _("Guest, %(mail)s") % {"mail": mail} if mail else _("Guest")

    @described(gettext_lazy("total"), order="gross_minor")
    def gross_column(self, invoice: Invoice) -> SafeString:
        """The gross amount."""
        said = Words("en", invoice.currency).money(invoice.gross_minor)
        return format_html('<span class="num">{}</span>', said)

    @described(gettext_lazy("mailed"))
    def mailed(self, invoice: Invoice) -> SafeString | str:
        """Whether it was sent."""
        mails = sorted(invoice.mails.all(), key=lambda row: row.pk)
        if not mails:
            return "–"
        return chip(mails[-1].get_state_display(), MAIL_TONES[mails[-1].state])

    def get_urls(self) -> list[URLPattern]:
        """The PDF, sending again, crediting."""
        wrap = self.admin_site.admin_view
        return [
            path("<int:pk>/pdf/", wrap(self.pdf_view), name="billing_invoice_pdf"),
            path("<int:pk>/<str:form>.xml", wrap(self.xml_view), name="billing_invoice_xml"),
            path("<int:pk>/send/", wrap(require_POST(self.send_view)), name="billing_invoice_send"),
            path(
                "<int:pk>/credit/",
                wrap(require_POST(self.credit_view)),
                name="billing_invoice_credit",
            ),
            path(
                "<int:pk>/received/",
                wrap(require_POST(self.received_view)),
                name="billing_invoice_received",
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
        """Show one document as its customer sees it, and what became of it."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        invoice = get_object_or_404(self.get_queryset(request), pk=object_id)
        words = Words("en", invoice.currency)
        user: Any = request.user
        credited = sum(note.gross_minor for note in invoice.corrections.all())
        left = from_minor(invoice.gross_minor + credited, invoice.currency)
        html = documents.html_of(invoice)
        open_minor = dunning.open_minor(invoice)
        return render(
            request,
            "admin/billing/invoice/page.html",
            self.admin_site.each_context(request)
            | {
                "opts": self.opts,
                "title": invoice.number,
                "invoice": invoice,
                "preview": "data:text/html;base64," + base64.b64encode(_styled(html)).decode(),
                "gross": words.money(invoice.gross_minor),
                "charges": Charge.objects.filter(invoice=invoice).select_related("session")[:200],
                "corrections": invoice.corrections.order_by("pk"),
                "mails": invoice.mails.order_by("pk"),
                "left": left,
                "open": open_minor and from_minor(open_minor, invoice.currency),
                "open_said": words.money(open_minor),
                "receipts": [
                    (receipt, words.money(receipt.amount_minor))
                    for receipt in invoice.receipts.order_by("pk")
                ],
                "reminders": invoice.reminders.order_by("level"),
                "may_receive": user.has_perm("billing.add_bankreceipt"),
                "today": timezone.now().date().isoformat(),
                "may_send": user.has_perm("billing.add_mail"),
                "may_credit": user.has_perm("billing.add_invoice")
                and invoice.kind == Invoice.Kind.INVOICE
                and left > 0,
            },
        )

    def pdf_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """The PDF."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        invoice = get_object_or_404(self.get_queryset(request), pk=pk)
        response = HttpResponse(files.pdf_of(invoice), content_type="application/pdf")
        response["Content-Disposition"] = f'inline; filename="{invoice.number}.pdf"'
        response["Cache-Control"] = "private, max-age=86400"
        return response

    def xml_view(self, request: HttpRequest, pk: int, form: str) -> HttpResponse:
        """The structured invoice: `cii` (Factur-X) or `ubl`."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        invoice = get_object_or_404(self.get_queryset(request), pk=pk)
        if form not in files.XML:
            raise Http404
        return files.download(invoice, form)

    def send_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Mail the document (again)."""
        user: Any = request.user
        if not user.has_perm("billing.add_mail"):
            raise PermissionDenied
        invoice = get_object_or_404(self.get_queryset(request), pk=pk)
        to = str(request.POST.get("to") or "").strip()
        form = forms.EmailField()
        try:
            address = form.clean(to)
        except ValidationError:
            messages.error(request, _("This is not an e-mail address."))
            return redirect("admin:billing_invoice_change", pk)
        key = f"invoice:{invoice.number}:{address}:{timezone.now():%Y%m%d%H%M}"
        mail.queue(key, "invoice", address, invoice.language, invoice=invoice)
        messages.success(request, _("It is on its way to %(to)s.") % {"to": address})
        return redirect("admin:billing_invoice_change", pk)

    def received_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Book a transfer that arrived for the invoice."""
        user: Any = request.user
        if not user.has_perm("billing.add_bankreceipt"):
            raise PermissionDenied
        invoice = get_object_or_404(self.get_queryset(request), pk=pk)
        try:
            amount = forms.DecimalField(min_value=0).clean(request.POST.get("amount"))
            on = forms.DateField().clean(request.POST.get("on"))
            dunning.receive(
                invoice,
                to_minor(amount, invoice.currency),
                on,
                key=f"manual:{invoice.number}:{request.POST.get('once')}",
                reference=str(request.POST.get("reference") or ""),
                by=user,
            )
        except (ValidationError, ValueError) as error:
            said = error.messages if isinstance(error, ValidationError) else [str(error)]
            messages.error(request, " ".join(said))
        else:
            messages.success(request, _("The transfer is booked."))
        return redirect("admin:billing_invoice_change", pk)

    @admin.action(description=gettext_lazy("Download PDF, Factur-X and UBL as ZIP"))
    def as_zip(self, request: HttpRequest, queryset: Any) -> HttpResponse | None:
        """The chosen documents' files."""
        if queryset.count() > ZIP_DOCUMENTS:
            said = _("Choose at most %(n)s, or use manage.py invoices export.")
            self.message_user(request, said % {"n": ZIP_DOCUMENTS}, messages.ERROR)
            return None
        out = BytesIO()
        exports.bundle(queryset.order_by("issued_at", "pk"), out)
        return _attached(out.getvalue(), "application/zip", "documents.zip")

    @admin.action(description=gettext_lazy("DATEV booking batch"))
    def as_datev(self, request: HttpRequest, queryset: Any) -> HttpResponse | None:
        """The chosen documents as bookings."""
        invoices = list(queryset.select_related("seller").order_by("issued_at", "pk"))
        sellers = {invoice.seller for invoice in invoices}
        try:
            if len(sellers) != 1:
                raise exports.NotReady(_("Choose documents of one seller."))
            content = exports.datev(invoices, sellers.pop())
        except exports.NotReady as error:
            self.message_user(request, str(error), messages.ERROR)
            return None
        return _attached(content, "text/csv; charset=windows-1252", "EXTF_Buchungsstapel.csv")

    def credit_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Issue a credit note over part or all of it. Money is given back with the payment."""
        user: Any = request.user
        if not user.has_perm("billing.add_invoice"):
            raise PermissionDenied
        invoice = get_object_or_404(self.get_queryset(request), pk=pk)
        reason = str(request.POST.get("reason") or "").strip()
        try:
            amount = forms.DecimalField(min_value=0).clean(request.POST.get("amount"))
            if not reason:
                raise ValidationError(_("Say why."))
            minor = to_minor(amount, invoice.currency)
            note = corrections.credit(
                invoice, minor, reason, key=f"manual:{invoice.number}:{request.POST.get('once')}"
            )
        except (ValidationError, ValueError) as error:
            said = error.messages if isinstance(error, ValidationError) else [str(error)]
            messages.error(request, " ".join(said))
            return redirect("admin:billing_invoice_change", pk)
        messages.success(request, _("Credit note %(number)s is issued.") % {"number": note.number})
        return redirect("admin:billing_invoice_change", note.pk)


def _attached(content: bytes, kind: str, name: str) -> HttpResponse:
    answer = HttpResponse(content, content_type=kind)
    answer["Content-Disposition"] = f'attachment; filename="{name}"'
    return answer


def _styled(html: str) -> bytes:
    """The document with its style sheet, for the preview's frame; no scripts run in it."""
    css = documents.CSS.read_text(encoding="utf-8")
    page = "body { max-width: 180mm; margin: 12mm auto; background: #fff } footer { display: none }"
    return html.replace("</head>", f"<style>{css}\n{page}</style></head>", 1).encode()


class SellerForm(forms.ModelForm):  # type: ignore[type-arg]
    """A seller with a logo that documents can embed."""

    upload = forms.FileField(
        label=gettext_lazy("Logo"),
        required=False,
        widget=UnfoldAdminFileFieldWidget,
        help_text=gettext_lazy("PNG or JPEG, at most 300 kB; at the top left of every document."),
    )

    class Meta:
        model = Seller
        fields = (
            *(*SELLER_FIELDS, "series_prefix", "is_default", "reminders"),
            *("datev_consultant", "datev_client", "datev_debtor", "datev_accounts"),
        )
        widgets = {"colour": UnfoldAdminColorInputWidget}

    def clean_datev_accounts(self) -> str:
        """Refuse what the export could not read."""
        given = str(self.cleaned_data["datev_accounts"])
        try:
            exports.accounts_of(Seller(datev_accounts=given))
        except exports.NotReady as error:
            raise ValidationError(str(error)) from error
        return given

    def clean_upload(self) -> Any:
        """Take a PNG or JPEG, in RGB: a CMYK picture would break the PDF's archive format."""
        upload = self.cleaned_data.get("upload")
        if not upload:
            return None
        if upload.size > LOGO_BYTES:
            raise ValidationError(_("This file is too large: use at most 300 kB."))
        try:
            image: Any = Image.open(upload)
            image.load()
        except (UnidentifiedImageError, OSError) as error:
            raise ValidationError(_("This is not a PNG or JPEG picture.")) from error
        if image.format not in LOGO_TYPES:
            raise ValidationError(_("This is not a PNG or JPEG picture."))
        out = BytesIO()
        kind = image.format
        image.convert("RGBA" if kind == "PNG" else "RGB").save(out, kind)
        self.instance.logo, self.instance.logo_type = out.getvalue(), LOGO_TYPES[kind]
        return upload


class DunningStepInline(TabularInline):  # type: ignore[misc]  # unfold ships no types
    """The seller's reminder steps; none: three without a fee, after 7, 14 and 14 days."""

    model = DunningStep
    extra = 0
    max_num = 3


@admin.register(Seller)
class SellerAdmin(StaffAdmin):
    """Who issues the documents."""

    form = SellerForm
    list_display = ("name", "legal_name", "vat_id", "city", "series_prefix", "is_default")
    search_fields = ("name", "legal_name", "vat_id")
    fieldsets = (
        (None, {"fields": ("name", "legal_name", "is_default")}),
        (_("Address"), {"fields": ("street", ("postcode", "city"), "country")}),
        (_("Tax"), {"fields": (("vat_id", "tax_number"), "register")}),
        (_("Contact and bank"), {"fields": (("email", "phone"), "website", ("iban", "bic"))}),
        (
            _("Documents"),
            {"fields": ("series_prefix", "time_zone", "colour", "upload", "logo_now")},
        ),
        (_("Reminders"), {"fields": ("reminders",)}),
        (
            _("Accounting (DATEV)"),
            {
                "fields": (
                    ("datev_consultant", "datev_client"),
                    *("datev_debtor", "datev_accounts"),
                )
            },
        ),
    )
    readonly_fields = ("logo_now",)
    inlines = (DunningStepInline,)

    @described(gettext_lazy("logo now"))
    def logo_now(self, seller: Seller) -> SafeString | str:
        """The logo as it is."""
        if not seller.logo:
            return "–"
        data = base64.b64encode(bytes(seller.logo)).decode()
        return format_html(
            '<img alt="" style="max-height: 4rem" src="data:{};base64,{}">', seller.logo_type, data
        )


@admin.register(Series)
class SeriesAdmin(Facts, StaffAdmin):
    """Number series: how far each has come."""

    list_display = ("seller", "year", "kind", "last_number")
    list_select_related = ("seller",)
    list_filter = ("seller", "kind")


@admin.register(Mail)
class MailAdmin(Facts, StaffAdmin):
    """Mails to customers and what became of them."""

    list_display = ("created", "kind", "to", "about", "state_chip", "attempts", "last_error")
    list_display_links = ("created",)
    list_filter = ("state", "kind")
    list_select_related = ("invoice",)
    search_fields = ("to", "invoice__number")
    exclude = ("context", "version")

    @described(gettext_lazy("created"), order="created_at")
    def created(self, row: Mail) -> SafeString:
        """When it was written."""
        return moment(row.created_at)

    @described(gettext_lazy("document"))
    def about(self, row: Mail) -> SafeString | str:
        """The document it carries."""
        if row.invoice is None:
            return "–"
        address = reverse("admin:billing_invoice_change", args=[row.invoice_id])
        return format_html('<a class="plain" href="{}">{}</a>', address, row.invoice.number)

    @described(gettext_lazy("state"), order="state")
    def state_chip(self, row: Mail) -> SafeString:
        """Queued, sending, sent, failed."""
        return chip(row.get_state_display(), MAIL_TONES[row.state], title=row.last_error)
