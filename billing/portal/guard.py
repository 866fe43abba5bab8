"""What every portal page carries: a strict content policy, no referrer, no indexing, the brand."""

import logging
from collections.abc import Callable
from functools import wraps
from typing import Any

from django.conf import settings
from django.core.exceptions import PermissionDenied
from django.core.signals import got_request_exception
from django.http import Http404, HttpRequest, HttpResponse
from django.views.decorators.csp import csp_override

from billing.portal import errors
from billing.portal.policy import policy

log = logging.getLogger(__name__)

View = Callable[..., HttpResponse]


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
            answer = _answer(view, request, *args, **kwargs)
            # other sites learn nothing; our own forms still carry the Origin that CSRF asks for
            answer.headers.setdefault("Referrer-Policy", "same-origin")
            answer.headers.setdefault("X-Robots-Tag", "noindex" if not map else "all")
            answer.headers.setdefault(
                "Permissions-Policy", 'payment=(self "https://js.stripe.com"), geolocation=(self)'
            )
            return answer

        return csp_override(rules)(page)

    return mark


def _answer(view: View, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
    """Call the view; what it raises becomes a page for drivers, with DEBUG on too."""
    try:
        return view(request, *args, **kwargs)
    except Http404 as error:
        return errors.not_found(request, error)
    except PermissionDenied as error:
        return errors.forbidden(request, error)
    except Exception:  # the driver gets a page of ours, the log the rest
        log.exception("The page %s failed.", getattr(request.resolver_match, "route", "?"))
        got_request_exception.send(sender=None, request=request)  # error reports listen to it
        return errors.broken(request)
