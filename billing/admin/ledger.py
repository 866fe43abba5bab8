"""The books in the back office: read, exported, never edited."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import Sum
from django.http import HttpRequest
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy

from billing.models import Account, Entry, Movement, Posting
from billing.money import from_minor
from stations.admin.base import Facts, StaffAdmin, described, moment


@admin.register(Entry)
class EntryAdmin(Facts, StaffAdmin):
    """Business events as balanced postings."""

    list_display = ("occurred", "reason", "about", "lines")
    list_display_links = ("occurred",)
    list_filter = ("reason",)
    search_fields = ("idempotency_key", "object_id")
    date_hierarchy = "occurred_at"
    fields = ("occurred", "reason", "about", "idempotency_key", "reverses", "lines")
    readonly_fields = fields
    export_fields = (
        "occurred_at",
        "reason",
        "object_type",
        "object_id",
        "postings__account__kind",
        "postings__account__owner",
        "postings__account__currency",
        "postings__amount_minor",
    )

    def get_queryset(self, request: HttpRequest) -> Any:
        """With postings and accounts, in three queries."""
        return super().get_queryset(request).prefetch_related("postings__account")

    @described(gettext_lazy("occurred"), order="occurred_at")
    def occurred(self, entry: Entry) -> SafeString:
        """When."""
        return moment(entry.occurred_at)

    @described(gettext_lazy("about"))
    def about(self, entry: Entry) -> str:
        """What it records."""
        return f"{entry.object_type} {entry.object_id[:12]}".strip()

    @described(gettext_lazy("postings"))
    def lines(self, entry: Entry) -> SafeString:
        """Debits and credits."""
        return format_html(
            '<table class="num">{}</table>',
            format_html_join(
                "",
                '<tr><td>{}</td><td class="right" style="padding-inline-start: 1rem">{}</td></tr>',
                (
                    (posting.account, from_minor(posting.amount_minor, posting.account.currency))
                    for posting in entry.postings.all()
                ),
            ),
        )


@admin.register(Account)
class AccountAdmin(Facts, StaffAdmin):
    """Accounts with their balances."""

    list_display = ("kind", "owner", "currency", "balance")
    list_filter = ("kind", "currency")
    search_fields = ("owner",)
    readonly_fields = ("kind", "owner", "currency", "balance")

    def get_queryset(self, request: HttpRequest) -> Any:
        """With the sum of the postings."""
        return super().get_queryset(request).annotate(sum=Sum("postings__amount_minor"))

    @described(gettext_lazy("balance"), order="sum")
    def balance(self, account: Any) -> SafeString:
        """Debit positive, credit negative."""
        amount = from_minor(account.sum or 0, account.currency)
        return format_html('<span class="num">{}</span>', amount)


@admin.register(Posting)
class PostingAdmin(Facts, StaffAdmin):
    """Single postings, for the accountant's export."""

    list_display = ("entry", "account", "amount")
    list_select_related = ("entry", "account")
    list_filter = ("account__kind", "account__currency")
    search_fields = ("account__owner", "entry__idempotency_key")
    export_fields = (
        "entry__occurred_at",
        "entry__reason",
        "entry__object_type",
        "entry__object_id",
        "account__kind",
        "account__owner",
        "account__currency",
        "amount_minor",
    )

    @described(gettext_lazy("amount"), order="amount_minor")
    def amount(self, posting: Posting) -> SafeString:
        """In units."""
        value = from_minor(posting.amount_minor, posting.account.currency)
        return format_html('<span class="num">{}</span>', value)


class UnmatchedFilter(admin.SimpleListFilter):
    """Movements that our books do not explain."""

    title = gettext_lazy("match")
    parameter_name = "match"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        """The choices."""
        return [("no", gettext_lazy("Does not match")), ("yes", gettext_lazy("As booked"))]

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        """Keep them."""
        if self.value() == "no":
            return queryset.exclude(problem="")
        return queryset.filter(problem="") if self.value() == "yes" else queryset


@admin.register(Movement)
class MovementAdmin(Facts, StaffAdmin):
    """The payment provider's statement, line by line, with what does not match."""

    list_display = ("moved", "kind", "amount", "fee", "about", "problem")
    list_display_links = ("moved",)
    list_filter = (UnmatchedFilter, "kind", "provider", "currency")
    search_fields = ("ref", "payment__provider_ref")
    export_fields = (
        "at", "provider", "ref", "kind", "currency", "amount_minor", "fee_minor", "payment__id",
        "problem",
    )  # fmt: skip

    @described(gettext_lazy("at"), order="at")
    def moved(self, row: Movement) -> SafeString:
        """When."""
        return moment(row.at)

    @described(gettext_lazy("amount"), order="amount_minor")
    def amount(self, row: Movement) -> SafeString:
        """What moved, before the fee."""
        return format_html(
            '<span class="num">{} {}</span>',
            from_minor(row.amount_minor, row.currency),
            row.currency,
        )

    @described(gettext_lazy("fee"), order="fee_minor")
    def fee(self, row: Movement) -> SafeString:
        """What the provider kept."""
        return format_html('<span class="num">{}</span>', from_minor(row.fee_minor, row.currency))

    @described(gettext_lazy("payment"))
    def about(self, row: Movement) -> str:
        """Our payment."""
        return str(row.payment_id or "–")[:8]
