"""URLs of the firmware app."""

from django.urls import path

from firmware import downloads

urlpatterns = [path("f/<str:token>/<str:filename>", downloads.download, name="firmware-download")]
