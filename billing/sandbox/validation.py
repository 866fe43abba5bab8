"""Requests checked against the parameter types of the installed SDK.

The SDK's TypedDicts are generated from Stripe's own OpenAPI text for exactly the API version it
speaks, so a parameter that version removed, a misspelt one, a missing one or one of the wrong
type is refused here as Stripe refuses it.
"""

from __future__ import annotations

import ast
import re
import types
import typing
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import stripe
from stripe._request_options import RequestOptions
from stripe._stripe_context import StripeContext

from billing.sandbox.errors import Malformed

# The services we serve; each is one file of the SDK.
SERVICES = (
    "balance_transaction", "charge", "customer", "customer_payment_method", "dispute", "event",
    "payment_intent", "payment_method", "refund", "setup_intent",
)  # fmt: skip
# Names the SDK's modules import for type checkers only.
NAMES = {**vars(typing), "StripeContext": StripeContext}
OPTIONS = frozenset(typing.get_type_hints(RequestOptions, localns=NAMES))
_PART = re.compile(r"\[([^\]]*)\]")


@dataclass(frozen=True, slots=True)
class Operation:
    """One call of the API: its name here, its verb and path, its parameters' type."""

    name: str  # "payment_intents.capture"
    verb: str
    pattern: re.Pattern[str]
    params: str | None


@cache
def operations() -> tuple[Operation, ...]:
    """Every operation of `SERVICES`, read from the SDK's source."""
    folder = Path(stripe.__file__).parent
    found = []
    for service in SERVICES:
        tree = ast.parse((folder / f"_{service}_service.py").read_text())
        for cls in (node for node in tree.body if isinstance(node, ast.ClassDef)):
            found += [
                op
                for method in cls.body
                if isinstance(method, ast.FunctionDef)
                and (op := _operation(service, method)) is not None
            ]
    # Literal paths before templates: /v1/refunds/search is no id.
    return tuple(sorted(found, key=lambda op: op.pattern.pattern.count("(?P<")))


def _operation(service: str, method: ast.FunctionDef) -> Operation | None:
    params = next((a.annotation for a in method.args.args if a.arg == "params"), None)
    for node in ast.walk(method):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr == "_request"
        ):
            path = "".join(
                c.value
                for c in ast.walk(node.args[1])
                if isinstance(c, ast.Constant)
                and isinstance(c.value, str)
                and c.value.startswith("/v1/")
            )
            pattern = re.compile(re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", path) + "$")
            type_name = re.search(r"\w+Params", ast.unparse(params)) if params else None
            return Operation(
                f"{service}s.{method.name}",
                str(typing.cast("ast.Constant", node.args[0]).value).upper(),
                pattern,
                type_name.group() if type_name else None,
            )
    return None


def find(verb: str, path: str) -> tuple[Operation, dict[str, str]]:
    """The operation a request names, with the ids of its path. Raises `Malformed`."""
    for operation in operations():
        if operation.verb == verb and (match := operation.pattern.match(path)):
            return operation, match.groupdict()
    raise Malformed(f"Unrecognized request URL ({verb}: {path}).")


def parse_form(text: str) -> dict[str, Any]:
    """`a[b]=1&c[0]=x&c[]=y` as {"a": {"b": "1"}, "c": ["x", "y"]}."""
    tree: dict[str, Any] = {}
    for name, value in parse_qsl(text, keep_blank_values=True):
        head = name.split("[", 1)[0]
        keys = [head, *_PART.findall(name[len(head) :])]
        node = tree
        for key in keys[:-1]:
            node = node.setdefault(key or str(len(node)), {})
        node[keys[-1] or str(len(node))] = value
    return typing.cast("dict[str, Any]", _lists(tree))


def _lists(node: Any) -> Any:
    if not isinstance(node, dict):
        return node
    if node and all(key.isdigit() for key in node):
        return [_lists(node[key]) for key in sorted(node, key=int)]
    return {key: _lists(value) for key, value in node.items()}


def check(operation: Operation, params: dict[str, Any]) -> dict[str, Any]:
    """The parameters with numbers and booleans decoded. Raises `Malformed` as Stripe would."""
    if operation.params is None:
        return params
    return _check_dict(_params_type(operation.params), params, "")


@cache
def _params_type(name: str) -> Any:
    module = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()
    return getattr(import_module(f"stripe.params._{module}"), name)


@cache
def _fields(kind: Any) -> tuple[dict[str, Any], frozenset[str]]:
    hints = typing.get_type_hints(kind, localns=NAMES, include_extras=True)
    wanted = {k: v for k, v in hints.items() if k not in OPTIONS}
    required = {k for k in wanted if typing.get_origin(wanted[k]) is not typing.NotRequired}
    return wanted, frozenset(required)


def _check_dict(kind: Any, values: dict[str, Any], where: str) -> dict[str, Any]:
    fields, required = _fields(kind)
    for key in values:
        if key not in fields:
            param = f"{where}[{key}]" if where else key
            raise Malformed(
                f"Received unknown parameter: {param}", code="parameter_unknown", param=param
            )
    for key in sorted(required - values.keys()):
        param = f"{where}[{key}]" if where else key
        raise Malformed(f"Missing required param: {param}.", code="parameter_missing", param=param)
    return {
        key: _check(fields[key], value, f"{where}[{key}]" if where else key)
        for key, value in values.items()
    }


def _check(kind: Any, value: Any, where: str) -> Any:
    """One value against one annotation: NotRequired, Literal, Union, list, dict, scalars."""
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.NotRequired or str(origin).endswith("NotRequired"):
        return _check(args[0], value, where)
    if origin in (typing.Union, types.UnionType):
        return _check_union(args, value, where)
    if origin is typing.Literal:
        if value not in args:
            raise Malformed(f"Invalid {where}: must be one of {', '.join(args)}", param=where)
        return value
    if origin is list:
        if not isinstance(value, list):
            raise Malformed(f"Invalid array: {where}", param=where)
        return [_check(args[0], item, f"{where}[{n}]") for n, item in enumerate(value)]
    if origin is dict or kind is dict:
        if not isinstance(value, dict):
            raise Malformed(f"Invalid object: {where}", param=where)
        return value
    if typing.is_typeddict(kind) or hasattr(kind, "__required_keys__"):
        if not isinstance(value, dict):
            raise Malformed(f"Invalid object: {where}", param=where)
        return _check_dict(kind, value, where)
    return _scalar(kind, value, where)


def _check_union(args: tuple[Any, ...], value: Any, where: str) -> Any:
    names = {n for a in args if typing.get_origin(a) is typing.Literal for n in typing.get_args(a)}
    if "" in names and value == "":
        return value
    rest = [a for a in args if typing.get_origin(a) is not typing.Literal and a is not type(None)]
    if names - {""} and isinstance(value, str):
        # `Literal[...] | str` is Stripe's open enum; a value outside the list is a mistake of ours.
        if value in names:
            return value
        rest = [a for a in rest if a is not str]
        if not rest:
            raise Malformed(f"Invalid {where}: '{value}' is not known", param=where)
    problem: Malformed | None = None
    for kind in rest:
        try:
            return _check(kind, value, where)
        except Malformed as error:
            problem = error
    raise problem or Malformed(f"Invalid value for {where}", param=where)


def _scalar(kind: Any, value: Any, where: str) -> Any:
    if not isinstance(value, str):
        raise Malformed(f"Invalid value for {where}", param=where)
    if kind is bool:
        if value not in ("true", "false"):
            raise Malformed(f"Invalid boolean: {value}", param=where)
        return value == "true"
    if kind in (int, float):
        try:
            return kind(value)
        except ValueError:
            raise Malformed(
                f"Invalid {kind.__name__}: {value}",
                code=f"parameter_invalid_{'integer' if kind is int else 'number'}",
                param=where,
            ) from None
    return value  # str, and classes that only a response knows
