"""2.x blocks O, I and L03: messages on the display, the running cost, published firmware."""

from __future__ import annotations

from stations import holdings
from stations.holdings import Held, Kind
from stations.models import Command
from stations.ocpp import pool
from stations.ocpp.delivery import Call, Order, Payload
from stations.ocpp.dialect import Answer, Dialect, Incoming, on


class Display(Dialect):
    """What the driver reads."""

    @on("NotifyDisplayMessages")
    async def on_display_messages(self, payload: Payload, incoming: Incoming) -> Answer:
        """NotifyDisplayMessages (O03)."""
        held = [message_held(one) for one in payload.get("messageInfo") or ()]
        news = "" if payload.get("tbc", False) else "display.reported"
        await pool.write(holdings.keep, self.station_id, held, news, messages=len(held))
        return {}

    def set_display_message(self, order: Order) -> Call:
        """SetDisplayMessage (O01, O02)."""
        display = {"name": "Display", "evse": {"id": order.evse}} if order.evse else None
        return Call(
            "SetDisplayMessage",
            {
                "message": {
                    "id": order.number,
                    "priority": order.priority or "NormalCycle",
                    "state": order.state,
                    "startDateTime": order.starts_at,
                    "endDateTime": order.ends_at,
                    "transactionId": order.ref,
                    "display": display,
                    "message": {
                        "format": order.format or "UTF8",
                        "language": order.language,
                        "content": order.text,
                    },
                }
            },
        )

    def answered_set_display_message(self, command: Command, answer: Payload) -> None:
        """Keep what is shown now."""
        asked = self.set_display_message(Order(command.pk, command.args)).payload["message"]
        told = {key: value for key, value in asked.items() if value is not None}
        holdings.keep(self.station_id, [message_held(told)])

    def get_display_messages(self, order: Order) -> Call:
        """GetDisplayMessages (O03, O04)."""
        return Call(
            "GetDisplayMessages",
            {
                "requestId": order.request_id or order.id,
                "id": order.numbers,
                "priority": order.priority,
                "state": order.state,
            },
        )

    def answered_get_display_messages(self, command: Command, answer: Payload) -> None:
        """All messages will be told: those told earlier are none any more."""
        if not any(command.args.get(name) for name in ("numbers", "priority", "state")):
            holdings.give_up(self.station_id, Kind.DISPLAY, before=command.created_at)

    def clear_display_message(self, order: Order) -> Call:
        """ClearDisplayMessage (O05)."""
        return Call("ClearDisplayMessage", {"id": order.number})

    def answered_clear_display_message(self, command: Command, answer: Payload) -> None:
        """Forget it."""
        holdings.give_up(self.station_id, Kind.DISPLAY, [command.args["number"]])

    def cost_updated(self, order: Order) -> Call:
        """CostUpdated (I02)."""
        return Call("CostUpdated", {"transactionId": order.ref, "totalCost": float(order.total)})


def message_held(message: Payload) -> Held:
    """Return a display message as it is kept."""
    data = {key: value for key, value in message.items() if key != "customData"}
    return Held(Kind.DISPLAY, str(message["id"]), message["message"]["content"], data)


class Publishing(Dialect):
    """A local controller that hands firmware on to its stations."""

    @on("PublishFirmwareStatusNotification")
    async def on_publish_status(self, payload: Payload, incoming: Incoming) -> Answer:
        """PublishFirmwareStatusNotification (L03)."""
        status, request_id = payload["status"], payload.get("requestId")
        locations = payload.get("location") or []
        key = str(request_id or 0)
        told = Held(Kind.FIRMWARE, key, status, {"status": status, "locations": locations})
        await pool.write(
            holdings.keep, self.station_id, [told], "firmware.publish_reported",
            status=status, request_id=request_id, locations=locations,
        )  # fmt: skip
        return {}

    def publish_firmware(self, order: Order) -> Call:
        """PublishFirmware (L03)."""
        return Call(
            "PublishFirmware",
            {
                "location": order.location,
                "checksum": order.checksum,
                "requestId": order.request_id or order.id,
                "retries": order.retries,
                "retryInterval": order.retry_interval_s,
            },
        )

    def unpublish_firmware(self, order: Order) -> Call:
        """UnpublishFirmware (L04)."""
        return Call("UnpublishFirmware", {"checksum": order.checksum})
