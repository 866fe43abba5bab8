"""Middleware of the project."""

from collections.abc import Callable

from django.http import HttpRequest, HttpResponse

from stations import journal


def acting_user(
    get_response: Callable[[HttpRequest], HttpResponse],
) -> Callable[[HttpRequest], HttpResponse]:
    """Journal entries written during a request carry its signed-in user."""

    def middleware(request: HttpRequest) -> HttpResponse:
        user = request.user if request.user.is_authenticated else None
        with journal.acting_as(user):
            return get_response(request)

    return middleware
