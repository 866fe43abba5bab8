"""Mail to customers: one row a mail, claimed by compare-and-set, so that it leaves once.

A crash between handing it to the mail server and saying so is the only doubt left; the mail then
goes again with the same Message-ID.
"""

from __future__ import annotations

import datetime as dt
import logging
from email.utils import parseaddr
from typing import Any

from django.conf import settings
from django.core.mail import EmailMultiAlternatives
from django.db import transaction
from django.db.models import F, Q
from django.template.loader import render_to_string
from django.utils import timezone
from django.utils.translation import override

from stations import journal
from stations.state import try_advance

from . import documents, files
from .models import Invoice, Mail

log = logging.getLogger(__name__)

State = Mail.State
LEASE = dt.timedelta(minutes=10)  # a sender that took longer has died
GIVE_UP_AFTER = 8
PAUSE_MIN = 2  # doubled each time


def queue(
    key: str,
    kind: str,
    to: str,
    language: str,
    *,
    invoice: Invoice | None = None,
    context: dict[str, Any] | None = None,
) -> Mail | None:
    """Write the mail to send; the same key is the same mail. None without an address.

    `kind` names the templates `email/<kind>.txt` (its first line is the subject) and `.html`.
    """
    if not to:
        return None
    mail, _new = Mail.objects.get_or_create(
        key=key,
        defaults={
            "kind": kind,
            "to": to,
            "language": language,
            "invoice": invoice,
            "context": context or {},
            "next_try_at": timezone.now(),
        },
    )
    return mail


def queue_invoice(invoice: Invoice, *, again: str = "") -> Mail | None:
    """The mail that carries a document; `again` (any text) makes it another one."""
    return queue(
        f"invoice:{invoice.number}" + (f":{again}" if again else ""),
        "invoice",
        str(invoice.snapshot["customer"].get("email") or ""),
        invoice.language,
        invoice=invoice,
    )


def due() -> list[int]:
    """Ids of mails to send now: queued ones, and those whose sender died."""
    now = timezone.now()
    rows = Mail.objects.filter(
        Q(state=State.QUEUED, next_try_at__lte=now) | Q(state=State.SENDING, next_try_at__lte=now)
    )
    return list(rows.order_by("pk").values_list("pk", flat=True)[:100])


def send(mail_id: int) -> bool:
    """Send one mail if nobody else does; True when it left."""
    now = timezone.now()
    Mail.objects.filter(pk=mail_id, state=State.SENDING, next_try_at__lte=now).update(
        state=State.QUEUED
    )
    claimed = try_advance(
        Mail.objects.filter(pk=mail_id),
        State.SENDING,
        attempts=F("attempts") + 1,
        next_try_at=now + LEASE,
    )
    if not claimed:
        return False
    mail = Mail.objects.select_related("invoice").get(pk=mail_id)
    try:
        compose(mail).send()
    except Exception as error:  # whatever it is, it is retried and told
        log.exception("Mail %s could not be sent.", mail.key)
        _failed(mail, str(error))
        return False
    with transaction.atomic():
        try_advance(
            Mail.objects.filter(pk=mail_id), State.SENT, sent_at=timezone.now(), last_error=""
        )
        journal.record("mail.sent", mail, kind=mail.kind, key=mail.key)
    return True


def _failed(mail: Mail, error: str) -> None:
    target = State.FAILED if mail.attempts >= GIVE_UP_AFTER else State.QUEUED
    pause = dt.timedelta(minutes=PAUSE_MIN * 2**mail.attempts)
    with transaction.atomic():
        try_advance(
            Mail.objects.filter(pk=mail.pk),
            target,
            last_error=error[:200],
            next_try_at=timezone.now() + pause,
        )
        if target == State.FAILED:
            journal.record("mail.failed", mail, kind=mail.kind, key=mail.key, error=error[:200])


def compose(mail: Mail) -> EmailMultiAlternatives:
    """The message, in the customer's language; a document's PDF is attached."""
    context: dict[str, Any] = dict(mail.context)
    if mail.invoice is not None:
        context |= documents.present(mail.invoice)
    with override(mail.language):
        if mail.invoice is not None:
            context = dict(mail.context) | documents.present(mail.invoice)
        text = render_to_string(f"email/{mail.kind}.txt", context)
        html = render_to_string(f"email/{mail.kind}.html", context)
    subject, _blank, body = text.partition("\n")
    sender = settings.DEFAULT_FROM_EMAIL
    if mail.invoice is not None:
        name = str(mail.invoice.snapshot["seller"]["name"]).replace('"', "")
        sender = f'"{name}" <{parseaddr(sender)[1]}>'
    domain = parseaddr(sender)[1].rpartition("@")[2]
    message = EmailMultiAlternatives(
        subject=subject.strip(),
        body=body.lstrip("\n"),
        from_email=sender,
        to=[mail.to],
        headers={"Message-ID": f"<mail-{mail.pk}-{mail.created_at:%Y%m%d}@{domain}>"},
    )
    message.attach_alternative(html, "text/html")
    if mail.invoice is not None:
        message.attach(f"{mail.invoice.number}.pdf", files.pdf_of(mail.invoice), "application/pdf")
    return message
