"""States: choices with a table of allowed moves, changed by compare-and-set only.

class State(Lifecycle):
    OPEN = "open", _("Open")
    DONE = "done", _("Done")
State.TRANSITIONS = {State.OPEN: {State.DONE}}

advance(Job.objects.filter(pk=7), Job.State.DONE)     # one UPDATE … WHERE state IN (…)
"""

from typing import Any, ClassVar

from django.db import models


class NotAllowed(Exception):
    """This move is not allowed from the row's state; somebody else may have moved it."""


class Lifecycle(models.TextChoices):
    """TextChoices with `TRANSITIONS`: from each state, the states that may follow."""

    TRANSITIONS: ClassVar[dict[Any, set[Any]]]

    def may_become(self, target: "Lifecycle") -> bool:
        """Tell whether `target` may follow this state."""
        return target in transitions(type(self)).get(self, set())

    @classmethod
    def terminal(cls) -> set["Lifecycle"]:
        """Return the states that nothing follows."""
        return {state for state in cls if not transitions(cls).get(state)}

    @classmethod
    def before(cls, target: "Lifecycle") -> list["Lifecycle"]:
        """Return the states from which `target` may be entered."""
        return [state for state in cls if target in transitions(cls).get(state, set())]


def transitions(lifecycle: type[Lifecycle]) -> dict[Any, set[Any]]:
    """Return the TRANSITIONS table of a lifecycle."""
    table: dict[Any, set[Any]] = lifecycle.__dict__.get("TRANSITIONS", {})
    return table


def try_advance(
    rows: "models.QuerySet[Any]", target: Lifecycle, *, field: str = "state", **changes: Any
) -> int:
    """Move the rows that may move to `target`, set `changes` with it; return how many moved."""
    allowed = type(target).before(target)
    return rows.filter(**{f"{field}__in": allowed}).update(**{field: target}, **changes)


def advance(
    rows: "models.QuerySet[Any]", target: Lifecycle, *, field: str = "state", **changes: Any
) -> None:
    """Like `try_advance` for one row; raise NotAllowed when nothing moved."""
    if try_advance(rows, target, field=field, **changes) == 0:
        raise NotAllowed(f"{rows.model.__name__} cannot become {target} now.")
