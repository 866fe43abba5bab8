"""The back office's pages of charging and health."""

from monitoring.admin import incidents, sessions

__all__ = ["incidents", "sessions"]
