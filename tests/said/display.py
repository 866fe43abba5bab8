"""Messages on the display, the running cost, tariffs, firmware published locally."""

from __future__ import annotations

import orjson

from tests.said import Heard, Said
from tests.said.device import NOW, holds, lacks, told

MESSAGE = {
    "id": 3,
    "priority": "InFront",
    "state": "Idle",
    "message": {"format": "UTF8", "language": "de", "content": "Guten Tag"},
}
TARIFF = {"tariffId": "T1", "currency": "EUR", "energy": {"prices": [{"priceKwh": 0.4}]}}
MD5 = "d41d8cd98f00b204e9800998ecf8427e"
COST = "org.openchargealliance.costmsg"

ORDERS = {
    "set_display_message": Said(
        {
            "number": 3,
            "text": "Guten Tag",
            "language": "de",
            "priority": "InFront",
            "state": "Idle",
        },
        in_2x=("SetDisplayMessage", {"message": MESSAGE}),
        kept=holds("display", "3", **MESSAGE),
    ),
    "get_display_messages": Said(
        {"numbers": [3], "request_id": 8},
        in_2x=("GetDisplayMessages", {"requestId": 8, "id": [3]}),
        kept=holds("display", "3"),
    ),
    "clear_display_message": Said(
        {"number": 3},
        in_2x=("ClearDisplayMessage", {"id": 3}),
        kept=lacks("display", "3"),
    ),
    "cost_updated": [
        Said(
            {"ref": "42", "total": "1.25", "energy_wh": 5000, "at": NOW},
            in_16=(
                "DataTransfer",
                {
                    "vendorId": COST,
                    "messageId": "RunningCost",
                    "data": orjson.dumps(
                        {
                            "transactionId": 42,
                            "timestamp": "2026-11-22T10:00:00+00:00",
                            "meterValue": 5000,
                            "cost": 1.25,
                            "state": "Charging",
                        }
                    ).decode(),
                },
            ),
        ),
        Said(
            {"ref": "42", "total": "9.99", "final": True, "text": "Thank you: 9.99 EUR"},
            in_16=(
                "DataTransfer",
                {
                    "vendorId": COST,
                    "messageId": "FinalCost",
                    "data": '{"transactionId":42,"cost":9.99,"priceText":"Thank you: 9.99 EUR"}',
                },
            ),
        ),
        Said(
            {"ref": "42", "total": "1.25"},
            in_2x=("CostUpdated", {"transactionId": "42", "totalCost": 1.25}),
            answer={},
        ),
    ],
    "set_user_price": Said(
        {"token_uid": "TAG", "text": "0.40 EUR/kWh"},
        in_16=(
            "DataTransfer",
            {
                "vendorId": COST,
                "messageId": "SetUserPrice",
                "data": '{"idToken":"TAG","priceText":"0.40 EUR/kWh"}',
            },
        ),
    ),
    "set_default_tariff": Said(
        {"evse": 1, "tariff": TARIFF},
        in_21=("SetDefaultTariff", {"evseId": 1, "tariff": TARIFF}),
        kept=holds("tariff", "default-1", tariff=TARIFF),
    ),
    "get_tariffs": Said(
        {},
        in_21=("GetTariffs", {"evseId": 0}),
        answer={
            "status": "Accepted",
            "tariffAssignments": [
                {"tariffId": "T1", "tariffKind": "DefaultTariff", "evseIds": [1, 2]}
            ],
        },
        kept=holds("tariff", "default-1", tariff=TARIFF),
    ),
    "change_transaction_tariff": Said(
        {"ref": "tx", "tariff": TARIFF},
        in_21=("ChangeTransactionTariff", {"transactionId": "tx", "tariff": TARIFF}),
        answer={"status": "TxNotFound"},
        status="rejected",
    ),
    "clear_tariffs": Said(
        {"tariffs": ["T1"]},
        in_21=("ClearTariffs", {"tariffIds": ["T1"]}),
        answer={"clearTariffsResult": [{"tariffId": "T1", "status": "Accepted"}]},
        kept=lacks("tariff", "default-1"),
    ),
    "web_payment_started": Said(
        {"evse": 1, "timeout_s": 90},
        in_21=("NotifyWebPaymentStarted", {"evseId": 1, "timeout": 90}),
        answer={},
    ),
    "publish_firmware": Said(
        {"location": "https://x/f", "checksum": MD5, "request_id": 2},
        in_2x=("PublishFirmware", {"location": "https://x/f", "checksum": MD5, "requestId": 2}),
    ),
    "unpublish_firmware": [
        Said(
            {"checksum": MD5},
            in_2x=("UnpublishFirmware", {"checksum": MD5}),
            answer={"status": "Unpublished"},
        ),
        Said(
            {"checksum": MD5},
            in_2x=("UnpublishFirmware", {"checksum": MD5}),
            answer={"status": "DownloadOngoing"},
            status="rejected",
        ),
    ],
}

HEARD = {
    "NotifyDisplayMessages": Heard(
        {"requestId": 8, "messageInfo": [MESSAGE]}, holds("display", "3", priority="InFront")
    ),
    "PublishFirmwareStatusNotification": Heard(
        {"status": "Published", "location": ["http://10.0.0.1/f"], "requestId": 2},
        holds("firmware", "2", status="Published", locations=["http://10.0.0.1/f"]),
    ),
    "NotifySettlement": Heard(
        {
            "transactionId": "tx",
            "pspRef": "psp-1",
            "status": "Settled",
            "settlementAmount": 12.34,
            "settlementTime": NOW,
        },
        told("terminal.settled", ref="tx", amount="12.34", status="Settled"),
        versions=("2.1",),
    ),
    "VatNumberValidation": [
        Heard(
            {"vatNumber": "DE123456789", "evseId": 1},
            told("vat.asked", number="DE123456789", valid=True),
            {"vatNumber": "DE123456789", "evseId": 1, "status": "Accepted"},
            versions=("2.1",),
        ),
        Heard(
            {"vatNumber": "DE12"},
            told("vat.asked", number="DE12", valid=False),
            {"vatNumber": "DE12", "status": "Rejected"},
            versions=("2.1",),
        ),
    ],
}
