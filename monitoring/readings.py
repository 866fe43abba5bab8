"""The lane "readings": sampled values become rows, and their sessions' running figures follow.

A reading that is later than all before it moves the figures on; any other makes them anew from the
stored readings. Both ways give the same result, so neither order nor repetition matters.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

from monitoring import metering, news, rows
from monitoring.metering import Sampled
from monitoring.models import Reading
from monitoring.rows import Row
from stations import bulk, journal, live, writer

BEGIN = "Transaction.Begin"
STALE_AFTER = timedelta(minutes=10)  # a closed session's number used later than this is a mistake


def write(facts: Sequence[Sampled]) -> list[int | None]:
    """Store readings; return for each its session's id, None where no session takes it."""
    owners = _owners(facts)
    stored: list[dict[str, Any]] = []
    fresh: dict[int, list[tuple[datetime, int, int, Sampled]]] = {}
    held: dict[int, Row] = {}
    for fact, row in zip(facts, owners, strict=True):
        if row is None:
            continue
        held[row.id] = row
        n = metering.digest(fact)
        stored.append(_columns(fact, row.id, n))
        at = metering.effective(fact.at, fact.received_at)
        register = -1 if fact.register_mwh is None else fact.register_mwh
        fresh.setdefault(row.id, []).append((at, register, n, fact))
    bulk.insert(Reading, stored, ignore=True)
    before_wh = {row.id: row.energy_wh for row in held.values()}
    again = []
    for session_id, found in fresh.items():
        row = held[session_id]
        if flags := {word for _, _, _, fact in found for word in fact.flags}:
            row.flag(*flags)
        found.sort(key=lambda one: one[:3])
        if _continues(row, found):
            _move_on(row, found)
        else:
            again.append(row)
    remeasure(again)
    rows.save(held.values())
    journal.record_many(
        [
            news.corrected(row, before_wh[row.id])
            for row in held.values()
            if row.closed_at is not None and row.energy_wh != before_wh[row.id]
        ]
    )
    live.touch(*(f"session-{session_id}" for session_id in held))
    return [row.id if row else None for row in owners]


def remeasure(changed: Iterable[Row]) -> None:
    """Make the running figures of these rows anew from all their readings."""
    by_id = {row.id: row for row in changed}
    if not by_id:
        return
    history: dict[int, list[tuple[Any, ...]]] = {session_id: [] for session_id in by_id}
    for session_id, at, received_at, *rest in Reading.objects.filter(
        session_id__in=by_id
    ).values_list(
        "session_id",
        "at",
        "received_at",
        "register_mwh",
        "n",
        "power_w",
        "soc_percent",
        "charging_state",
        "context",
    ):
        history[session_id].append((metering.effective(at, received_at), *rest))
    for session_id, found in history.items():
        found.sort(key=lambda one: (one[0], -1 if one[1] is None else one[1], one[2]))
        _replay(by_id[session_id], found)


def _continues(row: Row, found: list[tuple[datetime, int, int, Sampled]]) -> bool:
    """Tell whether these readings, in order, come after all that the row knows.

    Where no start told a register, the streak's own beginning serves, unless one of them says
    that it is the transaction's begin: that one counts, wherever it stands.
    """
    first, last = found[0][0], found[-1][0]
    if row.meter_start_mwh is None:
        unknown = row.streak_start_mwh is None and row.last_register_mwh is not None
        if unknown or any(fact.context == BEGIN for _, _, _, fact in found):
            return False
    return (row.last_reading_at is None or first > row.last_reading_at) and (
        row.stopped_at is None or last <= row.stopped_at
    )


def _move_on(row: Row, found: list[tuple[datetime, int, int, Sampled]]) -> None:
    registers = [register for _, register, _, _ in found if register >= 0]
    if registers:
        row.measure(row.streak().follow(registers))
    for _, _, _, fact in found:
        if fact.power_w is not None and row.stopped_at is None:
            row.power_w = fact.power_w
        if fact.soc_percent is not None:
            row.soc_percent = fact.soc_percent
        if fact.charging_state and row.stopped_at is None:
            row.charging_state = fact.charging_state
    row.last_reading_at = found[-1][0]


def _replay(row: Row, found: list[tuple[Any, ...]]) -> None:
    """Set the row's figures from its readings, which are in order."""
    start = row.meter_start_mwh
    if start is None:
        begins = [one[1] for one in found if one[6] == BEGIN and one[1] is not None]
        start = min(begins, default=None)
    believed = [
        register
        for at, register, *_ in found
        if register is not None and (row.stopped_at is None or at <= row.stopped_at)
    ]
    row.measure(metering.Streak(start).follow(believed))
    row.power_w = row.soc_percent = None
    for _, _, _, power_w, soc_percent, charging_state, _ in found:
        row.power_w = row.power_w if power_w is None else power_w
        row.soc_percent = row.soc_percent if soc_percent is None else soc_percent
        if charging_state and row.stopped_at is None:
            row.charging_state = charging_state
    if row.stopped_at is not None:
        row.power_w = 0.0
    row.last_reading_at = found[-1][0] if found else row.last_reading_at


def _columns(fact: Sampled, session_id: int, n: int) -> dict[str, Any]:
    return {
        "session_id": session_id,
        "at": fact.at,
        "n": n,
        "received_at": fact.received_at,
        "context": fact.context,
        "register_mwh": fact.register_mwh,
        "export_mwh": fact.export_mwh,
        "power_w": fact.power_w,
        "offered_w": fact.offered_w,
        "current_a": fact.current_a,
        "current_l1_a": fact.current_l1_a,
        "current_l2_a": fact.current_l2_a,
        "current_l3_a": fact.current_l3_a,
        "voltage_v": fact.voltage_v,
        "offered_a": fact.offered_a,
        "soc_percent": fact.soc_percent,
        "temperature_c": fact.temperature_c,
        "charging_state": fact.charging_state,
        "extra": fact.extra,
        "signed": fact.signed,
    }


# --- whose reading is it? -------------------------------------------------------------------------


def _owners(facts: Sequence[Sampled]) -> list[Row | None]:
    """Return each reading's session: by its number, else the EVSE's open one."""
    known = rows.by_ref({(fact.station_id, fact.ref) for fact in facts if fact.ref is not None})
    owners = [known.get((fact.station_id, fact.ref or "")) for fact in facts]
    lost = [i for i, fact in enumerate(facts) if fact.evse and _strays(fact, owners[i])]
    if not lost:
        return owners
    keys = {(facts[i].station_id, facts[i].evse or 0, None) for i in lost}
    bays = rows.connectors(keys)
    held = {row.id: row for row in known.values()}
    on: dict[int | None, Row] = {}
    for row in rows.open_on({(key[0], bay.id) for key, bay in bays.items()}):
        on[row.connector_id] = held.get(row.id, row)
    for i in lost:
        evse = {b.id for key, b in bays.items() if key[:2] == (facts[i].station_id, facts[i].evse)}
        at = metering.effective(facts[i].at, facts[i].received_at)
        open_here = [on[bay] for bay in evse if bay in on and on[bay].started_at <= at]
        if open_here:
            owners[i] = max(open_here, key=lambda row: row.started_at)
            if facts[i].ref is not None:
                owners[i].flag("reattached")  # type: ignore[union-attr]
    return owners


def _strays(fact: Sampled, owner: Row | None) -> bool:
    """Tell whether a reading names no session, or one that ended long before."""
    if owner is None:
        return True
    at = metering.effective(fact.at, fact.received_at)
    return owner.closed_at is not None and at > owner.closed_at + STALE_AFTER


writer.lane("readings", 60, write)
