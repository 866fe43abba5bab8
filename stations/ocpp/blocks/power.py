"""Reservations and smart charging on the wire: 1.6 §5.1–§5.16, 2.x blocks H and K, 2.1's additions.

The three classes are the halves of the dialects that speak of power; profiles are kept in 2.x's
shape whatever the version (`monitoring/profiles.py`).
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from monitoring import profiles, sharing
from monitoring.models import Session
from stations import reservations
from stations.models import Command, Reservation
from stations.ocpp import pool
from stations.ocpp.delivery import Call, Delivery, Impossible, Order, Payload, without_none
from stations.ocpp.dialect import Answer, Incoming, on
from stations.ocpp.times import read_time

MAX_PROFILE: Final = 2_147_483_647  # 1.6 and 2.x: integer
IN_16: Final = {
    "ChargingStationMaxProfile": "ChargePointMaxProfile",
    "TxDefaultProfile": "TxDefaultProfile",
    "TxProfile": "TxProfile",
}


def profile_of(order: Order) -> Payload:
    """Return the 2.x ChargingProfileType of an order (K01), with empty members as None."""
    schedule: Payload = {
        "id": 1,
        "startSchedule": order.start_at,
        "duration": order.duration_s,
        "chargingRateUnit": order.unit or "A",
        "minChargingRate": order.min_rate,
        "chargingSchedulePeriod": [
            {
                "startPeriod": period["start_s"],
                "limit": period["limit"],
                "numberPhases": period.get("phases"),
            }
            for period in order.periods
        ],
    }
    return {
        "id": order.profile_id or order.id % MAX_PROFILE,
        "stackLevel": order.stack_level or 0,
        "chargingProfilePurpose": order.purpose,
        "chargingProfileKind": order.kind or ("Relative" if order.ref else "Absolute"),
        "recurrencyKind": order.recurrency,
        "validFrom": order.valid_from,
        "validTo": order.valid_to,
        "transactionId": order.ref,
        "chargingSchedule": [schedule],
    }


class Power(Delivery):
    """What every version does with what a station accepted."""

    def answered_reserve_now(self, command: Command, answer: Payload) -> None:
        """The EVSE is reserved from now on."""
        args = command.args
        reservations.accepted(
            self.station_id,
            args.get("reservation_id") or command.pk,
            token_uid=args["token_uid"],
            until=datetime.fromisoformat(args["until"]),
            evse=args.get("evse"),
            group=args.get("group", ""),
        )

    def answered_cancel_reservation(self, command: Command, answer: Payload) -> None:
        """It is free again."""
        number = command.args["reservation_id"]
        reservations.end(self.station_id, number, Reservation.State.CANCELED)

    def answered_set_charging_profile(self, command: Command, answer: Payload) -> None:
        """The station has it now."""
        profile = without_none(profile_of(Order(command.pk, command.args)))
        profiles.installed(self.station_id, command.args.get("evse") or 0, profile)

    def answered_clear_charging_profile(self, command: Command, answer: Payload) -> None:
        """The station has them no more."""
        args = command.args
        profiles.cleared(
            self.station_id,
            profile_id=args.get("profile_id"),
            evse=args.get("evse"),
            purpose=args.get("purpose"),
            stack_level=args.get("stack_level"),
        )

    def used_reservation(self, incoming: Incoming, number: int | None) -> None:
        """A session began on a reservation."""
        if number is not None:
            fact = reservations.Used(self.station_id, number, incoming.received_at)
            incoming.add("reservations", fact)


class Power16(Power):
    """OCPP 1.6: Reservation and SmartCharging."""

    def reserve_now(self, order: Order) -> Any:
        """ReserveNow (§5.13)."""
        if len(order.token_uid) > 20:
            raise Impossible("OCPP 1.6 takes tokens of at most 20 characters.")
        return Call("ReserveNow", {
            "connectorId": order.evse or 0,
            "expiryDate": order.until,
            "idTag": order.token_uid,
            "parentIdTag": order.group,
            "reservationId": order.reservation_id or order.id,
        })  # fmt: skip

    def cancel_reservation(self, order: Order) -> Any:
        """CancelReservation (§5.1)."""
        return Call("CancelReservation", {"reservationId": order.reservation_id})

    def set_charging_profile(self, order: Order) -> Any:
        """SetChargingProfile (§5.16)."""
        return Call("SetChargingProfile", {
            "connectorId": order.evse or 0, "csChargingProfiles": self.profile_16(order)
        })  # fmt: skip

    def profile_16(self, order: Order) -> Payload:
        """Return the ChargingProfile (§7.8) of an order; Impossible where 1.6 has no such."""
        profile = profile_of(order)
        if profile["chargingProfilePurpose"] not in IN_16 or order.kind == "Dynamic":
            raise Impossible("OCPP 1.6 has no such profile.")
        if order.ref is not None and not order.ref.isdigit():
            raise Impossible(f"“{order.ref}” is no transaction number of OCPP 1.6.")
        (schedule,) = profile["chargingSchedule"]
        del schedule["id"]
        return profile | {
            "id": None,
            "chargingProfileId": profile["id"],
            "chargingProfilePurpose": IN_16[profile["chargingProfilePurpose"]],
            "transactionId": int(order.ref) if order.ref else None,
            "chargingSchedule": schedule,
        }

    def clear_charging_profile(self, order: Order) -> Any:
        """ClearChargingProfile (§5.4)."""
        if order.profile_id is not None:
            return Call("ClearChargingProfile", {"id": order.profile_id})
        return Call("ClearChargingProfile", {
            "connectorId": order.evse,
            "chargingProfilePurpose": IN_16.get(order.purpose, order.purpose),
            "stackLevel": order.stack_level,
        })  # fmt: skip

    def get_composite_schedule(self, order: Order) -> Any:
        """GetCompositeSchedule (§5.7)."""
        return Call("GetCompositeSchedule", {
            "connectorId": order.evse or 0,
            "duration": order.duration_s,
            "chargingRateUnit": order.unit,
        })  # fmt: skip


class Power2x(Power):
    """OCPP 2.0.1: blocks H and K."""

    no_profile = "Rejected"  # NotifyEVChargingNeeds where we plan nothing; 2.1 has a word for it

    def reserve_now(self, order: Order) -> Any:
        """ReserveNow (H01)."""
        group = {"idToken": order.group, "type": "Central"} if order.group else None
        return Call("ReserveNow", {
            "id": order.reservation_id or order.id,
            "expiryDateTime": order.until,
            "idToken": {"idToken": order.token_uid, "type": order.token_type or "ISO14443"},
            "groupIdToken": group,
            "evseId": order.evse,
        })  # fmt: skip

    def cancel_reservation(self, order: Order) -> Any:
        """CancelReservation (H02)."""
        return Call("CancelReservation", {"reservationId": order.reservation_id})

    def set_charging_profile(self, order: Order) -> Any:
        """SetChargingProfile (K01)."""
        if order.kind == "Dynamic" and self.version == "2.0.1":
            raise Impossible("OCPP 2.0.1 has no dynamic profiles.")
        profile = profile_of(order)
        if order.kind == "Dynamic":
            profile["dynUpdateInterval"] = order.update_every_s
        return Call("SetChargingProfile", {
            "evseId": order.evse or 0, "chargingProfile": profile
        })  # fmt: skip

    def clear_charging_profile(self, order: Order) -> Any:
        """ClearChargingProfile (K10)."""
        if order.profile_id is not None:
            return Call("ClearChargingProfile", {"chargingProfileId": order.profile_id})
        return Call("ClearChargingProfile", {"chargingProfileCriteria": {
            "evseId": order.evse,
            "chargingProfilePurpose": order.purpose,
            "stackLevel": order.stack_level,
        }})  # fmt: skip

    def get_charging_profiles(self, order: Order) -> Any:
        """GetChargingProfiles (K09)."""
        return Call("GetChargingProfiles", {
            "requestId": order.request_id or order.id % MAX_PROFILE,
            "evseId": order.evse,
            "chargingProfile": {
                "chargingProfilePurpose": order.purpose,
                "stackLevel": order.stack_level,
                "chargingProfileId": [order.profile_id] if order.profile_id is not None else None,
                "chargingLimitSource": [order.source] if order.source else None,
            },
        })  # fmt: skip

    def get_composite_schedule(self, order: Order) -> Any:
        """GetCompositeSchedule (K08)."""
        return Call("GetCompositeSchedule", {
            "evseId": order.evse or 0,
            "duration": order.duration_s,
            "chargingRateUnit": order.unit,
        })  # fmt: skip

    # --- from the station -------------------------------------------------------------------------

    @on("ReservationStatusUpdate")
    async def on_reservation_status(self, payload: Payload, incoming: Incoming) -> Answer:
        """ReservationStatusUpdate (H04)."""
        await pool.write(
            reservations.update,
            self.station_id,
            payload["reservationId"],
            payload["reservationUpdateStatus"],
        )
        return {}

    @on("ReportChargingProfiles")
    async def on_report_profiles(self, payload: Payload, incoming: Incoming) -> Answer:
        """ReportChargingProfiles (K09)."""
        await pool.write(
            profiles.reported,
            self.station_id,
            payload["evseId"],
            payload["chargingProfile"],
            payload["chargingLimitSource"],
        )
        return {}

    @on("NotifyChargingLimit")
    async def on_charging_limit(self, payload: Payload, incoming: Incoming) -> Answer:
        """NotifyChargingLimit (K11, K12)."""
        await pool.write(
            profiles.limited,
            self.station_id,
            payload.get("evseId"),
            payload["chargingLimit"],
            payload.get("chargingSchedule"),
        )
        return {}

    @on("ClearedChargingLimit")
    async def on_limit_cleared(self, payload: Payload, incoming: Incoming) -> Answer:
        """ClearedChargingLimit (K13, K14)."""
        await pool.write(
            profiles.released,
            self.station_id,
            payload.get("evseId"),
            payload["chargingLimitSource"],
        )
        return {}

    @on("NotifyEVChargingNeeds")
    async def on_charging_needs(self, payload: Payload, incoming: Incoming) -> Answer:
        """NotifyEVChargingNeeds (K15): Accepted where a profile of ours will follow."""
        follows = await pool.write(self._keep_needs, payload)
        return {"status": "Accepted" if follows else self.no_profile}

    def _keep_needs(self, payload: Payload) -> bool:
        session = _running(self.station_id, payload["evseId"])
        if session is None:
            return False
        needs = payload["chargingNeeds"]
        alternating = needs.get("acChargingParameters") or {}
        direct = needs.get("dcChargingParameters") or {}
        departure = needs.get("departureTime")
        sharing.car_told(
            session,
            needs=needs,
            max_a=_whole(alternating.get("evMaxCurrent")),
            energy_wh=_whole(alternating.get("energyAmount", direct.get("energyAmount"))),
            departure_at=read_time(departure, self.link.zone) if departure else None,
        )
        return sharing.shared(self.station_id)

    @on("NotifyEVChargingSchedule")
    async def on_charging_schedule(self, payload: Payload, incoming: Incoming) -> Answer:
        """NotifyEVChargingSchedule (K15, K17): Rejected where it passes the session's share."""
        fits = await pool.write(self._keep_schedule, payload)
        return {"status": "Accepted" if fits else "Rejected"}

    def _keep_schedule(self, payload: Payload) -> bool:
        session = _running(self.station_id, payload["evseId"])
        if session is not None:
            schedule = {"timeBase": payload["timeBase"], **payload["chargingSchedule"]}
            sharing.car_told(session, schedule=schedule)
        return profiles.within(self.station_id, payload["evseId"], payload["chargingSchedule"])


class Power21(Power2x):
    """OCPP 2.1: dynamic profiles (K28, K29) and priority charging (K21, K22)."""

    no_profile = "NoChargingProfile"

    def update_dynamic_schedule(self, order: Order) -> Any:
        """UpdateDynamicSchedule (K29)."""
        return Call("UpdateDynamicSchedule", {
            "chargingProfileId": order.profile_id,
            "scheduleUpdate": {"limit": order.limit, "setpoint": order.setpoint},
        })  # fmt: skip

    def answered_update_dynamic_schedule(self, command: Command, answer: Payload) -> None:
        """Keep the value it has now."""
        args = command.args
        profiles.moved(self.station_id, args["profile_id"], args.get("limit"), args.get("setpoint"))

    def use_priority_charging(self, order: Order) -> Any:
        """UsePriorityCharging (K21)."""
        return Call("UsePriorityCharging", {
            "transactionId": order.ref, "activate": bool(order.activate)
        })  # fmt: skip

    def answered_use_priority_charging(self, command: Command, answer: Payload) -> None:
        """Its session goes first, or no longer does."""
        self._prioritise(command.args["ref"], bool(command.args.get("activate")))

    @on("NotifyPriorityCharging")
    async def on_priority_charging(self, payload: Payload, incoming: Incoming) -> Answer:
        """NotifyPriorityCharging (K22)."""
        await pool.write(self._prioritise, payload["transactionId"], payload["activated"])
        return {}

    def _prioritise(self, ref: str, on: bool) -> None:
        session = Session.objects.filter(station=self.station_id, ref=ref).first()
        if session is not None:
            sharing.car_told(session, prioritised=on)

    @on("PullDynamicScheduleUpdate")
    async def on_pull_dynamic(self, payload: Payload, incoming: Incoming) -> Answer:
        """PullDynamicScheduleUpdate (K28)."""
        limit = await pool.read(
            profiles.dynamic_limit, self.station_id, payload["chargingProfileId"]
        )
        if limit is None:
            return {"status": "Rejected", "statusInfo": {"reasonCode": "UnknownProfile"}}
        return {"status": "Accepted", "scheduleUpdate": {"limit": limit}}


def _running(station_id: int, evse: int) -> Session | None:
    """Return the session that charges on this EVSE."""
    return (
        Session.objects.filter(
            station=station_id, connector__evse__number=evse, state=Session.State.ACTIVE
        )
        .order_by("-started_at")
        .first()
    )


def _whole(number: float | None) -> int | None:
    return None if number is None else max(int(number), 0)
