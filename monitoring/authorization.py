"""May this token charge here, now? Status, expiry, group, sessions at once; a batch at a time.

A token made by a payment or the app (type Central, short expiry) is an ordinary row.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from django.conf import settings
from django.db.models.functions import Upper
from django.utils import timezone

from monitoring.models import Session
from stations.models import Token
from stations.reservations import Held

MAX_STRANGERS = 1_000  # unknown cards kept so that staff can enrol them in one click
ACCEPTED = "Accepted"
RESERVED = "NotAtThisTime"  # another driver has reserved it


@dataclass(frozen=True, slots=True)
class Verdict:
    """The answer about a token, in 2.x words (AuthorizationStatusEnumType).

    `status` is Accepted, Blocked, Expired, Unknown, ConcurrentTx or NotAtThisTime (reserved by
    somebody else). 1.6 says Invalid for Unknown and Blocked for NotAtThisTime.
    """

    status: str
    token_id: int | None = None
    group: str = ""  # parentIdTag, groupIdToken
    expires_at: datetime | None = None
    language: str = ""

    @property
    def accepted(self) -> bool:
        """Tell whether energy may flow."""
        return self.status == ACCEPTED


@dataclass(frozen=True, slots=True)
class Request:
    """A token shown at a station.

    `session_id`: the session it is already charging on, which does not count against its limit.
    `starts`: it begins a session now, which counts for the next request of the same batch.
    """

    token_uid: str
    token_type: str = ""
    station_id: int | None = None
    evse: int | None = None
    session_id: int | None = None
    starts: bool = False


def decide(requests: Sequence[Request]) -> list[Verdict]:
    """Return a verdict a request, with three queries at most (one more to keep unknown cards).

    A request without a uid (2.x NoAuthorization) is accepted: the station asks nobody.
    """
    uids = {  # control characters are in no token, and PostgreSQL refuses to look for NUL
        request.token_uid.upper()
        for request in requests
        if request.token_uid and request.token_uid.isprintable()
    }
    if not any(request.token_uid for request in requests):
        return [Verdict(ACCEPTED)] * len(requests)
    known = {
        token.folded: token
        for token in Token.objects.annotate(folded=Upper("uid"))
        .filter(folded__in=uids)
        .select_related("user")
    }
    held = Held({request.station_id for request in requests if request.station_id})
    running = _running([token for token in known.values() if token.max_sessions is not None])
    now = timezone.now()
    verdicts = []
    for request in requests:
        token = known.get(request.token_uid.upper())
        if not request.token_uid:
            verdicts.append(Verdict(ACCEPTED))
            continue
        if token is None:
            verdicts.append(Verdict("Unknown"))
            continue
        others = running.get(token.pk, set()) - {request.session_id}
        status = _status(token, now, len(others))
        if status == ACCEPTED and request.session_id is None and _reserved(held, request, token):
            status = RESERVED
        if request.starts and status == ACCEPTED and is_master_pass(token.group):
            status = "Invalid"  # it stops what others charge, and charges nothing (2.x C16.FR.02)
        if request.starts and status == ACCEPTED and token.pk in running:
            running[token.pk].add(-len(running[token.pk]) - 1)  # a session without an id yet
        verdicts.append(
            Verdict(
                status,
                token.pk,
                token.group,
                token.expires_at,
                token.user.language if token.user else "",
            )
        )
    _keep_strangers([request for request in requests if request.token_uid.upper() not in known])
    return verdicts


def _reserved(held: Held, request: Request, token: Token) -> bool:
    """Tell whether another driver has reserved where this token wants to charge."""
    return request.station_id is not None and held.from_others(
        request.station_id, request.evse, request.token_uid, token.group
    )


def is_master_pass(group: str) -> bool:
    """Tell whether tokens of this group may stop everybody's sessions (2.x MasterPassGroupId)."""
    return bool(group) and group == settings.MASTER_PASS_GROUP


def may_stop(pairs: Iterable[tuple[str, str]]) -> list[bool]:
    """Tell for each (token of a session, token that stopped it) whether that one may: the same
    token, one of its group, or a master pass (1.6 §4.10, 2.x C09, C16).
    """
    asked = [(mine.upper(), other.upper()) for mine, other in pairs]
    uids = {uid for pair in asked if pair[0] != pair[1] for uid in pair if uid.isprintable()}
    groups: dict[str, str] = {}
    if uids:
        rows = Token.objects.annotate(folded=Upper("uid")).filter(folded__in=uids)
        groups = dict(rows.values_list("folded", "group"))
    found = []
    for mine, other in asked:
        group = groups.get(other, "")
        shared = bool(group) and group == groups.get(mine)
        found.append(mine == other or shared or is_master_pass(group))
    return found


def _status(token: Token, now: datetime, running: int) -> str:
    if token.status == Token.Status.UNKNOWN:
        return "Unknown"
    if token.status == Token.Status.BLOCKED:
        return "Blocked"
    if token.expires_at is not None and token.expires_at <= now:
        return "Expired"
    if token.max_sessions is not None and running >= token.max_sessions:
        return "ConcurrentTx"
    return ACCEPTED


def _running(limited: Sequence[Token]) -> dict[int, set[int | None]]:
    """Return the open sessions of tokens that have a limit."""
    running: dict[int, set[int | None]] = {token.pk: set() for token in limited}
    if running:
        for token_id, session_id in Session.objects.filter(
            token_id__in=running, state=Session.State.ACTIVE
        ).values_list("token_id", "id"):
            running[token_id].add(session_id)
    return running


def _keep_strangers(requests: Sequence[Request]) -> None:
    """Keep unknown RFID cards, waiting to be enrolled; a bounded number of them."""
    cards = {
        request.token_uid.upper(): request.token_uid
        for request in requests
        if request.token_uid.isprintable()
        and request.token_uid
        and request.token_type in ("", Token.Type.ISO14443, Token.Type.ISO15693)
    }
    if not cards:
        return
    room = MAX_STRANGERS - Token.objects.filter(status=Token.Status.UNKNOWN).count()
    Token.objects.bulk_create(
        [
            Token(uid=uid, type=Token.Type.ISO14443, status=Token.Status.UNKNOWN)
            for uid in list(cards.values())[: max(room, 0)]
        ],
        ignore_conflicts=True,
    )
