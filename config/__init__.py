"""Settings, URLs, schedule and the wiring between apps: the one package that knows everyone."""

from config.celery import app as celery_app

__all__ = ["celery_app"]
