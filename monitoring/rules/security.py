"""Rules about certificates that run out."""

from collections.abc import Iterator
from datetime import timedelta

from django.utils import timezone
from django.utils.translation import gettext as _

from monitoring.models import Severity
from monitoring.rules.registry import Context, Finding, rule
from stations.models import Authority, Certificate, Station

SOON = timedelta(days=30)
URGENT = timedelta(days=7)


@rule("cert-expiring", family="security", scope="station", severity=Severity.TICKET, every_s=300)
def cert_expiring(context: Context) -> Iterator[Finding]:
    """A station's certificate, or our own authority's, runs out within 30 days, or has."""
    rows = Certificate.objects.filter(
        state=Certificate.State.ACTIVE,
        station__state=Station.State.ACCEPTED,
        not_after__lte=context.now + SOON,
    ).select_related("station")
    for row in rows.order_by("not_after")[:500]:
        if row.not_after is None:
            continue
        yield Finding(
            _("%(station)s: %(use)s certificate is valid until %(until)s")
            % {
                "station": row.station.identity,
                "use": row.get_use_display(),
                "until": timezone.localtime(row.not_after).date().isoformat(),
            },
            site_id=row.station.site_id,
            station_id=row.station_id,
            key=f"certificate-{row.pk}",
            severity=Severity.PAGE if row.not_after <= context.now + URGENT else None,
            evidence={"serial": row.serial, "not_after": row.not_after.isoformat()},
        )
    newest = Authority.objects.first()
    if newest is not None and newest.not_after <= context.now + 12 * SOON:
        yield Finding(
            _("The certificate authority %(name)s is valid until %(until)s")
            % {"name": newest.name, "until": newest.not_after.date().isoformat()},
            key=f"authority-{newest.pk}",
        )
