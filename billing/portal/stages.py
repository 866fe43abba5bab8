"""What a driver sees of a payment: one stage, from the states of payment and session."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field
from typing import Any

from django.utils import timezone
from django.utils.formats import number_format
from django.utils.translation import gettext as _

from billing.caps import totals_so_far
from billing.models import Payment
from billing.models.payments import PaymentState as State
from billing.portal.prices import duration_text, money_text
from billing.settlement import came_to_nothing
from monitoring.models import Session

STALE_S = 180  # older than this, the last meter value is called old


@dataclass(frozen=True, slots=True)
class Stage:
    """One screen: its name, headline and sentence, and which buttons it has."""

    name: str  # paying, declined, starting, charging, unplug, billing, done, released, trouble
    title: str
    text: str
    may_cancel: bool = False
    may_stop: bool = False
    final: bool = False
    metrics: dict[str, Any] = field(default_factory=dict)


def stage_of(payment: Payment) -> Stage:
    """Return the stage of a payment now. Reads the session's readings only while it runs."""
    state, session = payment.state, payment.session
    hold = money_text(payment.hold_minor, payment.currency)
    if state in (State.CREATED, State.AUTHORIZING, State.REQUIRES_ACTION):
        text = _("Your bank has to confirm the reservation of %(hold)s.") % {"hold": hold}
        return Stage("paying", _("Waiting for your payment"), text, may_cancel=True)
    if state == State.FAILED:
        text = _("The payment was declined. Nothing was reserved. You can try another card.")
        return Stage("declined", _("Payment declined"), text, may_cancel=True)
    if state == State.AUTHORIZED:
        return _authorized(payment, session, hold)
    if state in (State.CANCELING, State.CANCELED):
        return _released(payment, hold)
    if state in (State.CAPTURING, State.CAPTURE_FAILED):
        title, text = _("Making out your bill"), _("This takes a few seconds.")
        return Stage("billing", title, text, metrics=metrics(payment))
    if state in (State.CAPTURE_EXPIRED, State.COLLECTING, State.WRITTEN_OFF):
        title = _("We could not collect this payment")
        return Stage("trouble", title, _("You do not have to do anything."), final=True)
    paid = money_text(payment.captured_minor - payment.refunded_minor, payment.currency)
    text = _("You paid %(paid)s. The rest of the %(hold)s is free again; your bank may take days.")
    return Stage(
        "done",
        _("Thank you"),
        text % {"paid": paid, "hold": hold},
        final=True,
        metrics=metrics(payment),
    )


def _authorized(payment: Payment, session: Session | None, hold: str) -> Stage:
    if session is None:
        text = _("%(hold)s are reserved. Plug in the cable now if you have not yet.")
        return Stage("starting", _("Starting…"), text % {"hold": hold}, may_cancel=True)
    seen = metrics(payment)
    if session.stopped_at is None:
        power = session.power_w or 0
        title = _("Charging") if power > 50 or not session.last_reading_at else _("Plugged in")
        if session.charging_state == "SuspendedEVSE":
            title = _("The station pauses charging")
        elif session.charging_state == "SuspendedEV":
            title = _("Your vehicle takes no power")
        text = _("You pay at most %(hold)s; then charging stops by itself.") % {"hold": hold}
        return Stage("charging", title, text, may_stop=True, metrics=seen)
    if session.closed_at is None:
        text = _("Please unplug and free the bay. The bill follows at once.")
        return Stage("unplug", _("Charging has ended"), text, metrics=seen)
    text = _("This takes a few seconds.")
    return Stage("billing", _("Making out your bill"), text, metrics=seen)


def _released(payment: Payment, hold: str) -> Stage:
    if payment.session is not None:
        text = why_nothing(payment) + " "
        text += _("Nothing is collected. The %(hold)s are released; your bank may take some days.")
        title = _("No charge")
        seen = metrics(payment) | {"cost": money_text(0, payment.currency)}
        return Stage("done", title, text % {"hold": hold}, final=True, metrics=seen)
    text = _("The station did not start. The %(hold)s are released; your bank may take some days.")
    if payment.start_command_id is None:
        text = _("Nothing was reserved or collected.")
    elif payment.transitions.filter(event="cancel: driver").exists():  # no fault of the station's
        text = _("Nothing is collected. The %(hold)s are released; your bank may take some days.")
    return Stage("released", _("No charging session"), text % {"hold": hold}, final=True)


def why_nothing(payment: Payment) -> str:
    """Say why a session that took place costs nothing."""
    session, due = payment.session, payment.due_minor or 0
    if session is not None and session.energy_wh <= 0 and due == 0:
        return _("No electricity flowed.")
    if session is not None and came_to_nothing(session):
        return _("The session ended before it had properly begun, so it is not charged.")
    if due:
        small = money_text(due, payment.currency)
        return _("The session cost %(due)s: too little to collect by card.") % {"due": small}
    charge = getattr(payment, "charge", None)
    if charge is not None and charge.gross_minor:
        return _("We do not charge you for this session.")
    if payment.due_minor == 0:
        return _("By the tariff this session costs nothing.")
    return _("The reservation ended before the session had a price.")


def metrics(payment: Payment) -> dict[str, Any]:
    """Return what a session shows: kWh, kW, time, cost so far with VAT, share of the cap."""
    session = payment.session
    if session is None:
        return {}
    end = session.stopped_at or timezone.now()
    cost_minor = cost_so_far(payment)
    last = session.last_reading_at
    return {
        "kwh": number_format(round(session.energy_wh / 1000, 2), 2),
        "kw": number_format(round(max(session.power_w or 0, 0) / 1000, 1), 1)
        if session.stopped_at is None
        else None,
        "time": duration_text(max(0, int((end - session.started_at).total_seconds()))),
        "cost": money_text(cost_minor, payment.currency),
        "share": min(100, 100 * cost_minor // payment.hold_minor) if payment.hold_minor else 0,
        "soc": None if session.soc_percent is None else round(session.soc_percent),
        "last": last,
        "stale": session.stopped_at is None
        and last is not None
        and timezone.now() - last > dt.timedelta(seconds=STALE_S),
        "offline": session.stopped_at is None and not session.station.connected,
    }


def cost_so_far(payment: Payment) -> int:
    """Return the cost of the payment's session up to now in minor units, taxes included."""
    charge = getattr(payment, "charge", None)
    if charge is not None and charge.gross_minor is not None:
        return int(charge.gross_minor)
    totals = totals_so_far(payment)
    return totals.gross_minor if totals else 0
