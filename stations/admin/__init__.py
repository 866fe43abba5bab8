"""The back office's pages of the stations app."""

from stations.admin import assets, frames, history, lists, orders, people, power

__all__ = ["assets", "frames", "history", "lists", "orders", "people", "power"]
