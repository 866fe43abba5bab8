"""Rules about connectors: faults, and those that are stuck in a state."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from django.db.models import Exists, OuterRef, QuerySet
from django.utils.translation import gettext as _

from monitoring import faults
from monitoring.models import Session, Severity
from monitoring.rules.registry import Context, Finding, rule
from stations.models import Command, Connector, Station, Variable

# --- faults ---------------------------------------------------------------------------------------


def _connectors(**conditions: Any) -> QuerySet[Connector]:
    """Return connectors of connected stations in service, with station and EVSE."""
    return Connector.objects.filter(
        station__state=Station.State.ACCEPTED, station__connected=True, **conditions
    ).select_related("station", "evse")


def _at(connector: Connector) -> dict[str, Any]:
    """Return where a finding about this connector belongs."""
    return {
        "site_id": connector.station.site_id,
        "station_id": connector.station_id,
        "connector_id": connector.pk,
        "since": connector.status_received_at,
    }


def _faulted(context: Context, *, safety: bool) -> Iterator[Finding]:
    for connector in _connectors(status=Connector.Status.FAULTED):
        fault = faults.classify(
            connector.error_code,
            connector.vendor_error_code,
            connector.station.vendor,
            context.codes,
        )
        if fault.is_safety is not safety:
            continue
        code = connector.vendor_error_code
        yield Finding(
            _("%(connector)s: %(fault)s") % {"connector": connector, "fault": fault.name}
            + (f" ({code})" if code and code != fault.name else ""),
            **_at(connector),
            severity=fault.severity,
            evidence={
                "error_code": connector.error_code,
                "vendor_error_code": connector.vendor_error_code,
                "info": connector.info,
                "class": fault.fault_class,
                "action": fault.staff_action,
            },
        )


def _station_faulted(context: Context, *, safety: bool) -> Iterator[Finding]:
    """The same for the station as a whole (1.6's connector 0)."""
    rows = Station.objects.filter(
        state=Station.State.ACCEPTED, connected=True, status=Connector.Status.FAULTED
    )
    for station in rows:
        fault = faults.classify(station.error_code, "", station.vendor, context.codes)
        if fault.is_safety is safety:
            yield Finding(
                _("%(station)s: %(fault)s") % {"station": station.identity, "fault": fault.name},
                site_id=station.site_id,
                station_id=station.pk,
                severity=fault.severity,
                evidence={"error_code": station.error_code, "action": fault.staff_action},
            )


@rule("safety-fault", family="fault", scope="evse", severity=Severity.CRITICAL, playbook="block")
def safety_fault(context: Context) -> Iterator[Finding]:
    """A fault that may hurt somebody: told at once, never restarted from afar."""
    yield from _faulted(context, safety=True)
    yield from _station_faulted(context, safety=True)


@rule(
    "faulted",
    family="fault",
    scope="evse",
    severity=Severity.PAGE,
    for_s=300,
    clear_for_s=60,
    playbook="P2",
)
def faulted(context: Context) -> Iterator[Finding]:
    """A connector reports a fault for five minutes; its class decides how urgent it is."""
    yield from _faulted(context, safety=False)
    yield from _station_faulted(context, safety=False)


# --- stuck connectors -----------------------------------------------------------------------------


def _stuck(
    context: Context, status: Connector.Status, minutes: int, text: str
) -> Iterator[tuple[Connector, Finding]]:
    rows = _connectors(status=status, status_received_at__lte=context.ago(minutes=minutes))
    busy = Session.objects.filter(connector=OuterRef("pk"), state=Session.State.ACTIVE)
    for connector in rows.exclude(Exists(busy)):
        yield connector, Finding(text % {"connector": connector}, **_at(connector))


@rule(
    "stuck-preparing",
    family="stuck",
    scope="evse",
    severity=Severity.WARN,
    every_s=30,
    playbook="P3",
)
def stuck_preparing(context: Context) -> Iterator[Finding]:
    """Preparing for 15 minutes (or twice the connection time-out) without a transaction."""
    stuck = list(
        _stuck(context, Connector.Status.PREPARING, 15, _("%(connector)s is stuck in Preparing"))
    )
    timeouts = dict(
        Variable.objects.filter(
            station__in={connector.station_id for connector, _finding in stuck},
            name__in=["ConnectionTimeOut", "EVConnectionTimeOut"],
            value__isnull=False,
        ).values_list("station", "value")
    )
    for connector, finding in stuck:
        given = timeouts.get(connector.station_id) or ""
        limit = timedelta(seconds=2 * int(given) if given.isdigit() else 0)
        if connector.status_received_at and connector.status_received_at + limit <= context.now:
            yield finding


@rule(
    "stuck-finishing",
    family="stuck",
    scope="evse",
    severity=Severity.WARN,
    every_s=30,
    playbook="P3",
)
def stuck_finishing(context: Context) -> Iterator[Finding]:
    """Finishing for ten minutes with no session that still occupies the bay."""
    found = _stuck(
        context, Connector.Status.FINISHING, 10, _("%(connector)s is stuck in Finishing")
    )
    pairs = list(found)
    waiting = set(  # a driver who left the cable in is not a fault
        Session.objects.filter(
            connector__in=[connector.pk for connector, _finding in pairs], closed_at__isnull=True
        ).values_list("connector", flat=True)
    )
    for connector, finding in pairs:
        if connector.pk not in waiting:
            yield finding


@rule("stuck-unavailable", family="stuck", scope="evse", for_s=1800, every_s=60)
def stuck_unavailable(context: Context) -> Iterator[Finding]:
    """Out of service for half an hour though nobody asked for it."""
    rows = list(_connectors(status=Connector.Status.UNAVAILABLE))
    orders = Command.objects.filter(
        station__in={connector.station_id for connector in rows},
        name="change_availability",
        status__in=[Command.Status.ACCEPTED, Command.Status.SCHEDULED],
    ).order_by("id")
    wanted: dict[tuple[int, int | None], bool] = {}
    for order in orders:
        evse = order.args.get("evse")
        if evse is None:  # the whole station: what was said of its parts before is over
            wanted = {key: on for key, on in wanted.items() if key[0] != order.station_id}
        wanted[order.station_id, evse] = bool(order.args.get("operative", True))
    for connector in rows:
        station_on = wanted.get((connector.station_id, None), True)
        if wanted.get((connector.station_id, connector.evse.number), station_on):
            yield Finding(
                _("%(connector)s is out of service and nobody asked for it")
                % {"connector": connector},
                **_at(connector),
            )
