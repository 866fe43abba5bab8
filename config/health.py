"""The health page: is everything running that should, and what waits or fails."""

import shutil
from typing import Any

from django.conf import settings
from django.db.models import Count, Min
from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from django.views.generic import TemplateView
from unfold.views import UnfoldSiteViewMixin

from billing.models import Mail
from monitoring import ticks
from monitoring.models import Notice
from stations import writer
from stations.models import Command, Entry, Station

LATE_COMMAND_S = 30
LATE_NEWS_S = 60
DISK_LOW = 0.1


class HealthView(UnfoldSiteViewMixin, TemplateView):  # type: ignore[misc]  # unfold ships no types
    """Sockets a process, oldest command, ticks, journal, mails, disk."""

    title = _("Health")
    permission_required = "stations.view_health"
    template_name = "admin/health.html"

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        """Return what the page shows."""
        return {**super().get_context_data(**kwargs), **report()}


def report() -> dict[str, Any]:
    """Return the state of the running parts, each with whether it is well."""
    now = timezone.now()
    open_rows = Command.objects.filter(status__in=("queued", "sent"))
    queued = open_rows.filter(status="queued", station__connected=True).aggregate(
        oldest=Min("created_at"), n=Count("pk")
    )
    news = Entry.objects.filter(pending=True).aggregate(oldest=Min("at"), n=Count("pk"))
    disk = shutil.disk_usage(settings.VAR_DIR)
    ages = ticks.ages(now)
    mails = list(Mail.objects.filter(state="failed").order_by("-created_at")[:10])
    notices = list(
        Notice.objects.filter(state=Notice.State.FAILED)
        .select_related("contact", "incident")
        .order_by("-created_at")[:10]
    )
    failing = list(Entry.objects.filter(pending=True, attempts__gt=0).order_by("-id")[:10])
    return {
        "gateways": list(
            Station.objects.filter(connected=True)
            .order_by()
            .values("gateway")
            .annotate(n=Count("pk"))
            .order_by("gateway")
        ),
        "queued": queued,
        "queued_late": _older(queued["oldest"], LATE_COMMAND_S),
        "offline_queued": open_rows.filter(station__connected=False).count(),
        "news": news,
        "news_late": _older(news["oldest"], LATE_NEWS_S),
        "ticks": ages,
        "ticks_late": any(one.late for one in ages),
        "mails": mails,
        "failed": len(mails) + len(notices),
        "notices": notices,
        "failing": failing,
        "disk_free": disk.free,
        "disk_total": disk.total,
        "disk_low": disk.free / disk.total < DISK_LOW,
        "database": "SQLite" if settings.IS_SQLITE else "PostgreSQL",
        "bus": _("in this process") if settings.EMBEDDED else "Redis",
        "writing": writer.depth(),
        "at": now,
    }


def _older(at: Any, seconds: float) -> bool:
    return at is not None and (timezone.now() - at).total_seconds() > seconds
