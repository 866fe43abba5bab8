"""Changing a station's password so that nobody is locked out, and what a connection proved.

A new password is ordered like any other thing (`rotate_password`; 1.6 and 2.x A01). Once the
station accepted it, it is on trial: the old one stays valid beside it. The first connection with
the new one makes it the password. One with the old one, or none by the deadline, is a rollback:
the old one stays what it was. The new one is kept as a spare even then, until the next change: a
station that applies it only after its next restart would be locked out for good.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from django.db import transaction
from django.utils import timezone

from stations import journal, live, security
from stations.models import Station

if TYPE_CHECKING:
    from stations.presence import Admitted

TRIAL: Final = timedelta(minutes=10)


def accepted(station_id: int, password: str) -> None:
    """The station took a new password, or may have: on trial until it connects with that one."""
    until = timezone.now() + TRIAL
    Station.objects.filter(pk=station_id).update(
        next_password_hash=security.hash_password(password), next_password_until=until
    )
    journal.record(
        "password.on_trial", f"station-{station_id}", station_id=station_id, until=until.isoformat()
    )
    live.touch(f"station-{station_id}")


def came_with(admitted: Admitted, profile: int, which: int) -> None:
    """Note what a connection proved: its profile, and which password it used (1: the new one)."""
    changes: dict[str, object] = {}
    if admitted.connected_profile != profile:
        changes["connected_profile"] = profile
    raised = admitted.security_locked and profile > admitted.security_profile
    if raised:
        changes["security_profile"] = profile
    tried = (admitted.on_trial and which == 0) or which == 1
    if tried:
        changes["next_password_until"] = None
    if which == 1:
        changes |= {"password_hash": admitted.next_password_hash, "next_password_hash": ""}
    if not changes:
        return
    subject = f"station-{admitted.station_id}"
    rows = Station.objects.filter(pk=admitted.station_id)
    with transaction.atomic():
        if tried and not rows.filter(next_password_hash=admitted.next_password_hash).exists():
            return  # another connection was faster
        rows.update(**changes)
        if tried:
            kind = "password.changed" if which == 1 else "password.rolled_back"
            journal.record(kind, subject, station_id=admitted.station_id)
        if raised:
            journal.record(
                "security.profile_raised", subject, station_id=admitted.station_id, profile=profile
            )
        live.touch(subject)


def sweep(now: datetime | None = None) -> int:
    """Tell of stations that did not come back with the new password in time; return how many.

    The old one stays valid, with the new one as a spare.
    """
    now = now or timezone.now()
    late = Station.objects.filter(next_password_until__lte=now).exclude(next_password_hash="")
    told = 0
    for pk in late.values_list("pk", flat=True)[:200]:
        with transaction.atomic():
            if Station.objects.filter(pk=pk, next_password_until__lte=now).update(
                next_password_until=None
            ):
                journal.record("password.not_seen", f"station-{pk}", station_id=pk)
                live.touch(f"station-{pk}")
                told += 1
    return told
