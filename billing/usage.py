"""A session's usage as its price sees it: periods with energy, and what the vehicle was doing.

Energy: the session's result in whole Wh, spread over the registers that were read in between,
linear and by largest remainder where a price changes between two readings. Time: charging, parking
(the vehicle requests no power), or paused (the station held it back: costs nothing).
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any
from zoneinfo import ZoneInfo

from monitoring import sessions
from monitoring.models import Reading, Session
from stations.models import Entry

from .periods import Period, Usage, cut_at

CHARGING, PARKING, PAUSED = "charging", "parking", "paused"
GAP = dt.timedelta(minutes=30)  # longer without a reading: where in it energy flowed is not known

# What a status means for time prices (OCPI, May 2026: parking is not requesting power). A pause by
# the station is never parking; a fault is nobody's parking. Words not listed say nothing new.
KINDS = {
    "Charging": CHARGING,
    "SuspendedEV": PARKING,
    "Finishing": PARKING,
    "SuspendedEVSE": PAUSED,
    "EVConnected": PARKING,  # 2.x, after charging; before it, see `_kinds`
    "Idle": PAUSED,
    "Faulted": PAUSED,
    "Unavailable": PAUSED,
}
type Mark = tuple[dt.datetime, str]


def usage_of(session: Session) -> Usage:
    """The usage of an ended session: from its rows, whatever order they arrived in."""
    start = _second(session.started_at)
    stop = max(start, _second(session.stopped_at or session.closed_at or session.started_at))
    end = max(stop, _second(session.closed_at or stop))
    readings = list(
        Reading.objects.filter(session=session, register_mwh__isnull=False).order_by("at", "n")
    )
    periods = _energy(session, readings, start, stop)
    if end > stop:
        periods.append(Period(stop, end))
    marks = _kinds(_marks(session, start, end), start, stop)
    late_s, verified = clock_of(session)
    found = tuple(_at(period, late_s) for period in _timed(periods, marks))
    return Usage(
        found,
        session.station.zone,
        started=start + dt.timedelta(seconds=late_s),
        verified=verified,
        doubts=("clock_corrected",) if late_s else (),
    )


def _at(period: Period, late_s: int) -> Period:
    """The period by our clock where the charger's is `late_s` behind."""
    shift = dt.timedelta(seconds=late_s)
    return replace(period, start=period.start + shift, end=period.end + shift) if late_s else period


CLOCK_S = 60  # a clock that is off by no more is right enough


def clock_of(session: Session) -> tuple[int, bool]:
    """By how many seconds the charger's clock was behind ours, and whether its time is verified.

    The start came with the charger's time and we noted ours. A difference is a wrong clock where it
    is what the station's live messages have taught us; with a clock known to be right, the message
    waited in the charger while it was offline. What is neither cannot be verified.
    """
    if sessions.CLOCK in session.flags:
        return 0, False
    waited_s = (session.started_received_at - session.started_at).total_seconds()
    if abs(waited_s) <= CLOCK_S:
        return 0, True
    ahead_s = session.station.clock_offset_s
    if ahead_s is None:
        return 0, False
    if abs(ahead_s) <= CLOCK_S:
        return 0, waited_s > 0
    if abs(waited_s + ahead_s) <= CLOCK_S:
        return round(-ahead_s), True
    return 0, False


def _second(at: dt.datetime) -> dt.datetime:
    return at.astimezone(dt.UTC).replace(microsecond=0)


def _energy(
    session: Session, readings: Sequence[Reading], start: dt.datetime, stop: dt.datetime
) -> list[Period]:
    """Periods from reading to reading; registers that fall, or exceed the result, are passed over.

    Power is the mean between two readings, current the sum of phases at the later one.
    """
    periods: list[Period] = []
    base = session.meter_start_mwh
    at, wh = start, 0
    for reading in readings:
        moment = _second(reading.at)
        if base is None:
            base = reading.register_mwh
        register = ((reading.register_mwh or 0) - (base or 0)) // 1000
        if at < moment < stop and wh <= register <= session.energy_wh:
            periods.append(_period(at, moment, register - wh, _ampere(reading)))
            at, wh = moment, register
    if stop > at or not periods:
        periods.append(_period(at, stop, session.energy_wh - wh, None))
    elif session.energy_wh > wh:
        last = periods.pop()
        periods.append(_period(last.start, last.end, int(last.wh) + session.energy_wh - wh, None))
    return periods


def _period(start: dt.datetime, end: dt.datetime, wh: int, ampere: Fraction | None) -> Period:
    seconds = int((end - start).total_seconds())
    power = Fraction(wh * 3600, seconds * 1000) if seconds else None
    return Period(
        start,
        end,
        wh,
        min_kw=power,
        max_kw=power,
        min_a=ampere,
        max_a=ampere,
        gap=bool(wh) and end - start > GAP,
    )


def _ampere(reading: Reading) -> Fraction | None:
    phases = [reading.current_l1_a, reading.current_l2_a, reading.current_l3_a]
    known = [Fraction(str(value)) for value in phases if value is not None]
    return sum(known, Fraction(0)) if known else None


def _marks(session: Session, start: dt.datetime, end: dt.datetime) -> list[Mark]:
    """When the vehicle's state was said to change, in the charger's time.

    Readings carry the charging state (2.x, and 1.6 by its connector's status); a fault is told by
    the connector's status alone.
    """
    news = Entry.objects.filter(
        subject=f"connector-{session.connector_id}",
        kind="connector.status_changed",
        at__gte=start - dt.timedelta(hours=1),
    ).order_by("pk")
    said = [(_said_at(entry), str(entry.data.get("status", ""))) for entry in news]
    rows = Reading.objects.filter(session=session).exclude(charging_state="").order_by("at", "n")
    said += [(_second(at), state) for at, state in rows.values_list("at", "charging_state")]
    heard = [(at, status) for at, status in said if at < end and status in KINDS]
    return sorted(heard, key=lambda mark: mark[0])  # as they came, where the second is the same


def _said_at(entry: Entry) -> dt.datetime:
    """The charger's own time of a change where the news has it, else when we heard."""
    try:
        return _second(dt.datetime.fromisoformat(str(entry.data["at"])))
    except (KeyError, ValueError):
        return _second(entry.at)


def _kinds(marks: Iterable[Mark], start: dt.datetime, stop: dt.datetime) -> list[Mark]:
    """Kinds of time by instant. Nothing said: charging until the stop, parking after it.

    Before the first word of charging a connected vehicle is not parked but waiting: paused.
    """
    kinds: list[Mark] = [(start, CHARGING)]
    charged = False
    for at, status in marks:
        kind = KINDS[status]
        charged = charged or kind == CHARGING
        if status == "EVConnected" and not charged:
            kind = PAUSED
        if at <= start:
            # What was true when the session began; Preparing and Finishing are of the one before.
            kinds[0] = (start, kind if kind == PAUSED else CHARGING)
        else:
            kinds.append((at, kind))
    before = [mark for mark in kinds if mark[0] < stop]
    after = [(at, kind if kind == PAUSED else PARKING) for at, kind in kinds if at >= stop]
    return [*before, (stop, PARKING), *after]


def _timed(periods: Iterable[Period], marks: Sequence[Mark]) -> Iterable[Period]:
    """The periods cut at the marks, their seconds put where the mark says."""
    for period in periods:
        inside = sorted({at for at, _ in marks if period.start < at < period.end})
        for part in cut_at(period, inside):
            kind = next((kind for at, kind in reversed(marks) if at <= part.start), CHARGING)
            seconds = int((part.end - part.start).total_seconds())
            yield Period(
                part.start,
                part.end,
                part.wh,
                charging_s=seconds if kind == CHARGING else 0,
                parking_s=seconds if kind == PARKING else 0,
                min_kw=part.min_kw,
                max_kw=part.max_kw,
                min_a=part.min_a,
                max_a=part.max_a,
                read=part.read,
                gap=part.gap,
            )


# --- kept with the charge, so that its price can be computed again --------------------------------


def to_json(usage: Usage) -> dict[str, Any]:
    """Usage as JSON: periods as [start, end, Wh, charging s, parking s, kW, A, read, gap]."""
    return {
        "zone": usage.zone.key,
        "verified": usage.verified,
        "doubts": list(usage.doubts),
        "started": None if usage.started is None else usage.started.isoformat(),
        "periods": [
            [
                period.start.isoformat(),
                period.end.isoformat(),
                int(period.wh),
                int(period.charging_s),
                int(period.parking_s),
                None if period.min_kw is None else str(period.min_kw),
                None if period.min_a is None else str(period.min_a),
                period.read,
                period.gap,
            ]
            for period in usage.periods
        ],
    }


def from_json(data: dict[str, Any]) -> Usage:
    """The usage `to_json` wrote."""
    periods = []
    for start, end, wh, charging_s, parking_s, kw, ampere, read, *gap in data["periods"]:
        power = None if kw is None else Fraction(kw)
        current = None if ampere is None else Fraction(ampere)
        periods.append(
            Period(
                dt.datetime.fromisoformat(start),
                dt.datetime.fromisoformat(end),
                wh,
                charging_s,
                parking_s,
                min_kw=power,
                max_kw=power,
                min_a=current,
                max_a=current,
                read=read,
                gap=bool(gap and gap[0]),
            )
        )
    started = data.get("started")
    return Usage(
        tuple(periods),
        ZoneInfo(data["zone"]),
        started=None if started is None else dt.datetime.fromisoformat(started),
        verified=data.get("verified", True),
        doubts=tuple(data.get("doubts", ())),
    )
