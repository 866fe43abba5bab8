"""People, assets, the wire and the journal."""

from stations.models.assets import Connector, Evse, QuirkProfile, Site, Station, Variable
from stations.models.device import ConfigurationTemplate, Holding, StreamValue
from stations.models.journal import Entry
from stations.models.lists import LocalList
from stations.models.people import Token, User
from stations.models.reservations import Reservation
from stations.models.security import Authority, Certificate
from stations.models.wire import Command, CommandBatch, Message

__all__ = [
    "Authority",
    "Certificate",
    "Command",
    "CommandBatch",
    "ConfigurationTemplate",
    "Connector",
    "Entry",
    "Evse",
    "Holding",
    "LocalList",
    "Message",
    "QuirkProfile",
    "Reservation",
    "Site",
    "Station",
    "StreamValue",
    "Token",
    "User",
    "Variable",
]
