"""The back office's pages of billing."""

from . import charges, invoices, ledger, payments, tariffs, telling

__all__ = ["charges", "invoices", "ledger", "payments", "tariffs", "telling"]
