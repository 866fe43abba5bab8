"""Tariffs as OCPI objects, their versions, and which station uses which."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import models
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

if TYPE_CHECKING:
    from stations.models import Station

FROZEN = ("key", "version", "currency", "ocpi", "valid_from")


def canonical(value: object) -> bytes:
    """JSON bytes of `value` that are the same for equal values: sorted keys, no spaces, UTF-8."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return text.encode()


class TariffQuerySet(models.QuerySet["Tariff"]):
    """Selections of tariff versions."""

    def valid_at(self, at: dt.datetime) -> TariffQuerySet:
        """Versions whose validity (start inclusive, end exclusive) covers `at`."""
        return self.filter(valid_from__lte=at).filter(
            Q(valid_until__isnull=True) | Q(valid_until__gt=at)
        )

    def in_force(
        self, station: Station, at: dt.datetime, driver_id: int | None = None
    ) -> Tariff | None:
        """The version a session beginning at `at` on `station` is priced with.

        Precedence: the station's own assignment, its site's, the one of the driver's group, the
        default. A driver in several groups has the one added first. An assignment whose
        tariff has no version valid at `at` does not fall through to a wider one: a hole in the
        validity must be seen, not papered over with another price.
        """
        assigned = list(
            TariffAssignment.objects.filter(
                Q(station=station)
                | Q(site=station.site_id, site__isnull=False)
                | Q(is_default=True)
                | Q(group__drivers=driver_id, group__isnull=False)
            ).distinct()
            if driver_id is not None
            else TariffAssignment.objects.filter(
                Q(station=station)
                | Q(site=station.site_id, site__isnull=False)
                | Q(is_default=True)
            )
        )
        if not assigned:
            return None
        nearest = min(assigned, key=lambda row: (row.rank, row.group_id or 0))
        return self.valid_at(at).filter(key=nearest.key).order_by("-version").first()


class Tariff(models.Model):
    """One version of a tariff; `key` groups the versions. Frozen once a session has used it."""

    key = models.SlugField(
        _("key"), max_length=64, help_text=_("Groups the versions of one tariff.")
    )
    version = models.PositiveIntegerField(_("version"), default=1)
    name = models.CharField(_("name"), max_length=120)
    currency = models.CharField(_("currency"), max_length=3, help_text=_("ISO 4217, e.g. EUR"))
    ocpi = models.JSONField(
        _("OCPI tariff"), help_text=_("An OCPI 2.3.0 or 2.2.1 tariff object, kept as it was given.")
    )
    valid_from = models.DateTimeField(_("valid from"), default=timezone.now)
    valid_until = models.DateTimeField(_("valid until"), null=True, blank=True)
    created_at = models.DateTimeField(_("created"), auto_now_add=True)
    first_used_at = models.DateTimeField(_("first used"), null=True, editable=False)

    objects = TariffQuerySet.as_manager()

    class Meta:
        verbose_name = _("tariff")
        verbose_name_plural = _("tariffs")
        ordering = ["key", "-version"]
        constraints = [
            models.UniqueConstraint(fields=["key", "version"], name="tariff_version_once"),
            models.CheckConstraint(
                condition=Q(valid_until__isnull=True) | Q(valid_until__gt=models.F("valid_from")),
                name="tariff_ends_after_it_begins",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.name} (v{self.version})"

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Save, unless a session has already been priced with the frozen fields."""
        if not self._state.adding:
            stored = Tariff.objects.filter(pk=self.pk).first()
            if stored is not None and stored.first_used_at is not None:
                changed = [f for f in FROZEN if getattr(stored, f) != getattr(self, f)]
                if changed:
                    raise ValidationError(
                        _(
                            "Sessions have been priced with this version. "
                            "Add a new version instead of changing %(fields)s."
                        ),
                        params={"fields": ", ".join(changed)},
                    )
        super().save(*args, **kwargs)

    @property
    def sha256(self) -> str:
        """Digest of the OCPI object: what a driver was shown can be proved by it."""
        return hashlib.sha256(canonical(self.ocpi)).hexdigest()

    def snapshot(self, time_zone: str) -> dict[str, Any]:
        """The frozen copy a payment and a charge keep; `time_zone` is the location's (IANA)."""
        return {
            "id": self.pk,
            "key": self.key,
            "version": self.version,
            "name": self.name,
            "currency": self.currency,
            "sha256": self.sha256,
            "time_zone": time_zone,
            "ocpi": self.ocpi,
        }


class DriverGroup(models.Model):
    """Drivers who share a tariff: employees, tenants, members."""

    name = models.CharField(_("name"), max_length=120, unique=True)
    drivers = models.ManyToManyField(
        settings.AUTH_USER_MODEL,
        blank=True,
        related_name="driver_groups",
        verbose_name=_("drivers"),
    )

    class Meta:
        verbose_name = _("driver group")
        verbose_name_plural = _("driver groups")
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name


class TariffAssignment(models.Model):
    """A tariff, by its key, for exactly one of: a station, a site, a group, everything else."""

    key = models.SlugField(_("tariff key"), max_length=64)
    station = models.OneToOneField(
        "stations.Station",
        on_delete=models.CASCADE,
        null=True,
        blank=True,
        related_name="tariff_assignment",
        verbose_name=_("station"),
    )
    site = models.OneToOneField(
        "stations.Site",
        on_delete=models.CASCADE,
        null=True,
        blank=True,
        related_name="tariff_assignment",
        verbose_name=_("site"),
    )
    group = models.OneToOneField(
        DriverGroup,
        on_delete=models.CASCADE,
        null=True,
        blank=True,
        related_name="tariff_assignment",
        verbose_name=_("driver group"),
    )
    is_default = models.BooleanField(_("default"), default=False)

    class Meta:
        verbose_name = _("tariff assignment")
        verbose_name_plural = _("tariff assignments")
        constraints = [
            models.CheckConstraint(
                condition=(
                    Q(station__isnull=False, site=None, group=None, is_default=False)
                    | Q(station=None, site__isnull=False, group=None, is_default=False)
                    | Q(station=None, site=None, group__isnull=False, is_default=False)
                    | Q(station=None, site=None, group=None, is_default=True)
                ),
                name="tariff_assignment_has_one_target",
                violation_error_message=_(
                    "Choose exactly one of station, site, driver group and default."
                ),
            ),
            models.UniqueConstraint(
                fields=["is_default"],
                condition=Q(is_default=True),
                name="tariff_assignment_one_default",
                violation_error_message=_("There is already a default tariff."),
            ),
        ]

    def __str__(self) -> str:
        target = self.station or self.site or self.group or _("default")
        return f"{self.key} → {target}"

    @property
    def rank(self) -> int:
        """Precedence, smallest first: station, site, driver group, default."""
        if self.station_id is not None:
            return 0
        if self.site_id is not None:
            return 1
        return 2 if self.group_id is not None else 3

    def clean(self) -> None:
        """A key that names no tariff would leave sessions unpriced: refuse it here."""
        if self.key and not Tariff.objects.filter(key=self.key).exists():
            raise ValidationError({"key": _("There is no tariff with this key. Add it first.")})
