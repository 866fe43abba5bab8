"""The group-commit writer: answered after COMMIT only, poison stays alone, nothing is lost."""

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from django.db import DataError, OperationalError, connection

from stations import writer
from stations.models import Site
from stations.writer import Unit, Writer

pytestmark = pytest.mark.django_db(transaction=True)


def write_sites(names: list[str]) -> list[int]:
    if "poison" in names:
        raise DataError("no such site")
    if "down" in names:
        raise OperationalError("the server closed the connection")
    return [Site.objects.create(name=name).pk for name in names]


@pytest.fixture
def mine(monkeypatch: pytest.MonkeyPatch) -> Iterator[Writer]:
    monkeypatch.setattr(writer, "_lanes", {})
    writer.lane("sites", 10, write_sites)
    one = Writer()
    yield one
    one.stop()


def unit(*names: str) -> Unit:
    made = Unit()
    for name in names:
        made.add("sites", name)
    return made


def names() -> set[str]:
    return set(Site.objects.values_list("name", flat=True))


def test_a_unit_is_answered_from_outcomes_after_the_commit(mine: Writer) -> None:
    async def call() -> Any:
        one = Unit()
        slot = one.add("sites", "Berlin")
        one.reply = lambda: {"site": slot.outcome}
        answer = await mine.commit(one)
        return answer, one.answer

    answer, kept = asyncio.run(call())
    assert answer == kept == {"site": Site.objects.get().pk}


def test_later_lanes_are_written_with_the_answer_known(mine: Writer) -> None:
    seen: list[Any] = []
    writer.lane("frames", writer.ANSWERED, lambda facts: seen.extend(one.answer for one in facts))

    async def call() -> None:
        one = unit("Bonn")
        one.reply = lambda: "answer"
        one.add("frames", one)
        await mine.commit(one)

    asyncio.run(call())
    assert seen == ["answer"]


def test_what_queued_during_a_commit_is_written_together(mine: Writer) -> None:
    async def calls() -> None:
        await asyncio.gather(*(mine.commit(unit(f"site {n}")) for n in range(1200)))

    asyncio.run(calls())
    assert len(names()) == mine.stats.units == 1200
    assert mine.stats.batches < 100
    assert mine.stats.largest_batch <= writer.MAX_BATCH


def test_poison_fails_alone_with_its_own_error(mine: Writer) -> None:
    async def calls() -> list[Any]:
        units = [unit(f"site {n}") for n in range(40)]
        units[17] = unit("half of it", "poison")
        return await asyncio.gather(*map(mine.submit, units), return_exceptions=True)

    results = asyncio.run(calls())
    failed = {n: type(result) for n, result in enumerate(results) if result is not None}
    assert failed == {17: DataError}
    assert len(names()) == 39
    assert mine.stats.failed_units == 1


def test_a_reply_that_raises_stores_nothing_of_its_unit(mine: Writer) -> None:
    async def call() -> None:
        one = unit("Köln")
        one.reply = lambda: 1 / 0
        await mine.commit(one)

    with pytest.raises(ZeroDivisionError):
        asyncio.run(call())
    assert names() == set()


def test_a_lost_database_fails_the_batch_and_the_next_one_works(mine: Writer) -> None:
    async def calls() -> list[Any]:
        held = asyncio.Event()
        blocked = asyncio.ensure_future(mine.run(held_open.wait)) if embedded else None
        batch = [mine.submit(unit(name)) for name in ("a", "down", "b")]
        held_open.set()
        if blocked:
            await blocked
        results = await asyncio.gather(*batch, return_exceptions=True)
        held.set()
        return [*results, await mine.commit(unit("after"))]

    held_open = threading.Event()
    embedded = connection.vendor == "sqlite"  # there `run` occupies the writer's own thread
    results = asyncio.run(calls())
    assert isinstance(results[1], writer.DatabaseDown)
    assert results[3] is None
    assert "after" in names()
    assert "down" not in names()
    if embedded:
        assert [type(result) for result in results[:3]] == [writer.DatabaseDown] * 3
        assert names() == {"after"}


def test_a_failure_after_the_commit_does_not_undo_the_answer(
    mine: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    from django.db import transaction

    def fail() -> None:
        raise ValueError("a listener broke")

    def write(facts: list[str]) -> None:
        write_sites(facts)
        transaction.on_commit(fail)

    writer.lane("broken", 20, write)

    async def call() -> Any:
        one = Unit(answer="stored")
        one.add("broken", "Ulm")
        return await mine.commit(one)

    assert asyncio.run(call()) == "stored"
    assert names() == {"Ulm"}


def test_rare_work_runs_in_a_transaction_of_its_own(mine: Writer) -> None:
    def work(name: str) -> str:
        Site.objects.create(name=name)
        if name == "bad":
            raise ValueError(name)
        return threading.current_thread().name

    async def calls() -> tuple[str, BaseException]:
        good = await mine.run(lambda: work("good"))
        with pytest.raises(ValueError, match="bad") as caught:
            await mine.run(lambda: work("bad"))
        return good, caught.value

    thread, _ = asyncio.run(calls())
    assert names() == {"good"}
    assert (thread == "writer") == (connection.vendor == "sqlite")


def test_a_full_queue_makes_callers_wait_and_drops_nothing(
    mine: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "MAX_QUEUE", 5)
    deepest = 0

    async def call(n: int) -> None:
        nonlocal deepest
        await mine.commit(unit(f"site {n}"))
        deepest = max(deepest, mine.depth)

    async def calls() -> None:
        await asyncio.gather(*map(call, range(100)))

    asyncio.run(calls())
    assert len(names()) == 100
    assert deepest <= 5


def test_stopping_writes_what_is_queued_and_takes_no_more(mine: Writer) -> None:
    async def calls() -> list[Any]:
        queued = [mine.submit(unit(f"site {n}")) for n in range(50)]
        await asyncio.to_thread(mine.stop)
        with pytest.raises(writer.Stopped):
            mine.submit(unit("late"))
        return await asyncio.gather(*queued)

    assert asyncio.run(calls()) == [None] * 50
    assert len(names()) == 50


def test_two_lanes_cannot_share_a_name() -> None:
    with pytest.raises(ValueError, match="taken"):
        writer.lane("readings", 1, write_sites)
