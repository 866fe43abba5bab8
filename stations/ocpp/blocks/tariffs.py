"""2.1 blocks I, C and S: tariffs on the station, its terminal, VAT numbers, battery swap."""

from __future__ import annotations

from stations import holdings, vat
from stations.holdings import Held, Kind
from stations.models import Command
from stations.ocpp import pool
from stations.ocpp.delivery import Call, Order, Payload
from stations.ocpp.dialect import Answer, Dialect, Incoming, on
from stations.ocpp.times import read_time, utc_text


class Tariffs(Dialect):
    """Prices at the station, and what its terminal took."""

    @on("NotifySettlement")
    async def on_settlement(self, payload: Payload, incoming: Incoming) -> Answer:
        """NotifySettlement (C24): the station's terminal settled a payment of its own."""
        company = payload.get("vatCompany") or {}
        await self.news(
            "terminal.settled",
            ref=payload.get("transactionId", ""),
            psp_ref=payload["pspRef"],
            status=payload["status"],
            info=payload.get("statusInfo", ""),
            amount=str(payload["settlementAmount"]),
            at=utc_text(read_time(payload["settlementTime"], self.link.zone)),
            receipt=payload.get("receiptId", ""),
            receipt_url=payload.get("receiptUrl", ""),
            vat_number=payload.get("vatNumber", ""),
            company=company.get("name", ""),
        )
        return {}

    @on("VatNumberValidation")
    async def on_vat_number(self, payload: Payload, incoming: Incoming) -> Answer:
        """VatNumberValidation (C26): by its form; no register is asked."""
        number = payload["vatNumber"]
        valid = bool(vat.number_in(number))
        await self.news("vat.asked", number=number, valid=valid, evse=payload.get("evseId"))
        answer: Payload = {"vatNumber": number, "status": "Accepted" if valid else "Rejected"}
        if "evseId" in payload:
            answer["evseId"] = payload["evseId"]
        return answer

    def web_payment_started(self, order: Order) -> Call:
        """NotifyWebPaymentStarted (C25)."""
        return Call(
            "NotifyWebPaymentStarted", {"evseId": order.evse, "timeout": order.timeout_s or 120}
        )

    def set_default_tariff(self, order: Order) -> Call:
        """SetDefaultTariff (I07)."""
        return Call("SetDefaultTariff", {"evseId": order.evse or 0, "tariff": order.tariff})

    def answered_set_default_tariff(self, command: Command, answer: Payload) -> None:
        """Keep which tariff is the default of which EVSE."""
        tariff, evse = command.args["tariff"], command.args.get("evse") or 0
        told = Held(
            Kind.TARIFF,
            f"default-{evse}",
            str(tariff["tariffId"]),
            {"tariff": tariff, "evse": evse, "kind": "DefaultTariff"},
        )
        holdings.keep(self.station_id, [told])

    def change_transaction_tariff(self, order: Order) -> Call:
        """ChangeTransactionTariff (I11)."""
        return Call("ChangeTransactionTariff", {"transactionId": order.ref, "tariff": order.tariff})

    def get_tariffs(self, order: Order) -> Call:
        """GetTariffs (I09)."""
        return Call("GetTariffs", {"evseId": order.evse or 0})

    def answered_get_tariffs(self, command: Command, answer: Payload) -> None:
        """Keep what the station says is assigned."""
        held = []
        for one in answer.get("tariffAssignments") or ():
            default = one["tariffKind"] == "DefaultTariff"
            places = one.get("evseIds") or one.get("idTokens") or [0]
            kind = "default" if default else "driver"
            held += [
                Held(Kind.TARIFF, f"{kind}-{place}", one["tariffId"], {"assignment": one})
                for place in places
            ]
        known = {
            row.key: row.data
            for row in holdings.of(self.station_id, Kind.TARIFF)
            if "tariff" in row.data
        }
        kept = [
            Held(one.kind, one.key, one.label, known[one.key] | dict(one.data))
            if one.key in known and known[one.key]["tariff"]["tariffId"] == one.label
            else one
            for one in held
        ]
        if not command.args.get("evse"):
            holdings.give_up(self.station_id, Kind.TARIFF, before=command.created_at)
        holdings.keep(self.station_id, kept)

    def clear_tariffs(self, order: Order) -> Call:
        """ClearTariffs (I10)."""
        return Call("ClearTariffs", {"tariffIds": order.tariffs, "evseId": order.evse})

    def answered_clear_tariffs(self, command: Command, answer: Payload) -> None:
        """Forget those that are gone."""
        gone = {
            one.get("tariffId")
            for one in answer["clearTariffsResult"]
            if one["status"] != "Rejected"
        }
        evse = command.args.get("evse")
        keys = [
            row.key
            for row in holdings.of(self.station_id, Kind.TARIFF)
            if (None in gone or row.label in gone)
            and (evse is None or row.key == f"default-{evse}")
        ]
        holdings.give_up(self.station_id, Kind.TARIFF, keys)

    # --- battery swap (block S) -------------------------------------------------------------------

    @on("BatterySwap")
    async def on_battery_swap(self, payload: Payload, incoming: Incoming) -> Answer:
        """BatterySwap (S01–S04): which batteries went in or came out."""
        event, batteries = payload["eventType"], payload["batteryData"]
        held = [
            Held(
                Kind.BATTERY,
                one["serialNumber"],
                f"EVSE {one['evseId']}, {one['soC']} %",
                {"event": event} | {k: v for k, v in one.items() if k != "customData"},
            )
            for one in batteries
        ]
        await pool.write(
            self._swapped, event, held, payload["idToken"]["idToken"], payload["requestId"]
        )
        return {}

    def _swapped(self, event: str, held: list[Held], token: str, request_id: int) -> None:
        data: Payload = {
            "event": event,
            "token_uid": token,
            "request_id": request_id,
            "batteries": [one.key for one in held],
        }
        if event == "BatteryIn":
            holdings.keep(self.station_id, held, "battery.swapped", **data)
            return
        keys = [one.key for one in held] if event == "BatteryOut" else []
        holdings.give_up(self.station_id, Kind.BATTERY, keys, news="battery.swapped", **data)

    def request_battery_swap(self, order: Order) -> Call:
        """RequestBatterySwap (S02)."""
        return Call(
            "RequestBatterySwap",
            {
                "requestId": order.request_id or order.id,
                "idToken": {"idToken": order.token_uid, "type": order.token_type or "Central"},
            },
        )
