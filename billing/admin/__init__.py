"""The back office's pages of billing."""

from . import charges, invoices, ledger, payments, tariffs, telling, wallets

__all__ = ["charges", "invoices", "ledger", "payments", "tariffs", "telling", "wallets"]
