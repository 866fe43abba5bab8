"""Cost on the display of a 1.6 station, by DataTransfer.

OCA application note "OCPP 1.6 & California pricing requirements": vendor
`org.openchargealliance.costmsg`; data is a JSON text.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

from stations.ocpp import fastpath
from stations.ocpp.delivery import Call, Impossible, Order, without_none
from stations.ocpp.dialect import Dialect
from stations.ocpp.times import utc_text

VENDOR: Final = "org.openchargealliance.costmsg"


class CostMessages(Dialect):
    """RunningCost, FinalCost and SetUserPrice."""

    def cost_updated(self, order: Order) -> Call:
        """RunningCost, or FinalCost."""
        if not order.ref.isdigit():
            raise Impossible(f"“{order.ref}” is no transaction number of OCPP 1.6.")
        number, cost = int(order.ref), float(order.total)
        if order.final:
            text = order.text or f"{order.total}"
            return _call("FinalCost", transactionId=number, cost=cost, priceText=text)
        return _call(
            "RunningCost",
            transactionId=number,
            timestamp=order.at or utc_text(datetime.now(UTC)),
            meterValue=order.energy_wh,
            cost=cost,
            state="Idle" if order.idle else "Charging",
        )

    def set_user_price(self, order: Order) -> Call:
        """SetUserPrice."""
        return _call("SetUserPrice", idToken=order.token_uid, priceText=order.text)


def _call(message: str, **data: Any) -> Call:
    packed = fastpath.dumps(without_none(data))
    return Call("DataTransfer", {"vendorId": VENDOR, "messageId": message, "data": packed})
