"""Every order to a charger, declared once: its words, its fields, its danger, its actions.

One file an area. An entry makes the dialog in the back office, the checks of `commands.send` and
`manage.py commands send`, and its line in docs/ocpp.md; how it is said is one method of its name in
each dialect that `says` it (`stations/ocpp/`). A test holds the two together.
"""

from stations.catalogue import (
    charging,
    configuration,
    display,
    firmware,
    grid,
    monitoring,
    power,
    security,
    tokens,
)
from stations.catalogue.spec import Group, Spec

COMMANDS: dict[str, Spec] = {
    **charging.COMMANDS,
    **configuration.COMMANDS,
    **monitoring.COMMANDS,
    **display.COMMANDS,
    **firmware.COMMANDS,
    **power.COMMANDS,
    **grid.COMMANDS,
    **tokens.COMMANDS,
    **security.COMMANDS,
}

__all__ = ["COMMANDS", "Group", "Spec"]
