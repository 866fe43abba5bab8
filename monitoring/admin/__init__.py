"""The back office's pages of charging and health."""

from monitoring.admin import incidents

__all__ = ["incidents"]
