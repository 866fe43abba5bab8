"""Doubtful sessions wait for a person: this is how one is released to its bill."""

from django.db import transaction

from monitoring.models import Session
from stations import journal, live


def release(session: Session) -> bool:
    """Say that a person has looked; False when somebody else already did.

    The session goes on like any other: who settles it reacts to `session.reviewed`.
    """
    with transaction.atomic():
        done = Session.objects.filter(pk=session.pk).exclude(review="").update(review="")
        if done:
            journal.record("session.reviewed", session, reason=session.review)
            live.touch(f"session-{session.pk}", f"station-{session.station_id}")
    return bool(done)
