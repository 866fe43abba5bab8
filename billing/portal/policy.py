"""The content security policies of the portal's pages."""

from typing import Any

from django.conf import settings
from django.utils.csp import CSP

STRIPE_JS = ("https://js.stripe.com", "https://*.js.stripe.com")


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
