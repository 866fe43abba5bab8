"""The OCPP inspector: calls with their answers, newest first, never counted, never offset.

Pages continue from a frame's id. Filters that no index serves look at a window of the newest
frames and say so, so that a rare action among millions costs no more than a common one.
"""

from datetime import UTC, datetime, timedelta
from typing import Any

from django import forms
from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.db.models import Max, Min, QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.translation import gettext_lazy as _
from unfold.widgets import INPUT_CLASSES, SELECT_CLASSES

from stations.admin.base import Facts, StaffAdmin, chosen_sites
from stations.models import Message, Station

PAGE = 50
SKEW = timedelta(seconds=30)  # frames are stored in the order of commits, not of times
WINDOW = 100_000  # frames looked at in one step by a filter without an index

ACTIONS = (
    "Authorize", "BootNotification", "CancelReservation", "ChangeAvailability",
    "ChangeConfiguration", "ClearCache", "ClearChargingProfile", "DataTransfer",
    "DiagnosticsStatusNotification", "FirmwareStatusNotification", "GetBaseReport",
    "GetConfiguration", "GetDiagnostics", "GetLog", "GetVariables", "Heartbeat",
    "LogStatusNotification", "MeterValues", "NotifyEvent", "NotifyReport", "RemoteStartTransaction",
    "RemoteStopTransaction", "RequestStartTransaction", "RequestStopTransaction", "ReserveNow",
    "Reset", "SecurityEventNotification", "SetChargingProfile", "SetVariables",
    "SignedUpdateFirmware", "StartTransaction", "StatusNotification", "StopTransaction",
    "TransactionEvent", "TriggerMessage", "UnlockConnector", "UpdateFirmware",
)  # fmt: skip


class FilterForm(forms.Form):
    """What to show."""

    station = forms.CharField(label=_("Station"), max_length=48, required=False)
    action = forms.CharField(label=_("Action"), max_length=50, required=False)
    direction = forms.ChoiceField(
        label=_("Direction"),
        required=False,
        choices=[("", _("Both ways")), *Message.Direction.choices],
    )
    message_id = forms.CharField(label=_("Message id"), max_length=64, required=False)
    since = forms.DateTimeField(label=_("From (UTC)"), required=False)
    until = forms.DateTimeField(label=_("To (UTC)"), required=False)
    failed = forms.BooleanField(label=_("Errors only"), required=False)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name, field in self.fields.items():
            wide = SELECT_CLASSES if name == "direction" else INPUT_CLASSES
            if name != "failed":
                field.widget.attrs["class"] = " ".join(wide)
            if isinstance(field, forms.DateTimeField):
                field.widget = forms.DateTimeInput(
                    {"type": "datetime-local", "class": " ".join(INPUT_CLASSES)},
                    format="%Y-%m-%dT%H:%M",
                )
        self.fields["action"].widget.attrs["list"] = "actions"


def page(request: HttpRequest, station: Station | None = None) -> dict[str, Any]:
    """Return one page of frames by the request's filters: rows, where older ones begin, the form.

    `?before=ID` continues. One station's frames come by its index in order of time; all others by
    id, within a window when a filter has no index.
    """
    form = FilterForm(request.GET or None)
    asked: dict[str, Any] = form.cleaned_data if form.is_valid() else {}
    ids = _stations(request, asked.get("station", "")) if station is None else [station.pk]
    rows = _filtered(Message.objects.all(), asked)
    before = request.GET.get("before", "")
    limit = int(before) if before.isdigit() else None
    searched = None
    if ids is not None and len(ids) == 1:
        rows = rows.filter(station=ids[0]).order_by("-at", "-pk")
        if limit:
            at = Message.objects.filter(pk=limit).values_list("at", flat=True).first()
            if at is not None:
                rows = rows.filter(at__lte=at).exclude(at=at, pk__gte=limit)
    else:
        rows = rows.order_by("-pk")
        if ids is not None:
            rows = rows.filter(station__in=ids)
        if ids is not None or any(asked.values()):
            top = limit or (Message.objects.aggregate(top=Max("pk"))["top"] or 0) + 1
            if asked.get("until"):
                top = min(top, _first_id_after(_utc(asked["until"]) + SKEW))
            searched = max(top - WINDOW, 0)
            rows = rows.filter(pk__gte=searched, pk__lt=top)
        elif limit:
            rows = rows.filter(pk__lt=limit)
    found = list(rows[: PAGE + 1])
    shown = found[:PAGE]
    more = len(found) > PAGE
    return {
        "frames": _named(shown, station),
        "older": shown[-1].pk if more else (searched or None),
        "window": WINDOW if searched and not more else None,
        "query": _without_before(request),
        "filter": form,
        "filtered": any(asked.values()),
        "actions_known": ACTIONS,
        "of_station": station,
        "first_page": limit is None,
    }


def _named(shown: list[Message], station: Station | None) -> list[tuple[Message, str]]:
    if station is not None:
        return [(one, station.identity) for one in shown]
    names = dict(
        Station.objects.filter(pk__in={one.station_id for one in shown}).values_list(
            "pk", "identity"
        )
    )
    return [(one, names.get(one.station_id, "?")) for one in shown]


def _without_before(request: HttpRequest) -> str:
    query = request.GET.copy()
    query.pop("before", None)
    return query.urlencode()


def _stations(request: HttpRequest, named: str) -> list[int] | None:
    """Return the ids the frames must be of; None: any."""
    sites = chosen_sites(request)
    if not named and sites is None:
        return None
    stations = Station.objects.all()
    if sites is not None:
        stations = stations.filter(site__in=sites)
    if named:
        stations = stations.filter(identity=named)
    return list(stations.values_list("pk", flat=True))


def _filtered(rows: "QuerySet[Message]", asked: dict[str, Any]) -> "QuerySet[Message]":
    for name in ("action", "direction", "message_id"):
        if asked.get(name):
            rows = rows.filter(**{name: asked[name]})
    if asked.get("failed"):
        rows = rows.exclude(error="")
    if asked.get("since"):
        rows = rows.filter(at__gte=_utc(asked["since"]))
    if asked.get("until"):
        rows = rows.filter(at__lte=_utc(asked["until"]))
    return rows


def _first_id_after(at: datetime) -> int:
    """Return about where frames newer than `at` begin: ids grow with time, so halve the range."""
    ends = Message.objects.aggregate(low=Min("pk"), high=Max("pk"))
    low, high = ends["low"] or 0, (ends["high"] or 0) + 1
    while low < high:
        middle = (low + high) // 2
        found = (
            Message.objects.filter(pk__gte=middle).order_by("pk").values_list("at", flat=True)
        ).first()
        if found is not None and found <= at:
            low = middle + 1
        else:
            high = middle
    return low


def _utc(at: datetime) -> datetime:
    return at if at.tzinfo else at.replace(tzinfo=UTC)


@admin.register(Message)
class MessageAdmin(Facts, StaffAdmin):
    """Every frame on the wire."""

    export_fields = ("id", "at", "station__identity", "direction", "action", "message_id",
                     "payload", "answer", "error", "latency_ms")  # fmt: skip

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Frames carry tokens: reading them is a permission of its own."""
        user: Any = request.user
        return bool(user.has_perm("stations.view_frames"))

    def get_model_perms(self, request: HttpRequest) -> dict[str, bool]:
        """Show the inspector in lists of models to those who may read it."""
        return {**super().get_model_perms(request), "view": self.has_view_permission(request)}

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Show the inspector."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        context = {
            **self.admin_site.each_context(request),
            "title": _("OCPP frames"),
            "opts": self.opts,
            **page(request),
        }
        return render(request, "admin/stations/message/inspector.html", context)

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        """Show one frame: the inspector at its place."""
        query: Any = request.GET.copy()
        if object_id.isdigit():
            query["before"] = str(int(object_id) + 1)
        request.GET = query
        return self.changelist_view(request)
