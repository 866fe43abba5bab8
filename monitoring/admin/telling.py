"""How the timeline tells incidents, notices and playbooks."""

from django.utils.translation import gettext as _

from monitoring.admin.looks import playbook_words
from monitoring.models import Severity
from stations.admin.timeline import sentence
from stations.catalogue import COMMANDS
from stations.models import Entry


def _severity(news: Entry) -> str:
    word = str(news.data.get("severity", "")).upper()
    return str(Severity[word].label) if word in Severity.__members__ else word.lower()


@sentence("incident.opened", icon="warning", tone="red")
def _opened(news: Entry) -> str:
    return _("Incident: %(summary)s (%(severity)s)") % {
        "summary": news.data.get("summary", ""),
        "severity": _severity(news),
    }


@sentence("incident.reopened", icon="warning", tone="red")
def _reopened(news: Entry) -> str:
    return _("Again: %(summary)s") % {"summary": news.data.get("summary", "")}


@sentence("incident.grew", icon="add_alert", tone="amber")
def _grew(news: Entry) -> str:
    return _("%(count)s more: %(summary)s") % {
        "count": news.data.get("count", 1),
        "summary": news.data.get("summary", ""),
    }


@sentence("incident.acknowledged", icon="front_hand", tone="amber")
def _acknowledged(news: Entry) -> str:
    return _("Acknowledged")


@sentence("incident.assigned", icon="person")
def _assigned(news: Entry) -> str:
    to = news.data.get("to")
    return _("Assigned to %(to)s") % {"to": to} if to else _("Assigned to nobody")


@sentence("incident.noted", icon="edit_note")
def _noted(news: Entry) -> str:
    return str(news.data.get("text", ""))


@sentence("incident.snoozed", icon="snooze")
def _snoozed(news: Entry) -> str:
    until = str(news.data.get("until", ""))[:16].replace("T", " ")
    return _("Snoozed until %(until)s UTC") % {"until": until}


@sentence("incident.escalated", icon="escalator_warning", tone="red")
def _escalated(news: Entry) -> str:
    return _("Nobody acknowledged: level %(level)s is told") % {"level": news.data.get("level", "")}


@sentence("incident.flapping", icon="swap_vert", tone="amber")
def _flapping(news: Entry) -> str:
    return _("It comes and goes: kept open until it is stable")


@sentence("incident.resolved", icon="check_circle", tone="green")
def _resolved(news: Entry) -> str:
    return _("Resolved: %(resolution)s") % {"resolution": news.data.get("resolution", "")}


@sentence("notice.sent", icon="outgoing_mail")
def _sent(news: Entry) -> str:
    return _("%(contact)s was told") % {"contact": news.data.get("contact", "")}


@sentence("notice.failed", icon="error", tone="red")
def _failed(news: Entry) -> str:
    return _("%(contact)s could not be told: %(error)s") % {
        "contact": news.data.get("contact", ""),
        "error": news.data.get("error", ""),
    }


@sentence("playbook.stepped", icon="build", tone="blue")
def _stepped(news: Entry) -> str:
    name = str(news.data.get("command", ""))
    label = COMMANDS[name].label if name in COMMANDS else name
    return _("Playbook %(playbook)s: %(order)s") % {
        "playbook": playbook_words(str(news.data.get("playbook", ""))),
        "order": label,
    }


@sentence("playbook.ended", icon="build_circle")
def _ended(news: Entry) -> str:
    return _("Playbook %(playbook)s ended: %(reason)s") % {
        "playbook": playbook_words(str(news.data.get("playbook", ""))),
        "reason": news.data.get("reason", ""),
    }
