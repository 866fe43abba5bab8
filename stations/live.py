"""The bus: “this changed”, to browsers and between processes. Never content, never the truth.

`touch("session-17")` tells every process, after commit, that a topic changed. Browsers hear it as a
server-sent event and fetch what they show; gateways hear `orders-5` and look for queued commands.
A lost touch costs freshness only: pages poll as a fall-back, gateways sweep.

Embedded it is a set and a thread; with `REDIS_URL` the set is published on one Redis channel.
"""

import json
import logging
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import redis
from django.conf import settings
from django.db import transaction

log = logging.getLogger(__name__)

CHANNEL = "csms:live"
PAUSE_S = 0.05  # a burst within this becomes one message

Listener = Callable[[frozenset[str]], None]

# What a guest may subscribe to: prefix → function from what follows it to a topic, or None.
RESOLVERS: dict[str, Callable[[str], str | None]] = {}


@dataclass(frozen=True, slots=True)
class Hearing:
    """Which staff may subscribe to a topic.

    `fleet` and `incidents` name no row: they say that something changed, not where. A topic of a
    row (`session-17`) is heard by those who may view it: by permission, and by site.
    """

    permission: str
    model: str = ""  # `app.Model` of the rows; empty: the topic is one word
    site_path: str = ""  # ORM path from the row to its Site; `pk` is Site itself


# What staff may subscribe to: the topic's word → who hears it. Other words are for processes
# (`orders-5`) and heard by no browser. Apps add theirs beside their URLs.
HEARINGS: dict[str, Hearing] = {
    "fleet": Hearing("stations.view_station"),
    "site": Hearing("stations.view_site", "stations.Site", "pk"),
    "station": Hearing("stations.view_station", "stations.Station", "site"),
    "connector": Hearing("stations.view_station", "stations.Connector", "station__site"),
    "command": Hearing("stations.view_command", "stations.Command", "station__site"),
    "commandbatch": Hearing(
        "stations.view_commandbatch", "stations.CommandBatch", "commands__station__site"
    ),
}


class Bus:
    """Collects touched topics and tells listeners of this and, through Redis, other processes."""

    def __init__(self, redis_url: str) -> None:
        self._redis_url = redis_url
        self._topics: set[str] = set()
        self._listeners: list[Listener] = []
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._threads: dict[str, threading.Thread] = {}

    def publish(self, topics: Iterable[str]) -> None:
        """Tell everybody soon (at once, at most every 50 ms). From any thread."""
        with self._lock:
            self._topics.update(topics)
            self._run("flush", self._flush)
        self._wake.set()

    def listen(self, listener: Listener) -> Callable[[], None]:
        """Call `listener(topics)` from a thread of the bus; return a function that ends it."""
        with self._lock:
            self._listeners.append(listener)
            if self._redis_url:
                self._run("redis", self._receive)
        return lambda: self._forget(listener)

    def _forget(self, listener: Listener) -> None:
        with self._lock:
            if listener in self._listeners:
                self._listeners.remove(listener)

    def _run(self, name: str, target: Callable[[], None]) -> None:
        thread = self._threads.get(name)
        if thread is None or not thread.is_alive():
            self._threads[name] = threading.Thread(target=target, name=f"live-{name}", daemon=True)
            self._threads[name].start()

    def _flush(self) -> None:
        client = redis.Redis.from_url(self._redis_url) if self._redis_url else None
        while True:
            self._wake.wait()
            self._wake.clear()
            with self._lock:
                topics, self._topics = frozenset(self._topics), set()
            if not topics:
                continue
            if client is None:
                self._tell(topics)
            else:
                try:
                    client.publish(CHANNEL, json.dumps(sorted(topics)))
                except redis.RedisError:
                    log.warning("Redis is not reachable: pages and orders fall back to polling.")
                    self._tell(topics)
            time.sleep(PAUSE_S)

    def _receive(self) -> None:
        while True:
            try:
                pubsub: Any = redis.Redis.from_url(
                    self._redis_url, health_check_interval=15
                ).pubsub()
                pubsub.subscribe(CHANNEL)
                for message in pubsub.listen():
                    if message["type"] == "message":
                        self._tell(frozenset(json.loads(message["data"])))
            except (redis.RedisError, OSError, ValueError):
                time.sleep(1)

    def _tell(self, topics: frozenset[str]) -> None:
        with self._lock:
            listeners = list(self._listeners)
        for listener in listeners:
            try:
                listener(topics)
            except Exception:  # one broken listener must not silence the bus
                log.exception("A listener of the bus failed.")


bus = Bus(settings.REDIS_URL)


def touch(*topics: str) -> None:
    """Say, after commit, that these topics changed (`station-5`, `session-17`, `fleet`)."""
    transaction.on_commit(lambda: bus.publish(topics))


def listen(listener: Listener) -> Callable[[], None]:
    """Hear every touched topic in this process; returns the function that ends it."""
    return bus.listen(listener)
