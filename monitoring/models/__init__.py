"""Charging and health."""

from monitoring.models.charging import Reading, Session

__all__ = ["Reading", "Session"]
