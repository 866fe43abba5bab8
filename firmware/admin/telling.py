"""How the timeline tells updates and campaigns."""

from django.utils.translation import gettext as _

from stations.admin.timeline import sentence
from stations.models import Entry


def _why(news: Entry, text: str, key: str) -> str:
    why = str(news.data.get(key) or "")
    return f"{text}: {why}" if why else text


@sentence("job.dispatching", icon="system_update", tone="blue")
def _dispatching(news: Entry) -> str:
    text = _("Update to %(version)s begins") % {"version": news.data.get("version", "?")}
    return _why(news, text, "why")


@sentence("job.succeeded", icon="system_update", tone="green")
def _succeeded(news: Entry) -> str:
    text = _("Updated to %(version)s") % {"version": news.data.get("version", "?")}
    return _why(news, text, "why")


@sentence("job.failed", icon="system_update", tone="red")
def _failed(news: Entry) -> str:
    text = _("Update to %(version)s failed") % {"version": news.data.get("version", "?")}
    return _why(news, text, "why")


def _campaign(news: Entry) -> str:
    return str(news.data.get("name", ""))


@sentence("campaign.paused", icon="pause_circle", tone="amber")
def _paused(news: Entry) -> str:
    return _why(news, _("Campaign “%(name)s” paused") % {"name": _campaign(news)}, "reason")


@sentence("campaign.started", icon="rocket_launch", tone="blue")
def _started(news: Entry) -> str:
    return _why(news, _("Campaign “%(name)s” started") % {"name": _campaign(news)}, "reason")


@sentence("job.skipped", icon="system_update")
def _skipped(news: Entry) -> str:
    return _why(news, _("Update left out"), "why")


@sentence("job.canceled", icon="system_update")
def _canceled(news: Entry) -> str:
    return _why(news, _("Update called off"), "why")


@sentence("job.already_current", icon="system_update", tone="green")
def _current(news: Entry) -> str:
    return _("%(version)s runs already") % {"version": news.data.get("version", "?")}


@sentence("job.quarantined", icon="system_update", tone="red")
def _quarantined(news: Entry) -> str:
    return _why(news, _("Silent since the update: kept out of all campaigns"), "why")


@sentence("firmware.added", icon="deployed_code")
def _release(news: Entry) -> str:
    return _("Release %(version)s uploaded") % {"version": news.data.get("version", "?")}


@sentence("firmware.changed_outside", icon="deployed_code", tone="amber")
def _outside(news: Entry) -> str:
    return _("Firmware %(was)s → %(now)s without a campaign") % {
        "was": news.data.get("was") or "?",
        "now": news.data.get("now") or "?",
    }


@sentence("campaign.created", icon="rocket_launch")
def _created(news: Entry) -> str:
    return _("Campaign made for %(n)s stations") % {"n": news.data.get("stations", "?")}


@sentence("campaign.resumed", icon="play_circle", tone="blue")
def _resumed(news: Entry) -> str:
    return _why(news, _("Campaign “%(name)s” goes on") % {"name": _campaign(news)}, "reason")


@sentence("campaign.stopped", icon="stop_circle", tone="red")
def _stopped(news: Entry) -> str:
    return _why(news, _("Campaign “%(name)s” stopped") % {"name": _campaign(news)}, "reason")


@sentence("campaign.completed", icon="task_alt", tone="green")
def _completed(news: Entry) -> str:
    return _why(news, _("Campaign “%(name)s” completed") % {"name": _campaign(news)}, "reason")


@sentence("campaign.wave_opened", icon="rocket_launch", tone="blue")
def _wave_opened(news: Entry) -> str:
    text = _("Campaign “%(name)s”: the next wave is open") % {"name": _campaign(news)}
    return _why(news, text, "reason")


@sentence("campaign.wave_done", icon="rocket_launch", tone="green")
def _wave_done(news: Entry) -> str:
    return _why(news, _("Campaign “%(name)s”") % {"name": _campaign(news)}, "reason")
