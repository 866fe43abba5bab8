"""The portal's own pages for what went wrong: each says what to do, under the portal's policy.

Django's handlers (config/urls.py) come here, and so does `portal_page`, because with DEBUG on
Django would show its own pages: a driver who mistypes a code must never see those.
"""

from __future__ import annotations

from collections.abc import Callable

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import render
from django.utils.translation import gettext as _

from billing.portal.policy import policy

OTHERS = ("/admin/", "/sandbox/", "/static/", "/ocpp/", "/webhooks/")  # not read by drivers


def page(request: HttpRequest, status: int, text: str = "", *, code: bool = False) -> HttpResponse:
    """Render `status`'s page saying `text`; `code` offers to type a charging point's code again."""
    answer = render(
        request,
        f"{status}.html",
        {
            "exception": text,
            "ask_code": code or request.path.startswith("/c/"),
            "back_office": request.path.startswith("/admin/"),
        },
        status=status,
    )
    answer._csp_config = policy()  # type: ignore[attr-defined]  # as csp_override does
    answer.headers["X-Robots-Tag"] = "noindex"
    answer.headers["Cache-Control"] = "no-store"
    return answer


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    """404: what the view said, never which addresses there are."""
    said = exception.args[0] if exception.args else ""
    return page(request, 404, said if isinstance(said, str) else "")


def forbidden(request: HttpRequest, exception: Exception) -> HttpResponse:
    """403."""
    return page(request, 403, str(exception))


def broken(request: HttpRequest) -> HttpResponse:
    """500: a page that looks nothing up, because that may be what failed."""
    return page(request, 500)


def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:
    """A form that was not ours, or a browser without cookies."""
    text = _("Your browser sent no cookie. Allow cookies for this site, reload it, try again.")
    return page(request, 403, text)


def unknown_addresses(
    get_response: Callable[[HttpRequest], HttpResponseBase],
) -> Callable[[HttpRequest], HttpResponseBase]:
    """Middleware: with DEBUG on, an address that nothing answers gets the driver's page too."""

    def middleware(request: HttpRequest) -> HttpResponseBase:
        answer = get_response(request)
        nobody = getattr(request, "resolver_match", None) is None
        if answer.status_code == 404 and nobody and not request.path.startswith(OTHERS):
            return page(request, 404)
        return answer

    return middleware if settings.DEBUG else get_response
