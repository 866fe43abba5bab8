"""The one road from a session to money: `settle(session)`, re-entrant, one step a state.

    open → priced → capturing → paid → invoiced        a driver paid at the charger
    open → priced → unpaid → invoiced                  a driver's token: invoiced at once
    open → priced → unpaid → (monthly) → invoiced      a house account
    open → held → …                                    a person must look; nothing is collected
    open → waived                                      nothing to pay, or not worth collecting

Every step commits before the next begins, and the network is called outside transactions. Whatever
a crash leaves undone, the next call goes on from the charge's state. Drawing: docs/states.md.
"""

from __future__ import annotations

import datetime as dt
import logging
from typing import Any

from django.core.cache import cache
from django.db import transaction
from django.db.models import F
from django.utils import timezone

from monitoring import sessions, signed
from monitoring.models import Session
from stations import journal, live
from stations.models import Token, User

from . import corrections, fairness, invoicing, ledger, payments, start, wallet
from .models import Charge, HouseAccount, Payment, Seller, Tariff
from .models.charges import ChargeState, HoldReason
from .money import money
from .ocpi import OcpiError, read_tariff
from .pricing import ENGINE, Bill, Dimension, Plan, price
from .providers.account import OnAccount
from .tariffs import snapshot_for
from .totals import Totals, total_up
from .transitions import COLLECTED
from .usage import from_json, to_json, usage_of

log = logging.getLogger(__name__)

S, Hold = ChargeState, HoldReason

# No fee for a start that came to nothing: less than 0.1 kWh in less than five minutes.
NOTHING_WH, NOTHING_S = 100, 300


LOOK_BACK = dt.timedelta(days=45)  # of the sweep: longer than any hold or outage

NO_SELLER_EVERY_S = 600


class NotNow(Exception):
    """The charge's state does not allow this; the text says what to do."""


def open_charge(session: Session) -> Charge:
    """The charge of a session; made when it starts, with the price the driver was promised.

    A driver who paid keeps the tariff shown before paying; everybody else gets the one in force on
    the station when the session began.
    """
    with transaction.atomic():
        charge, new = Charge.objects.select_for_update().get_or_create(session=session)
        if not new and charge.tariff_snapshot is not None:
            return charge
        payment = start.payment_of(session)
        tariff_id, snapshot = _promised(session, payment)
        charge.payment = payment
        charge.tariff_id = tariff_id
        charge.tariff_snapshot = snapshot
        if snapshot is not None:
            charge.currency = snapshot["currency"]
        charge.save()
        if new:
            journal.record("charge.opened", charge, station_id=session.station_id)
    return charge


def close_unless_occupancy_costs(session: Session) -> bool:
    """Close a stopped session now where nothing after its stop can cost; tell whether it was.

    An occupancy fee counts until the bay is free; without one the driver gets the bill at once,
    and a charger that never says Available holds nobody's money.
    """
    charge = open_charge(session)
    if charge.tariff_snapshot is not None:
        plan = read_tariff(charge.tariff_snapshot["ocpi"], strict=False)
        if any(Dimension.PARKING_TIME in element.components for element in plan.elements):
            return False
    return bool(sessions.close([session.pk]))


def _promised(
    session: Session, payment: Payment | None
) -> tuple[int | None, dict[str, Any] | None]:
    if payment is not None and payment.tariff_snapshot.get("ocpi"):
        known = Tariff.objects.filter(pk=payment.tariff_snapshot.get("id")).first()
        return (known.pk if known else None), payment.tariff_snapshot
    found = snapshot_for(session.station, session.started_at, driver_of(session))
    return (None, None) if found is None else (found[0].pk, found[1])


def driver_of(session: Session) -> int | None:
    """The id of the driver whose token it is, where one is known."""
    return session.token.user_id if session.token is not None else None


def settle(session_id: int) -> Charge | None:
    """Take the session's charge as far as it can go now; None while the session runs.

    Call it again whenever something changed: a session closed, a payment moved, a person decided.
    """
    session = Session.objects.select_related("station__site", "token__user").get(pk=session_id)
    charge = open_charge(session)
    for _turn in range(len(S)):
        before = charge.state
        step = STEPS.get(S(before))
        if step is None:
            break
        step(charge)
        charge.refresh_from_db()
        if charge.state == before:
            break
    return charge


def _move(charge: Charge, target: ChargeState, **changes: Any) -> bool:
    """Move the charge as it was read to `target` with `changes` and the news; False if it moved."""
    with transaction.atomic():
        moved = Charge.objects.filter(
            pk=charge.pk, state=charge.state, version=charge.version
        ).update(state=target, version=F("version") + 1, **changes)
        if not moved:
            return False
        journal.record(
            f"charge.{target}",
            charge,
            station_id=charge.session.station_id,
            **({"reason": changes["hold_reason"]} if changes.get("hold_reason") else {}),
        )
        live.touch(f"session-{charge.session_id}", f"charge-{charge.pk}")
    charge.refresh_from_db()
    return True


def _hold(charge: Charge, reason: HoldReason, note: str = "") -> None:
    _move(charge, S.HELD, hold_reason=reason, note=note)


# --- the steps ----------------------------------------------------------------------------------


def _price(charge: Charge) -> None:
    """open → priced: usage and snapshot give the price. Doubt holds it, never guesses."""
    session = charge.session
    if session.state != Session.State.CLOSED:
        return
    payment = charge.payment or start.payment_of(session)
    account, driver = _account_of(session)
    payer: dict[str, Any] = {"payment": payment, "house_account": account, "driver": driver}
    if payment is not None:
        payer |= {"house_account": None, "driver": payment.driver}
    promised: dict[str, Any] = {}
    if payment is not None and charge.payment_id is None and payment.tariff_snapshot.get("ocpi"):
        # 2.x: the session began before it said whose it was; what was shown before paying counts.
        tariff_id, snapshot = _promised(session, payment)
        promised = {"tariff_id": tariff_id, "tariff_snapshot": snapshot}
    Charge.objects.filter(pk=charge.pk).update(**payer, **promised)
    charge.refresh_from_db()
    if (doubt := _doubt(charge, payer)) is not None:
        _hold(charge, *doubt)
        return
    usage = to_json(usage_of(session))
    lower = fairness.lower_now(charge, usage)
    if lower is not None:
        promised = {"tariff": lower, "tariff_snapshot": lower.snapshot(session.station.zone.key)}
        Charge.objects.filter(pk=charge.pk).update(**promised)
        charge.refresh_from_db()
    try:
        priced = _priced(charge, usage, payment)
    except OcpiError as error:
        _hold(charge, Hold.BAD_TARIFF, str(error))
        return
    if lower is not None:
        priced["doubts"] = sorted({*priced["doubts"], fairness.OFFLINE_PRICE})
    _move(charge, S.PRICED, priced_at=timezone.now(), hold_reason="", **priced)


def _doubt(charge: Charge, payer: dict[str, Any]) -> tuple[HoldReason, str] | None:
    """Why a person must look before this session is priced, or None."""
    session, payment = charge.session, payer["payment"]
    if session.review:
        return Hold.DOUBTFUL, session.review
    if charge.tariff_snapshot is None:
        return Hold.NO_TARIFF, ""
    if not any(payer.values()):
        return Hold.NO_PAYER, session.token_uid
    if session.energy_source == Session.Source.NONE and not came_to_nothing(session):
        return Hold.NO_ENERGY, ""
    broken = next((c for c in signed.checked_of(session) if c.verdict == "invalid"), None)
    if broken is not None:
        return Hold.SIGNATURE, f"{broken.meter} {broken.pagination}: {broken.reason}".strip()
    if payment is not None and payment.currency != charge.tariff_snapshot["currency"]:
        return Hold.CURRENCY, payment.currency
    return None


def _account_of(session: Session) -> tuple[HouseAccount | None, User | None]:
    """Who the session's token belongs to: a house account, else a driver."""
    token = session.token
    if token is None and session.token_uid:  # enrolled since
        token = Token.objects.filter(uid__iexact=session.token_uid).first()
    if token is None:
        return None, None
    account = token.house_accounts.filter(is_active=True).order_by("pk").first()
    return account, None if account is not None else token.user


def came_to_nothing(session: Session) -> bool:
    if session.energy_source == Session.Source.NONE and sessions.BAD_VALUE in session.flags:
        return False  # it said a register that cannot be read: unknown is not nothing
    ended = session.stopped_at or session.closed_at or session.started_at
    return session.energy_wh < NOTHING_WH and ended - session.started_at < dt.timedelta(
        seconds=NOTHING_S
    )


def _priced(charge: Charge, usage: dict[str, Any], payment: Payment | None) -> dict[str, Any]:
    """The charge's columns from its inputs; the same inputs give the same cents, always."""
    plan, bill = replay(charge, usage)
    totals = total_up(
        plan, bill, None if payment is None else payment.hold_minor, net=rounds_net(charge, plan)
    )
    return {
        "usage": usage,
        "segments": segments_of(bill),
        "engine": ENGINE,
        "doubts": fairness.doubts_of(charge.session, usage, bill),
        **_columns(totals),
        **(_nothing(plan.currency) if came_to_nothing(charge.session) else {}),
    }


def _nothing(currency: str) -> dict[str, Any]:
    note = "Started and ended without energy: no charge."
    return {"note": note, "gross_minor": 0, "lines": [], **_amounts(0, 0, currency)}


def rounds_net(charge: Charge, plan: Plan) -> bool:
    """Whether a business charged at net prices: its document rounds nets, not the gross."""
    return charge.house_account_id is not None and charge.payment_id is None and plan.tax == "NO"


def replay(charge: Charge, usage: dict[str, Any] | None = None) -> tuple[Plan, Bill]:
    """The tariff and the exact bill from the charge's stored inputs (or from `usage`)."""
    snapshot, inputs = charge.tariff_snapshot, usage or charge.usage
    if snapshot is None or inputs is None:
        raise NotNow("This charge has not been priced.")
    plan = read_tariff(snapshot["ocpi"], strict=False)
    return plan, price(plan, from_json(inputs))


def _columns(totals: Totals) -> dict[str, Any]:
    return {
        "lines": totals.lines,
        "currency": totals.currency,
        "gross_minor": totals.gross_minor,
        **_amounts(totals.net_minor, totals.vat_minor, totals.currency),
    }


def _amounts(net_minor: int, vat_minor: int, currency: str) -> dict[str, Any]:
    return {
        "net": money(net_minor, currency),
        "vat": money(vat_minor, currency),
        "gross": money(net_minor + vat_minor, currency),
    }


def segments_of(bill: Bill) -> list[dict[str, Any]]:
    """The timeline as JSON: from, to, Wh, read or calculated, and the element a dimension."""
    return [
        {
            "from": segment.period.start.isoformat(),
            "to": segment.period.end.isoformat(),
            "wh": int(segment.period.wh),
            "read": segment.period.read,
            "kind": "charging"
            if segment.period.charging_s
            else "parking"
            if segment.period.parking_s
            else "paused",
            "elements": {
                str(name): component.element for name, component in segment.components.items()
            },
        }
        for segment in bill.segments
    ]


def _collect(charge: Charge) -> None:
    """priced → capturing, unpaid or waived."""
    if charge.payment_id is not None:
        _move(charge, S.CAPTURING)
    elif not charge.gross_minor:
        _move(charge, S.WAIVED, note=charge.note or "Nothing to pay.")
    else:
        _move(charge, S.UNPAID)


def _capture(charge: Charge) -> None:
    """capturing → paid, waived or held: ask the provider, look at what came of it."""
    payment = charge.payment
    if payment is None:
        return
    if payment.state == Payment.State.AUTHORIZED:
        payment = payments.capture(payment, charge.gross_minor or 0)
    if payment.state in COLLECTED:
        _paid(charge, payment)
    elif payment.state == Payment.State.CANCELED:
        if charge.gross_minor and payment.due_minor is None:
            _hold(charge, Hold.UNCOLLECTED, "The reservation was released before collection.")
        else:
            note = charge.note or "Less than can be collected by card: the reservation is released."
            _move(charge, S.WAIVED, note=note)
    elif payment.state in (Payment.State.CAPTURE_EXPIRED, Payment.State.WRITTEN_OFF):
        _hold(charge, Hold.UNCOLLECTED, str(payment.get_state_display()))


def _paid(charge: Charge, payment: Payment) -> None:
    """capturing → paid, with the posting. Less collected than priced: priced again at that."""
    changes: dict[str, Any] = {"paid_minor": payment.captured_minor}
    if payment.captured_minor < (charge.gross_minor or 0):
        changes |= _columns(total_up(*replay(charge), payment.captured_minor))
    if payment.provider == OnAccount.name:  # promised, not collected: it stays owed
        _move(charge, S.UNPAID, **changes | {"paid_minor": 0})
        return
    with transaction.atomic():
        if _move(charge, S.PAID, **changes):
            ledger.payment_captured(payment, ledger.customer_of(charge))


def _invoice(charge: Charge) -> None:
    """paid or unpaid → invoiced. House accounts wait for their month."""
    if charge.state == S.UNPAID and charge.house_account_id is not None:
        return
    if charge.state == S.UNPAID and charge.driver_id is not None:
        with transaction.atomic():
            moved = {"paid_minor": charge.gross_minor or 0}
            if wallet.pay(charge) and not _move(charge, S.PAID, **moved):
                transaction.set_rollback(True)  # somebody else was faster with this charge
    if not Seller.objects.filter(is_default=True).exists():
        if cache.add("no-seller", 1, NO_SELLER_EVERY_S):  # said once in a while, not per charge
            log.error("Charges wait: add a seller before invoices can be issued.")
        return
    invoicing.invoice_charge(charge)


STEPS = {
    S.OPEN: _price,
    S.PRICED: _collect,
    S.CAPTURING: _capture,
    S.PAID: _invoice,
    S.UNPAID: _invoice,
}


# --- what people decide -------------------------------------------------------------------------


def resume(charge: Charge, *, tariff: Tariff | None = None) -> Charge:
    """Release a held charge and settle it: with a tariff a person chose, or what is there by now
    (a tariff that covers the session's start, an owner of the token)."""
    if charge.state != S.HELD:
        raise NotNow("Only a held charge can be released.")
    changes: dict[str, Any] = {}
    session = charge.session
    if tariff is None and charge.tariff_snapshot is None:
        tariff = Tariff.objects.all().in_force(
            session.station, session.started_at, driver_of(session)
        )
    if tariff is not None:
        Tariff.objects.filter(pk=tariff.pk, first_used_at__isnull=True).update(
            first_used_at=timezone.now()
        )
        zone = session.station.zone.key
        changes |= {"tariff": tariff, "tariff_snapshot": tariff.snapshot(zone)}
        changes |= {"currency": tariff.currency}
    target = S.CAPTURING if charge.hold_reason == Hold.UNCOLLECTED else S.OPEN
    _move(charge, target, hold_reason="", **changes)
    return settle(charge.session_id) or charge


def waive(charge: Charge, note: str) -> Charge:
    """Let the driver off; a reservation is released. Raises `NotNow` once money has moved."""
    if not note.strip():
        raise NotNow("Say why nothing is charged.")
    if charge.state not in (S.HELD, S.UNPAID, S.OPEN):
        raise NotNow("Money has moved already: refund the payment instead.")
    if charge.payment is not None and charge.payment.state == Payment.State.AUTHORIZED:
        payments.capture(charge.payment, 0)
    _move(charge, S.WAIVED, note=note, hold_reason="")
    return charge


def correct(session: Session) -> Charge | None:
    """The energy of an ended session turned out to be another (a late stop, a repaired clock).

    A bill that was issued is taken back by a credit note and issued anew; what was paid too much is
    refunded. More than was billed counts only where the bill said that it is provisional, within
    30 days, and nothing was collected by card: a final price stays final.
    """
    charge = Charge.objects.select_related("session", "invoice", "payment").get(session=session)
    if charge.state == S.HELD and charge.hold_reason in (Hold.NO_ENERGY, Hold.DOUBTFUL):
        return resume(charge) if not session.review else charge
    if charge.state == S.OPEN or charge.usage is None:
        return settle(session.pk)
    if session.review:  # the new figures contradict each other: a person looks first
        return charge
    usage = to_json(usage_of(session))
    priced = _priced(charge, usage, charge.payment)
    if charge.state == S.UNPAID and charge.invoice is None:
        _move_within(charge, **priced)
    elif charge.state == S.INVOICED and charge.invoice is not None:
        corrections.rebill(charge, priced, "Meter reading corrected")
        corrections.give_back(charge, "Meter reading corrected")
        charge.refresh_from_db()
    return charge


def _move_within(charge: Charge, **changes: Any) -> None:
    """Change a charge as it was read, in its state; nothing where it has moved meanwhile."""
    with transaction.atomic():
        if Charge.objects.filter(pk=charge.pk, state=charge.state, version=charge.version).update(
            version=F("version") + 1, **changes
        ):
            journal.record("charge.repriced", charge, station_id=charge.session.station_id)
    charge.refresh_from_db()


def unsettled() -> list[int]:
    """Sessions whose charge should have moved on: what a crash or an outage left."""
    now = timezone.now()
    closed = Session.objects.filter(
        state=Session.State.CLOSED,
        closed_at__lt=now - dt.timedelta(minutes=1),
        started_at__gt=now - LOOK_BACK,
    )
    missing = closed.filter(charge__isnull=True).order_by("pk").values_list("pk", flat=True)[:200]
    stuck = (
        closed.filter(charge__state__in=[S.OPEN, S.PRICED, S.CAPTURING, S.PAID])
        .order_by("pk")
        .values_list("pk", flat=True)[:200]
    )
    driver = (
        closed.filter(charge__state=S.UNPAID, charge__house_account__isnull=True)
        .order_by("pk")
        .values_list("pk", flat=True)[:200]
    )
    return [*missing, *stuck, *driver]
