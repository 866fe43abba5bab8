"""Every message of the protocol, broken in every way its schema knows: the right code, each time.

The whole table is validated where the dialects validate; over a real socket goes a sample of each
action that a charger may send.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from stations.ocpp import consumer, fastpath
from stations.ocpp.consumer import DIALECTS
from stations.ocpp.fastpath import Violation
from tests import make, schemas
from tests.gateway import Raw, db, gateway, raw
from tests.schemas import Schema

pytestmark = pytest.mark.slow

VERSIONS = ["1.6", "2.0.1", "2.1"]
MESSAGES = [(version, name) for version in VERSIONS for name in schemas.names(version)]
KINDS = {"missing", "type", "enum", "long", "unknown", "range", "items"}


def validate(version: str, name: str, payload: Any) -> str:
    """The code a payload gets as the dialect judges it, "" for a valid one."""
    try:
        if name.endswith("Response"):
            fastpath.validate_response(version, name.removesuffix("Response"), payload)
        else:
            action = name if version == "1.6" else name.removesuffix("Request")
            fastpath.validate_request(version, action, payload)
    except Violation as violation:
        return violation.code
    return ""


@pytest.mark.parametrize(("version", "name"), MESSAGES)
def test_each_way_to_break_a_message_gets_the_right_code(version: str, name: str) -> None:
    schema = Schema(version, name)
    assert validate(version, name, schema.full()) == ""
    assert validate(version, name, []) == "FormatViolation"
    wrong = [
        (str(broken), broken.code, got)
        for broken in schema.broken()
        if (got := validate(version, name, broken.payload)) != broken.code
    ]
    assert wrong == []


def test_the_table_is_whole() -> None:
    """Every kind of violation occurs in every version, and no schema is left out."""
    assert len(MESSAGES) > 380
    for version in VERSIONS:
        found = {
            broken.kind
            for name in schemas.names(version)
            for broken in Schema(version, name).broken()
        }
        assert found == KINDS - ({"range"} if version == "1.6" else set())
        assert {name.removesuffix("Request") for name in schemas.names(version)} >= set(
            DIALECTS[version].routes
        )


# --- over a socket --------------------------------------------------------------------------------


@pytest.fixture
def url(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setattr(consumer, "REFUSED_COSTS", 1.0)  # a thousand refusals, and no time to wait
    with gateway() as address:
        yield address


def sample(version: str, action: str) -> list[schemas.Broken]:
    """The first of each kind of violation in a request."""
    schema = Schema(version, action if version == "1.6" else f"{action}Request")
    first: dict[str, schemas.Broken] = {}
    for broken in schema.broken():
        if broken.code:
            first.setdefault(broken.kind, broken)
    return list(first.values())


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("version", VERSIONS)
async def test_each_action_survives_what_is_wrong_and_the_next_good_message_works(
    url: str, version: str
) -> None:
    await db(make.station)(identity="CP1", version=version)
    async with raw(url + "CP1", version) as socket:
        charger = Raw(socket)
        await charger.boot(version)
        for action in sorted(DIALECTS[version].routes):
            for broken in sample(version, action):
                answer = await charger.call(action, broken.payload)
                expected = [4, fastpath.spelled(broken.code, version)]
                assert [answer[0], answer[2]] == expected, f"{action}: {broken}"
            name = action if version == "1.6" else f"{action}Request"
            answer = await charger.call(action, Schema(version, name).full())
            if answer[0] == 3:
                assert validate(version, f"{action}Response", answer[2]) == "", action
            else:
                assert answer[2] == "PropertyConstraintViolation", (action, answer)
            assert (await charger.call("Heartbeat", {}))[0] == 3
