"""Sessions: start, update, stop, close. Idempotent by (station, ref), whatever the order.

Facts come in 2.x's shape, a batch at a time, inside the writer's transaction; each function returns
an outcome a fact. A dialect puts facts on the lanes "starts", "updates", "stops", "bays".

`stopped_at` ends energy, `closed_at` ends occupancy: the connector became available, or no cable is
known to be in, or a deadline passed. Energy flowed even where we would have refused it, or where
only its end reached us: such sessions are kept, and wait in `review` for a person.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import replace

from monitoring import authorization, news, readings, rows
from monitoring.authorization import Request, Verdict
from monitoring.bays import NO_STOP, close, close_due
from monitoring.facts import Bay, Start, Started, Stop, Stopped, Update, Updated
from monitoring.metering import Sampled, effective
from monitoring.models import Session
from monitoring.rows import Row
from stations import bulk, journal, writer
from stations.models import Connector, Evse
from stations.presence import believable

__all__ = [
    "Bay",
    "Start",
    "Started",
    "Stop",
    "Stopped",
    "Update",
    "Updated",
    "close",
    "close_due",
    "start",
    "stop",
    "update",
]

REFUSED = "refused-start"
ORPHAN = "orphan-stop"
NO_START = "no-start"
NAMELESS = "nameless-"  # begins the ref of a 2.x transaction that came without an id
NO_ID = "no-transaction-id"
CLOCK = "clock"
BAD_VALUE = "bad-value"
STOPPED_BY_OTHER = "stopped-by-other"


# --- start ----------------------------------------------------------------------------------------


def start(facts: Sequence[Start]) -> list[Started]:
    """Begin sessions; one resent gets the same session and the same answer."""
    keys = [natural_key(fact) for fact in facts]
    known = rows.by_natural_key({key for key in keys if key})
    known_refs = rows.by_ref({(fact.station_id, fact.ref) for fact in facts if fact.ref})
    own = [
        known.get(key) if key else known_refs.get((fact.station_id, fact.ref or ""))
        for fact, key in zip(facts, keys, strict=True)
    ]
    verdicts = authorization.decide(
        [
            Request(
                f.token_uid,
                f.token_type,
                f.station_id,
                f.evse,
                row.id if row else None,
                row is None,
            )
            for f, row in zip(facts, own, strict=True)
        ]
    )
    bays = _ensured_bays({(fact.station_id, fact.evse, fact.connector) for fact in facts})
    ids = iter(bulk.next_ids(Session, len(facts)))
    new: dict[int, Row] = {}
    changed: dict[int, Row] = {}
    found: list[tuple[Row, bool]] = []
    for fact, key, verdict in zip(facts, keys, verdicts, strict=True):
        row = known.get(key) if key else known_refs.get((fact.station_id, fact.ref or ""))
        if row is None:
            row = _new_row(fact, next(ids), key, verdict, bays)
            new[row.id] = row
            if key:
                known[key] = row
            known_refs[row.station_id, row.ref] = row
            found.append((row, False))
            continue
        if NO_START in row.flags:
            _complete(row, fact, verdict, bays)
            changed[row.id] = row
        found.append((row, True))
    made = list(new.values())
    rows.insert(made)
    before_wh = {row.id: row.energy_wh for row in changed.values()}
    readings.remeasure(changed.values())
    _doubt_stoppers(changed.values())
    rows.save(changed.values())
    _supersede(row for row in made if row.id in new)
    journal.record_many(
        [
            *(news.started(row) for row in made if row.id in new),
            *(
                news.corrected(row, before_wh[row.id])
                for row in changed.values()
                if row.closed_at is not None and row.energy_wh != before_wh[row.id]
            ),
        ]
    )
    news.touch([*made, *changed.values()])
    return [
        Started(row.id, row.ref, row.number, _as_answered(row, verdict), duplicate)
        for (row, duplicate), verdict in zip(found, verdicts, strict=True)
    ]


def natural_key(fact: Start) -> str | None:
    """Return what makes a resent StartTransaction of 1.6 the same session; None in 2.x.

    Where the clock is implausible the connection's epoch joins the key, so that two real sessions
    are never merged.
    """
    if fact.ref is not None:
        return None
    sure = fact.clock_ok and believable(fact.at, fact.received_at)
    parts = [fact.station_id, fact.evse, fact.connector, fact.token_uid.upper()]
    parts += [fact.at.isoformat(), fact.meter_mwh, "" if sure else fact.epoch]
    key = "/".join(map(str, parts)).replace("\x00", "\ufffd")  # as PostgreSQL stores it
    return key if len(key) <= 160 else hashlib.sha256(key.encode()).hexdigest()


def _new_row(
    fact: Start,
    session_id: int,
    key: str | None,
    verdict: Verdict,
    bays: dict[tuple[int, int, int | None], rows.Bay],
) -> Row:
    row = Row(
        id=session_id,
        station_id=fact.station_id,
        connector_id=bays[fact.station_id, fact.evse, fact.connector].id,
        ref=fact.ref or str(session_id),
        number=None if fact.ref else session_id,
        natural_key=key,
        state=Session.State.ACTIVE,
        token_id=None,
        token_uid="",
        token_type="",
        authorization="",
        remote_start_id=None,
        started_at=fact.at,
        started_received_at=fact.received_at,
        meter_start_mwh=fact.meter_mwh,
        charging_state=fact.charging_state,
    )
    _begin(row, fact, verdict)
    return row


def _begin(row: Row, fact: Start, verdict: Verdict) -> None:
    """Set what only a Start knows."""
    row.started_at = effective(fact.at, fact.received_at)
    if row.started_at != fact.at or not fact.clock_ok:
        row.flag(CLOCK)
    if fact.bad_register:
        row.flag(BAD_VALUE)
    row.started_received_at = fact.received_at
    row.remote_start_id = fact.remote_start_id or row.remote_start_id
    row.offline = row.offline or fact.offline
    row.see(fact.seq_no)
    if fact.token_uid:
        _identify(row, fact.token_uid, fact.token_type, verdict)
    if row.ref.startswith(NAMELESS):
        row.review = row.review or NO_ID


def _identify(row: Row, uid: str, kind: str, verdict: Verdict) -> None:
    """Note whose session it is and what we said about it."""
    row.token_uid, row.token_type, row.token_id = uid, kind, verdict.token_id
    row.authorization = verdict.status
    if not verdict.accepted:
        row.review = REFUSED


def _complete(
    row: Row, fact: Start, verdict: Verdict, bays: dict[tuple[int, int, int | None], rows.Bay]
) -> None:
    """Give a session that began with a later message its start."""
    row.unflag(NO_START)
    if row.review == ORPHAN:
        row.review = ""
    row.connector_id = bays[fact.station_id, fact.evse, fact.connector].id
    row.meter_start_mwh = fact.meter_mwh
    if row.stopped_at is None:
        row.charging_state = row.charging_state or fact.charging_state
    _begin(row, fact, verdict)
    if row.stopped_at is not None and row.stopped_at < row.started_at:
        row.stopped_at = row.started_at
        row.flag(CLOCK)


def _as_answered(row: Row, verdict: Verdict) -> Verdict:
    """Return the verdict as first given: a resent start never gets another answer."""
    if row.authorization and row.authorization != verdict.status:
        return replace(verdict, status=row.authorization)
    return verdict


def _ensured_bays(
    keys: set[tuple[int, int, int | None]],
) -> dict[tuple[int, int, int | None], rows.Bay]:
    """Return the connectors of these keys, made where never seen (1.6 announces none)."""
    bays = rows.connectors(keys)
    for station_id, number, connector in keys - bays.keys():
        evse, _ = Evse.objects.get_or_create(station_id=station_id, number=number)
        row, _ = Connector.objects.get_or_create(
            evse=evse, number=connector or 1, defaults={"station_id": station_id}
        )
        bays[station_id, number, connector] = rows.Bay(row.pk, row.status, row.status_at)
    return bays


def _supersede(made: Iterable[Row]) -> None:
    """A new session on a connector proves the one before over: close it, or wait for its stop."""
    newest = {(row.station_id, row.connector_id): row for row in made if row.connector_id}
    older = []
    for row in rows.open_on(newest):
        new = newest[row.station_id, row.connector_id or 0]
        if row.id == new.id or row.started_at > new.started_at:
            continue
        if row.state == Session.State.STOPPED:
            row.close(new.started_at)
            older.append(row)
        elif row.close_by is None:
            row.close_by = new.started_received_at + rows.SETTLE_AFTER
            older.append(row)
    rows.save(older)
    journal.record_many([news.closed(row) for row in older if row.closed_at])
    news.touch(older)


# --- update ---------------------------------------------------------------------------------------


def update(facts: Sequence[Update]) -> list[Updated]:
    """Note the progress of 2.x sessions; one never heard of begins here."""
    facts = _named(facts)
    known = rows.by_ref({(fact.station_id, fact.ref) for fact in facts})
    made = _appear([fact for fact in facts if (fact.station_id, fact.ref) not in known], known)
    verdicts = authorization.decide(
        [
            Request(f.token_uid, f.token_type, f.station_id, None, known[f.station_id, f.ref].id)
            for f in facts
        ]
    )
    authorized: list[Row] = []
    states: list[Sampled] = []
    for fact, verdict in zip(facts, verdicts, strict=True):
        row = known[fact.station_id, fact.ref]
        at = effective(fact.at, fact.received_at)
        if NO_START in row.flags:
            row.started_at = min(row.started_at, at)
        follows = row.see(fact.seq_no)
        if fact.charging_state and not (follows and row.charging_state == fact.charging_state):
            states.append(_state(fact))
            row.charging_state = fact.charging_state if follows else row.charging_state
        row.offline = row.offline or fact.offline
        row.remote_start_id = row.remote_start_id or fact.remote_start_id
        if fact.token_uid and not row.token_uid:
            _identify(row, fact.token_uid, fact.token_type, verdict)
            authorized.append(row)
    rows.save(known.values())
    if states:
        readings.write(states)
    journal.record_many(
        [
            *(news.started(row) for row in made),
            *(news.started(row, "session.authorized") for row in authorized),
        ]
    )
    news.touch(made)
    return [
        Updated(known[f.station_id, f.ref].id, verdict if f.token_uid else None)
        for f, verdict in zip(facts, verdicts, strict=True)
    ]


def _state(fact: Update) -> Sampled:
    """Return a reading that says the charging state alone."""
    return Sampled(
        fact.station_id,
        fact.ref,
        None,
        fact.at,
        fact.received_at,
        context="State",
        charging_state=fact.charging_state,
    )


def _appear(
    facts: Sequence[Update] | Sequence[Stop], known: dict[tuple[int, str], Row]
) -> list[Row]:
    """Add to `known` a session for each fact whose start has not come (yet)."""
    if not facts:
        return []
    bays = rows.connectors({(f.station_id, f.evse, f.connector) for f in facts if f.evse})
    ids = iter(bulk.next_ids(Session, len(facts)))
    made = []
    for fact in facts:
        if (fact.station_id, fact.ref) in known:
            continue
        bay = bays.get((fact.station_id, fact.evse or 0, fact.connector))
        row = Row(
            id=next(ids),
            station_id=fact.station_id,
            connector_id=bay.id if bay else None,
            ref=fact.ref,
            number=None,
            natural_key=None,
            state=Session.State.ACTIVE,
            token_id=None,
            token_uid="",
            token_type="",
            authorization="",
            remote_start_id=None,
            started_at=effective(fact.at, fact.received_at),
            started_received_at=fact.received_at,
            meter_start_mwh=None,
            flags=[NO_START],
            review=NO_ID if fact.ref.startswith(NAMELESS) else "",
        )
        known[row.station_id, row.ref] = row
        made.append(row)
    taken = [row.id for row in made]
    rows.insert(made)  # a row that another gateway was faster with takes that one's id
    return [row for row, session_id in zip(made, taken, strict=True) if row.id == session_id]


# --- stop -----------------------------------------------------------------------------------------


def stop(facts: Sequence[Stop]) -> list[Stopped]:
    """End the energy of sessions. The first stop counts; one of other content is only flagged.

    A stop of a transaction we do not know makes a session for review: its energy flowed.
    """
    facts = _named(facts)
    known = rows.by_ref({(fact.station_id, fact.ref) for fact in facts})
    facts = _matched(facts, known)
    made = _appear([fact for fact in facts if (fact.station_id, fact.ref) not in known], known)
    fresh = {row.id for row in made}
    verdicts = authorization.decide(
        [
            Request(f.token_uid, f.token_type, f.station_id, None, known[f.station_id, f.ref].id)
            for f in facts
        ]
    )
    bays = rows.bays_of(row.connector_id for row in known.values())
    stopped: list[tuple[Row, int, bool]] = []  # with the energy before and whether it was closed
    again: list[Row] = []
    first: list[bool] = []
    for fact in facts:
        row = known[fact.station_id, fact.ref]
        row.see(fact.seq_no)
        first.append(row.stopped_received_at is None)
        if not first[-1]:
            if _differs(row, fact):
                row.flag("stop-differs")
            continue
        before, was_closed = row.energy_wh, row.closed_at is not None
        if row.id in fresh and fact.numbered:
            row.review = ORPHAN
        _end(row, fact, bays.get(row.connector_id))
        stopped.append((row, before, was_closed))
        if row.meter_start_mwh is None or _late(row):
            again.append(row)
        else:
            row.measure(row.streak())
    readings.remeasure(again)
    _doubt_stoppers(row for row, _, _ in stopped)
    rows.save(known.values())
    told = [news.started(row) for row in made]
    for row, before, was_closed in stopped:
        told += news.stopped(row, before, was_closed)
    journal.record_many(told)
    news.touch(row for row, _, _ in stopped)
    return [
        Stopped(row.id, row.energy_wh, verdict if fact.token_uid else None, not new)
        for fact, verdict, new in zip(facts, verdicts, first, strict=True)
        for row in [known[fact.station_id, fact.ref]]
    ]


def _doubt_stoppers(found: Iterable[Row]) -> None:
    """Flag sessions that a token stopped which shares no group with the one that charged."""
    known = [
        row
        for row in found
        if row.stop_token_uid and row.token_uid and row.stop_token_uid != row.token_uid
    ]
    if not known:
        return
    verdicts = authorization.may_stop((row.token_uid, row.stop_token_uid) for row in known)
    for row, may in zip(known, verdicts, strict=True):
        (row.unflag if may else row.flag)(STOPPED_BY_OTHER)


def _end(row: Row, fact: Stop, bay: rows.Bay | None) -> None:
    """Apply the first stop."""
    at = effective(fact.at, fact.received_at)
    if NO_START in row.flags:
        row.started_at = min(row.started_at, at)
    if at != fact.at or at < row.started_at or not fact.clock_ok:
        row.flag(CLOCK)
    if fact.bad_register:
        row.flag(BAD_VALUE)
    row.stopped_at = max(at, row.started_at)
    row.stopped_received_at = fact.received_at
    row.meter_stop_mwh = fact.meter_mwh
    row.stop_token_uid, row.stop_reason = fact.token_uid, fact.reason
    row.charging_state, row.power_w = fact.charging_state, 0.0
    row.offline = row.offline or fact.offline
    row.unflag(NO_STOP)
    if row.closed_at is not None:  # the sweep closed it meanwhile
        row.closed_at = max(row.closed_at, row.stopped_at)
    elif bay is None or not bay.occupied or fact.reason == "EVDisconnected" or _idle(fact):
        row.close(row.stopped_at)
    else:
        row.state = Session.State.STOPPED
        row.close_by = fact.received_at + rows.CLOSE_AFTER


def _idle(fact: Stop) -> bool:
    return fact.charging_state == "Idle"  # 2.x: no cable any more


def _late(row: Row) -> bool:
    """Tell whether readings from after the stop are known already."""
    return (
        row.last_reading_at is not None
        and row.stopped_at is not None
        and row.last_reading_at > row.stopped_at
    )


def _differs(row: Row, fact: Stop) -> bool:
    return (row.meter_stop_mwh, row.stop_reason) != (fact.meter_mwh, fact.reason)


def _matched(facts: Sequence[Stop], known: dict[tuple[int, str], Row]) -> list[Stop]:
    """Give stops of numbers we never gave a ref that means something.

    A 1.6 stop of transaction 0 or −1 goes to the station's only open session of that tag. Any other
    becomes an orphan with a ref of its content, so that resending it makes no second one.
    """
    lost = [f for f in facts if f.numbered and (f.station_id, f.ref) not in known]
    if not lost:
        return list(facts)
    nameless = {fact.station_id for fact in lost if fact.ref in ("0", "-1")}
    held = {row.id: row for row in known.values()}
    running = [held.get(row.id, row) for row in rows.open_at(nameless)]
    refs: dict[int, str] = {}
    for fact in lost:
        mine = [row for row in running if row.station_id == fact.station_id]
        if fact.token_uid:
            mine = [row for row in mine if row.token_uid.upper() == fact.token_uid.upper()]
        if fact.ref in ("0", "-1") and len(mine) == 1:
            mine[0].flag("matched-by-tag")
            refs[id(fact)] = mine[0].ref
            known[fact.station_id, mine[0].ref] = mine[0]
        else:
            content = f"{fact.at.isoformat()}/{fact.meter_mwh}/{fact.token_uid}"
            refs[id(fact)] = (
                f"orphan-{fact.ref}-{hashlib.sha256(content.encode()).hexdigest()[:12]}"
            )
    orphans = {(f.station_id, refs[id(f)]) for f in lost} - known.keys()
    known.update(rows.by_ref(orphans))
    return [replace(f, ref=refs[id(f)]) if id(f) in refs else f for f in facts]


def _named[F: (Update, Stop)](facts: Sequence[F]) -> Sequence[F]:
    """Give events without a transaction id (2.x E01 broken) the ref of the session they mean.

    That is the EVSE's running one that began without an id too, or the one that a stop of this
    time has ended already; else a day's one of the EVSE, which waits for review.
    """
    lost = [fact for fact in facts if not fact.ref]
    if not lost:
        return facts
    found = Session.objects.filter(
        station__in={fact.station_id for fact in lost}, ref__startswith=NAMELESS
    ).order_by("-id")
    mine = list(found.select_related("connector__evse")[:500])
    refs = {id(fact): _nameless_ref(fact, mine) for fact in lost}
    return [replace(f, ref=refs[id(f)]) if id(f) in refs else f for f in facts]


def _nameless_ref(fact: Update | Stop, mine: Sequence[Session]) -> str:
    at = effective(fact.at, fact.received_at)
    here = [
        one
        for one in mine
        if one.station_id == fact.station_id
        and (not fact.evse or not one.connector or one.connector.evse.number == fact.evse)
    ]
    for one in here:
        if one.stopped_at is None or (isinstance(fact, Stop) and one.stopped_at == at):
            return one.ref
    return f"{NAMELESS}{fact.evse or 0}-{at:%Y%m%d}"


writer.lane("starts", 40, start)
writer.lane("updates", 45, update)
writer.lane("stops", 50, stop)
