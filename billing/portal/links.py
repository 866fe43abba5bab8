"""The portal's unguessable links: what shows a live session, what stops it, what opens a receipt.

Only hashes are stored. The receipt's token is derived from the payment with the project's secret,
so that a mail sent months later can carry the same link without the token being kept anywhere.
"""

import datetime as dt
import hashlib
import hmac
from base64 import urlsafe_b64encode

from django.conf import settings
from django.urls import reverse
from django.utils import timezone

from billing import payments
from billing.models import Payment
from stations.models import Connector

RECEIPT_FOR = dt.timedelta(days=90)


def connector_of(code: str) -> Connector | None:
    """Return the connector whose QR code this is; codes are read without regard to case."""
    return (
        Connector.objects.select_related("station__site", "evse")
        .filter(code=code.strip().upper())
        .first()
    )


def topic_of_code(code: str) -> str | None:
    """Return the bus topic that `c:<code>` opens: the connector's."""
    pk = Connector.objects.filter(code=code.strip().upper()).values_list("pk", flat=True).first()
    return None if pk is None else f"connector-{pk}"


def topic_of_live(token: str) -> str | None:
    """Return the bus topic that `s:<token>` opens: the payment's, which its session touches too."""
    payment = payments.by_live_token(token)
    return None if payment is None else f"payment-{payment.pk}"


def topic_of_session(token: str) -> str | None:
    """Return the bus topic of the session behind a live token (`ss:<token>`)."""
    payment = payments.by_live_token(token)
    return None if payment is None or not payment.session_id else f"session-{payment.session_id}"


def stop_key(payment: Payment) -> str:
    """Return the key that may stop and cancel: only the browser that paid is given it.

    Derived, like the receipt's token, so that nothing that could be stolen is stored.
    """
    digest = hmac.new(
        settings.SECRET_KEY.encode(), f"stop:{payment.pk}".encode(), hashlib.sha256
    ).digest()
    return urlsafe_b64encode(digest[:24]).decode()


def cookie_name(payment: Payment) -> str:
    """Return the name of the cookie that leads back from the QR code, and may stop."""
    return f"session-{payment.connector.code}"


def cookie_value(payment: Payment, live_token: str) -> str:
    """Return what the paying browser keeps: the live page's token and the key to stop."""
    return f"{live_token}.{stop_key(payment)}"


def opens(payment: Payment, key: str) -> bool:
    """Whether this is the payment's key to stop."""
    return hmac.compare_digest(stop_key(payment).encode(), key.encode())


def receipt_token(payment: Payment) -> str:
    """Return the token of the payment's receipt, valid 90 days from the first time it is asked."""
    digest = hmac.new(
        settings.SECRET_KEY.encode(), f"receipt:{payment.pk}".encode(), hashlib.sha256
    ).digest()
    token = urlsafe_b64encode(digest[:24]).decode()
    if payment.receipt_hash is None:
        Payment.objects.filter(pk=payment.pk, receipt_hash=None).update(
            receipt_hash=payments.token_hash(token), receipt_until=timezone.now() + RECEIPT_FOR
        )
    return token


def receipt_url(payment: Payment) -> str:
    """Return the full address of the payment's receipt."""
    return str(settings.PUBLIC_URL) + reverse("portal-receipt", args=[receipt_token(payment)])


def by_receipt_token(token: str) -> Payment | None:
    """Return the payment whose /r/<token> this is, while the link is valid."""
    return (
        Payment.objects.select_related("session__station__site", "connector__evse", "charge")
        .filter(receipt_hash=payments.token_hash(token), receipt_until__gt=timezone.now())
        .first()
    )
