"""URLs of the stations app."""

from django.urls import path

from stations import views

urlpatterns = [
    path("live/", views.live_stream, name="live"),
    path("healthz", views.healthz, name="healthz"),
]
