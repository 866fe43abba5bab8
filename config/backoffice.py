"""The admin's title, colours, navigation, badges and search, for django-unfold."""

from typing import Any

from django.http import HttpRequest
from django.templatetags.static import static
from django.utils.translation import gettext_lazy as _


def _scripts(name: str) -> Any:
    def address(request: HttpRequest) -> str:
        return static(f"stations/{name}")

    return address


UNFOLD: dict[str, Any] = {
    "SITE_TITLE": _("Charging"),
    "SITE_HEADER": _("Charging"),
    "SITE_SUBHEADER": _("Back office"),
    "SITE_SYMBOL": "ev_station",
    "SITE_URL": "/",
    "SHOW_HISTORY": True,
    "SHOW_VIEW_ON_SITE": False,
    "BORDER_RADIUS": "6px",
    "COLORS": {
        "primary": {  # teal: none of the status colours
            "50": "oklch(98.4% .014 180.72)",
            "100": "oklch(95.3% .051 180.801)",
            "200": "oklch(91% .096 180.426)",
            "300": "oklch(85.5% .138 181.071)",
            "400": "oklch(77.7% .152 181.912)",
            "500": "oklch(70.4% .14 182.503)",
            "600": "oklch(56% .105 184.704)",
            "700": "oklch(49% .091 186.391)",
            "800": "oklch(43.7% .078 188.216)",
            "900": "oklch(38.6% .063 188.416)",
            "950": "oklch(27.7% .046 192.524)",
        },
    },
    "STYLES": [_scripts("admin.css")],
    "SCRIPTS": [_scripts("vendor/idiomorph.js"), _scripts("live.js")],
    "SIDEBAR": {"show_search": True, "show_all_applications": False},
}
