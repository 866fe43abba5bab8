"""Payloads made from the schemas of the protocol: a full valid one, and every way to break it."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources
from typing import Any

import orjson

STAMP = "2026-11-22T10:00:00Z"
OCCURRENCE = "OccurrenceConstraintViolation"
TYPE = "TypeConstraintViolation"
PROPERTY = "PropertyConstraintViolation"
FORMAT = "FormatViolation"
WRONG = {
    "string": 12_345,
    "integer": "text",
    "number": "text",
    "boolean": "yes",
    "array": {"no": "list"},
    "object": "text",
}
# What several firmwares send empty, and nobody loses by (see stations/ocpp/fastpath.py).
MAY_BE_EMPTY = ("meterValue", "sampledValue", "reportData")
Path = tuple[str | int, ...]


@dataclass(frozen=True)
class Broken:
    """A payload with one thing wrong; `code` in 2.x spelling, "" where it is tolerated."""

    kind: str  # missing, type, enum, long, unknown, range, items
    path: Path
    payload: Any
    code: str

    def __str__(self) -> str:
        return f"{self.kind} at {'/'.join(map(str, self.path))}"


def names(version: str) -> list[str]:
    """The schemas of a version: `Authorize`, `AuthorizeResponse`, `ResetRequest`, …"""
    folder = resources.files("ocpp").joinpath("v" + version.replace(".", ""), "schemas")
    return sorted(one.name.removesuffix(".json") for one in folder.iterdir())


def load(version: str, name: str) -> dict[str, Any]:
    """A schema as the protocol has it."""
    folder = "v" + version.replace(".", "")
    path = resources.files("ocpp").joinpath(folder, "schemas", f"{name}.json")
    return orjson.loads(path.read_text(encoding="utf-8-sig"))


class Schema:
    """One message's schema."""

    def __init__(self, version: str, name: str) -> None:
        self.version, self.name, self.root = version, name, load(version, name)

    def resolve(self, node: dict[str, Any]) -> dict[str, Any]:
        """The node, or what it refers to."""
        while "$ref" in node:
            target: Any = self.root
            for step in node["$ref"].removeprefix("#/").split("/"):
                target = target[step]
            node = target
        return node

    def full(self) -> Any:
        """A valid payload in which every property is filled, lists with one item."""
        return self._value(self.root)

    def _value(self, node: dict[str, Any]) -> Any:
        node = self.resolve(node)
        match node.get("type"):
            case "object":
                return {name: self._value(one) for name, one in node.get("properties", {}).items()}
            case "array":
                return [self._value(node["items"])] * max(1, node.get("minItems", 1))
            case "string":
                if "enum" in node:
                    return node["enum"][0]
                return STAMP if node.get("format") == "date-time" else "x"
            case "boolean":
                return True
            case "integer" | "number":
                return int(min(max(1, node.get("minimum", 1)), node.get("maximum", 1e9)))
        return "anything"

    def broken(self) -> Iterator[Broken]:
        """Every way to break the full payload in one place."""
        full = self.full()
        for kind, path, value, code in self._ways(self.root, full, ()):
            payload = copy.deepcopy(full)
            *way, last = path
            place = payload
            for step in way:
                place = place[step]
            if value is ...:
                del place[last]
            else:
                place[last] = value
            yield Broken(kind, path, payload, code)

    def _ways(
        self, node: dict[str, Any], value: Any, path: Path
    ) -> Iterator[tuple[str, Path, Any, str]]:
        node = self.resolve(node)
        kind = node.get("type", "")
        if path and kind in WRONG:
            yield "type", path, WRONG[kind], TYPE
            yield "type", path, None, TYPE
        if kind == "object":
            if node.get("additionalProperties") is False:
                tolerated = self.version == "1.6"
                yield "unknown", (*path, "colour"), "red", "" if tolerated else FORMAT
            for name in node.get("required", ()):
                yield "missing", (*path, name), ..., OCCURRENCE
            for name, one in node.get("properties", {}).items():
                yield from self._ways(one, value[name], (*path, name))
        elif kind == "array":
            if node.get("minItems", 0) > 0:
                yield "items", path, [], "" if path[-1] in MAY_BE_EMPTY else OCCURRENCE
            if "maxItems" in node:
                yield "items", path, value[:1] * (node["maxItems"] + 1), OCCURRENCE
            yield from self._ways(node["items"], value[0], (*path, 0))
        elif kind == "string":
            if "enum" in node:
                yield "enum", path, "Perhaps", PROPERTY
            if "maxLength" in node:
                yield "long", path, "x" * (node["maxLength"] + 1), PROPERTY
        elif kind in ("integer", "number"):
            if "minimum" in node:
                yield "range", path, int(node["minimum"]) - 1, PROPERTY
            if "maximum" in node:
                yield "range", path, int(node["maximum"]) + 1, PROPERTY
