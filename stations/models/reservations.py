"""Reservations of an EVSE, or of any EVSE of a station."""

from django.db import models
from django.utils.translation import gettext_lazy as _

from stations.models.assets import Station
from stations.state import Lifecycle


class Reservation(models.Model):
    """A reservation that a station accepted. It ends used, canceled, expired or removed."""

    class State(Lifecycle):
        ACTIVE = "active", _("Reserved")
        USED = "used", _("Used")
        CANCELED = "canceled", _("Canceled")
        EXPIRED = "expired", _("Expired")
        REMOVED = "removed", _("Removed by the station")

    station = models.ForeignKey(Station, models.CASCADE, related_name="reservations")
    evse = models.PositiveIntegerField(
        "EVSE", null=True, blank=True, help_text=_("Empty: any of the station.")
    )
    number = models.BigIntegerField(_("reservation"), help_text=_("reservationId."))
    token_uid = models.CharField(_("token"), max_length=36)
    group = models.CharField(_("group"), max_length=36, blank=True)
    state = models.CharField(_("state"), max_length=10, choices=State, default=State.ACTIVE)
    made_at = models.DateTimeField(_("made"))
    until = models.DateTimeField(_("until"))
    ended_at = models.DateTimeField(_("ended"), null=True)

    class Meta:
        verbose_name = _("reservation")
        verbose_name_plural = _("reservations")
        ordering = ["-made_at"]
        constraints = [
            models.UniqueConstraint(fields=["station", "number"], name="reservation_once")
        ]
        indexes = [
            models.Index(
                fields=["station"], name="reservation_active", condition=models.Q(state="active")
            )
        ]

    def __str__(self) -> str:
        return f"{self.station_id}/{self.number}"


Reservation.State.TRANSITIONS = {
    Reservation.State.ACTIVE: {
        Reservation.State.USED,
        Reservation.State.CANCELED,
        Reservation.State.EXPIRED,
        Reservation.State.REMOVED,
    },
}
