"""Tokens on the station, and how a transaction is doing."""

from tests.said import Said

TOKENS = [
    {"uid": "TAG", "type": "ISO14443", "info": ["accepted", "2030-01-01T00:00:00+00:00", "FLEET"]},
    {"uid": "LOST", "type": "ISO14443", "info": ["blocked", "", ""]},
    {"uid": "GONE", "type": "ISO14443"},
]

ORDERS = {
    "send_local_list": [
        Said(
            {"version": 3, "full": False, "tokens": TOKENS},
            in_16=(
                "SendLocalList",
                {
                    "listVersion": 3,
                    "updateType": "Differential",
                    "localAuthorizationList": [
                        {
                            "idTag": "TAG",
                            "idTagInfo": {
                                "status": "Accepted",
                                "expiryDate": "2030-01-01T00:00:00+00:00",
                                "parentIdTag": "FLEET",
                            },
                        },
                        {"idTag": "LOST", "idTagInfo": {"status": "Blocked"}},
                        {"idTag": "GONE"},
                    ],
                },
            ),
            in_2x=(
                "SendLocalList",
                {
                    "versionNumber": 3,
                    "updateType": "Differential",
                    "localAuthorizationList": [
                        {
                            "idToken": {"idToken": "TAG", "type": "ISO14443"},
                            "idTokenInfo": {
                                "status": "Accepted",
                                "cacheExpiryDateTime": "2030-01-01T00:00:00+00:00",
                                "groupIdToken": {"idToken": "FLEET", "type": "Central"},
                            },
                        },
                        {
                            "idToken": {"idToken": "LOST", "type": "ISO14443"},
                            "idTokenInfo": {"status": "Blocked"},
                        },
                        {"idToken": {"idToken": "GONE", "type": "ISO14443"}},
                    ],
                },
            ),
        ),
        Said(
            {"version": 1, "full": True},
            in_16=("SendLocalList", {"listVersion": 1, "updateType": "Full"}),
            in_2x=("SendLocalList", {"versionNumber": 1, "updateType": "Full"}),
            answer={"status": "VersionMismatch"},
            status="rejected",
        ),
    ],
    "get_local_list_version": [
        Said(
            {},
            in_16=("GetLocalListVersion", {}),
            answer={"listVersion": 3},
        ),
        Said(
            {},
            in_2x=("GetLocalListVersion", {}),
            answer={"versionNumber": 3},
        ),
    ],
    "get_transaction_status": Said(
        {"ref": "tx-1"},
        in_2x=("GetTransactionStatus", {"transactionId": "tx-1"}),
        answer={"messagesInQueue": False, "ongoingIndicator": True},
    ),
}
