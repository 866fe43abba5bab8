"""Readiness and metrics."""

import hmac

import redis
from django.conf import settings
from django.db import DatabaseError, connection
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from monitoring import metrics, ticks


@require_GET
@never_cache
def readyz(request: HttpRequest) -> JsonResponse:
    """Ready: database and broker answer and the schedule ticks; 503 names what does not."""
    found: dict[str, object] = {"database": _database(), "broker": _broker()}
    ready = found["database"] == "ok" and found["broker"] == "ok"
    if found["database"] == "ok":
        late = {
            age.name: "never" if age.age_s is None else f"{age.age_s:.0f} s ago"
            for age in ticks.ages()
            if age.late
        }
        found["ticks"] = late or "ok"
        ready = ready and not late
    return JsonResponse({"ready": ready} | found, status=200 if ready else 503)


def _database() -> str:
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    except DatabaseError as error:
        return str(error) or "does not answer"
    return "ok"


def _broker() -> str:
    if not settings.REDIS_URL:
        return "ok"  # in memory, in this process
    try:
        redis.Redis.from_url(settings.REDIS_URL, socket_timeout=2, socket_connect_timeout=2).ping()
    except redis.RedisError as error:
        return str(error) or "does not answer"
    return "ok"


@require_GET
@never_cache
def metrics_view(request: HttpRequest) -> HttpResponse:
    """Prometheus metrics, for whoever knows METRICS_TOKEN (`Authorization: Bearer …`).

    `?only=process` leaves out what the rows say: with several processes, one of them is enough.
    Without a token they are open in DEBUG and shut otherwise.
    """
    given = request.headers.get("Authorization", "").removeprefix("Bearer ").strip()
    wanted = settings.METRICS_TOKEN
    if not wanted and not settings.DEBUG:
        return HttpResponse("Set METRICS_TOKEN to open this page.", status=403)
    if wanted and not hmac.compare_digest(given.encode(), wanted.encode()):
        return HttpResponse(
            "Send METRICS_TOKEN as a bearer token.",
            status=401,
            headers={"WWW-Authenticate": "Bearer"},
        )
    text = generate_latest(metrics.process_registry)
    if request.GET.get("only") != "process":
        text += generate_latest(metrics.rows_registry)
    return HttpResponse(text, content_type=CONTENT_TYPE_LATEST)
