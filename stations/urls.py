"""URLs of the stations app."""

from django.urls import path

from stations import uploads, views

urlpatterns = [
    path("live/", views.live_stream, name="live"),
    path("l/<str:token>/", uploads.receive, name="upload-log"),
    path("l/<str:token>/<path:name>", uploads.receive),
    path("healthz", views.healthz, name="healthz"),
]
