"""The sandbox inside our own web process, so that `make run` needs no second one.

Mounted by `config/urls.py` only with `settings.PAYMENT_SANDBOX`; every view asks again.
"""

from __future__ import annotations

import hmac
import json
from functools import cache
from typing import Any

from django.conf import settings
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.csrf import csrf_exempt

from billing import sandbox
from billing.providers import stripe as provider
from billing.sandbox import control
from billing.sandbox.engine import Sandbox
from billing.sandbox.errors import ApiError


@cache
def box() -> Sandbox:
    """This process's door to the sandbox, opened at the first request."""
    conf = provider.required()
    return Sandbox(
        settings.VAR_DIR / "sandbox.sqlite3",
        webhook_secret=conf.webhook_secrets[0],
        secret_key=conf.api_key,
        webhook_url=f"http://127.0.0.1:{settings.PORT}/webhooks/stripe/",
    )


@csrf_exempt
def api(request: HttpRequest, path: str) -> HttpResponse:
    """Stripe's API under `/sandbox/stripe/v1/…`."""
    sandbox.require()
    verb = request.method or "GET"
    form = request.body.decode() if verb == "POST" else request.META.get("QUERY_STRING", "")
    reply = box().handle(verb, f"/v1/{path}", request.headers, form)
    if reply.lost:
        # Less content than promised: the server breaks the connection, as a lost reply does.
        return HttpResponse(b"", headers={"Content-Length": "1"})
    response = JsonResponse(reply.body, status=reply.status)
    for name, value in reply.headers.items():
        response[name] = value
    return response


@csrf_exempt
def door(request: HttpRequest, action: str) -> HttpResponse:
    """The control door: `POST /sandbox/stripe/_control/<action>/` with a JSON object.

    Only for the holder of the sandbox's secret key, except for what a driver does himself: passing
    the bank's 3-D Secure page.
    """
    sandbox.require()
    if request.method != "POST" or action not in control.ACTIONS:
        raise Http404
    key = request.headers.get("Authorization", "").removeprefix("Bearer ")
    if action != "authenticate" and not hmac.compare_digest(key, provider.required().api_key):
        return JsonResponse({"error": "The control door wants the secret key."}, status=401)
    try:
        arguments: dict[str, Any] = json.loads(request.body or b"{}")
        return JsonResponse(control.ACTIONS[action](box(), **arguments))
    except (TypeError, ValueError) as error:
        return JsonResponse({"error": str(error)}, status=400)
    except ApiError as error:
        return JsonResponse({"error": error.body}, status=error.status)
