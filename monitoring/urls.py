"""URLs of the monitoring app."""

from django.urls import path

from monitoring import views

urlpatterns = [
    path("readyz", views.readyz, name="readyz"),
    path("metrics", views.metrics_view, name="metrics"),
]
