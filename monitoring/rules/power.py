"""Rules about sites that share their connection: did the stations obey, does it hold?"""

from collections import defaultdict
from collections.abc import Iterator
from datetime import timedelta

from django.db.models import F
from django.utils.translation import gettext as _

from monitoring import load
from monitoring.models import Allotment, Session, Severity
from monitoring.rules.registry import Context, Finding, rule

TOLERANCE = 1.10  # meters and cars are not exact …
SLACK_W = 300  # … and a standing car's ventilation is no disobedience
SETTLING = timedelta(seconds=60)  # a car has 5 s to follow (IEC 61851-1), stations are slower


@rule("site-over-limit", family="power", scope="site", severity=Severity.PAGE, for_s=60, every_s=10)
def site_over_limit(context: Context) -> Iterator[Finding]:
    """The sessions of a site together draw more than its limit."""
    drawn: dict[int, float] = defaultdict(float)
    sites = {}
    running = Session.objects.filter(
        state=Session.State.ACTIVE,
        station__site__power_limit_a__isnull=False,
        last_reading_at__gte=context.ago(minutes=5),
        power_w__gt=0,
    ).select_related("station__site", "connector")
    for session in running:
        site = session.station.site
        if site is not None:
            phases = session.connector.phases if session.connector else load.PHASES
            drawn[site.pk] += (session.power_w or 0.0) / (load.VOLTAGE_V * phases)
            sites[site.pk] = site
    for pk, amps in drawn.items():
        limit_a = sites[pk].power_limit_a or 0
        if amps > limit_a * TOLERANCE + 1:
            yield Finding(
                _("%(site)s draws %(drawn)d A a phase, the limit is %(limit)d A")
                % {"site": sites[pk].name, "drawn": round(amps), "limit": limit_a},
                site_id=pk,
                evidence={"drawn_a": round(amps, 1), "limit_a": limit_a},
            )


@rule("power-disobeyed", family="power", scope="evse", for_s=30, every_s=10)
def power_disobeyed(context: Context) -> Iterator[Finding]:
    """A session draws more than the share its station has accepted."""
    rows = (
        Allotment.objects.filter(
            session__state=Session.State.ACTIVE,
            site__power_limit_a__isnull=False,
            confirmed_a__isnull=False,
            confirmed_at__lte=context.now - SETTLING,
            session__last_reading_at__gte=F("confirmed_at") + SETTLING,
            session__power_w__gt=SLACK_W,
        )
        .select_related("session__connector__evse", "session__connector__station", "station")
        .order_by()
    )
    for row in rows:
        session = row.session
        if session is None or row.confirmed_a is None:
            continue
        connector = session.connector
        allowed_w = load.watts(row.confirmed_a, connector.phases if connector else load.PHASES)
        power_w = session.power_w or 0.0
        if power_w <= allowed_w * TOLERANCE + SLACK_W:
            continue
        yield Finding(
            _("%(where)s draws %(drawn)d W, its share is %(share)d A (%(allowed)d W)")
            % {
                "where": connector or row.station,
                "drawn": power_w,
                "share": row.confirmed_a,
                "allowed": allowed_w,
            },
            site_id=row.site_id,
            station_id=row.station_id,
            connector_id=session.connector_id,
            evidence={"session": session.pk, "power_w": power_w, "share_a": row.confirmed_a},
        )


@rule("power-refused", family="power", scope="station", for_s=120, every_s=30)
def power_refused(context: Context) -> Iterator[Finding]:
    """A station refuses the limits its site's sharing needs: it is counted with all it can draw."""
    rows = Allotment.objects.exclude(refused="").filter(
        site__power_limit_a__isnull=False, station__connected=True
    )
    told: dict[int, Allotment] = {}
    for row in rows.select_related("station").order_by("station", "evse"):
        told.setdefault(row.station_id, row)
    for row in told.values():
        yield Finding(
            _("%(station)s refuses its power limit: %(why)s")
            % {"station": row.station.identity, "why": row.refused},
            site_id=row.site_id,
            station_id=row.station_id,
            evidence={"evse": row.evse, "answer": row.refused},
        )
