"""URLs of the firmware app, and what staff may hear of it."""

from django.urls import path

from firmware import downloads
from stations import live

live.HEARINGS["campaign"] = live.Hearing(
    "firmware.view_campaign", "firmware.Campaign", "jobs__station__site"
)

urlpatterns = [path("f/<str:token>/<str:filename>", downloads.download, name="firmware-download")]
