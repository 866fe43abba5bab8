"""Orders to chargers: the one way to give one of the catalogue (`stations/catalogue/`).

    commands.send(station, "reset", hard=True)

writes a `Command` row and nudges the gateway that holds the socket. The row is the truth: queued
→ sent → accepted / scheduled / rejected / failed / timed out, or expired unsent. When it ended, the
journal says `command.finished` with its name, status and subject; whoever ordered it reacts.
Each entry has one method of its name in each dialect (`stations/ocpp/v*.py`).
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from django.db import transaction
from django.utils import timezone

from stations import journal, live, passwords
from stations.catalogue import COMMANDS
from stations.configuration import HIDDEN, is_secret
from stations.models import Command, CommandBatch, Station
from stations.state import try_advance

if TYPE_CHECKING:
    from stations.models import User


class CommandError(Exception):
    """Something is wrong with an order.

    CommandError
     ├── UnknownCommand      no such entry in COMMANDS
     └── BadArguments        the command's form refuses them; the text says which and why
    """


class UnknownCommand(CommandError):
    """There is no command of that name."""


class BadArguments(CommandError):
    """The arguments do not fit the command's form."""


def check(name: str, args: Mapping[str, Any]) -> dict[str, Any]:
    """Return the JSON arguments of a command, cleaned by its form; empty values are left out.

    Raises UnknownCommand or BadArguments.
    """
    if name not in COMMANDS:
        raise UnknownCommand(f"There is no command “{name}”. Known: {', '.join(COMMANDS)}.")
    bound = COMMANDS[name].form(data=dict(args))
    unknown = set(args) - set(bound.fields)
    if unknown:
        raise BadArguments(f"{name} takes no {', '.join(sorted(unknown))}.")
    if not bound.is_valid():
        raise BadArguments(
            "; ".join(f"{key}: {' '.join(map(str, texts))}" for key, texts in bound.errors.items())
        )
    return {
        key: _plain(value)
        for key, value in bound.cleaned_data.items()
        if value not in (None, "", [])
    }


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    return str(value) if isinstance(value, Decimal) else value


def send(
    station: Station,
    name: str,
    *,
    by: "User | None" = None,
    subject: str = "",
    batch: CommandBatch | None = None,
    expires_in_s: float | None = None,
    **args: Any,
) -> Command:
    """Order `station` to do something; return the queued row. Raises CommandError.

    `subject` names what ordered it (`payment-…`, `job-7`) and comes back in `command.finished`.
    A station that is offline gets it when it connects, unless `expires_in_s` has passed.
    """
    cleaned = check(name, args)
    now = timezone.now()
    ttl = COMMANDS[name].ttl_s if expires_in_s is None else expires_in_s
    with transaction.atomic():
        command = Command.objects.create(
            station=station,
            name=name,
            args=cleaned,
            subject=subject,
            batch=batch,
            created_by=by,
            created_at=now,
            expires_at=now + timedelta(seconds=ttl),
        )
        journal.record("command.queued", command, name=name, subject=subject, command=command.pk)
        live.touch(f"orders-{station.pk}", f"station-{station.pk}", f"command-{command.pk}")
    return command


def claim(command: Command, *, epoch: int, message_id: str, action: str, request: Any) -> bool:
    """Move a queued command to sent on this connection; False when another socket has it.

    Only one of two sockets can win: compare-and-set on the row. `request` is the JSON payload.
    """
    now = timezone.now()
    moved = try_advance(
        Command.objects.filter(pk=command.pk, expires_at__gt=now),
        Command.Status.SENT,
        field="status",
        sent_at=now,
        epoch=epoch,
        message_id=message_id,
        action=action,
        request=request,
    )
    live.touch(f"command-{command.pk}", f"station-{command.station_id}")
    if command.batch_id:
        live.touch(f"commandbatch-{command.batch_id}")
    return bool(moved)


def finish(
    command_id: int, status: Command.Status, *, response: Any = None, error: str = ""
) -> bool:
    """End a command with the charger's answer; False when it had ended already.

    A late answer (after a time-out) is still kept in the row, but changes no status.
    """
    with transaction.atomic():
        rows = Command.objects.filter(pk=command_id)
        moved = try_advance(
            rows,
            status,
            field="status",
            response=response,
            error=error[:500],
            answered_at=timezone.now(),
        )
        if not moved:
            if response is not None:
                rows.filter(response__isnull=True).update(
                    response=response, answered_at=timezone.now()
                )
            return False
        command = rows.get()
        if carries_secret(command.name, command.args):
            rows.update(args=shown(command.name, command.args))
        journal.record(
            "command.finished",
            command,
            name=command.name,
            status=str(status),
            subject=command.subject,
            command=command.pk,
            error=error[:500],
        )
        live.touch(f"command-{command.pk}", f"station-{command.station_id}")
        if command.batch_id:
            live.touch(f"commandbatch-{command.batch_id}")
    return True


def carries_secret(name: str, args: Mapping[str, Any]) -> bool:
    """Tell whether an order carries a password: its row forgets it when it ends, however."""
    if name == "rotate_password":
        return True
    return name == "change_configuration" and is_secret(str(args.get("key", "")))


def shown(name: str, args: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of an order without a password."""
    return args | {"value": HIDDEN} if carries_secret(name, args) else args


def keep_password(command_id: int) -> None:
    """Put the password of an order without an answer on trial: the station may have taken it."""
    command = Command.objects.get(pk=command_id)
    if command.status == Command.Status.SENT and carries_secret(command.name, command.args):
        with transaction.atomic():
            passwords.accepted(command.station_id, str(command.args.get("value", "")))


def sweep() -> int:
    """End commands nobody will end: expired unsent, or sent and unanswered. Returns how many."""
    now = timezone.now()
    ended = 0
    queued = Command.objects.filter(status=Command.Status.QUEUED, expires_at__lte=now)
    for pk in queued.values_list("pk", flat=True)[:500]:
        ended += finish(pk, Command.Status.EXPIRED, error="The station did not connect in time.")
    sent = Command.objects.filter(
        status=Command.Status.SENT, sent_at__lt=now - timedelta(seconds=30)
    ).values_list("pk", "name", "sent_at")
    for pk, name, sent_at in sent[:500]:
        timeout = COMMANDS[name].timeout_s if name in COMMANDS else 60
        if sent_at and sent_at + timedelta(seconds=timeout + 10) < now:
            keep_password(pk)
            ended += finish(pk, Command.Status.TIMED_OUT, error="The charger did not answer.")
    return ended
