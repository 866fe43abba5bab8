"""The shape of operator commands: a noun with verbs, words or `--json`, a sentence on error."""

import json
from abc import ABC, abstractmethod
from argparse import ArgumentParser
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NoReturn

from django.core.management.base import BaseCommand, CommandError, CommandParser


class OperatorCommand(BaseCommand, ABC):
    """A management command such as `stations add ID`.

    Subclasses add verbs in `verbs(add)`: `add("list", self.list, help="…")` returns the verb's
    parser. A verb gets the parsed options and calls `show()` with what it has to say. Bad input
    raises CommandError with one sentence: exit code 1.
    """

    @abstractmethod
    def verbs(self, add: Callable[..., ArgumentParser]) -> None:
        """Declare the verbs."""

    def add_arguments(self, parser: Any) -> None:
        """Let every verb take `--json`, and errors be one sentence."""
        parser.__class__ = SentenceParser  # Django takes no class; the verbs' parsers follow it
        places = parser.add_subparsers(dest="verb", required=True, metavar="VERB")

        def add(verb: str, run: Callable[..., None], **options: Any) -> ArgumentParser:
            place: ArgumentParser = places.add_parser(verb, **options)
            place.set_defaults(run=run)
            place.add_argument("--json", action="store_true", help="print JSON")
            return place

        self.verbs(add)

    def handle(self, *args: Any, **options: Any) -> None:
        """Run the chosen verb."""
        self.as_json: bool = options.pop("json")
        options.pop("verb")
        run = options.pop("run")
        run(**{key: value for key, value in options.items() if key not in self._own})

    _own = frozenset(
        {
            "verbosity",
            "settings",
            "pythonpath",
            "traceback",
            "no_color",
            "force_color",
            "skip_checks",
            "stdout",
            "stderr",
        }
    )

    def show(self, data: Any, text: str | None = None) -> None:
        """Print `data` as JSON, or as `text`; rows (a list of mappings) become a table."""
        if self.as_json:
            self.stdout.write(json.dumps(data, indent=1, default=str, ensure_ascii=False))
        elif text is not None:
            self.stdout.write(text)
        elif isinstance(data, Mapping):
            for key, value in data.items():
                self.stdout.write(f"{key}: {_word(value)}")
        else:
            self.stdout.write(table(data) if data else "Nothing to show.")


class SentenceParser(CommandParser):
    """A parser whose errors are one sentence that says what to do, without the usage."""

    def error(self, message: str) -> NoReturn:
        """Print the sentence and leave with code 2; called from code, raise CommandError."""
        sentence = f"{_sentence(message)} See: {self.prog} --help"
        if self.called_from_command_line:
            self.exit(2, f"{sentence}\n")
        raise CommandError(sentence)


def _sentence(message: str) -> str:
    """Return argparse's words as a sentence to somebody who wants to get on."""
    missing = message.partition("arguments are required: ")[2]
    if missing:
        return f"Give {missing}."
    unknown = message.partition("unrecognized arguments: ")[2]
    if unknown:
        return f"{unknown} is not understood: leave it out."
    return message[:1].upper() + message[1:].rstrip(".") + "."


def _word(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, list | dict):
        return json.dumps(value, default=str, ensure_ascii=False)
    return str(value)


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return rows as aligned columns under their keys."""
    keys = list(rows[0])
    lines = [keys, *([_word(row.get(key)) for key in keys] for row in rows)]
    widths = [max(len(line[place]) for line in lines) for place in range(len(keys))]
    return "\n".join(
        "  ".join(word.ljust(width) for word, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def moment(text: str) -> datetime:
    """Return the moment an ISO 8601 date or time names; without a zone it is UTC."""
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise CommandError(f"{text} is no date: write it as 2026-11-01T12:00:00Z.") from None
    return at if at.tzinfo else at.replace(tzinfo=UTC)
