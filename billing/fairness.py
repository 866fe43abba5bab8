"""Doubt favours the driver: which doubts a bill was decided under, and what each says on it.

The rules themselves stand where they act (`pricing`, `usage`, `monitoring.metering`), and all of
them in docs/billing.md. A code ends up in `Charge.doubts` and in the document's snapshot; its
sentence is shown to the driver on invoice and receipt.
"""

from __future__ import annotations

import datetime as dt
from typing import Any

from django.utils.translation import gettext as _

from monitoring import metering
from monitoring.bays import NO_STOP
from monitoring.models import Session

from .models import Charge, Tariff
from .ocpi import OcpiError, read_tariff
from .pricing import Bill, price
from .usage import from_json

PROVISIONAL = "provisional"
OFFLINE_PRICE = "offline_price"
LATE_S = 600  # a start heard so much later was queued while the charger was offline

# Words of the session's own flags that decide what is billed, and the doubt they are on the bill.
OF_FLAGS = {
    NO_STOP: PROVISIONAL,
    metering.FALLING: "falling",
    metering.NEGATIVE: "negative",
    metering.NO_BEGIN: "no_begin",
}


def sentence(code: str) -> str:
    """What a doubt means for the driver, in the language in force; empty for an unknown code."""
    return {
        "power_unknown": _("The charger did not report its power. You pay the lower price."),
        "reading_gap": _(
            "The price changed between two meter readings far apart. "
            "You pay the lower price for all of that time."
        ),
        "clock_corrected": _("The charger's clock was wrong. The times are corrected."),
        "clock_unverified": _(
            "The charger's clock could not be verified. "
            "You pay the lowest price of any time of day and week."
        ),
        OFFLINE_PRICE: _("The charger was offline while the price changed. You pay the lower one."),
        PROVISIONAL: _(
            "The end of charging was not reported. You pay what the last meter reading proves. "
            "A report within 30 days corrects this bill."
        ),
        "falling": _("The meter ran backwards. What it counted after that is not charged."),
        "negative": _("The last meter value is below the first. You pay what readings prove."),
        "no_begin": _("The first meter value was not reported. You pay from the first reading on."),
    }.get(code, "")


def doubts_of(session: Session, usage: dict[str, Any], bill: Bill) -> list[str]:
    """Every doubt the bill was decided under, as codes, in a fixed order."""
    found = {*usage.get("doubts", ()), *bill.doubts}
    found |= {code for flag, code in OF_FLAGS.items() if flag in session.flags}
    if session.energy_source == Session.Source.PROVISIONAL:
        found.add(PROVISIONAL)
    return sorted(found)


def queued(session: Session) -> bool:
    """Whether the session began while we could not tell the driver the price of the moment."""
    waited = session.started_received_at - session.started_at
    return session.offline or waited > dt.timedelta(seconds=LATE_S)


def lower_now(charge: Charge, usage: dict[str, Any]) -> Tariff | None:
    """Authorised offline: the tariff in force when we heard of it, if it makes the bill smaller."""
    session = charge.session
    if charge.payment_id is not None or charge.tariff_snapshot is None or not queued(session):
        return None
    driver = session.token.user_id if session.token is not None else None
    now = Tariff.objects.all().in_force(session.station, session.started_received_at, driver)
    if now is None or now.pk == charge.tariff_id or now.currency != charge.currency:
        return None
    inputs = from_json(usage)
    try:
        shown, current = (
            price(read_tariff(ocpi, strict=False), inputs).after
            for ocpi in (charge.tariff_snapshot["ocpi"], now.ocpi)
        )
    except OcpiError:
        return None
    return now if current < shown else None
