"""URLs of the whole project (see `interface.md`'s table in the README)."""

from django.contrib import admin
from django.urls import URLPattern, URLResolver, include, path

urlpatterns: list[URLPattern | URLResolver] = [
    path("admin/", admin.site.urls),
    path("", include("stations.urls")),
    path("", include("firmware.urls")),
]
