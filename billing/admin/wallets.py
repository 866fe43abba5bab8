"""Prepaid balances and vouchers in the back office."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy

from billing.models import Voucher, Wallet
from billing.money import from_minor
from stations.admin.base import Facts, StaffAdmin, described


@admin.register(Wallet)
class WalletAdmin(Facts, StaffAdmin):
    """Balances; `manage.py wallets` books what drivers paid in or got back."""

    list_display = ("driver", "balance")
    list_select_related = ("driver",)
    list_filter = ("currency",)
    search_fields = ("driver__email",)
    export_fields = ("driver__email", "currency", "balance_minor")

    @described(gettext_lazy("balance"), order="balance_minor")
    def balance(self, row: Wallet) -> SafeString:
        """In units."""
        amount = from_minor(row.balance_minor, row.currency)
        return format_html('<span class="num">{} {}</span>', amount, row.currency)


@admin.register(Voucher)
class VoucherAdmin(StaffAdmin):
    """Codes that add to a driver's balance, each once."""

    list_display = ("code", "amount", "valid_until", "redeemed_by", "redeemed_at", "note")
    list_select_related = ("redeemed_by",)
    list_filter = ("currency",)
    search_fields = ("code", "note", "redeemed_by__email")
    fields = ("code", ("amount_minor", "currency"), "valid_until", "note")
    export_fields = ("code", "currency", "amount_minor", "valid_until", "redeemed_at", "note")

    @described(gettext_lazy("amount"), order="amount_minor")
    def amount(self, row: Voucher) -> SafeString:
        """In units."""
        value = from_minor(row.amount_minor, row.currency)
        return format_html('<span class="num">{} {}</span>', value, row.currency)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """A redeemed code stays as it was."""
        if obj is not None and obj.redeemed_by_id is not None:
            return False
        return bool(super().has_change_permission(request, obj))

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """A redeemed code stays."""
        if obj is not None and obj.redeemed_by_id is not None:
            return False
        return bool(super().has_delete_permission(request, obj))
