"""The cap: a session ends before it costs more than the driver let us reserve."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from django.utils import timezone

from billing import caps, payments, tariffs
from billing.models import Payment
from billing.sandbox import control
from billing.sandbox.engine import Sandbox
from monitoring.models import Session
from stations.models import Command
from tests import paying

pytestmark = pytest.mark.django_db

TARIFF: dict[str, Any] = {
    "country_code": "DE", "party_id": "ABC", "id": "per-kwh", "currency": "EUR",
    "tax_included": "YES", "last_updated": "2026-01-01T00:00:00Z",
    "elements": [
        {"price_components": [{"type": "ENERGY", "price": 0.50, "vat": 19, "step_size": 1}]}
    ],
}  # fmt: skip


def charging(box: Sandbox, kwh: float, hold_minor: int = 1000) -> tuple[Payment, Session]:
    """A payment of 10 EUR whose session has taken `kwh` at 0.50 EUR."""
    connector = paying.connector()
    tariffs.publish(TARIFF)
    tariffs.assign("per-kwh", None)
    begun = paying.begin(connector, hold_minor, tariff_snapshot=None)
    control.pay(box, paying.intent_of(begun.payment))
    payment = payments.returned(begun.payment)
    session = paying.session_of(
        payment, started_at=timezone.now() - dt.timedelta(minutes=10),
        energy_wh=round(kwh * 1000), meter_start_mwh=0,
        last_register_mwh=round(kwh * 1_000_000), meter_stop_mwh=None,
    )  # fmt: skip
    return payment, session


def test_a_session_runs_on_below_its_cap(box: Sandbox) -> None:
    payment, _session = charging(box, kwh=18.3)
    totals = caps.totals_so_far(payment)
    assert totals is not None
    assert totals.gross_minor == 915
    assert caps.watch() == 0


def test_a_session_at_its_cap_is_stopped_once(box: Sandbox) -> None:
    payment, session = charging(box, kwh=18.4)
    assert caps.watch() == 1
    assert caps.watch() == 0
    command = Command.objects.get(name="remote_stop")
    assert (command.args["ref"], command.subject) == (session.ref, f"payment-{payment.pk}")


def test_what_is_shown_is_never_above_the_cap(box: Sandbox) -> None:
    payment, _session = charging(box, kwh=30)
    shown, true = caps.totals_so_far(payment), caps.totals_so_far(payment, capped=False)
    assert shown is not None
    assert true is not None
    assert (shown.gross_minor, true.gross_minor) == (1000, 1500)
