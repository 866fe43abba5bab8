"""The fast way through a frame: parse, validate and pack, around the `ocpp` package.

The package (pinned) keeps what it is good at: the schemas, the enums, the dataclasses of the
calls we make and the `@on` decorator. Its slow or wrong parts are not used:

- `messages.unpack` raises TypeError on `[2, "i", {"a": 1}, {}]`, and knows no message type 6;
- its validator is 94–271 times slower than jsonschema-rs, and hops to a thread by default;
- it answers an unhandled action of 2.1 with nothing at all;
- it translates the keys of every payload to snake_case and back. Handlers here get the
  charger's own camelCase payload, already validated, so nothing is translated on the hot path.

    RpcError
    ├── Unreadable   the frame has no usable message id: answered with id "-1", or dropped
    └── Violation    a readable call that breaks the protocol: answered with its own id
"""

from __future__ import annotations

import re
from functools import cache
from importlib import resources
from typing import Any, Final, NamedTuple

import jsonschema_rs
import orjson
from ocpp.charge_point import remove_nones, serialize_as_dict, snake_to_camel_case

CALL: Final = 2
CALLRESULT: Final = 3
CALLERROR: Final = 4
CALLRESULTERROR: Final = 5  # 2.1 only
SEND: Final = 6  # 2.1 only

V16: Final = "1.6"
V201: Final = "2.0.1"
V21: Final = "2.1"
VERSIONS: Final = (V16, V201, V21)

MAX_FRAME_BYTES: Final = 1024 * 1024
MAX_ID_CHARACTERS: Final = 36  # Part 4 §4.1.4; the same in OCPP-J 1.6

# Our names for what is wrong, in 2.x spelling; 1.6 spells two of them differently, as its
# specification does (OCPP-J 1.6 §4.2.3, errata 5.1 and 5.2).
FORMAT: Final = "FormatViolation"
OCCURRENCE: Final = "OccurrenceConstraintViolation"
TYPE: Final = "TypeConstraintViolation"
PROPERTY: Final = "PropertyConstraintViolation"
FRAMEWORK: Final = "RpcFrameworkError"
MESSAGE_TYPE: Final = "MessageTypeNotSupported"
NOT_IMPLEMENTED: Final = "NotImplemented"
NOT_SUPPORTED: Final = "NotSupported"
SECURITY: Final = "SecurityError"
INTERNAL: Final = "InternalError"

_SPELLING_16: Final = {
    FORMAT: "FormationViolation",
    FRAMEWORK: "FormationViolation",  # 1.6: "not conform the PDU structure"
    OCCURRENCE: "OccurenceConstraintViolation",
    MESSAGE_TYPE: "ProtocolError",
}

# How a call begins whose text is no JSON further on: its id can still be answered to.
_CALL_ID: Final = re.compile(r'\s*\[\s*2\s*,\s*"([^"\\\x00-\x1f]{1,36})"\s*,')
_CALL: Final = re.compile(r"\s*\[\s*2\s*,")

# What each kind of schema error means (Part 4 §4.3): a property too many or a payload that is no
# object is a matter of format, a count is occurrence, a kind of value is type, the rest is value.
_MEANING: Final = {
    "additionalProperties": (FORMAT, "an unknown property"),
    "required": (OCCURRENCE, "a required property is missing"),
    "minItems": (OCCURRENCE, "too few items"),
    "maxItems": (OCCURRENCE, "too many items"),
    "type": (TYPE, "a value of the wrong type"),
    "enum": (PROPERTY, "not one of the values the specification names"),
    "maxLength": (PROPERTY, "too long"),
    "minLength": (PROPERTY, "too short"),
    "minimum": (PROPERTY, "too small"),
    "maximum": (PROPERTY, "too large"),
    "multipleOf": (PROPERTY, "more decimal places than allowed"),
}
_MAY_BE_FRACTIONS: Final = frozenset({"meterStart", "meterStop"})
_MAY_BE_EMPTY: Final = frozenset({"meterValue", "sampledValue", "reportData"})
_GRAVITY: Final = (FORMAT, OCCURRENCE, TYPE, PROPERTY)  # which of several violations is named


class RpcError(Exception):
    """A frame that cannot be processed as it stands; `code` is in 2.x spelling."""

    def __init__(self, code: str, description: str) -> None:
        super().__init__(description)
        self.code = code
        self.description = description


class Unreadable(RpcError):
    """No usable message id could be read, so the answer (if any) carries the id "-1"."""


class Violation(RpcError):
    """A readable message that breaks the protocol; `message_id` is safe to answer to."""

    def __init__(self, code: str, description: str, message_id: str = "") -> None:
        super().__init__(code, description)
        self.message_id = message_id


class Frame(NamedTuple):
    """One readable message.

    `kind` is CALL, CALLRESULT, CALLERROR, CALLRESULTERROR or SEND. A CALL or SEND has an
    `action` and a `payload` that may still be anything JSON can say (validate() judges it);
    `packed` is that payload as text for the frame log. An error has its code as `action` and
    `[description, details]` as payload.
    """

    kind: int
    id: str
    action: str
    payload: Any
    packed: str


def spelled(code: str, version: str) -> str:
    """The error code as this version of the protocol writes it."""
    return _SPELLING_16.get(code, code) if version == V16 else code


def read(text: str, version: str) -> Frame:
    """Parse one text frame (OCPP-J 1.6 §4, 2.x Part 4 §4).

    NaN, Infinity, lone surrogates and numbers beyond a double are no JSON. Nesting past 254
    levels is refused because it could not be written down again. The character NUL, which no
    database text can hold, becomes U+FFFD.

    Raises Unreadable or Violation. Never executes, and never echoes, what it cannot read.
    """
    if "\\u0000" in text:
        text = text.replace("\\u0000", "\\ufffd")
    try:
        message = orjson.loads(text)
    except (ValueError, UnicodeError):
        begins = _CALL_ID.match(text)
        if begins is None:
            raise Unreadable(FRAMEWORK, "not valid JSON") from None
        raise Violation(FRAMEWORK, "not valid JSON", begins[1]) from None
    if type(message) is not list or len(message) < 2:
        raise Unreadable(FRAMEWORK, "not an array of a message type, an id and more")
    kind, message_id = message[0], message[1]
    if type(message_id) is not str or not 0 < len(message_id) <= MAX_ID_CHARACTERS:
        raise Unreadable(FRAMEWORK, "the message id must be a string of 1 to 36 characters")
    if type(kind) is not int:
        raise Violation(FRAMEWORK, "the message type must be a number", message_id)
    length = len(message)
    if kind == CALL or (kind == SEND and version == V21):
        if length != 4:
            raise Violation(FRAMEWORK, "a call has exactly four elements", message_id)
        action, payload = message[2], message[3]
        if type(action) is not str:
            raise Violation(FRAMEWORK, "the action must be a string", message_id)
        try:
            packed = orjson.dumps(payload).decode()
        except TypeError:
            raise Violation(FORMAT, "nested too deeply", message_id) from None
        return Frame(kind, message_id, action, payload, packed)
    if kind == CALLRESULT:
        return Frame(kind, message_id, "", message[2] if length == 3 else None, "")
    if kind == CALLERROR or (kind == CALLRESULTERROR and version == V21):
        code = str(message[2])[:64] if length > 2 else ""
        description = str(message[3])[:255] if length > 3 else ""
        details = message[4] if length > 4 and type(message[4]) is dict else {}
        return Frame(kind, message_id, code, [description, details], "")
    raise Violation(MESSAGE_TYPE, "no such message type in this version", message_id)


def looks_like_call(text: str) -> bool:
    """Tell whether a text that could not be read began as a CALL."""
    return _CALL.match(text) is not None


def dumps(payload: Any) -> str:
    """JSON text of a payload of ours."""
    return orjson.dumps(payload).decode()


def pack_result(message_id: str, packed_payload: str) -> str:
    """The text of a CALLRESULT; the payload is JSON text already."""
    return f"[3,{orjson.dumps(message_id).decode()},{packed_payload}]"


def pack_error(message_id: str, code: str, description: str, version: str) -> str:
    """The text of a CALLERROR with the code in this version's spelling."""
    return orjson.dumps(
        [CALLERROR, message_id, spelled(code, version), description[:255], {}]
    ).decode()


def pack_call(message_id: str, action: str, packed_payload: str) -> str:
    """The text of a CALL; the payload is JSON text already."""
    return f'[2,"{message_id}","{action}",{packed_payload}]'


def payload_of(call: Any) -> dict[str, Any]:
    """The camelCase payload of one of the package's call dataclasses, without its Nones."""
    payload: dict[str, Any] = snake_to_camel_case(remove_nones(serialize_as_dict(call)))
    return payload


def _schema(version: str, name: str) -> dict[str, Any] | None:
    """A schema of the package as a dict, or None where this version has no such message."""
    folder = "v" + version.replace(".", "")
    path = resources.files("ocpp").joinpath(folder, "schemas", f"{name}.json")
    if not path.is_file():
        return None
    schema: dict[str, Any] = orjson.loads(path.read_text(encoding="utf-8-sig"))
    return schema


def _tolerant(schema: Any, version: str, name: str = "") -> Any:
    """The same schema without what real chargers break and nobody loses by.

    1.6 is open to properties it does not name: 1.6-J nowhere forbids them, and refusing a
    StopTransaction for a vendor's extra field would lose the session. 2.x has customData for
    that purpose, and forbids the rest (Part 4 §4.3). Empty lists of samples or report lines
    are sent by several firmwares in every version: there is nothing in them to misread. Nor is
    there in 1.6's registers with a fraction of a Wh: refusing those would strand the session.
    """
    if isinstance(schema, dict):
        if version == V16 and name in _MAY_BE_FRACTIONS:
            return {"type": "number"}
        return {
            key: _tolerant(value, version, key)
            for key, value in schema.items()
            if not (key == "additionalProperties" and value is False and version == V16)
            and not (key == "minItems" and name in _MAY_BE_EMPTY)
        }
    if isinstance(schema, list):
        return [_tolerant(item, version) for item in schema]
    return schema


@cache
def request_validator(version: str, action: str) -> jsonschema_rs.Draft4Validator | None:
    """The compiled schema of a request, or None when this version has no such action."""
    if version == V16:
        return _compiled(version, action)
    return _compiled(version, f"{action}Request") or _compiled(version, action)  # 2.1's SEND


@cache
def response_validator(version: str, action: str) -> jsonschema_rs.Draft4Validator | None:
    """The compiled schema of an answer."""
    return _compiled(version, f"{action}Response")


def _compiled(version: str, name: str) -> jsonschema_rs.Draft4Validator | None:
    schema = _schema(version, name)
    if schema is None:
        return None
    return jsonschema_rs.Draft4Validator(_tolerant(schema, version), validate_formats=False)


def validate_request(version: str, action: str, payload: Any) -> None:
    """Raise Violation with the right code unless the payload fits the action's schema."""
    validator = request_validator(version, action)
    if validator is not None and not validator.is_valid(payload):
        raise _violation(validator, payload)


def validate_response(version: str, action: str, payload: Any) -> None:
    """The same for an answer we got, or are about to give."""
    validator = response_validator(version, action)
    if validator is not None and not validator.is_valid(payload):
        raise _violation(validator, payload)


def _violation(validator: jsonschema_rs.Draft4Validator, payload: Any) -> Violation:
    """Name the gravest violation: where it is and what is wrong, never the value itself."""
    if type(payload) is not dict:
        return Violation(FORMAT, "the payload must be an object")
    worst: Violation | None = None
    for error in validator.iter_errors(payload):
        keyword = str(error.schema_path[-1]) if error.schema_path else ""
        code, words = _MEANING.get(keyword, (PROPERTY, "an invalid value"))
        where = "/".join(str(step) for step in error.instance_path) or "payload"
        if keyword == "required":
            words = f"{error.kind.property} is missing"  # type: ignore[attr-defined]
        if worst is None or _GRAVITY.index(code) < _GRAVITY.index(worst.code):
            worst = Violation(code, f"{where}: {words}")
    return worst or Violation(PROPERTY, "the payload is not valid")
