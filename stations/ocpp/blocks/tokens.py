"""Block D: the tokens a station holds itself (1.6 §5.10, §5.15; 2.x D01, D02)."""

from __future__ import annotations

from typing import Any, Final

from stations.ocpp.delivery import Call, Order, Payload

STATUSES: Final = {"accepted": "Accepted", "blocked": "Blocked"}


class Tokens16:
    """As 1.6 says it."""

    def send_local_list(self, order: Order) -> Any:
        """SendLocalList (§5.15)."""
        entries = [
            {"idTag": one["uid"], "idTagInfo": _info_16(one.get("info"))}
            for one in order.tokens or ()
        ]
        return Call(
            "SendLocalList",
            {
                "listVersion": order.version,
                "updateType": "Full" if order.full else "Differential",
                "localAuthorizationList": entries or None,
            },
        )

    def get_local_list_version(self, order: Order) -> Any:
        """GetLocalListVersion (§5.10)."""
        return Call("GetLocalListVersion", {})


class Tokens:
    """As 2.x says it."""

    def send_local_list(self, order: Order) -> Any:
        """SendLocalList (D01)."""
        entries = [
            {
                "idToken": {"idToken": one["uid"], "type": one.get("type") or "Central"},
                "idTokenInfo": _info(one.get("info")),
            }
            for one in order.tokens or ()
        ]
        return Call(
            "SendLocalList",
            {
                "versionNumber": order.version,
                "updateType": "Full" if order.full else "Differential",
                "localAuthorizationList": entries or None,
            },
        )

    def get_local_list_version(self, order: Order) -> Any:
        """GetLocalListVersion (D02)."""
        return Call("GetLocalListVersion", {})


def _info_16(info: list[str] | None) -> Payload | None:
    if info is None:
        return None  # removed
    status, expires, group = info
    return {
        "status": STATUSES.get(status, "Invalid"),
        "expiryDate": expires or None,
        "parentIdTag": group[:20] or None,
    }


def _info(info: list[str] | None) -> Payload | None:
    if info is None:
        return None
    status, expires, group = info
    return {
        "status": STATUSES.get(status, "Invalid"),
        "cacheExpiryDateTime": expires or None,
        "groupIdToken": {"idToken": group, "type": "Central"} if group else None,
    }
