"""Small things around the portal's pages: the manifest, the operator's colour, the icon."""

from __future__ import annotations

import json
import re

from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET

from billing.models import Seller
from billing.portal.context import brand_facts


@require_GET
def manifest(request: HttpRequest) -> HttpResponse:
    """The web app manifest: the portal can be put on a phone's home screen."""
    seller = Seller.objects.first()
    name = seller.name if seller else _("Charging")
    body = {
        "name": name,
        "short_name": name[:12],
        "start_url": "/",
        "display": "standalone",
        "background_color": "#ffffff",
        "theme_color": "#0b7a6f",
        "icons": [
            {"src": "/static/portal/icon.svg", "sizes": "any", "type": "image/svg+xml"},
        ],
    }
    return HttpResponse(json.dumps(body), content_type="application/manifest+json")


@require_GET
def brand_css(request: HttpRequest) -> HttpResponse:
    """The operator's colour as a style sheet: the content policy allows no style in the page."""
    colour = brand_facts()["colour"]
    ok = bool(re.fullmatch(r"#[0-9a-fA-F]{6}", colour))
    answer = HttpResponse(f":root{{--brand:{colour}}}" if ok else "", content_type="text/css")
    answer["Cache-Control"] = "max-age=300"
    return answer


@require_GET
def favicon(request: HttpRequest) -> HttpResponse:
    """Browsers ask for it whatever the page says."""
    return HttpResponseRedirect("/static/portal/icon.svg")
