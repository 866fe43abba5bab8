"""This process's live sockets: who holds which station, told by the bus, checked by a sweep.

The bus may lose a nudge, and an embedded process hears nothing from another one (`manage.py
commands send`), so a thread also looks for queued orders, for stations that were retired and for
those that a newer socket has taken over in another process. It sleeps while no socket is open.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
from datetime import datetime
from typing import TYPE_CHECKING, Final

from django.conf import settings
from django.db import DatabaseError, close_old_connections
from django.utils import timezone

from stations import live, presence
from stations.models import Command

if TYPE_CHECKING:
    from stations.ocpp.consumer import OcppConsumer

log = logging.getLogger(__name__)

EMBEDDED_EVERY_S: Final = 0.25
EVERY_S: Final = 5.0
FENCE_EVERY_S: Final = 15.0


class Gateway:
    """The registry of a process. All methods may be called from any thread."""

    def __init__(self) -> None:
        self.name = os.environ.get("GATEWAY") or f"{socket.gethostname()}:{settings.PORT}"
        self.sockets: dict[int, OcppConsumer] = {}
        self._lock = threading.Lock()
        self._listening = False
        self._sweeper: threading.Thread | None = None
        self._awake = threading.Event()
        self._began_at: datetime | None = timezone.now()

    def join(self, consumer: OcppConsumer) -> None:
        """Register a socket; an older one of the same station is closed, here or elsewhere."""
        with self._lock:
            other = self.sockets.get(consumer.station_id)
            newest = other is None or other.epoch < consumer.epoch
            if newest:
                self.sockets[consumer.station_id] = consumer
            self._start()
        self._awake.set()
        if not newest:
            consumer.close_from_afar()
        elif other is not None:
            other.close_from_afar()

    def leave(self, consumer: OcppConsumer) -> None:
        """Forget a socket, unless a newer one has taken its place."""
        with self._lock:
            if self.sockets.get(consumer.station_id) is consumer:
                del self.sockets[consumer.station_id]
            if not self.sockets:
                self._awake.clear()

    def _start(self) -> None:
        if not self._listening:
            live.listen(self._heard)
            self._listening = True
        if self._sweeper is None or not self._sweeper.is_alive():
            self._sweeper = threading.Thread(target=self._sweep, name="gateway-sweep", daemon=True)
            self._sweeper.start()

    def _heard(self, topics: frozenset[str]) -> None:
        for topic in topics:
            if topic.startswith("orders-"):
                consumer = self.sockets.get(int(topic[7:]))
                if consumer is not None:
                    consumer.wake_from_afar()
            elif topic.startswith("socket-"):
                station_id, epoch = topic[7:].split("-")
                consumer = self.sockets.get(int(station_id))
                if consumer is not None and consumer.epoch < int(epoch):
                    consumer.close_from_afar()
            elif topic.startswith("retired-"):
                consumer = self.sockets.get(int(topic[8:]))
                if consumer is not None:
                    consumer.expel_from_afar()

    def _sweep(self) -> None:
        every_s = EMBEDDED_EVERY_S if settings.EMBEDDED else EVERY_S
        waited_s = 0.0
        while True:
            self._awake.wait()
            try:
                if self._began_at is not None:
                    presence.forget(self.name, self._began_at)
                    self._began_at = None
                self._nudge()
                self._expel()
                waited_s += every_s
                if waited_s >= FENCE_EVERY_S:
                    waited_s = 0.0
                    self._fence()
            except DatabaseError:
                log.warning("The gateway's sweep found no database.")
            except Exception:  # the next sweep tries again
                log.exception("The gateway's sweep failed.")
            finally:
                close_old_connections()
            threading.Event().wait(every_s)

    def _nudge(self) -> None:
        """Wake every socket here whose station has a queued order."""
        waiting = (
            Command.objects.filter(status=Command.Status.QUEUED)
            .order_by()
            .values_list("station", flat=True)
            .distinct()
        )
        for station_id in waiting[:5000]:
            consumer = self.sockets.get(station_id)
            if consumer is not None:
                consumer.wake_from_afar()

    def _expel(self) -> None:
        """Close sockets whose station was retired where we did not hear of it."""
        for station_id in presence.outcasts():
            consumer = self.sockets.get(station_id)
            if consumer is not None:
                consumer.expel_from_afar()

    def _fence(self) -> None:
        """Close sockets whose station another gateway owns by now."""
        mine = [(consumer.station_id, consumer.epoch) for consumer in list(self.sockets.values())]
        owned = presence.owned_by(self.name)
        for station_id, epoch in mine:
            consumer = self.sockets.get(station_id)
            if (
                consumer is not None
                and consumer.epoch == epoch
                and (station_id, epoch) not in owned
            ):
                consumer.close_from_afar()


gateway = Gateway()
