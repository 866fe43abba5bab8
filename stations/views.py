"""The live stream of changes, and the sign of life."""

import asyncio
import time
from collections.abc import AsyncIterator

from asgiref.sync import sync_to_async
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET

from stations import live

PING_S = 15
MAX_TOPICS = 50
RECHECK_S = 60


def allowed_topics(request: HttpRequest, wanted: list[str]) -> dict[str, str]:
    """Return the topics this visitor may hear: topic on the bus → the name it was asked by.

    Staff hear every topic; anyone hears what an unguessable code or token opens.
    """
    heard: dict[str, str] = {}
    staff = request.user.is_authenticated and request.user.is_staff
    for name in wanted[:MAX_TOPICS]:
        prefix, _, rest = name.partition(":")
        if rest and prefix in live.RESOLVERS:
            topic = live.RESOLVERS[prefix](rest)
            if topic:
                heard[topic] = name
        elif staff and not rest:
            heard[name] = name
    return heard


@require_GET
@never_cache
async def live_stream(request: HttpRequest) -> HttpResponseBase:
    """Server-sent events: `changed` with the name of each asked topic that changed.

    `?topics=station-5,session-17` for staff; `c:<code>` and `s:<token>` for anyone who has them.
    At most one event a second a topic; a comment every 15 s keeps proxies awake.
    """
    wanted = [name for name in request.GET.get("topics", "").split(",") if name]
    heard = await sync_to_async(allowed_topics, thread_sensitive=False)(request, wanted)
    if not heard:
        return HttpResponse("No topic here that you may hear.", status=403)
    return StreamingHttpResponse(
        _events(request, wanted, heard),
        content_type="text/event-stream",
        headers={"X-Accel-Buffering": "no"},
    )


async def _events(
    request: HttpRequest, wanted: list[str], heard: dict[str, str]
) -> AsyncIterator[str]:
    loop = asyncio.get_running_loop()
    wake = asyncio.Event()
    changed: set[str] = set()

    def on_change(topics: frozenset[str]) -> None:
        mine = topics & heard.keys()
        if mine:
            changed.update(mine)
            loop.call_soon_threadsafe(wake.set)

    stop = live.listen(on_change)
    checked = time.monotonic()
    try:
        yield "retry: 3000\n\n"
        while True:
            try:
                await asyncio.wait_for(wake.wait(), PING_S)
            except TimeoutError:
                yield ": ping\n\n"
            if time.monotonic() - checked > RECHECK_S:  # signed out, or the token has expired
                checked = time.monotonic()
                heard = await sync_to_async(allowed_topics, thread_sensitive=False)(request, wanted)
                if not heard:
                    return
            wake.clear()
            topics = [topic for topic in list(changed) if topic in heard]
            changed.difference_update(topics)
            for topic in topics:
                yield f"event: changed\ndata: {heard[topic]}\n\n"
            if topics:
                await asyncio.sleep(1)
    finally:
        stop()


@require_GET
def healthz(request: HttpRequest) -> HttpResponse:
    """Alive: the process answers."""
    return HttpResponse("ok", content_type="text/plain")
