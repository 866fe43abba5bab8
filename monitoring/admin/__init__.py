"""The back office's pages of charging and health."""

from monitoring.admin import sessions

__all__ = ["sessions"]
