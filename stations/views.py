"""The live stream of changes, and the sign of life."""

import asyncio
import time
from collections.abc import AsyncIterator

from asgiref.sync import sync_to_async
from django.apps import apps
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET

from stations import live
from stations.models import User

PING_S = 15
MAX_TOPICS = 50
RECHECK_S = 60


def allowed_topics(request: HttpRequest, wanted: list[str]) -> dict[str, str]:
    """Return the topics this visitor may hear: topic on the bus → the name it was asked by.

    Staff hear what their groups and sites let them see (`live.HEARINGS`); anyone hears what an
    unguessable code or token opens.
    """
    heard: dict[str, str] = {}
    asked: dict[str, dict[str, str]] = {}  # word → id of the row → topic
    for name in wanted[:MAX_TOPICS]:
        prefix, _, rest = name.partition(":")
        if rest and prefix in live.RESOLVERS:
            topic = live.RESOLVERS[prefix](rest)
            if topic:
                heard[topic] = name
        elif not rest:
            word, _, key = name.partition("-")
            asked.setdefault(word, {})[key] = name
    user = _staff(request) if asked else None
    if user is None:
        return heard
    sites = list(user.sites.values_list("pk", flat=True))
    for word, names in asked.items():
        hearing = live.HEARINGS.get(word)
        if hearing is not None and user.has_perm(hearing.permission):
            heard |= {name: name for name in _in_reach(hearing, names, sites)}
    return heard


def _staff(request: HttpRequest) -> User | None:
    """Return the signed-in member of staff as the database knows them now, not at the start."""
    key = request.session.session_key
    if not request.user.is_authenticated or not key or not request.session.exists(key):
        return None
    return User.objects.filter(pk=request.user.pk, is_active=True, is_staff=True).first()


def _in_reach(hearing: live.Hearing, names: dict[str, str], sites: list[int]) -> list[str]:
    """Return the topics of a word whose rows are at these sites (none chosen: everywhere)."""
    if not hearing.model:
        return [names[""]] if "" in names else []
    model = apps.get_model(hearing.model)
    keys = {}
    for key, name in names.items():
        try:
            keys[model._meta.pk.to_python(key)] = name
        except ValidationError:
            continue
    if not sites:
        return list(keys.values())
    rows = model._default_manager.filter(pk__in=keys, **{f"{hearing.site_path}__in": sites})
    return [keys[pk] for pk in rows.order_by().values_list("pk", flat=True).distinct()]


@require_GET
@never_cache
async def live_stream(request: HttpRequest) -> HttpResponseBase:
    """Server-sent events: `changed` with the name of each asked topic that changed.

    `?topics=station-5,session-17` for staff, each checked by permission and site; `c:<code>` and
    `s:<token>` for anyone who has them.
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
