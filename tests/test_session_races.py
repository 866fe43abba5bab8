"""Two connections at once: every “once” of a session holds between gateways."""

import threading
from collections.abc import Callable
from typing import Any

import pytest
from django.db import OperationalError, connection, transaction

from monitoring import sessions
from monitoring.models import Session
from stations.models import Entry
from tests import make
from tests.test_sessions import start, stop

pytestmark = pytest.mark.django_db(transaction=True)
ROUNDS = 10


def at_once(*calls: Callable[[], Any]) -> list[Any]:
    """Run each call in a thread and transaction of its own, begun together."""
    ready = threading.Barrier(len(calls))
    results: list[Any] = [None] * len(calls)

    def run(n: int, call: Callable[[], Any]) -> None:
        try:
            ready.wait()
            for _ in range(5):  # as the writer does: a deadlock between gateways is tried again
                try:
                    with transaction.atomic():
                        results[n] = call()
                    return
                except OperationalError as error:
                    if "deadlock" not in str(error):
                        raise
        finally:
            connection.close()

    threads = [threading.Thread(target=run, args=(n, call)) for n, call in enumerate(calls)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return results


def kinds() -> list[str]:
    return sorted(Entry.objects.values_list("kind", flat=True))


def test_the_same_start_from_two_gateways_is_one_session() -> None:
    make.token(uid="TAG1")
    for _ in range(ROUNDS):
        station = make.station()
        fact = start(station)
        one, two = at_once(lambda: sessions.start([fact]), lambda: sessions.start([fact]))  # noqa: B023
        assert one[0].number == two[0].number
        assert (one[0].verdict.status, two[0].verdict.status) == ("Accepted", "Accepted")
    assert Session.objects.count() == ROUNDS
    assert kinds() == ["session.started"] * ROUNDS


def test_the_same_transaction_of_2_x_from_two_gateways_is_one_session() -> None:
    make.token(uid="TAG1")
    for n in range(ROUNDS):
        fact = start(make.station(), f"tx-{n}")
        one, two = at_once(lambda: sessions.start([fact]), lambda: sessions.start([fact]))  # noqa: B023
        assert one[0].session_id == two[0].session_id
    assert Session.objects.count() == ROUNDS


def test_the_same_stop_twice_at_once_is_one_stop() -> None:
    make.token(uid="TAG1")
    for _ in range(ROUNDS):
        station = make.station()
        with transaction.atomic():
            [began] = sessions.start([start(station)])
        fact = stop(station, began.ref)
        one, two = at_once(lambda: sessions.stop([fact]), lambda: sessions.stop([fact]))  # noqa: B023
        assert sorted([one[0].duplicate, two[0].duplicate]) == [False, True]
        assert one[0].energy_wh == two[0].energy_wh == 10_000
    assert kinds().count("session.stopped") == kinds().count("session.closed") == ROUNDS


def test_the_same_orphan_stop_twice_at_once_is_kept_once() -> None:
    for _ in range(ROUNDS):
        fact = stop(make.station(), "4711")
        one, two = at_once(lambda: sessions.stop([fact]), lambda: sessions.stop([fact]))  # noqa: B023
        assert one[0].session_id == two[0].session_id
    assert Session.objects.filter(review="orphan-stop").count() == ROUNDS


def test_batches_of_the_same_sessions_in_opposite_order_end_well() -> None:
    make.token(uid="TAG1")
    stations = [make.station() for _ in range(20)]
    facts = [start(station) for station in stations]
    one, two = at_once(lambda: sessions.start(facts), lambda: sessions.start(facts[::-1]))
    assert [began.number for began in one] == [began.number for began in two[::-1]]
    stops = [stop(station, began.ref) for station, began in zip(stations, one, strict=True)]
    at_once(lambda: sessions.stop(stops), lambda: sessions.stop(stops[::-1]))
    assert kinds().count("session.stopped") == len(stations) == Session.objects.count()


def test_a_stop_and_the_sweep_at_once_close_a_session_once() -> None:
    make.token(uid="TAG1")
    for _ in range(ROUNDS):
        station = make.station()
        with transaction.atomic():
            [began] = sessions.start([start(station)])
        Session.objects.filter(pk=began.session_id).update(close_by=start(station).at)
        fact = stop(station, began.ref)
        at_once(sessions.close_due, lambda: sessions.stop([fact]))  # noqa: B023
        assert Session.objects.get(pk=began.session_id).energy_wh == 10_000
    assert kinds().count("session.closed") == ROUNDS
