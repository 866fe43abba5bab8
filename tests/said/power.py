"""Reservations and smart charging."""

from typing import Any

from django.utils import timezone

from monitoring.models import CarNeeds, ChargingProfile
from stations.models import Entry, Reservation
from tests.said import V21, Heard, Said

SOON = (timezone.now() + timezone.timedelta(hours=1)).replace(microsecond=0)
SOON_TEXT = SOON.isoformat()

PERIODS = [{"start_s": 0, "limit": 16}, {"start_s": 3600, "limit": 8.5, "phases": 1}]
WIRE_PERIODS = [
    {"startPeriod": 0, "limit": 16.0},
    {"startPeriod": 3600, "limit": 8.5, "numberPhases": 1},
]


def _profile(**changes: Any) -> Any:
    def kept(station: Any) -> bool:
        return ChargingProfile.objects.filter(station=station, **changes).exists()

    return kept


def _news(kind: str, **data: Any) -> Any:
    def kept(station: Any) -> bool:
        rows = Entry.objects.filter(kind=kind, station=station)
        return any(row.data.items() >= data.items() for row in rows)

    return kept


def _state(number: int, state: str) -> Any:
    def kept(station: Any) -> bool:
        return Reservation.objects.filter(station=station, number=number, state=state).exists()

    return kept


ORDERS = {
    "reserve_now": [
        Said(
            {"evse": 1, "token_uid": "TAG", "group": "FLEET", "until": SOON_TEXT,
             "reservation_id": 5},
            ("ReserveNow", {"connectorId": 1, "expiryDate": SOON_TEXT, "idTag": "TAG",
                            "parentIdTag": "FLEET", "reservationId": 5}),
            ("ReserveNow", {"id": 5, "expiryDateTime": SOON_TEXT,
                            "idToken": {"idToken": "TAG", "type": "ISO14443"},
                            "groupIdToken": {"idToken": "FLEET", "type": "Central"},
                            "evseId": 1}),
            kept=_state(5, "active"),
        ),
        Said(  # TC_046 … TC_048: the charger has no room
            {"token_uid": "TAG", "until": SOON_TEXT, "reservation_id": 6},
            ("ReserveNow", {"connectorId": 0, "expiryDate": SOON_TEXT, "idTag": "TAG",
                            "reservationId": 6}),
            ("ReserveNow", {"id": 6, "expiryDateTime": SOON_TEXT,
                            "idToken": {"idToken": "TAG", "type": "ISO14443"}}),
            answer={"status": "Occupied"},
            status="rejected",
            kept=lambda station: not Reservation.objects.filter(number=6).exists(),
        ),
    ],
    "cancel_reservation": Said(
        {"reservation_id": 5},
        ("CancelReservation", {"reservationId": 5}),
        ("CancelReservation", {"reservationId": 5}),
        kept=_state(5, "canceled"),
    ),
    "set_charging_profile": [
        Said(
            {"evse": 1, "purpose": "TxProfile", "ref": "12", "profile_id": 7, "stack_level": 2,
             "periods": PERIODS, "valid_to": SOON_TEXT},
            ("SetChargingProfile", {"connectorId": 1, "csChargingProfiles": {
                "chargingProfileId": 7, "stackLevel": 2, "chargingProfilePurpose": "TxProfile",
                "chargingProfileKind": "Relative", "transactionId": 12, "validTo": SOON_TEXT,
                "chargingSchedule": {"chargingRateUnit": "A",
                                     "chargingSchedulePeriod": WIRE_PERIODS}}}),
            ("SetChargingProfile", {"evseId": 1, "chargingProfile": {
                "id": 7, "stackLevel": 2, "chargingProfilePurpose": "TxProfile",
                "chargingProfileKind": "Relative", "transactionId": "12", "validTo": SOON_TEXT,
                "chargingSchedule": [{"id": 1, "chargingRateUnit": "A",
                                      "chargingSchedulePeriod": WIRE_PERIODS}]}}),
            kept=_profile(profile_id=7, purpose="TxProfile", ref="12"),
        ),
        Said(
            {"purpose": "ChargingStationMaxProfile", "profile_id": 8, "unit": "W",
             "kind": "Recurring", "recurrency": "Daily", "start_at": SOON_TEXT,
             "duration_s": 86_400, "periods": "00:00 11000\n08:00 22000 3"},
            ("SetChargingProfile", {"connectorId": 0, "csChargingProfiles": {
                "chargingProfileId": 8, "stackLevel": 0,
                "chargingProfilePurpose": "ChargePointMaxProfile",
                "chargingProfileKind": "Recurring", "recurrencyKind": "Daily",
                "chargingSchedule": {
                    "startSchedule": SOON_TEXT, "duration": 86_400, "chargingRateUnit": "W",
                    "chargingSchedulePeriod": [
                        {"startPeriod": 0, "limit": 11000.0},
                        {"startPeriod": 28_800, "limit": 22000.0, "numberPhases": 3}]}}}),
            ("SetChargingProfile", {"evseId": 0, "chargingProfile": {
                "id": 8, "stackLevel": 0, "chargingProfilePurpose": "ChargingStationMaxProfile",
                "chargingProfileKind": "Recurring", "recurrencyKind": "Daily",
                "chargingSchedule": [{
                    "id": 1, "startSchedule": SOON_TEXT, "duration": 86_400,
                    "chargingRateUnit": "W", "chargingSchedulePeriod": [
                        {"startPeriod": 0, "limit": 11000.0},
                        {"startPeriod": 28_800, "limit": 22000.0, "numberPhases": 3}]}]}}),
            kept=_profile(profile_id=8, recurrency="Daily", evse=0),
        ),
        Said(
            {"evse": 2, "purpose": "TxDefaultProfile", "profile_id": 9, "kind": "Dynamic",
             "update_every_s": 60, "periods": [{"start_s": 0, "limit": 10}]},
            in_21=("SetChargingProfile", {"evseId": 2, "chargingProfile": {
                "id": 9, "stackLevel": 0, "chargingProfilePurpose": "TxDefaultProfile",
                "chargingProfileKind": "Dynamic", "dynUpdateInterval": 60,
                "chargingSchedule": [{"id": 1, "chargingRateUnit": "A", "chargingSchedulePeriod": [
                    {"startPeriod": 0, "limit": 10.0}]}]}}),
            kept=_profile(profile_id=9, kind="Dynamic"),
        ),
    ],
    "update_dynamic_schedule": Said(
        {"profile_id": 9, "limit": 12.5},
        in_21=("UpdateDynamicSchedule",
               {"chargingProfileId": 9, "scheduleUpdate": {"limit": 12.5}}),
        kept=lambda station: ChargingProfile.objects.get(profile_id=9).schedules[0][
            "chargingSchedulePeriod"] == [{"startPeriod": 0, "limit": 12.5}],
    ),
    "clear_charging_profile": [
        Said(
            {"profile_id": 7},
            ("ClearChargingProfile", {"id": 7}),
            ("ClearChargingProfile", {"chargingProfileId": 7}),
            kept=lambda station: not _profile(profile_id=7)(station),
        ),
        Said(
            {"purpose": "ChargingStationMaxProfile", "stack_level": 0},
            ("ClearChargingProfile", {"chargingProfilePurpose": "ChargePointMaxProfile",
                                      "stackLevel": 0}),
            ("ClearChargingProfile", {"chargingProfileCriteria": {
                "chargingProfilePurpose": "ChargingStationMaxProfile", "stackLevel": 0}}),
            kept=lambda station: not _profile(profile_id=8)(station),
        ),
    ],
    "get_charging_profiles": Said(
        {"request_id": 3, "evse": 1, "purpose": "TxProfile", "source": "CSO"},
        in_2x=("GetChargingProfiles", {"requestId": 3, "evseId": 1, "chargingProfile": {
            "chargingProfilePurpose": "TxProfile", "chargingLimitSource": ["CSO"]}}),
    ),
    "get_composite_schedule": Said(
        {"evse": 1, "duration_s": 600, "unit": "A"},
        ("GetCompositeSchedule", {"connectorId": 1, "duration": 600, "chargingRateUnit": "A"}),
        ("GetCompositeSchedule", {"evseId": 1, "duration": 600, "chargingRateUnit": "A"}),
    ),
    "use_priority_charging": Said(
        {"ref": "TX", "activate": True},
        in_21=("UsePriorityCharging", {"transactionId": "TX", "activate": True}),
    ),
}  # fmt: skip

SCHEDULE = {"id": 1, "chargingRateUnit": "A",
            "chargingSchedulePeriod": [{"startPeriod": 0, "limit": 6.0}]}  # fmt: skip
REPORTED = {"id": 77, "stackLevel": 1,
            "chargingProfilePurpose": "ChargingStationExternalConstraints",
            "chargingProfileKind": "Absolute", "chargingSchedule": [SCHEDULE]}  # fmt: skip

HEARD = {
    "ReservationStatusUpdate": Heard(
        {"reservationId": 404, "reservationUpdateStatus": "Expired"},
        lambda station: not Reservation.objects.filter(number=404).exists(),
    ),
    "ReportChargingProfiles": Heard(
        {"requestId": 3, "chargingLimitSource": "EMS", "evseId": 0, "chargingProfile": [REPORTED]},
        _profile(profile_id=77, source="EMS"),
    ),
    "NotifyChargingLimit": Heard(
        {"evseId": 1, "chargingLimit": {"chargingLimitSource": "SO", "isGridCritical": True},
         "chargingSchedule": [SCHEDULE]},
        _news("charging_limit.reported", source="SO", evse=1, grid_critical=True),
    ),
    "ClearedChargingLimit": Heard(
        {"chargingLimitSource": "EMS"},
        lambda station: _news("charging_limit.cleared", source="EMS")(station)
        and not _profile(profile_id=77)(station),
    ),
    "TransactionEvent": Heard(
        {"eventType": "Started", "timestamp": timezone.now().isoformat(), "seqNo": 0,
         "triggerReason": "Authorized", "transactionInfo": {"transactionId": "NEEDS"},
         "evse": {"id": 1, "connectorId": 1}},
        lambda station: station.sessions.filter(ref="NEEDS").exists(),
    ),
    "NotifyEVChargingNeeds": Heard(
        {"evseId": 1, "chargingNeeds": {"requestedEnergyTransfer": "AC_three_phase",
         "departureTime": SOON_TEXT, "acChargingParameters": {
             "energyAmount": 20_000, "evMinCurrent": 6, "evMaxCurrent": 16, "evMaxVoltage": 400}}},
        lambda station: CarNeeds.objects.filter(
            session__station=station, max_a=16, energy_wh=20_000, departure_at=SOON).exists(),
    ),
    "NotifyEVChargingSchedule": Heard(
        {"timeBase": SOON_TEXT, "evseId": 1, "chargingSchedule": SCHEDULE},
        lambda station: CarNeeds.objects.filter(
            session__station=station, schedule__timeBase=SOON_TEXT).exists(),
        {"status": "Accepted"},
    ),
    "NotifyPriorityCharging": Heard(
        {"transactionId": "NEEDS", "activated": True},
        lambda station: CarNeeds.objects.filter(
            session__station=station, prioritised=True).exists(),
        versions=(V21,),
    ),
    "PullDynamicScheduleUpdate": Heard(
        {"chargingProfileId": 99},
        lambda station: not _profile(profile_id=99)(station),
        {"status": "Rejected"},
        versions=(V21,),
    ),
}  # fmt: skip
