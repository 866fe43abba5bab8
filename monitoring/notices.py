"""Who is told of an incident, and when: an outbox of one row per incident, contact and event.

`plan` writes the rows when an incident's time has come (a minute after it opened, so that what
belongs together is one message), `deliver` sends what is due, each row claimed by compare-and-set.
Tickets wait for the daily mail, quiet hours for their end, a contact that gets too many for ten
minutes; what healed before it was due is dropped.
"""

import logging
from collections.abc import Sequence
from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

from django.db import transaction
from django.db.models import F, Q
from django.utils import timezone
from django.utils.translation import gettext as _

from monitoring.channels import CHANNELS
from monitoring.models import Contact, Incident, Notice, Severity, Silence
from monitoring.webhooks import TransportError
from stations import journal, live
from stations.state import try_advance

log = logging.getLogger(__name__)

State = Notice.State
ESCALATE_AFTER = {1: timedelta(minutes=15), 2: timedelta(minutes=30)}  # from level to the next
DIGEST_AT = time(8, 0)
STORM, STORM_WITHIN = 10, timedelta(minutes=10)  # more than this to one contact is one mail
LEASE = timedelta(minutes=10)  # a sender that took longer has died
GIVE_UP_AFTER = 8
BACK_OFF_S = 30
BATCH = 50

# --- planning -------------------------------------------------------------------------------------


def plan(now: datetime | None = None) -> int:
    """Write the notices of incidents whose time has come; return how many."""
    now = now or timezone.now()
    silences = list(Silence.objects.filter(until__gt=now))
    written = 0
    due = Incident.objects.filter(notify_at__lte=now).select_related("site", "station")
    for incident in due.order_by("notify_at")[:BATCH]:
        with transaction.atomic():
            until = _quiet_until(incident, silences, now)
            taken = Incident.objects.filter(pk=incident.pk, notify_at=incident.notify_at).update(
                notify_at=until
            )
            if taken and until is None:
                written += _tell(incident, now)
    for incident in Incident.objects.filter(escalate_at__lte=now).select_related("site")[:BATCH]:
        with transaction.atomic():
            written += _escalate(incident, silences, now)
    return written


def _quiet_until(incident: Incident, silences: list[Silence], now: datetime) -> datetime | None:
    """Return when it may be told of again; None: now."""
    if incident.state == Incident.State.RESOLVED:
        return None
    ends = [
        silence.until
        for silence in silences
        if silence.rule in ("", incident.rule)
        and silence.site_id in (None, incident.site_id)
        and silence.station_id in (None, incident.station_id)
    ]
    if (
        incident.snoozed_until
        and incident.snoozed_until > now
        and incident.severity < Severity.CRITICAL
    ):
        ends.append(incident.snoozed_until)
    return max(ends, default=None)


def _tell(incident: Incident, now: datetime) -> int:
    if incident.state == Incident.State.RESOLVED:
        return _tell_of_the_end(incident, now)
    contacts = _contacts(incident)
    first = [contact for contact in contacts if contact.level <= 1] or contacts[:1]
    event = "opened"
    if incident.told_severity:
        event = (
            f"raised-{incident.severity}"
            if incident.severity > incident.told_severity
            else f"reopened-{incident.reopened}"
        )
    escalates = incident.state == Incident.State.OPEN and incident.severity >= Severity.PAGE
    levels = {contact.level for contact in contacts}
    Incident.objects.filter(pk=incident.pk).update(
        told_severity=incident.severity,
        level=max(incident.level, 1),
        escalate_at=now + ESCALATE_AFTER[1] if escalates and max(levels, default=1) > 1 else None,
    )
    return _write(incident, event, first, now)


def _tell_of_the_end(incident: Incident, now: datetime) -> int:
    """Those who were told hear that it is over; what nobody has read yet is not sent."""
    waiting = Notice.objects.filter(incident=incident, state=State.QUEUED, digest=False)
    waiting.update(state=State.DROPPED, error=_("It was over before it was due."))
    told = Contact.objects.filter(
        notices__incident=incident,
        notices__digest=False,
        notices__state__in=[State.SENT, State.SENDING],
        active=True,
    ).distinct()
    event = f"resolved-{incident.reopened}" if incident.reopened else "resolved"
    return _write(incident, event, list(told), now)


def _escalate(incident: Incident, silences: list[Silence], now: datetime) -> int:
    """Tell the next level, where nobody has acknowledged."""
    until = _quiet_until(incident, silences, now)
    levels = sorted({contact.level for contact in _contacts(incident)})
    following = [level for level in levels if level > max(incident.level, 1)]
    wait = ESCALATE_AFTER.get(following[0]) if len(following) > 1 else None
    taken = Incident.objects.filter(
        pk=incident.pk, escalate_at=incident.escalate_at, state=Incident.State.OPEN
    ).update(
        escalate_at=until or (now + wait if wait else None),
        level=following[0] if following and not until else F("level"),
    )
    if not taken or until or not following:
        return 0
    next_level = [one for one in _contacts(incident) if one.level == following[0]]
    journal.record("incident.escalated", incident, level=following[0])
    return _write(incident, f"level-{following[0]}", next_level, now)


def _contacts(incident: Incident) -> list[Contact]:
    everywhere = Q(sites__isnull=True)
    here = everywhere | Q(sites=incident.site_id) if incident.site_id else everywhere
    return list(Contact.objects.filter(here, active=True).distinct().order_by("level", "pk"))


def _write(incident: Incident, event: str, contacts: Sequence[Contact], now: datetime) -> int:
    """Put one notice per contact into the outbox. The unique key makes a second time nothing."""
    rows = []
    for contact in contacts:
        due = due_for(contact, Severity(incident.severity), now)
        if due is None:
            continue
        due_at, digest = due
        rows.append(
            Notice(
                incident=incident,
                contact=contact,
                event=event,
                created_at=now,
                due_at=due_at,
                digest=digest,
            )
        )
    Notice.objects.bulk_create(rows, ignore_conflicts=True)
    return len(rows)


def due_for(contact: Contact, severity: Severity, now: datetime) -> tuple[datetime, bool] | None:
    """Return when this contact hears of that severity, and whether in a digest; None: never."""
    mail = contact.channel == Contact.Channel.EMAIL
    if severity < contact.min_severity:
        if severity >= Severity.TICKET and contact.digest and mail:
            return next_time(DIGEST_AT, contact.time_zone, now), True
        return None
    if mail and severity < Severity.CRITICAL:
        recent = Notice.objects.filter(contact=contact, created_at__gt=now - STORM_WITHIN)
        if recent.count() >= STORM:
            return now + STORM_WITHIN, True
    return end_of_quiet(contact, severity, now), False


def end_of_quiet(contact: Contact, severity: Severity, now: datetime) -> datetime:
    """Return `now`, or the end of the contact's quiet hours; critical does not wait."""
    start, end = contact.quiet_from, contact.quiet_to
    if start is None or end is None or severity >= Severity.CRITICAL:
        return now
    local = now.astimezone(ZoneInfo(contact.time_zone)).time()
    inside = start <= local < end if start <= end else local >= start or local < end
    return next_time(end, contact.time_zone, now) if inside else now


def next_time(at: time, zone: str, now: datetime) -> datetime:
    """Return the next moment, after `now`, at which clocks in `zone` show `at`; in UTC."""
    local = now.astimezone(ZoneInfo(zone))
    due = local.replace(hour=at.hour, minute=at.minute, second=0, microsecond=0)
    if due <= local:
        due += timedelta(days=1)
    return due.astimezone(UTC)


# --- delivery -------------------------------------------------------------------------------------


def deliver(now: datetime | None = None) -> int:
    """Send what is due; return how many notices left. Safe to run in two processes at once."""
    now = now or timezone.now()
    _bury_the_dead(now)
    due = Notice.objects.filter(state=State.QUEUED, due_at__lte=now).order_by("due_at", "pk")
    sent = 0
    done: set[int] = set()
    for pk in list(due.values_list("pk", flat=True)[:BATCH]):
        if pk in done:
            continue
        notices = _claim(pk, now)
        done.update(notice.pk for notice in notices)
        if notices:
            sent += _send(notices, now)
    return sent


def _claim(pk: int, now: datetime) -> list[Notice]:
    """Take one notice, or a contact's whole digest; nothing where somebody else has it."""
    first = Notice.objects.filter(pk=pk, state=State.QUEUED).first()
    if first is None:
        return []
    rows = Notice.objects.filter(pk=pk)
    if first.digest:
        rows = Notice.objects.filter(
            contact=first.contact_id, digest=True, state=State.QUEUED, due_at__lte=now
        )
    wanted = list(rows.order_by("pk").values_list("pk", flat=True)[:200])
    taken = [
        one
        for one in wanted
        if try_advance(Notice.objects.filter(pk=one), State.SENDING, claimed_at=now)
    ]
    claimed = Notice.objects.filter(pk__in=taken).order_by("pk")
    return list(
        claimed.select_related(
            "contact", "incident__site", "incident__station", "incident__connector__evse"
        )
    )


def _send(notices: list[Notice], now: datetime) -> int:
    contact = notices[0].contact
    try:
        CHANNELS[contact.channel].send(notices)
    except TransportError as error:
        _failed(notices, error, now)
        return 0
    except Exception as error:  # a bug of ours must not block the outbox for ever
        log.exception("Notices to contact %s could not be sent.", contact.pk)
        _failed(notices, TransportError(repr(error)), now)
        return 0
    _ended(notices, State.SENT, "notice.sent", now)
    return len(notices)


def _failed(notices: list[Notice], error: TransportError, now: datetime) -> None:
    """Try again later, twice as late each time; or give up."""
    attempts = notices[0].attempts + 1
    if error.permanent or attempts >= GIVE_UP_AFTER:
        _ended(notices, State.FAILED, "notice.failed", now, str(error))
        return
    pause = timedelta(seconds=min(BACK_OFF_S * 2 ** (attempts - 1), 3600))
    try_advance(
        Notice.objects.filter(pk__in=[notice.pk for notice in notices]),
        State.QUEUED,
        attempts=F("attempts") + 1,
        due_at=now + pause,
        error=str(error)[:300],
    )


def _ended(
    notices: list[Notice], state: Notice.State, kind: str, now: datetime, error: str = ""
) -> None:
    with transaction.atomic():
        try_advance(
            Notice.objects.filter(pk__in=[notice.pk for notice in notices]),
            state,
            sent_at=now if state == State.SENT else None,
            attempts=F("attempts") + 1,
            error=error[:300],
        )
        journal.record_many(
            [
                journal.entry(
                    kind,
                    f"incident-{notice.incident_id}",
                    station_id=notice.incident.station_id,
                    contact=notice.contact.name,
                    channel=notice.contact.channel,
                    event=notice.event,
                    error=error[:300],
                )
                for notice in notices
            ]
        )
        live.touch(*(f"incident-{notice.incident_id}" for notice in notices))


def _bury_the_dead(now: datetime) -> None:
    """End what a killed sender left. A webhook goes again (same id); a mail at most once."""
    left = Notice.objects.filter(state=State.SENDING, claimed_at__lt=now - LEASE)
    try_advance(left.filter(contact__channel=Contact.Channel.WEBHOOK), State.QUEUED, due_at=now)
    try_advance(
        left.filter(contact__channel=Contact.Channel.EMAIL),
        State.FAILED,
        error=_("The process ended while it was being sent; it is not sent twice."),
    )


def test(contact: Contact) -> str:
    """Send a contact a test message now; return what went wrong, or nothing."""
    incident = Incident(
        family="test",
        rule="test",
        severity=Severity.INFO,
        summary=_("This is a test. Nothing is wrong."),
        opened_at=timezone.now(),
    )
    incident.pk = 0
    notice = Notice(pk=0, incident=incident, contact=contact, event="test")
    try:
        CHANNELS[contact.channel].send([notice])
    except TransportError as error:
        return str(error)
    return ""
