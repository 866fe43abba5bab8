"""Messages that must arrive: sent in order, kept while offline, retried until answered.

1.6 §4.1 (error responses to transaction-related messages, offline behaviour), 2.0.1 Part 2 E04,
E13.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable

from stations.simulator.link import Link, LinkDownError, NoAnswerError
from stations.simulator.model import CallError, Outgoing, Payload

log = logging.getLogger("stations.simulator")


class Outbox:
    """A queue with one sender.

    `attempts` says how many CALLERRORs end a message, `pause(n)` waits before attempt n + 1, and an
    answer that is not there after `answer_s` is asked for again, for ever.
    """

    def __init__(
        self,
        attempts: Callable[[], int],
        pause: Callable[[int], Awaitable[None]],
        answer_s: float = 30.0,
    ) -> None:
        self._items: deque[Outgoing] = deque()
        self._news = asyncio.Event()
        self._attempts = attempts
        self._pause = pause
        self._answer_s = answer_s
        self.dropped = 0

    def __len__(self) -> int:
        return len(self._items)

    def put(
        self,
        action: str,
        build: Callable[[], Payload],
        *,
        keep: bool,
        on_answer: Callable[[Payload], Awaitable[None]] | None = None,
        twice: bool = False,
    ) -> asyncio.Future[Payload | None]:
        """Queue a message; the future becomes the answer, None where it was given up or lost."""
        answered: asyncio.Future[Payload | None] = asyncio.get_running_loop().create_future()
        item = Outgoing(action, build, keep, answered, on_answer, twice=twice)
        self._items.append(item)
        self._news.set()
        return answered

    def forget_passing(self) -> None:
        """Drop what is only worth sending while connected."""
        kept = [item for item in self._items if item.keep]
        for item in self._items:
            if not item.keep and not item.answered.done():
                item.answered.set_result(None)
        self._items = deque(kept)

    async def drain(self, link: Link) -> None:
        """Send over `link` until it closes. Cancel to stop."""
        while True:
            while not self._items:
                self._news.clear()
                await self._news.wait()
            item = self._items[0]
            try:
                answer: Payload | None = await self._call(link, item)
                if item.twice:
                    await self._call(link, item)
            except LinkDownError:
                return
            except (CallError, NoAnswerError) as error:
                item.attempts += 1
                log.info("%s failed for the %d. time: %s", item.action, item.attempts, error)
                if not item.keep or (
                    isinstance(error, CallError) and item.attempts >= self._attempts()
                ):
                    self.dropped += 1
                    self._done(item, None)
                else:
                    await self._pause(item.attempts)
                continue
            if item.on_answer is not None and answer is not None:
                await item.on_answer(answer)
            self._done(item, answer)

    async def _call(self, link: Link, item: Outgoing) -> Payload:
        return await link.call(item.action, item.build(), timeout_s=self._answer_s)

    def _done(self, item: Outgoing, answer: Payload | None) -> None:
        if self._items and self._items[0] is item:
            self._items.popleft()
        if not item.answered.done():
            item.answered.set_result(answer)
