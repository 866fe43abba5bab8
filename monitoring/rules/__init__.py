"""Alert rules: each a generator that reads the rows and yields what is wrong now.

    @rule("faulted", family="fault", scope="evse", for_s=300, playbook="P2")
    def faulted(context: Context) -> Iterator[Finding]: ...

A rule is one or a few indexed queries over the whole fleet and never writes. The engine
(`monitoring/alerts.py`) compares its findings with the open alerts: `for_s` a condition must hold
before it fires, `clear_for_s` it must be over before it is resolved. A condition whose evidence is
an event (three boots in an hour) stays true while the event is in its window. The order of import
is the order of evaluation: wider scopes first, because they hold narrower ones back.
"""

from monitoring.rules import connectivity, connectors, charging, power, security  # noqa: I001  order of evaluation
from monitoring.rules.registry import RULES, Context, Finding, Rule, alert_after, rule

__all__ = [
    "RULES",
    "Context",
    "Finding",
    "Rule",
    "alert_after",
    "charging",
    "connectivity",
    "connectors",
    "power",
    "rule",
    "security",
]
