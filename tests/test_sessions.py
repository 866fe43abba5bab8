"""Sessions: idempotent, order-blind, nothing dropped that cost energy."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from billing.usage import to_json, usage_of
from monitoring import bays, readings, rows, sessions
from monitoring.facts import Bay, Start, Stop, Update
from monitoring.metering import Sampled
from monitoring.models import Reading, Session
from stations.models import Connector, Entry, Station, Token
from tests import make

T0 = datetime(2026, 11, 22, 8, 0, tzinfo=UTC)
LANES = {
    Start: sessions.start,
    Update: sessions.update,
    Stop: sessions.stop,
    Sampled: readings.write,
    Bay: bays.follow,
}


def put(*facts: Any) -> list[Any]:
    """Write facts as batches of one, in this order, and return the outcomes."""
    with transaction.atomic():
        return [LANES[type(fact)]([fact])[0] for fact in facts]


def put_together(facts: Iterable[Any]) -> list[Any]:
    """Write facts of one kind as one batch."""
    facts = list(facts)
    with transaction.atomic():
        return list(LANES[type(facts[0])](facts))


def start(station: Station, ref: str | None = None, **fields: Any) -> Start:
    at = fields.pop("at", T0)
    defaults = {
        "evse": 1,
        "connector": 1,
        "token_uid": "TAG1",
        "token_type": "ISO14443",
        "meter_mwh": 1_000_000,
        "received_at": at,
    }
    return Start(station_id=station.pk, ref=ref, at=at, **defaults | fields)


def stop(station: Station, ref: str, **fields: Any) -> Stop:
    at = fields.pop("at", T0 + timedelta(hours=1))
    defaults = {"meter_mwh": 11_000_000, "received_at": at, "reason": "Local", "numbered": True}
    return Stop(station_id=station.pk, ref=ref, at=at, **defaults | fields)


def sample(
    station: Station, ref: str | None, minute: float, wh: int | None, **fields: Any
) -> Sampled:
    at = T0 + timedelta(minutes=minute)
    defaults = {"evse": None, "received_at": at, "context": "Sample.Periodic"}
    register = None if wh is None else wh * 1000
    return Sampled(station.pk, ref, at=at, register_mwh=register, **defaults | fields)


def kinds() -> list[str]:
    return list(Entry.objects.order_by("pk").values_list("kind", flat=True))


@pytest.fixture
def station(db: None) -> Station:
    make.token(uid="TAG1")
    return make.station(2)


def test_a_session_from_start_to_stop(station: Station) -> None:
    [began] = put(start(station, remote_start_id=7))
    put(sample(station, began.ref, 30, 6_000, power_w=7200.0, soc_percent=50.0))
    live = Session.objects.get()
    assert (live.energy_wh, live.energy_source, live.power_w) == (5_000, "provisional", 7200.0)
    [ended] = put(stop(station, began.ref, token_uid="TAG1"))
    row = Session.objects.get()
    assert (began.number, began.ref, began.verdict.status) == (row.number, row.ref, "Accepted")
    assert (ended.energy_wh, ended.duplicate) == (10_000, False)
    assert ended.verdict is not None
    assert ended.verdict.accepted
    assert (row.energy_wh, row.energy_source, row.state) == (10_000, "registers", "closed")
    assert (row.token, row.connector) == (Token.objects.get(), station.connectors.first())
    assert (row.flags, row.review, row.power_w) == ([], "", 0.0)
    assert kinds() == ["session.started", "session.stopped", "session.closed"]
    assert Entry.objects.first() is not None
    assert Entry.objects.get(kind="session.started").data["remote_start_id"] == 7


def test_a_resent_start_gets_the_same_number_and_the_same_answer(station: Station) -> None:
    [one] = put(start(station))
    Token.objects.update(status=Token.Status.BLOCKED)
    [again] = put(start(station))
    assert (again.number, again.duplicate) == (one.number, True)
    assert again.verdict.status == "Accepted"
    assert kinds() == ["session.started"]


def test_the_same_start_twice_in_one_batch_is_one_session(station: Station) -> None:
    one, two = put_together([start(station), start(station)])
    assert one.number == two.number
    assert Session.objects.count() == 1


def test_numbers_rise_and_are_never_used_again(station: Station) -> None:
    numbers = [put(start(station, at=T0 + timedelta(hours=n)))[0].number for n in range(3)]
    Session.objects.all().delete()
    numbers.append(put(start(station, at=T0 + timedelta(hours=9)))[0].number)
    assert numbers == sorted(set(numbers))
    assert numbers[-1] < 2**31


def test_two_sessions_stamped_1970_on_two_connections_stay_two(station: Station) -> None:
    epoch_0 = datetime(1970, 1, 1, tzinfo=UTC)
    one, again, two = put(
        start(station, at=epoch_0, received_at=T0, epoch=1),
        start(station, at=epoch_0, received_at=T0, epoch=1),
        start(station, at=epoch_0, received_at=T0 + timedelta(hours=1), epoch=2),
    )
    assert one.session_id == again.session_id != two.session_id
    row = Session.objects.get(pk=one.session_id)
    assert (row.started_at, row.flags) == (T0, ["clock"])


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"status": Token.Status.BLOCKED}, "Blocked"),
        ({"expires_at": T0 - timedelta(days=400)}, "Expired"),
        ({"uid": "OTHER"}, "Unknown"),
    ],
)
def test_a_refused_start_is_kept_for_review_and_billed_by_nobody_unseen(
    station: Station, fields: dict[str, Any], status: str
) -> None:
    Token.objects.update(**fields)
    [began] = put(start(station))
    put(stop(station, began.ref))
    row = Session.objects.get()
    assert began.verdict.status == row.authorization == status
    assert (row.review, row.energy_wh) == ("refused-start", 10_000)


def test_a_token_at_its_limit_is_told_so_even_within_one_batch(station: Station) -> None:
    Token.objects.update(max_sessions=1)
    one, two = put_together([start(station), start(station, evse=2)])
    assert (one.verdict.status, two.verdict.status) == ("Accepted", "ConcurrentTx")
    assert put(start(station))[0].verdict.status == "Accepted"  # resent


def test_a_connector_never_seen_is_made(station: Station) -> None:
    put(start(station, evse=5))
    assert Session.objects.get().connector == Connector.objects.get(evse__number=5)


# --- stops ----------------------------------------------------------------------------------------


def test_a_stop_twice_is_one_stop_and_another_content_is_only_flagged(station: Station) -> None:
    [began] = put(start(station))
    first, same, other = put(
        stop(station, began.ref), stop(station, began.ref), stop(station, began.ref, meter_mwh=1)
    )
    row = Session.objects.get()
    assert (first.duplicate, same.duplicate, other.duplicate) == (False, True, True)
    assert (row.energy_wh, row.meter_stop_mwh, row.flags) == (10_000, 11_000_000, ["stop-differs"])
    assert kinds().count("session.stopped") == kinds().count("session.closed") == 1


def test_a_stop_of_an_unknown_number_is_kept_once_and_a_new_session_cannot_meet_it(
    station: Station,
) -> None:
    unknown = str(Session.objects.count() + 1)
    one, again = put(stop(station, unknown), stop(station, unknown))
    row = Session.objects.get()
    assert one.session_id == again.session_id == row.pk
    assert (row.review, row.energy_wh, row.state) == ("orphan-stop", 0, "closed")
    for n in range(3):
        assert not put(start(station, at=T0 + timedelta(days=n)))[0].duplicate
    assert Session.objects.count() == 4


def test_another_stations_stop_leaves_the_session_alone(station: Station) -> None:
    [began] = put(start(station))
    put(stop(make.station(), began.ref))
    assert Session.objects.get(pk=began.session_id).stopped_at is None


def test_a_stop_of_transaction_minus_one_finds_the_open_session_of_its_tag(
    station: Station,
) -> None:
    began, _ = put(start(station), start(station, evse=2, token_uid="TAG2"))
    [ended] = put(stop(station, "-1", token_uid="tag1"))
    row = Session.objects.get(pk=began.session_id)
    assert ended.session_id == began.session_id
    assert (row.energy_wh, row.flags, row.review) == (10_000, ["matched-by-tag"], "")


def test_a_stop_before_its_start_by_the_clock_ends_at_the_start(station: Station) -> None:
    [began] = put(start(station))
    put(stop(station, began.ref, at=T0 - timedelta(hours=1)))
    row = Session.objects.get()
    assert (row.stopped_at, row.flags) == (T0, ["clock"])


def test_a_negative_session_bills_nothing_and_waits_for_a_person(station: Station) -> None:
    [began] = put(start(station))
    put(stop(station, began.ref, meter_mwh=500_000))
    row = Session.objects.get()
    assert (row.energy_wh, row.flags, row.review) == (0, ["negative"], "negative-energy")


# --- 2.x ------------------------------------------------------------------------------------------


def test_an_end_without_a_start_is_completed_when_the_start_comes(station: Station) -> None:
    put(stop(station, "tx-1", numbered=False, seq_no=2, evse=1, connector=1))
    alone = Session.objects.get()
    assert (alone.flags, alone.energy_wh) == (["no-start"], 0)
    put(start(station, "tx-1", seq_no=0))
    row = Session.objects.get()
    assert (row.started_at, row.energy_wh, row.flags) == (T0, 10_000, ["seq-gap"])
    put(Update(station.pk, "tx-1", T0, T0, seq_no=1))
    assert Session.objects.get().flags == []
    assert kinds()[-1] == "session.corrected"


def test_a_token_that_comes_with_an_update_is_decided_and_told(station: Station) -> None:
    put(start(station, "tx-1", token_uid="", seq_no=0))
    [known] = put(Update(station.pk, "tx-1", T0, T0, seq_no=1, token_uid="TAG1"))
    assert known.verdict.accepted
    row = Session.objects.get()
    assert (row.token_uid, row.authorization) == ("TAG1", "Accepted")
    assert kinds() == ["session.started", "session.authorized"]


def test_charging_states_become_a_timeline_and_repetitions_do_not(station: Station) -> None:
    put(start(station, "tx-1", seq_no=0, charging_state="EVConnected"))
    for n, state in enumerate(["Charging", "Charging", "SuspendedEV", "Charging"], start=1):
        at = T0 + timedelta(minutes=n)
        put(Update(station.pk, "tx-1", at, at, seq_no=n, charging_state=state))
    states = Reading.objects.order_by("at").values_list("charging_state", flat=True)
    assert list(states) == ["Charging", "SuspendedEV", "Charging"]
    assert Session.objects.get().charging_state == "Charging"


def story(station: Station) -> list[Any]:
    """All messages of a 2.x session, with a reset of the meter in the middle."""
    ref = "tx-1"
    updates = [
        Update(
            station.pk,
            ref,
            T0 + timedelta(minutes=n),
            T0 + timedelta(minutes=n),
            seq_no=n,
            charging_state="SuspendedEV" if n == 2 else "Charging",
        )
        for n in (1, 2, 3)
    ]
    values = [
        sample(station, ref, n, wh, power_w=power, soc_percent=soc)
        for n, wh, power, soc in [
            (1, 1500, 7000.0, None),
            (2, 2000, None, 40.0),
            (2, 2100, 8000.0, None),
            (3, 1900, 6000.0, 45.0),
            (61, 9000, 5000.0, None),
        ]
    ]
    ended = stop(station, ref, numbered=False, seq_no=4, evse=1, connector=1, meter_mwh=3_000_000)
    return [start(station, ref, seq_no=0), *updates, *values, ended]


IGNORED = {"id", "state", "_state", "started_received_at", "stopped_received_at", "close_by"}


def outcome() -> dict[str, Any]:
    row = Session.objects.get()
    return {name: value for name, value in vars(row).items() if name not in IGNORED}


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
@pytest.mark.django_db
def test_any_order_and_any_repetition_of_messages_gives_the_same_session(data: Any) -> None:
    with transaction.atomic():
        make.token(uid="TAG1")
        station = make.station()
        facts = story(station)
        put(*facts)
        expected = outcome()
        Reading.objects.all().delete()
        Session.objects.all().delete()
        order = data.draw(st.permutations(facts))
        again = data.draw(st.lists(st.sampled_from(facts), max_size=4))
        # a reading travels with an event of its session: none comes before all of them
        first = next(fact for fact in order if not isinstance(fact, Sampled))
        put(first, *order, *again)
        assert outcome() == expected
        assert expected["energy_wh"] == 2_000
        transaction.set_rollback(True)


# --- readings -------------------------------------------------------------------------------------


def test_a_retransmitted_reading_is_one_row_and_two_contents_of_one_second_are_two(
    station: Station,
) -> None:
    [began] = put(start(station))
    same = sample(station, began.ref, 1, 1100)
    put(same, same, sample(station, began.ref, 1, 1100, context="Transaction.End"))
    assert Reading.objects.count() == 2
    assert Session.objects.get().energy_wh == 100


def test_a_reading_without_a_transaction_goes_to_the_open_session_of_its_evse(
    station: Station,
) -> None:
    [began] = put(start(station))
    mine, nobodys = put(
        sample(station, None, 1, 1100, evse=1), sample(station, None, 1, 1100, evse=2)
    )
    stale = put(sample(station, "999999", 2, 1200, evse=1))
    assert (mine, nobodys, stale) == (began.session_id, None, [began.session_id])
    assert Session.objects.get().flags == ["reattached"]


def test_a_batch_of_many_sessions_is_written_at_once(
    station: Station, django_assert_max_num_queries: Any
) -> None:
    refs = [put(start(station, at=T0 + timedelta(seconds=n)))[0].ref for n in range(20)]
    facts = [sample(station, ref, 1 + n, 1000 + n) for ref in refs for n in range(5)]
    with django_assert_max_num_queries(5), transaction.atomic():
        readings.write(facts)
    assert Reading.objects.count() == 100
    assert set(Session.objects.values_list("energy_wh", flat=True)) == {4}


# --- closing --------------------------------------------------------------------------------------


def occupied(station: Station) -> None:
    station.connectors.update(status=Connector.Status.CHARGING)


def bay(station: Station, status: str, minute: float) -> Bay:
    at = T0 + timedelta(minutes=minute)
    return Bay(station.pk, 1, 1, status, at, at)


def test_a_session_ends_its_stay_when_the_connector_becomes_available(station: Station) -> None:
    occupied(station)
    [began] = put(start(station))
    put(bay(station, "Available", -5))  # replayed: from before
    put(stop(station, began.ref))
    assert Session.objects.get().state == "stopped"
    put(bay(station, "Finishing", 61), bay(station, "Available", 75))
    row = Session.objects.get()
    assert (row.state, row.closed_at) == ("closed", T0 + timedelta(minutes=75))
    assert kinds() == ["session.started", "session.stopped", "session.closed"]


def test_no_wait_where_the_vehicle_is_known_to_be_gone(station: Station) -> None:
    occupied(station)
    [began] = put(start(station))
    put(stop(station, began.ref, reason="EVDisconnected"))
    assert Session.objects.get().state == "closed"


def test_billing_may_close_what_can_cost_no_more(station: Station) -> None:
    occupied(station)
    [began] = put(start(station))
    put(stop(station, began.ref))
    assert sessions.close([began.session_id]) == 1
    assert sessions.close([began.session_id]) == 0
    row = Session.objects.get()
    assert (row.state, row.closed_at) == ("closed", row.stopped_at)


def test_a_session_whose_stop_was_lost_ends_provisionally_and_a_late_stop_corrects_it(
    station: Station,
) -> None:
    occupied(station)
    [began] = put(start(station))
    put(sample(station, began.ref, 30, 5_000), bay(station, "Available", 40))
    assert sessions.close_due(T0 + timedelta(minutes=41)) == 0
    assert sessions.close_due(T0 + timedelta(hours=1)) == 1
    row = Session.objects.get()
    assert (row.state, row.energy_wh, row.energy_source) == ("closed", 4_000, "provisional")
    assert (row.stopped_at, row.flags) == (T0 + timedelta(minutes=30), ["no-stop"])
    put(stop(station, began.ref))
    row = Session.objects.get()
    assert (row.energy_wh, row.energy_source, row.flags) == (10_000, "registers", [])
    correction = Entry.objects.get(kind="session.corrected")
    assert correction.data == {"energy_wh": 10_000, "previous_wh": 4_000}
    assert kinds().count("session.closed") == 1


def test_a_silent_station_does_not_hold_money_for_ever(station: Station) -> None:
    now = timezone.now()
    put(start(station, at=now - timedelta(hours=30)))
    assert sessions.close_due(now) == 0
    Station.objects.update(last_seen_at=now - timedelta(hours=25))
    assert sessions.close_due(now) == 1


def test_the_next_session_on_a_connector_ends_the_stay_of_the_one_before(
    station: Station,
) -> None:
    occupied(station)
    [one] = put(start(station))
    put(stop(station, one.ref))
    put(start(station, at=T0 + timedelta(hours=2)))
    row = Session.objects.get(pk=one.session_id)
    assert (row.state, row.closed_at) == ("closed", T0 + timedelta(hours=2))


def test_statuses_of_1_6_become_charging_states(station: Station) -> None:
    put(start(station), bay(station, "Charging", 1), bay(station, "SuspendedEV", 2))
    assert Session.objects.get().charging_state == "SuspendedEV"
    assert Reading.objects.count() == 2


@pytest.mark.django_db
def test_a_long_session_without_a_start_register_is_not_read_again_for_each_reading() -> None:
    """2.x: a Started that carries no register. Every reading costs what the first one did."""
    station = make.station()
    put(start(station, "T1", meter_mwh=None))
    counts = []
    for minute in range(1, 30):
        with CaptureQueriesContext(connection) as queries:
            put(sample(station, "T1", minute, None if minute < 5 else 1000 + minute))
        counts.append(len(queries))
        asked = [one["sql"] for one in queries if "monitoring_reading" in one["sql"]]
        assert [sql for sql in asked if sql.startswith("SELECT")] == []
    assert set(counts) == {counts[0]}
    session = Session.objects.get()
    assert (session.meter_start_mwh, session.streak_start_mwh) == (None, 1_005_000)
    assert (session.energy_wh, session.flags) == (24, ["no-begin"])


@pytest.mark.django_db
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.permutations(range(8)), st.sampled_from([None, 0, 3]))
def test_without_a_start_register_the_order_of_readings_does_not_matter(
    order: list[int], begin: int | None
) -> None:
    """What follows from reading to reading is what all readings together say."""
    registers = [None, 100, 120, 90, 130, None, 150, 170]
    station = make.station()
    put(start(station, "T1", meter_mwh=None))
    context = {begin: "Transaction.Begin"} if begin is not None else {}
    for n in order:
        fields = {"context": context[n]} if n in context else {}
        put(sample(station, "T1", n + 1, registers[n], **fields))
    session = Session.objects.get(station=station)
    got = (session.energy_wh, session.last_register_mwh, session.flags, session.energy_source)
    with transaction.atomic():
        row = rows.by_id([session.pk])[session.pk]
        readings.remeasure([row])
    assert got == (row.energy_wh, row.last_register_mwh, row.flags, row.energy_source)


# --- whatever the order ---------------------------------------------------------------------------


@pytest.mark.parametrize("stopper", ["TAG1", "tag1", "TAG2", "STRANGER"])
@pytest.mark.parametrize("late_start", [False, True])
def test_a_stop_by_a_token_of_no_common_group_is_a_doubt(
    station: Station, stopper: str, late_start: bool
) -> None:
    Token.objects.update(group="FLEET")
    make.token(uid="TAG2", group="FLEET")
    make.token(uid="STRANGER")
    begun = start(station, "tx", seq_no=0)
    ended = stop(station, "tx", numbered=False, seq_no=1, token_uid=stopper, evse=1)
    put(*((ended, begun) if late_start else (begun, ended)))
    row = Session.objects.get()
    assert (row.energy_wh, row.stop_token_uid) == (10_000, stopper)
    assert row.flags == (["stopped-by-other"] if stopper == "STRANGER" else [])


def story_16(station: Station, ref: str) -> list[Any]:
    """All that follows a StartTransaction of 1.6, transactionData included; a reset in between."""
    values = [
        sample(station, ref, n, wh, evse=1, power_w=power, context=context)
        for n, wh, power, context in [
            (0, 1000, None, "Transaction.Begin"),
            (10, 2500, 7000.0, "Sample.Periodic"),
            (20, 4000, 7200.0, "Sample.Clock"),
            (30, 3900, None, "Sample.Periodic"),
            (40, None, 3000.0, "Sample.Periodic"),
            (60, 11_000, None, "Transaction.End"),
            (61, 11_002, None, "Sample.Periodic"),
        ]
    ]
    return [*values, stop(station, ref, token_uid="TAG1"), start(station)]


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
@pytest.mark.django_db
def test_a_session_of_1_6_and_its_usage_are_the_same_whatever_came_first(data: Any) -> None:
    """And what is computed anew from the stored readings is what came of them one by one."""
    with transaction.atomic():
        make.token(uid="TAG1")
        station = make.station()
        told = []
        for ordered in (False, True):
            [began] = put(start(station))
            facts = story_16(station, began.ref)
            order = data.draw(st.permutations(facts)) if ordered else facts
            again = data.draw(st.lists(st.sampled_from(facts), max_size=4)) if ordered else []
            put(*order, *again)
            row = Session.objects.select_related("station__site").get()
            usage = to_json(usage_of(row))
            [anew] = rows.by_id([row.pk]).values()
            before = replace(anew)
            readings.remeasure([anew])
            assert rows_equal(anew, before)
            told.append(({**outcome(), "ref": "", "number": 0, "natural_key": ""}, usage))
            Reading.objects.all().delete()
            Session.objects.all().delete()
        assert told[0] == told[1]
        assert told[0][0]["energy_wh"] == 10_000
        transaction.set_rollback(True)


def rows_equal(one: rows.Row, other: rows.Row) -> bool:
    return all(getattr(one, name) == getattr(other, name) for name in rows.COLUMNS)
