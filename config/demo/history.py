"""The demo's past month, played through the product's own code at the times it happened.

Sessions, readings, statuses, outages and faults go the way a charger's messages go, with the clock
set back; news, settlement and invoices follow by themselves. Deterministic under a seed.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, time, timedelta

import time_machine
from django.db import transaction

from billing import start, tasks
from billing.models import Payment
from billing.sandbox.engine import Sandbox
from config.demo import guests, places
from config.demo.places import Post
from monitoring import alerts, bays, metering, readings, sessions
from stations import journal, presence
from stations.models import Connector, Entry, Station
from stations.simulator import model, scenarios

BUSY_HOURS = (7, 8, 8, 9, 11, 12, 12, 13, 15, 16, 17, 17, 18, 18, 19, 21)
GUESTS, REFUND_EVERY = 0.15, 5  # share of visits; every how many is refunded
CHUNK = 100  # happenings in one transaction
LATER = {"invoice.issued"}
CONTEXT_PERIODIC, CONTEXT_END = "Sample.Periodic", "Transaction.End"


@dataclass(order=True)
class Happening:
    """Something that happened at a time; `order` keeps equal times as planned.

    `alone`: it talks to the payment service, which nobody does inside a transaction.
    """

    at: datetime
    order: int
    do: Callable[[datetime], None] = field(compare=False)
    alone: bool = field(default=False, compare=False)


@dataclass
class Visit:
    """One driver's stay at a connector, its meter readings worked out beforehand."""

    post: Post
    evse: int
    driver: places.Driver
    begins: datetime
    ends: datetime
    start_wh: int
    samples: list[model.Reading]
    ref: str
    guest: bool = False
    number: int = 0  # of the guest
    payment: Payment | None = None

    @property
    def stop_wh(self) -> int:
        """The register at the end."""
        return self.samples[-1].register_wh


class Past:
    """A month of the network, planned first and then played."""

    def __init__(self, now: datetime, days: int, seed: int, box: Sandbox | None) -> None:
        self.box, self.guests = box, 0
        self.random = random.Random(seed)  # noqa: S311  a story, to be repeatable
        self.since, self.until = now - timedelta(days=days), now - timedelta(seconds=30)
        self.days = days
        self.ids = dict(Station.objects.values_list("identity", "pk"))
        self.plugs = {
            (post.identity, n): model.Connector(n, max_w=post.make.power_w, dc=post.make.dc)
            for post in places.POSTS
            for n in range(1, post.make.connectors + 1)
        }
        self.epochs: dict[str, int] = {}
        self.heap: list[Happening] = []
        self.count = 0

    def at(self, when: datetime, do: Callable[[datetime], None], *, alone: bool = False) -> None:
        """Plan something."""
        self.count += 1
        heapq.heappush(self.heap, Happening(when, self.count, do, alone))

    def play(self) -> int:
        """Let everything happen in order; returns how many things did."""
        self._plan()
        played = 0
        while self.heap:
            if self.heap[0].alone:
                self._next()
                played += 1
                continue
            with transaction.atomic():  # one commit for many: nobody waits for an answer here
                for _ in range(CHUNK):
                    if not self.heap or self.heap[0].alone:
                        break
                    self._next()
                    played += 1
        return played

    def _next(self) -> None:
        happening = heapq.heappop(self.heap)
        with time_machine.travel(happening.at, tick=False):
            happening.do(happening.at)
            self._react()

    def _react(self) -> None:
        """Let the news have its reactions now, but leave drawing and mailing to the workers."""
        pending = Entry.objects.filter(pending=True).exclude(kind__in=LATER)
        while waiting := list(pending.order_by("pk").values_list("pk", flat=True)):
            journal.react(waiting)
            if set(waiting) <= set(pending.values_list("pk", flat=True)):
                return

    # --- the plan --------------------------------------------------------------------------------

    def _plan(self) -> None:
        for n, post in enumerate(places.POSTS):
            self._connect(post, self.since + timedelta(seconds=n))
            for evse in range(1, post.make.connectors + 1):
                self._plan_visits(post, evse)
            if post.life == "flaky-network":
                self._plan_losses(post)
            if post.life == "faulty":
                self._plan_faults(post)
            self.at(self.until, self._leave(post))
        for day in range(1, self.days):
            at = (self.since + timedelta(days=day)).replace(hour=3, minute=17)
            if at.day == 1:
                self.at(at, lambda _: tasks.invoice_house_accounts.run())

    def _plan_visits(self, post: Post, evse: int) -> None:
        zone = next(p for p in places.PLACES if p.name == post.site).zone
        share = 0.35 if post.make.dc else 0.18
        for day in range(self.days):
            if self.random.random() > share:
                continue
            date = (self.since + timedelta(days=day)).astimezone(zone).date()
            clock = time(self.random.choice(BUSY_HOURS), self.random.randrange(60), tzinfo=zone)
            begins = datetime.combine(date, clock)
            minutes = self.random.randint(14, 50) if post.make.dc else self.random.randint(40, 290)
            visit = self._visit(post, evse, begins, timedelta(minutes=minutes))
            if begins > self.since + timedelta(hours=1) and visit.ends < self.until:
                self._plan_visit(visit)

    def _visit(self, post: Post, evse: int, begins: datetime, stay: timedelta) -> Visit:
        """Charge a car on paper: the simulator's own physics, sampled."""
        plug = self.plugs[post.identity, evse]
        powers = scenarios.DC_CARS_W if post.make.dc else scenarios.AC_CARS_W
        plug.vehicle = model.Vehicle(
            battery_wh=self.random.choice((38_000, 52_000, 64_000, 77_000)),
            soc=self.random.uniform(0.1, 0.6),
            max_w=self.random.choice(powers),
            target_soc=self.random.choice((0.8, 0.9, 1.0)),
        )
        driver = self.random.choice(places.DRIVERS)
        start_wh = int(plug.register_wh)
        plug.transaction = model.Transaction(plug, driver.tag, begins, start_wh)
        step = timedelta(minutes=2 if post.make.dc else 15)
        samples, at = [], begins
        while at + step < begins + stay:
            at += step
            plug.advance(step.total_seconds())
            samples.append(plug.read(at))
        ends = begins + stay
        plug.advance((ends - at).total_seconds())
        samples.append(plug.read(ends))
        plug.transaction = plug.vehicle = None
        ref = f"{self.random.getrandbits(64):016x}"
        visit = Visit(post, evse, driver, begins, ends, start_wh, samples, ref)
        if self.random.random() < GUESTS and self.box is not None:
            self.guests += 1
            visit.guest, visit.number = True, self.guests
        return visit

    def _plan_visit(self, visit: Visit) -> None:
        state = self._state
        gone = visit.ends + timedelta(seconds=self.random.randint(20, 400))
        if visit.guest:
            early = visit.begins - timedelta(seconds=5)
            self.at(early, lambda _: self._pay(visit), alone=True)
        self.at(visit.begins, self._whole(lambda at: self._start(visit, at)), alone=visit.guest)
        self.at(visit.ends, self._whole(lambda at: self._stop(visit, at)), alone=visit.guest)
        free = self._whole(state(visit.post, visit.evse, model.Status.AVAILABLE))
        self.at(gone, free, alone=visit.guest)
        if visit.guest and self.guests % REFUND_EVERY == 0:
            later = gone + timedelta(hours=self.random.uniform(1, 20))
            if later < self.until:
                self.at(later, lambda _: self._refund(visit), alone=True)

    def _whole(self, do: Callable[[datetime], None]) -> Callable[[datetime], None]:
        """All of it or nothing, as the writer would."""

        def done(now: datetime) -> None:
            with transaction.atomic():
                do(now)

        return done

    def _pay(self, visit: Visit) -> None:
        station_id = self.ids[visit.post.identity]
        plug = Connector.objects.select_related("station", "evse").get(
            station=station_id, evse__number=visit.evse
        )
        if self.box is not None:
            visit.payment = guests.pay(self.box, plug, visit.number)

    def _refund(self, visit: Visit) -> None:
        if visit.payment is not None:
            guests.give_back(visit.payment, "The cable would not come out.")

    def _plan_losses(self, post: Post) -> None:
        for _ in range(self.days // 4):
            at = self.since + timedelta(hours=self.random.uniform(24, self.days * 24 - 24))
            back = at + timedelta(minutes=self.random.uniform(3, 90))
            self.at(at, self._leave(post))
            self._connect(post, back, boot=False)
            self._watch(at, back)

    def _watch(self, broken: datetime, mended: datetime) -> None:
        """Let the alert rules look while it is broken and after."""
        for at in (broken, mended):
            for minutes in (2, 12):
                if at + timedelta(minutes=minutes) < self.until:
                    self.at(at + timedelta(minutes=minutes), self._look)

    def _look(self, now: datetime) -> None:
        """Heartbeats of all that are connected, then the rules."""
        connected = Station.objects.filter(connected=True).values_list("pk", flat=True)
        presence.write_seen([presence.Seen(station_id, now) for station_id in connected])
        alerts.tick()

    def _plan_faults(self, post: Post) -> None:
        for _ in range(self.days // 5):
            at = self.since + timedelta(hours=self.random.uniform(24, self.days * 24 - 24))
            fault = self.random.choice(scenarios.FAULTS)
            self.at(at, self._state(post, 1, model.Status.FAULTED, fault))
            mended = at + timedelta(minutes=self.random.uniform(4, 240))
            self.at(mended, self._state(post, 1, model.Status.AVAILABLE))
            self._watch(at, mended)

    # --- what happens, as a charger's messages would have it -------------------------------------

    def _connect(self, post: Post, at: datetime, *, boot: bool = True) -> None:
        station_id, make = self.ids[post.identity], post.make

        def opened(now: datetime) -> None:
            fact = presence.Opened(station_id, post.version, "history", now)
            self.epochs[post.identity] = presence.write_opened([fact])[0]
            if not boot:
                return
            presence.write_boots(
                [
                    presence.Boot(
                        station_id, now, make.vendor, make.model, post.identity, make.firmware,
                        reason="PowerUp",
                    )
                ]
            )  # fmt: skip
            for evse in range(1, make.connectors + 1):
                self._state(post, evse, model.Status.AVAILABLE)(now)

        self.at(at, opened)

    def _leave(self, post: Post) -> Callable[[datetime], None]:
        def closed(now: datetime) -> None:
            presence.write_seen([presence.Seen(self.ids[post.identity], now)])
            fact = presence.Closed(self.ids[post.identity], self.epochs[post.identity], now, 1006)
            presence.write_closed([fact])

        return closed

    def _state(
        self, post: Post, evse: int, status: model.Status, fault: model.Fault | None = None
    ) -> Callable[[datetime], None]:
        station_id = self.ids[post.identity]

        def reported(now: datetime) -> None:
            code, vendor_code, info = "NoError", "", ""
            if fault is not None:
                code, vendor_code, info = fault.code, fault.vendor_code, fault.info
            presence.write_statuses(
                [
                    presence.Status(
                        station_id, evse, 1, str(status), now, now, code, vendor_code, info
                    )
                ]
            )
            bays.follow([sessions.Bay(station_id, evse, 1, str(status), now, now)])

        return reported

    def _start(self, visit: Visit, now: datetime) -> None:
        station_id, lifted = self.ids[visit.post.identity], visit.post.version == "1.6"
        tag, kind, remote = self._token(visit)
        fact = sessions.Start(
            station_id, visit.evse, 1, None if lifted else visit.ref, tag, kind, now, now,
            visit.start_wh * 1000, epoch=self.epochs[visit.post.identity],
            remote_start_id=None if lifted else remote,
            charging_state="" if lifted else "Charging", seq_no=None if lifted else 0,
        )  # fmt: skip
        visit.ref = sessions.start([fact])[0].ref
        self._state(visit.post, visit.evse, model.Status.CHARGING)(now)

    def _stop(self, visit: Visit, now: datetime) -> None:
        station_id, lifted = self.ids[visit.post.identity], visit.post.version == "1.6"
        if not lifted:
            sessions.update(
                [
                    sessions.Update(station_id, visit.ref, r.at, r.at, n, "Charging")
                    for n, r in enumerate(visit.samples, start=1)
                ]
            )
        readings.write([self._sampled(visit, reading, station_id) for reading in visit.samples])
        tag, kind, _ = self._token(visit)
        fact = sessions.Stop(
            station_id, visit.ref, now, now, visit.stop_wh * 1000, tag, kind, "Local",
            None if lifted else len(visit.samples) + 1, evse=visit.evse, connector=1,
            numbered=lifted, epoch=self.epochs[visit.post.identity],
        )  # fmt: skip
        sessions.stop([fact])
        self._state(visit.post, visit.evse, model.Status.FINISHING)(now)

    def _token(self, visit: Visit) -> tuple[str, str, int | None]:
        """What the session is started with: the payment's token or the driver's card."""
        if visit.payment is None:
            return visit.driver.tag, "ISO14443", None
        return str(visit.payment.start_token), "Central", start.remote_start_id(visit.payment.pk)

    def _sampled(self, visit: Visit, r: model.Reading, station_id: int) -> metering.Sampled:
        last = r is visit.samples[-1]
        return metering.Sampled(
            station_id, visit.ref, visit.evse, r.at, r.at,
            CONTEXT_END if last else CONTEXT_PERIODIC,
            register_mwh=r.register_wh * 1000,
            power_w=r.power_w,
            current_a=r.current_a,
            current_l1_a=r.current_a,
            current_l2_a=r.current_a if r.phases == 3 else None,
            current_l3_a=r.current_a if r.phases == 3 else None,
            voltage_v=r.voltage_v,
            soc_percent=r.soc_percent,
        )  # fmt: skip
