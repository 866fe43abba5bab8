"""URLs of the whole project (see `interface.md`'s table in the README)."""

from django.conf import settings
from django.contrib import admin
from django.urls import URLPattern, URLResolver, include, path

from billing.views import stripe_webhook
from config import signin

handler403 = "billing.portal.errors.forbidden"
handler404 = "billing.portal.errors.not_found"
handler500 = "billing.portal.errors.broken"
admin.site.login = signin.login  # type: ignore[method-assign]

urlpatterns: list[URLPattern | URLResolver] = [
    path("admin/", admin.site.urls),
    path("webhooks/stripe/", stripe_webhook, name="stripe-webhook"),
    path("", include("stations.urls")),
    path("", include("monitoring.urls")),
    path("", include("firmware.urls")),
    path("", include("billing.portal.urls")),
]
if settings.PAYMENT_SANDBOX:
    urlpatterns.append(path("sandbox/stripe/", include("billing.sandbox.urls")))
