"""The back office of firmware: releases, campaigns with their cockpit, updates."""

from firmware.admin import campaigns, releases, telling, updates

__all__ = ["campaigns", "releases", "telling", "updates"]
