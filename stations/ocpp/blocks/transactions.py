"""Block E, asked by us: how a transaction is doing (2.x E14)."""

from __future__ import annotations

from typing import Any

from stations.ocpp.delivery import Call, Order


class Transactions:
    """As 2.x says it."""

    def get_transaction_status(self, order: Order) -> Any:
        """GetTransactionStatus (E14)."""
        return Call("GetTransactionStatus", {"transactionId": order.ref})
