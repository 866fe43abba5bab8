"""Where the sandbox answers, below `/sandbox/stripe/`."""

from django.urls import path

from billing.sandbox import views

urlpatterns = [
    path("v1/<path:path>", views.api, name="sandbox-api"),
    path("_control/<str:action>/", views.door, name="sandbox-control"),
]
