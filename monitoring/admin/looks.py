"""Rules, causes and playbooks in words: what staff read instead of the keys the engine uses."""

from typing import Final

from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop

from monitoring.models import Severity
from monitoring.playbooks import PLAYBOOKS
from monitoring.rules import RULES
from stations.looks import chip

SEVERITY_TONES = {
    Severity.INFO: "grey",
    Severity.WARN: "grey",
    Severity.TICKET: "amber",
    Severity.PAGE: "red",
    Severity.CRITICAL: "red",
}

# Key → words, of the rules and of what other apps raise. A key without words is shown as words.
RULE_WORDS: Final = {
    "safety-fault": gettext_noop("Dangerous fault"),
    "faulted": gettext_noop("Faulted connector"),
    "stuck-preparing": gettext_noop("Stuck in preparing"),
    "stuck-finishing": gettext_noop("Stuck in finishing"),
    "stuck-unavailable": gettext_noop("Out of service unasked"),
    "offline": gettext_noop("Station offline"),
    "site-offline": gettext_noop("Whole site offline"),
    "mass-disconnect": gettext_noop("Many stations offline"),
    "reboot-loop": gettext_noop("Boots again and again"),
    "reconnect-storm": gettext_noop("Reconnects again and again"),
    "clock-drift": gettext_noop("Clock is wrong"),
    "zombie-tx": gettext_noop("Session without a car"),
    "zero-energy": gettext_noop("Charges without energy"),
    "meter-backwards": gettext_noop("Meter runs backwards"),
    "reject-burst": gettext_noop("Many cards refused"),
    "security-event": gettext_noop("Security event"),
    "cert-expiring": gettext_noop("Certificate ends soon"),
    "deaf": gettext_noop("Answers no orders"),
    "power-disobeyed": gettext_noop("Draws more than its share"),
    "power-refused": gettext_noop("Refuses power limits"),
    "site-over-limit": gettext_noop("Site over its power limit"),
    "firmware-silent": gettext_noop("Silent after an update"),
    "firmware-failed": gettext_noop("Update failed"),
    "payment-webhook-signature": gettext_noop("Webhooks with a wrong signature"),
    "test": gettext_noop("Test"),
}


def words(key: str) -> str:
    """Return a key as words: `dead-station` → `Dead station`."""
    text = key.replace("-", " ").replace("_", " ")
    return text[:1].upper() + text[1:]


def rule_words(key: str) -> str:
    """Return what a rule is called."""
    return _(RULE_WORDS[key]) if key in RULE_WORDS else words(key)


def rule_choices() -> list[tuple[str, str]]:
    """Return the rules to choose from, in words."""
    return sorted(((key, rule_words(key)) for key in RULES), key=lambda pair: pair[1])


def playbook_words(key: str) -> str:
    """Return what a playbook does."""
    return PLAYBOOKS[key].title if key in PLAYBOOKS else words(key)


def severity_chip(severity: int) -> SafeString:
    """Return a severity in colour and words."""
    known = Severity(severity)
    return chip(known.label, SEVERITY_TONES[known])
