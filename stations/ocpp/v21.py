"""OCPP 2.1: only what it adds to 2.0.1.

The token type is any text, severities come inside NotifyEvent, and there is SEND: a message that is
never answered (Part 4 §4.2.4).
"""

from __future__ import annotations

from types import ModuleType
from typing import ClassVar

from ocpp.v21 import call
from ocpp.v21.enums import Action

from stations.ocpp import fastpath
from stations.ocpp.blocks.certificates import Certificates21
from stations.ocpp.blocks.grid import Grid, Streams
from stations.ocpp.blocks.power import Power21
from stations.ocpp.blocks.tariffs import Tariffs
from stations.ocpp.dialect import Handler
from stations.ocpp.v201 import V201

STREAM = "NotifyPeriodicEventStream"


class V21(Power21, Certificates21, Tariffs, Grid, Streams, V201):
    """One charging station's connection."""

    version = fastpath.V21
    actions = frozenset(action.value for action in Action) | {STREAM}
    calls: ClassVar[ModuleType] = call

    sends: ClassVar[dict[str, Handler]] = {STREAM: Streams.on_stream}
