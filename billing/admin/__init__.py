"""The back office's pages of billing."""

from . import charges, invoices, ledger, tariffs

__all__ = ["charges", "invoices", "ledger", "tariffs"]
