"""The stand-in for Stripe: answers exactly the calls we make, as Stripe does, on loopback.

It is driven by the official SDK over HTTP, keeps its books in one SQLite file (a killed process
forgets nothing) and has a control door for what goes wrong in life: lost replies, 500 after the
commit, 429, clock jumps, expiring holds, dropped, doubled and shuffled webhooks, disputes.

It serves tests, the demo and development on this machine. It refuses everything else: see
`require`.

    engine.py            one request in, one reply out: keys, idempotency, faults, routing
    payment_intents.py   authorize, confirm, 3-D Secure, capture, cancel, increment, expiry
    refunds.py           refunds, charges, disputes
    methods.py           payment methods, customers, setup intents
    cards.py             the test cards and what each does
    events.py            events and their signed delivery to our webhook
    control.py           the control door
    validation.py        requests checked against the installed SDK's own parameter types
    store.py             the SQLite file
    server.py            the sandbox on a port of its own (tests, tools)
    views.py  urls.py    the sandbox inside our own web process
"""

from __future__ import annotations

from django.conf import settings


class SandboxRefused(RuntimeError):
    """The sandbox was asked to serve outside tests, the demo, or development on loopback."""


def require() -> None:
    """Raise `SandboxRefused` unless `settings.PAYMENT_SANDBOX`. Called at every way in.

    The setting is true only with DEBUG, a PUBLIC_URL on loopback and no Stripe key.
    """
    if not settings.PAYMENT_SANDBOX:
        raise SandboxRefused(
            "The payment sandbox serves only tests, the demo, and DEBUG with a PUBLIC_URL on "
            "127.0.0.1. Set STRIPE_API_KEY to take real payments."
        )
