"""Forms of the stations app."""
