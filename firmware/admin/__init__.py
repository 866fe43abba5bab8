"""The back office of firmware: releases, campaigns with their cockpit, updates."""

from firmware.admin import campaigns, releases, updates

__all__ = ["campaigns", "releases", "updates"]
