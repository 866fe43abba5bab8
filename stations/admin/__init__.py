"""The back office's pages of the stations app."""

from stations.admin import (
    assets,
    device,
    frames,
    history,
    lists,
    orders,
    people,
    power,
    security,
)

__all__ = [
    "assets",
    "device",
    "frames",
    "history",
    "lists",
    "orders",
    "people",
    "power",
    "security",
]
