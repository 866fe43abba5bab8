"""The back office's pages of charging and health."""

from monitoring.admin import incidents, meters, response, sessions, telling

__all__ = ["incidents", "meters", "response", "sessions", "telling"]
