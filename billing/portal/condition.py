"""How a connector stands, in a driver's words: what the list shows, and whether paying makes sense.

Paying is offered wherever a start may succeed. A cable that is not in yet does not forbid it: some
sockets open only once paid, some stations never tell. The page asks to plug in first, and says
what becomes of the money otherwise (docs/adr/0019).
"""

from __future__ import annotations

from dataclasses import dataclass

from django.utils.translation import gettext as _

from billing.start import START_WITHIN
from monitoring.models import Session
from stations.models import Connector, Station

S = Connector.Status
CHARGING = (S.CHARGING, S.SUSPENDED_EV, S.SUSPENDED_EVSE)


@dataclass(frozen=True, slots=True)
class Condition:
    """`tone` is free, busy or off; `word` names it; `text` says what to do; `ready`: may pay."""

    tone: str
    word: str
    text: str = ""
    ready: bool = False


def at_a_glance(connector: Connector, station: Station) -> Condition:
    """Return a connector as the list of stations shows it. Asks the database nothing."""
    if not station.connected:
        return Condition("off", _("Offline"))
    match S(connector.status):
        case S.AVAILABLE:
            return Condition("free", _("Free"), ready=True)
        case S.UNAVAILABLE | S.FAULTED:
            return Condition("off", _("Out of service"))
        case S.RESERVED:
            return Condition("busy", _("Reserved"))
        case S.UNKNOWN:
            return Condition("off", _("Unknown"))
        case _plugged_or_charging:
            return Condition("busy", _("In use"))


def before_you(connector: Connector) -> Condition:
    """Return a connector as its own page shows it to somebody who stands there."""
    if connector.station.state != Station.State.ACCEPTED or not connector.station.connected:
        text = _("The station is offline and cannot be started from here. Please try another one.")
        return Condition("off", _("Offline"), text)
    status = S(connector.status)
    if status == S.FAULTED:
        text = _("This charging point has a fault. Please use another one.")
        return Condition("off", _("Out of order"), text)
    if status == S.UNAVAILABLE:
        text = _("This charging point is switched off just now. Please use another one.")
        return Condition("off", _("Out of service"), text)
    if status == S.RESERVED:
        text = _("This charging point is reserved for somebody else. Please use another one.")
        return Condition("busy", _("Reserved"), text)
    sessions = Session.objects.filter(connector=connector).exclude(state=Session.State.CLOSED)
    going_on = set(sessions.values_list("state", flat=True))
    if status in CHARGING or Session.State.ACTIVE in going_on:
        text = _("Somebody is charging here. This page shows when the charging point is free.")
        return Condition("busy", _("In use"), text)
    return _to_start(status, bool(going_on))


def _to_start(status: Connector.Status, one_ended: bool) -> Condition:
    plugged = status in (S.PREPARING, S.OCCUPIED)
    if plugged and not one_ended:
        text = _("The cable is plugged in. Pay, and charging starts by itself.")
        return Condition("free", _("Plugged in"), text, ready=True)
    if plugged or status == S.FINISHING:
        text = _("The last session is over and its cable still in. Is it your car? Then pay again.")
        return Condition("busy", _("Plugged in"), text, ready=True)
    text = _(
        "No cable is plugged in yet. Plug it into your car first, then pay. If the socket opens"
        " only after you paid, plug in within %(n)d minutes; else everything is released."
    ) % {"n": START_WITHIN.seconds // 60}
    word = _("Unknown") if status == S.UNKNOWN else _("Free")
    return Condition("off" if status == S.UNKNOWN else "free", word, text, ready=True)
