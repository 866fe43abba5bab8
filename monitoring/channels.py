"""Channels: how a notice reaches a contact. One class with `send` each."""

import smtplib
from collections.abc import Sequence
from typing import Protocol

from django.conf import settings
from django.core.mail import EmailMessage
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils.translation import gettext as _

from monitoring import webhooks
from monitoring.models import Contact, Incident, Notice, Severity
from monitoring.webhooks import TransportError


class Channel(Protocol):
    """One way to reach a contact."""

    def send(self, notices: Sequence[Notice]) -> None:
        """Hand these notices of one contact over in one message. Raises TransportError."""


class Email:
    """Plain text by Django's mail."""

    def send(self, notices: Sequence[Notice]) -> None:
        """Send one mail about one notice, or one digest."""
        contact, host = notices[0].contact, settings.DEFAULT_FROM_EMAIL.rpartition("@")[2]
        template = "email/incident.txt" if not notices[0].digest else "email/incidents.txt"
        text = render_to_string(
            template, {"notices": notices, "pages": _pages(notices)} | _words(notices[0])
        )
        subject, _sep, body = text.partition("\n")
        mail = EmailMessage(
            subject.strip(),
            body.lstrip(),
            to=[contact.email],
            headers={
                "Message-ID": f"<notice-{notices[0].pk}@{host}>",
                "References": f"<incident-{notices[0].incident_id}@{host}>",
                "Auto-Submitted": "auto-generated",
            },
        )
        try:
            mail.send()
        except smtplib.SMTPRecipientsRefused as error:
            codes = [code for code, _text in error.recipients.values()]
            refused = bool(codes) and all(code >= 500 for code in codes)
            raise TransportError(str(error), permanent=refused) from error
        except (OSError, smtplib.SMTPException) as error:
            raise TransportError(str(error) or repr(error)) from error


class Webhook:
    """Signed JSON (`monitoring/webhooks.py`)."""

    def send(self, notices: Sequence[Notice]) -> None:
        """Send each notice as one message."""
        for notice in notices:
            contact = notice.contact
            webhooks.post(
                contact.url,
                {"id": notice.pk, "event": notice.event, "incident": as_json(notice.incident)},
                secret=contact.secret,
                message_id=f"notice-{notice.pk}",
            )


CHANNELS: dict[str, Channel] = {
    Contact.Channel.EMAIL: Email(),
    Contact.Channel.WEBHOOK: Webhook(),
}


def as_json(incident: Incident) -> dict[str, object]:
    """Return an incident as scripts see it: `incidents list --json` and webhooks."""
    return {
        "id": incident.pk,
        "site": incident.site.name if incident.site else None,
        "station": incident.station.identity if incident.station else None,
        "connector": incident.connector.evse.number if incident.connector else None,
        "rule": incident.rule,
        "severity": Severity(incident.severity).word,
        "state": incident.state,
        "opened": incident.opened_at.isoformat(),
        "resolved": incident.resolved_at.isoformat() if incident.resolved_at else None,
        "summary": incident.summary,
        "resolution": incident.resolution,
        "url": page(incident),
    }


def page(incident: Incident) -> str:
    """Return the address of an incident's page in the back office."""
    path = reverse("admin:monitoring_incident_change", args=[incident.pk])
    return f"{settings.PUBLIC_URL}{path}"


def _pages(notices: Sequence[Notice]) -> list[tuple[Incident, str]]:
    unique = {notice.incident_id: notice.incident for notice in notices}
    return [(incident, page(incident)) for incident in unique.values()]


def _words(notice: Notice) -> dict[str, object]:
    incident = notice.incident
    kind = notice.event.partition("-")[0]
    titles = {
        "opened": Severity(incident.severity).label,
        "raised": Severity(incident.severity).label,
        "reopened": _("Again"),
        "resolved": _("Resolved"),
        "level": _("Not acknowledged"),
        "test": _("Test"),
    }
    return {
        "incident": incident,
        "severity": Severity(incident.severity).label,
        "title": titles.get(kind, kind),
        "kind": kind,
        "url": page(incident),
        "alerts": list(incident.alerts.order_by("pk")[:20]),
    }
