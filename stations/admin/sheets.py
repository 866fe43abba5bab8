"""QR sheets: a page to print for each connector, with the code that opens its pay page."""

from typing import Any

import segno
from django.conf import settings
from django.contrib import messages
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.loader import render_to_string
from django.utils.translation import gettext as _

from billing import pdf
from stations import journal
from stations.admin.base import StaffAdmin
from stations.models import Connector

MAX_SHEETS = 200
CSS = """
@page { size: A6; margin: 8mm }
body { font: 10pt "DejaVu Sans", sans-serif; margin: 0; color: #000 }
section { page-break-after: always; text-align: center }
section:last-child { page-break-after: auto }
h1 { font-size: 15pt; margin: 0 0 1mm } p { margin: 0 0 1.5mm }
img { width: 62mm; height: 62mm; margin: 1mm auto; display: block }
.code { font: bold 10pt "DejaVu Sans Mono", monospace; letter-spacing: .3mm }
.url, .where { font-size: 8pt; overflow-wrap: anywhere } .where { color: #444 }
"""


def url_of(connector: Connector) -> str:
    """Return the address a driver's camera opens."""
    return f"{settings.PUBLIC_URL.rstrip('/')}/c/{connector.code}"


def html_of(connectors: list[Connector]) -> str:
    """Return the sheets as HTML: one a connector, in the order given."""
    sheets = []
    for one in connectors:
        several = one.number != 1
        sheets.append(
            {
                "station": one.station,
                "number": f"{one.evse.number}.{one.number}" if several else str(one.evse.number),
                "code": one.code,
                "url": url_of(one),
                "image": segno.make(url_of(one), error="m", micro=False).svg_data_uri(border=2),
            }
        )
    return render_to_string("admin/stations/sheets.html", {"sheets": sheets})


def answer(
    page: StaffAdmin, request: HttpRequest, stations: "QuerySet[Any]"
) -> HttpResponse | None:
    """Return the PDF of all connectors of these stations; where there is none, say why."""
    rows = (
        Connector.objects.filter(station__in=stations.values("pk"))
        .select_related("station__site", "evse")
        .order_by("station__identity", "evse__number", "number")
    )
    connectors = list(rows[:MAX_SHEETS])
    if not connectors:
        text = _("No connectors here yet: they appear when a station reports them.")
        page.message_user(request, text, messages.WARNING)
        return None
    response = HttpResponse(
        pdf.render_apart(html_of(connectors), CSS), content_type="application/pdf"
    )
    with transaction.atomic():
        journal.record("sheet.printed", connectors=len(connectors))
    response["Content-Disposition"] = 'attachment; filename="qr-sheets.pdf"'
    return response
