"""The fast path: what it takes from the `ocpp` package, what it reads, refuses and names."""

from __future__ import annotations

import importlib.metadata
import json

import jsonschema
import orjson
import pytest
from ocpp import charge_point, messages, routing
from ocpp.v16 import call as call16
from ocpp.v16.enums import Action as Action16
from ocpp.v21.enums import Action as Action21
from ocpp.v201.enums import Action as Action201

from stations.ocpp import fastpath
from stations.ocpp.fastpath import CALL, SEND, V16, V21, V201, Unreadable, Violation

BOOT = {
    V16: {"chargePointVendor": "Vendor", "chargePointModel": "Model"},
    V201: {"reason": "PowerUp", "chargingStation": {"vendorName": "Vendor", "model": "Model"}},
}
BOOT[V21] = BOOT[V201]
VERSIONS = [V16, V201, V21]


def boot_with(version: str, **changes: object) -> dict:
    payload = json.loads(json.dumps(BOOT[version]))
    (payload if version == V16 else payload["chargingStation"]).update(changes)
    return payload


def test_the_parts_of_the_package_we_plug_into_exist():
    assert importlib.metadata.version("ocpp") == "2.1.0"
    assert callable(routing.on)
    assert callable(routing.create_route_map)
    assert isinstance(routing.routables, list)
    assert callable(charge_point.serialize_as_dict)
    assert callable(charge_point.snake_to_camel_case)
    assert callable(charge_point.remove_nones)
    assert callable(messages.get_validator)

    @routing.on("Some")
    def handler(self, payload):
        return payload

    assert handler._on_action == "Some"
    assert handler(None, {}) == {}


@pytest.mark.parametrize(
    ("version", "actions"), [(V16, Action16), (V201, Action201), (V21, Action21)]
)
def test_every_action_has_a_schema_for_both_directions(version, actions):
    missing = [
        action.value
        for action in actions
        if fastpath.request_validator(version, action.value) is None
        or fastpath.response_validator(version, action.value) is None
    ]
    assert missing == []


def test_a_call_is_read_with_its_payload_written_down():
    frame = fastpath.read('[2, "19", "Heartbeat", {"a": [1, 2.5]}]', V16)
    assert frame == (CALL, "19", "Heartbeat", {"a": [1, 2.5]}, '{"a":[1,2.5]}')


@pytest.mark.parametrize(
    "text",
    [
        "",
        "nonsense",
        "{}",
        "7",
        "[2]",
        "[]",
        '[3, "1", {"a": NaN}]',
        '[2, "\\ud800", "Heartbeat", {}]',
        '[2, 12, "Heartbeat", {}]',
        '[2, null, "Heartbeat", {}]',
        '[2, "", "Heartbeat", {}]',
        f'[2, "{"x" * 37}", "Heartbeat", {{}}]',
        "[" * 20_000 + "]" * 20_000,
    ],
)
@pytest.mark.parametrize("version", VERSIONS)
def test_a_frame_without_a_usable_id_is_unreadable(version, text):
    with pytest.raises(Unreadable) as caught:
        fastpath.read(text, version)
    assert caught.value.code == "RpcFrameworkError"


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ('[2, "1", "Heartbeat"]', "RpcFrameworkError"),
        ('[2, "1", "Heartbeat", {}, {"fifth": "never executed"}]', "RpcFrameworkError"),
        ('[2, "1", {"a": 1}, {}]', "RpcFrameworkError"),
        ('["2", "1", "Heartbeat", {}]', "RpcFrameworkError"),
        ('[true, "1", "Heartbeat", {}]', "RpcFrameworkError"),
        ('[2, "1", "Heartbeat", {]', "RpcFrameworkError"),
        ('[2, "1", "Heartbeat", {"a": NaN}]', "RpcFrameworkError"),
        ('[2, "1", "Heartbeat", {"a": Infinity}]', "RpcFrameworkError"),
        ('[2, "1", "Heartbeat", {"a": 1e999}]', "RpcFrameworkError"),
        (
            '[2, "1", "Heartbeat", ' + '{"a":' * 20_000 + "1" + "}" * 20_000 + "]",
            "RpcFrameworkError",
        ),
        ('[9, "1", "Heartbeat", {}]', "MessageTypeNotSupported"),
        ('[6, "1", "NotifyPeriodicEventStream", {}]', "MessageTypeNotSupported"),
        ('[2, "1", "Heartbeat", ' + "[" * 300 + "]" * 300 + "]", "FormatViolation"),
    ],
)
def test_a_readable_id_is_kept_with_the_violation(text, code):
    with pytest.raises(Violation) as caught:
        fastpath.read(text, V201)
    assert (caught.value.message_id, caught.value.code) == ("1", code)


def test_a_send_is_read_on_2_1_only():
    frame = fastpath.read('[6, "1", "NotifyPeriodicEventStream", {"id": 1}]', V21)
    assert (frame.kind, frame.action) == (SEND, "NotifyPeriodicEventStream")
    for version in (V16, V201):
        with pytest.raises(Violation):
            fastpath.read('[6, "1", "NotifyPeriodicEventStream", {"id": 1}]', version)


def test_answers_short_or_long_are_read_without_guessing():
    assert fastpath.read('[3, "1", {"status": "Accepted"}]', V16).payload == {"status": "Accepted"}
    assert fastpath.read('[3, "1"]', V16).payload is None
    assert fastpath.read('[3, "1", {}, {}]', V16).payload is None
    error = fastpath.read('[4, "1", "GenericError", "no", {"why": 1}]', V16)
    assert (error.action, error.payload) == ("GenericError", ["no", {"why": 1}])
    assert fastpath.read('[4, "1"]', V16).payload == ["", {}]


@pytest.mark.parametrize(
    ("version", "payload", "code"),
    [
        (V16, [], "FormatViolation"),
        (V201, "text", "FormatViolation"),
        (V16, {"chargePointVendor": "V"}, "OccurrenceConstraintViolation"),
        (V201, {"reason": "PowerUp"}, "OccurrenceConstraintViolation"),
        (V16, boot_with(V16, chargePointModel=7), "TypeConstraintViolation"),
        (V201, boot_with(V201, model=7), "TypeConstraintViolation"),
        (V16, boot_with(V16, chargePointModel="x" * 21), "PropertyConstraintViolation"),
        (V201, boot_with(V201, model="x" * 21), "PropertyConstraintViolation"),
        (V201, BOOT[V201] | {"reason": "Boredom"}, "PropertyConstraintViolation"),
        (V21, boot_with(V21, colour="red"), "FormatViolation"),
    ],
)
def test_each_violation_has_its_own_code(version, payload, code):
    with pytest.raises(Violation) as caught:
        fastpath.validate_request(version, "BootNotification", payload)
    assert caught.value.code == code


def test_1_6_spells_two_codes_in_its_own_way():
    assert fastpath.spelled("FormatViolation", V16) == "FormationViolation"
    assert fastpath.spelled("OccurrenceConstraintViolation", V16) == "OccurenceConstraintViolation"
    assert fastpath.spelled("FormatViolation", V201) == "FormatViolation"
    assert fastpath.spelled("SecurityError", V16) == "SecurityError"


def test_a_vendors_extra_property_is_no_reason_to_refuse_a_1_6_message():
    said = boot_with(V16, colour="red")
    assert fastpath.validate_request(V16, "BootNotification", said) is None


@pytest.mark.parametrize("version", VERSIONS)
def test_an_empty_list_of_samples_is_no_reason_to_refuse(version):
    values = [{"timestamp": "2026-01-01T00:00:00Z", "sampledValue": []}]
    key = "connectorId" if version == V16 else "evseId"
    said = {key: 1, "meterValue": values}
    assert fastpath.validate_request(version, "MeterValues", said) is None


def test_the_description_never_echoes_what_the_charger_sent():
    payload = boot_with(V201, model="<script>alert(1)</script>")
    with pytest.raises(Violation) as caught:
        fastpath.validate_request(V201, "BootNotification", payload)
    assert "script" not in caught.value.description
    assert "chargingStation/model" in caught.value.description


@pytest.mark.parametrize("version", VERSIONS)
def test_our_verdict_agrees_with_the_packages_own_validator(version):
    good = boot_with(version)
    wrong = [
        {},
        boot_with(version, firmwareVersion="x" * 51),
        boot_with(version, firmwareVersion=4),
        boot_with(version, firmwareVersion=None),
    ]
    theirs = messages.get_validator(2, "BootNotification", version)
    ours = fastpath.request_validator(version, "BootNotification")
    assert ours.is_valid(good)
    theirs.validate(good)
    for payload in wrong:
        assert not ours.is_valid(payload)
        with pytest.raises(jsonschema.ValidationError):
            theirs.validate(payload)


def test_a_call_of_ours_is_packed_from_the_packages_dataclass():
    call = call16.ChangeConfiguration(key="HeartbeatInterval", value="300")
    assert fastpath.payload_of(call) == {"key": "HeartbeatInterval", "value": "300"}
    text = fastpath.pack_call("7", "ChangeConfiguration", '{"key":"a","value":"b"}')
    assert orjson.loads(text) == [2, "7", "ChangeConfiguration", {"key": "a", "value": "b"}]


def test_an_id_with_quotes_comes_back_escaped():
    assert orjson.loads(fastpath.pack_result('a"b', "{}")) == [3, 'a"b', {}]
    assert orjson.loads(fastpath.pack_error('a"b', "FormatViolation", "x" * 300, V16)) == [
        4,
        'a"b',
        "FormationViolation",
        "x" * 255,
        {},
    ]
