"""What every portal page carries: a strict content policy, no referrer, no indexing, the brand."""

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.utils.csp import CSP
from django.views.decorators.csp import csp_override

STRIPE_JS = ("https://js.stripe.com", "https://*.js.stripe.com")
View = Callable[..., HttpResponse]


def policy(*, stripe: bool = False) -> dict[str, Any]:
    """Return the content security policy of a page (payments notes §5.6)."""
    rules: dict[str, Any] = {
        "default-src": [CSP.NONE],
        "script-src": [CSP.SELF],
        "style-src": [CSP.SELF],
        "img-src": [CSP.SELF, "data:"],
        "font-src": [CSP.SELF],
        "connect-src": [CSP.SELF],
        "manifest-src": [CSP.SELF],
        "form-action": [CSP.SELF],
        "base-uri": [CSP.NONE],
        "frame-ancestors": [CSP.NONE],
    }
    if stripe and not settings.PAYMENT_SANDBOX:
        rules["script-src"] = [CSP.SELF, *STRIPE_JS]
        rules["frame-src"] = [*STRIPE_JS, "https://hooks.stripe.com"]
        rules["connect-src"] = [CSP.SELF, "https://api.stripe.com"]
        rules["img-src"] = [CSP.SELF, "data:", "https://*.stripe.com"]
    return rules


def portal_page(*, stripe: bool = False, map: bool = False) -> Callable[[View], View]:
    """Mark a portal view: its policy, and headers that keep its link private.

    `stripe` lets Stripe.js in; `map` lets map tiles in where the operator has chosen a server.
    """
    rules = policy(stripe=stripe)
    if map:
        # Leaflet sets positions through the style attribute, from script: that needs no exception.
        tiles = getattr(settings, "MAP_TILES_ORIGIN", "")
        rules["img-src"] = [*rules["img-src"], *([tiles] if tiles else [])]

    def mark(view: View) -> View:
        @wraps(view)
        def page(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
            answer = view(request, *args, **kwargs)
            # other sites learn nothing; our own forms still carry the Origin that CSRF asks for
            answer.headers.setdefault("Referrer-Policy", "same-origin")
            answer.headers.setdefault("X-Robots-Tag", "noindex" if not map else "all")
            answer.headers.setdefault(
                "Permissions-Policy", 'payment=(self "https://js.stripe.com"), geolocation=(self)'
            )
            return answer

        return csp_override(rules)(page)

    return mark
