"""From a reserved amount to a running session: remote start, its deadline, the cap.

A payment's remote start carries a token of its own (2.x type Central, 1.6 an idTag of 19
characters), so the session that begins with it belongs to this payment and to no other. In 2.x the
remoteStartId says the same; it is asked for only in the first event (2.0.1 part 2, F01.FR.25).
"""

from __future__ import annotations

import base64
import datetime as dt
import logging
import uuid

from django.db import transaction
from django.utils import timezone

from billing.models import Payment
from billing.models.payments import HOLDS_CONNECTOR
from billing.models.payments import PaymentState as State
from billing.transitions import Stale, alert, note
from monitoring.models import Session
from stations import commands
from stations.models import Command, Token

log = logging.getLogger(__name__)

PREFIX = "PAY"  # of payments' tokens
KEEP_TOKENS = dt.timedelta(days=30)
PRUNED_AT_ONCE = 5000
START_WITHIN = dt.timedelta(minutes=4)  # from the reservation to the session's first message


def token_uid(payment_id: uuid.UUID) -> str:
    """The payment's token: 19 characters of 1.6's 20, 80 bits of the payment's own id."""
    return PREFIX + base64.b32encode(payment_id.bytes[-10:]).decode()


def remote_start_id(payment_id: uuid.UUID) -> int:
    """A positive 31-bit number of the payment's own."""
    return payment_id.int >> 97


def order(payment: Payment) -> dict[str, object]:
    """Queue the remote start, in the caller's transaction; the fields to set on the payment."""
    uid = token_uid(payment.pk)
    deadline = timezone.now() + START_WITHIN
    Token.objects.get_or_create(
        uid=uid,
        defaults={
            "type": Token.Type.CENTRAL,
            "user": payment.driver,
            "label": f"Payment {str(payment.pk)[:8]}",
            "expires_at": deadline + START_WITHIN,
            "max_sessions": 1,
        },
    )
    command = commands.send(
        payment.connector.station,
        "remote_start",
        subject=f"payment-{payment.pk}",
        evse=payment.connector.evse.number,
        token_uid=uid,
        token_type=Token.Type.CENTRAL.value,
        remote_start_id=remote_start_id(payment.pk),
    )
    return {"start_token": uid, "start_command": command, "deadline_at": deadline}


def withdraw(payment: Payment) -> None:
    """The start is off: an unsent order is taken back and the token opens nothing any more."""
    if payment.start_token:
        Token.objects.filter(uid=payment.start_token).update(status=Token.Status.BLOCKED)
    if payment.start_command_id:
        Command.objects.filter(pk=payment.start_command_id, status=Command.Status.QUEUED).update(
            status=Command.Status.CANCELED, answered_at=timezone.now()
        )


def prune_tokens(now: dt.datetime) -> int:
    """Delete payments' tokens that expired a month ago and open nothing; how many there were.

    The session keeps the token's text, so nothing that was charged is forgotten.
    """
    old = Token.objects.filter(
        type=Token.Type.CENTRAL, uid__startswith=PREFIX, expires_at__lt=now - KEEP_TOKENS
    )
    may_start = (*HOLDS_CONNECTOR, State.FAILED)
    open_payments = Payment.objects.filter(state__in=may_start, start_token__isnull=False)
    running = Session.objects.exclude(state=Session.State.CLOSED).filter(token__isnull=False)
    unneeded = old.exclude(uid__in=open_payments.values("start_token")).exclude(
        pk__in=running.values("token")
    )
    gone = list(unneeded.values_list("pk", flat=True)[:PRUNED_AT_ONCE])
    Token.objects.filter(pk__in=gone).delete()
    return len(gone)


def payment_of(session: Session) -> Payment | None:
    """The payment this session began with, bound to it now if it was not yet.

    A session that began after its payment was given up is stopped: nobody would pay for it.
    """
    bound = Payment.objects.filter(session=session).first()
    if bound is not None:
        return bound
    payment = _claimant(session)
    if payment is None or payment.session_id is not None:
        return None
    try:
        if payment.state == State.AUTHORIZED:
            note(
                payment,
                "session started",
                detail={"session": session.pk, "ref": session.ref},
                session=session,
                deadline_at=None,
            )
            return payment
    except Stale:
        return payment_of(session)
    _stop_unpaid(payment, session)
    return None


def _claimant(session: Session) -> Payment | None:
    payments = Payment.objects.select_related("connector__station", "connector__evse")
    if session.token_uid:
        found = payments.filter(
            start_token__iexact=session.token_uid, connector__station=session.station_id
        ).first()
        if found is not None:
            return found
    if session.remote_start_id is None:
        return None
    recent = payments.filter(
        connector__station=session.station_id,
        start_token__isnull=False,
        created_at__gte=timezone.now() - dt.timedelta(days=1),
    )
    return next((p for p in recent if remote_start_id(p.pk) == session.remote_start_id), None)


def _stop_unpaid(payment: Payment, session: Session) -> None:
    alert(payment, "session_after_release", session=session.pk)
    if session.state == Session.State.ACTIVE:
        stop(payment, session, "released before the start")


def stop(payment: Payment, session: Session, why: str) -> Command | None:
    """Order the session's end, once for each reason; None when that was done before."""
    event = f"stop: {why}"
    with transaction.atomic():
        if payment.transitions.filter(event=event).exists():
            return None
        command = commands.send(
            session.station, "remote_stop", subject=f"payment-{payment.pk}", ref=session.ref
        )
        payment.transitions.create(
            from_state=payment.state,
            to_state=payment.state,
            event=event,
            detail={"session": session.pk, "command": command.pk},
        )
    return command
