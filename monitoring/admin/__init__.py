"""The back office's pages of charging and health."""

from monitoring.admin import incidents, response, sessions, telling

__all__ = ["incidents", "response", "sessions", "telling"]
