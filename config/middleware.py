"""Middleware of the project."""

from collections.abc import Callable

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.urls import resolve
from django.utils import translation
from django.utils.csp import CSP, build_policy

from stations import journal

# The admin theme's Alpine evaluates the expressions in its attributes, hence `unsafe-eval`; its
# and our templates style elements in place. No page has a script of its own in the HTML.
BACK_OFFICE_POLICY: dict[str, list[str]] = {
    "default-src": [CSP.NONE],
    "script-src": [CSP.SELF, CSP.UNSAFE_EVAL],
    "style-src": [CSP.SELF, CSP.UNSAFE_INLINE],
    "img-src": [CSP.SELF, "data:"],
    "font-src": [CSP.SELF],
    "connect-src": [CSP.SELF],
    "frame-src": ["data:"],  # the preview of a document
    "manifest-src": [CSP.SELF],
    "form-action": [CSP.SELF],
    "object-src": [CSP.NONE],
    "base-uri": [CSP.SELF],
    "frame-ancestors": [CSP.NONE],
}
PROBES = frozenset({"/healthz", "/readyz", "/metrics"})


def acting_user(
    get_response: Callable[[HttpRequest], HttpResponse],
) -> Callable[[HttpRequest], HttpResponse]:
    """Journal entries written during a request carry its signed-in user."""

    def middleware(request: HttpRequest) -> HttpResponse:
        user = request.user if request.user.is_authenticated else None
        with journal.acting_as(user):
            return get_response(request)

    return middleware


def probes(
    get_response: Callable[[HttpRequest], HttpResponseBase],
) -> Callable[[HttpRequest], HttpResponseBase]:
    """Answer health checks and metrics under any host name and without TLS.

    Load balancers, containers and Prometheus ask by address. These pages trust no header.
    """

    def middleware(request: HttpRequest) -> HttpResponseBase:
        if request.path in PROBES:
            answer: HttpResponseBase = resolve(request.path).func(request)
            return answer
        return get_response(request)

    return middleware


def back_office_language(
    get_response: Callable[[HttpRequest], HttpResponse],
) -> Callable[[HttpRequest], HttpResponse]:
    """The back office speaks one language until all of it is translated: half of each is worse."""

    def middleware(request: HttpRequest) -> HttpResponse:
        if not request.path.startswith("/admin/"):
            return get_response(request)
        with translation.override(settings.LANGUAGE_CODE):
            request.LANGUAGE_CODE = settings.LANGUAGE_CODE
            return get_response(request)

    return middleware


def back_office_policy(
    get_response: Callable[[HttpRequest], HttpResponseBase],
) -> Callable[[HttpRequest], HttpResponseBase]:
    """Send a content security policy with every answer of the back office."""
    images = [*BACK_OFFICE_POLICY["img-src"], *filter(None, [settings.MAP_TILES_ORIGIN])]
    policy = build_policy(BACK_OFFICE_POLICY | {"img-src": images})

    def middleware(request: HttpRequest) -> HttpResponseBase:
        response = get_response(request)
        # Django's own page of a failure in DEBUG has said already what it needs.
        if request.path.startswith("/admin/") and not hasattr(response, "_csp_config"):
            response.headers.setdefault(str(CSP.HEADER_ENFORCE), policy)
        return response

    return middleware
