"""The transactions of a process take turns on SQLite."""

import threading
import time

import pytest
from django.db import connection, transaction

from stations.models import Site

pytestmark = pytest.mark.django_db(transaction=True)


def test_many_threads_write_without_stalls_or_errors() -> None:
    longest = 0.0
    failures: list[Exception] = []

    def write(name: str) -> None:
        nonlocal longest
        try:
            for n in range(20):
                began = time.monotonic()
                with transaction.atomic():
                    Site.objects.create(name=f"{name} {n}")
                longest = max(longest, time.monotonic() - began)
        except Exception as error:  # noqa: BLE001
            failures.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=write, args=(f"thread {n}",)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert Site.objects.count() == 160
    assert longest < 5


def test_the_turn_is_passed_on_after_a_failure_and_a_closed_connection() -> None:
    def fail() -> None:
        with transaction.atomic():
            Site.objects.create(name="never")
            raise ZeroDivisionError

    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            fail()

    def leave() -> None:
        transaction.set_autocommit(False)
        Site.objects.create(name="never")
        connection.close()

    thread = threading.Thread(target=leave)
    thread.start()
    thread.join(30)
    began = time.monotonic()
    with transaction.atomic():
        Site.objects.create(name="now")
    assert time.monotonic() - began < 10
    assert Site.objects.get().name == "now"
