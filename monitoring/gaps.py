"""Gaps in what a 2.x station told of a transaction: ask it, and close what it knows no more (E14).

A missing sequence number means that an event is still on its way, or lost. While the station says
that messages of the transaction wait in its queue, so do we. When it has none left the gap stays
for ever: the session is marked `lost-events`, and where even its end was lost it is closed like any
without a stop.
"""

from datetime import datetime, timedelta
from typing import Any, Final

from django.db import transaction
from django.db.models import Exists, OuterRef, Q, TextField, Value
from django.db.models.functions import Cast, Concat
from django.utils import timezone

from monitoring import rows
from monitoring.models import Session
from monitoring.sessions import NAMELESS, NO_START
from stations import commands
from stations.models import Command, Station

ASK: Final = "get_transaction_status"
GAP: Final = "seq-gap"
LOST: Final = "lost-events"
QUIET_FOR: Final = timedelta(minutes=2)  # a queue that is drained fills its gaps by itself
ASK_AGAIN: Final = timedelta(minutes=15)
GIVE_UP: Final = timedelta(days=2)
AT_ONCE: Final = 100


def tick(now: datetime | None = None) -> int:
    """Ask connected stations about transactions with an open gap; return how many."""
    now = now or timezone.now()
    asked = Command.objects.filter(
        station=OuterRef("station"),
        name=ASK,
        subject=Concat(Value("session-"), Cast(OuterRef("pk"), TextField())),
        created_at__gt=now - ASK_AGAIN,
    )
    gaps = (
        Session.objects.annotate(words=Cast("flags", TextField()))
        .filter(
            Q(words__contains=GAP) | Q(words__contains=NO_START),
            started_received_at__gt=now - GIVE_UP,
            started_received_at__lt=now - QUIET_FOR,
            number=None,
            natural_key=None,
            station__connected=True,
            station__state=Station.State.ACCEPTED,
            station__version__in=(Station.Version.V201, Station.Version.V21),
        )
        .exclude(words__contains=LOST)
        .exclude(ref__startswith=NAMELESS)
        .filter(~Exists(asked))
        .select_related("station")
        .order_by("pk")
    )
    found = list(gaps[:AT_ONCE])
    for session in found:
        commands.send(session.station, ASK, subject=f"session-{session.pk}", ref=session.ref)
    return len(found)


def answered(command: Command) -> None:
    """Take the station's word about a transaction: nothing waits, then nothing more will come."""
    answer: dict[str, Any] = command.response if isinstance(command.response, dict) else {}
    if command.status != Command.Status.ACCEPTED or answer.get("messagesInQueue") is not False:
        return
    session_id = int(command.subject.removeprefix("session-"))
    with transaction.atomic():
        row = rows.by_id([session_id]).get(session_id)
        if row is None or not {GAP, NO_START}.intersection(row.flags):
            return  # filled meanwhile
        row.flag(LOST)
        ended = answer.get("ongoingIndicator") is False
        if ended and row.state == Session.State.ACTIVE and row.close_by is None:
            row.close_by = timezone.now()  # the sweep ends it at its last reading
        rows.save([row])
