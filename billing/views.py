"""The door for a provider's webhooks: verify, write down, answer. The work is done in a task."""

from __future__ import annotations

import json
import logging
import time

import stripe
from django.core.cache import cache
from django.db import DatabaseError
from django.http import HttpRequest, HttpResponse, HttpResponseBadRequest
from django.utils.translation import gettext as _
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

from billing import webhooks
from billing.providers.stripe import configuration
from monitoring import incidents
from monitoring.models import Severity

log = logging.getLogger(__name__)

TOLERANCE_S = 300
WATCHED_S, WRONG_BEFORE_TOLD = 600, 5


@csrf_exempt
@require_POST
def stripe_webhook(request: HttpRequest) -> HttpResponse:
    """`POST /webhooks/stripe/`: 2xx once the event is on disk, 400 for what is not Stripe's.

    The SDK checks the signature over the raw bytes and refuses old time stamps, not future ones:
    that is done here. A replay within the tolerance meets the event's primary key.
    """
    conf = configuration()
    if conf is None:
        return HttpResponseBadRequest("No payment provider is configured.")
    header = request.headers.get("Stripe-Signature", "")
    if not any(_signed(request.body, header, secret) for secret in conf.webhook_secrets):
        log.warning("A webhook with a wrong signature from %s", request.META.get("REMOTE_ADDR"))
        _count_wrong()
        return HttpResponseBadRequest("The signature does not fit.")
    try:
        event = json.loads(request.body)
        if event["livemode"] != conf.livemode:
            return HttpResponseBadRequest("This event is of the other mode (live or test).")
        webhooks.keep(event)
    except (KeyError, TypeError, ValueError):
        return HttpResponseBadRequest("This is not an event.")
    except DatabaseError:
        log.exception("An event could not be kept; Stripe will send it again.")
        return HttpResponse(status=503)
    return HttpResponse(status=204)


def _count_wrong() -> None:
    """Tell people of the fifth wrong signature in ten minutes: was the secret changed at Stripe?"""
    key = "webhooks-with-a-wrong-signature"
    cache.add(key, 0, WATCHED_S)
    try:
        many = cache.incr(key) == WRONG_BEFORE_TOLD
    except ValueError:  # forgotten in between
        return
    if many:
        incidents.raise_(
            "payment-webhook-signature",
            _("Webhooks come with a wrong signature: was the secret changed at Stripe?"),
            severity=Severity.WARN,
        )


def _signed(body: bytes, header: str, secret: str) -> bool:
    try:
        stripe.WebhookSignature.verify_header(body, header, secret, TOLERANCE_S)
        stamp = next(part[2:] for part in header.split(",") if part.startswith("t="))
        return int(stamp) <= time.time() + TOLERANCE_S
    except (stripe.SignatureVerificationError, UnicodeDecodeError, StopIteration, ValueError):
        return False
