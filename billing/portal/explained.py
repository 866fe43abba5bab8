"""The bill of a session explained stretch by stretch, to whoever holds its receipt or account."""

from __future__ import annotations

from django.contrib.auth.decorators import login_required
from django.db.models import Q
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.utils.translation import get_language
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from billing import timeline
from billing.models import Charge
from billing.portal.guard import portal_page
from billing.portal.receipts import paid_by
from billing.settlement import NotNow
from monitoring import signed


@require_safe
@never_cache
@portal_page()
def receipt(request: HttpRequest, token: str) -> HttpResponse:
    """The timeline behind a receipt."""
    charge: Charge | None = getattr(paid_by(token), "charge", None)
    if charge is None:
        raise Http404(_("There is no bill for this session yet."))
    return _page(request, charge)


@require_safe
@never_cache
@portal_page()
def signed_xml(request: HttpRequest, token: str) -> HttpResponse:
    """The signed meter readings, for the S.A.F.E. transparency software."""
    session = paid_by(token).session
    records = [] if session is None else signed.checked_of(session)
    if not records:
        raise Http404(_("This session has no signed meter readings."))
    return signed_file(records)


def signed_file(records: list[signed.Checked]) -> HttpResponse:
    """The records as a file to keep."""
    answer = HttpResponse(signed.transparency_xml(records), content_type="application/xml")
    answer["Content-Disposition"] = 'attachment; filename="signed-readings.xml"'
    return answer


@login_required
@require_safe
@never_cache
@portal_page()
def account(request: HttpRequest, pk: int) -> HttpResponse:
    """The timeline of one of the driver's own sessions."""
    user = request.user.pk
    mine = Q(driver=user) | Q(payment__driver=user) | Q(session__token__user=user)
    rows = Charge.objects.filter(mine).select_related("session__station__site").distinct()
    return _page(request, get_object_or_404(rows, session=pk))


def _page(request: HttpRequest, charge: Charge) -> HttpResponse:
    try:
        found = timeline.timeline_of(charge)
    except NotNow as error:
        raise Http404(_("There is no bill for this session yet.")) from error
    said = timeline.in_words(found, get_language() or "en")
    return render(request, "portal/explained.html", {"charge": charge, "timeline": said})
