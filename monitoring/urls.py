"""URLs of the monitoring app, and what staff may hear of it."""

from django.urls import path

from monitoring import views
from stations import live

live.HEARINGS |= {
    "session": live.Hearing("monitoring.view_session", "monitoring.Session", "station__site"),
    "incidents": live.Hearing("monitoring.view_incident"),
    "incident": live.Hearing("monitoring.view_incident", "monitoring.Incident", "site"),
}

urlpatterns = [
    path("readyz", views.readyz, name="readyz"),
    path("metrics", views.metrics_view, name="metrics"),
]
