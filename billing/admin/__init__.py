"""The back office's pages of billing."""

from . import charges, invoices, ledger, payments, tariffs

__all__ = ["charges", "invoices", "ledger", "payments", "tariffs"]
