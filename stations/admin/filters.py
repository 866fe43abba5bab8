"""Filters of the back office's lists."""

from datetime import UTC
from typing import Any

from django.db.models import Exists, OuterRef, QuerySet
from django.http import HttpRequest
from django.utils.dateparse import parse_datetime
from django.utils.translation import gettext_lazy as _
from unfold.contrib.filters.admin import DropdownFilter, RangeDateTimeFilter

from firmware import images
from monitoring.dashboard import doing
from stations.admin.base import in_scope
from stations.models import Connector, Site, Station

Choices = list[tuple[str, Any]]


class SiteFilter(DropdownFilter):  # type: ignore[misc]  # unfold ships no types
    """By site, among those this person may see. Subclass it with another `path`."""

    title = _("site")
    parameter_name = "site"
    path = "site"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Choices:
        """Return the sites, and “none”."""
        sites = in_scope(Site.objects.all(), request, "pk").values_list("pk", "name")
        return [*((str(pk), name) for pk, name in sites), ("none", _("Without a site"))]

    def queryset(self, request: HttpRequest, rows: "QuerySet[Any]") -> "QuerySet[Any]":
        """Keep the rows of the chosen site."""
        if self.value() == "none":
            return rows.filter(**{f"{self.path}__isnull": True})
        if self.value() and str(self.value()).isdigit():
            return rows.filter(**{self.path: self.value()})
        return rows


class StationSiteFilter(SiteFilter):
    """By the site of a row's station."""

    path = "station__site"


class BetweenFilter(RangeDateTimeFilter):  # type: ignore[misc]
    """From and to, in UTC; a day without a time is taken from its beginning or to its end."""

    def queryset(self, request: HttpRequest, rows: "QuerySet[Any]") -> "QuerySet[Any]":
        """Keep the rows between the two moments."""
        for side, lookup, time in (("from", "gte", "00:00:00"), ("to", "lte", "23:59:59")):
            day = self.used_parameters.get(f"{self.parameter_name}_{side}_0")
            clock = self.used_parameters.get(f"{self.parameter_name}_{side}_1") or time
            at = parse_datetime(f"{day} {clock}") if day else None
            if at is not None:
                rows = rows.filter(**{f"{self.parameter_name}__{lookup}": at.replace(tzinfo=UTC)})
        return rows


class MakeFilter(DropdownFilter):  # type: ignore[misc]
    """By vendor and model, among those that exist."""

    title = _("make")
    parameter_name = "make"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Choices:
        """Return the makes."""
        makes = (
            Station.objects.exclude(vendor="", model="")
            .order_by("vendor", "model")
            .values_list("vendor", "model")
            .distinct()
        )
        return [(f"{vendor}|{model}", f"{vendor} {model}".strip()) for vendor, model in makes]

    def queryset(self, request: HttpRequest, rows: "QuerySet[Any]") -> "QuerySet[Any]":
        """Keep the stations of the chosen make."""
        if self.value():
            vendor, _bar, model = str(self.value()).partition("|")
            return rows.filter(vendor=vendor, model=model)
        return rows


class FirmwareFilter(DropdownFilter):  # type: ignore[misc]
    """Behind the newest release that fits."""

    title = _("firmware")
    parameter_name = "firmware"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Choices:
        """Return the one choice."""
        return [("behind", _("Behind the newest release"))]

    def queryset(self, request: HttpRequest, rows: "QuerySet[Any]") -> "QuerySet[Any]":
        """Keep the stations a newer release fits."""
        if self.value() == "behind":
            behind = {one.pk for stations in images.behind().values() for one in stations}
            return rows.filter(pk__in=behind)
        return rows


class ConnectedFilter(DropdownFilter):  # type: ignore[misc]
    """Online or offline."""

    title = _("connection")
    parameter_name = "online"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Choices:
        """Return the choices."""
        return [("1", _("Online")), ("0", _("Offline")), ("never", _("Never connected"))]

    def queryset(self, request: HttpRequest, rows: "QuerySet[Any]") -> "QuerySet[Any]":
        """Keep the stations that are, or are not, connected."""
        if self.value() == "never":
            return rows.filter(last_seen_at__isnull=True)
        if self.value() in ("0", "1"):
            return rows.filter(connected=self.value() == "1")
        return rows


class ConnectorStatusFilter(DropdownFilter):  # type: ignore[misc]
    """Stations online that have a connector in this status."""

    title = _("connector")
    parameter_name = "connector"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Choices:
        """Return the statuses."""
        return [(value, label) for value, label in Connector.Status.choices]

    def queryset(self, request: HttpRequest, rows: "QuerySet[Any]") -> "QuerySet[Any]":
        """Keep the stations with such a connector."""
        if self.value():
            now = {"now": self.value()}  # annotated by doing()
            wanted = doing(Connector.objects.all()).filter(station=OuterRef("pk"), **now)
            return rows.filter(Exists(wanted), connected=True)
        return rows
