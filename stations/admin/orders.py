"""Commands from the back office: one dialog each, one page for many stations, live answers.

Every command is a POST with CSRF from a dialog with the command's own form and permission. What
ends sessions at once or changes firmware asks to type the station's identity.
"""

from typing import Any

from django import forms
from django.contrib import admin
from django.core.exceptions import PermissionDenied, ValidationError
from django.db import transaction
from django.db.models import Exists, OuterRef
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404, render
from django.urls import URLPattern, path, reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from unfold.widgets import INPUT_CLASSES, SELECT_CLASSES, SWITCH_CLASSES, TEXTAREA_CLASSES

from monitoring.models import Session
from stations import commands, configuration
from stations.admin.base import (
    Facts,
    StaffAdmin,
    ago,
    chosen_sites,
    described,
    in_scope,
    moment,
)
from stations.catalogue import COMMANDS, Group, Spec
from stations.looks import command_chip
from stations.models import Command, CommandBatch, Connector, Station, Token

MAX_BULK = 2_000
# What a command is for (its subject's first word) → who is behind it.
ORDERED_BY = {
    "payment": gettext_lazy("a payment"),
    "session": gettext_lazy("a session"),
    "job": gettext_lazy("a campaign"),
    "playbook": gettext_lazy("a playbook"),
    "alert": gettext_lazy("a rule that asked"),
}


def allowed(request: HttpRequest, version: str = "") -> dict[str, Spec]:
    """Return the commands this person may send, to a station of this version ("": any)."""
    user: Any = request.user
    return {
        name: spec
        for name, spec in COMMANDS.items()
        if spec.known_to(version) and user.has_perm(spec.permission)
    }


def grouped(specs: dict[str, Spec]) -> list[tuple[Group, list[tuple[str, Spec]]]]:
    """Return commands by what they are for, in the order of the groups; empty groups are out."""
    return [
        (group, mine)
        for group in Group
        if (mine := [(name, spec) for name, spec in specs.items() if spec.group == group])
    ]


def must_type(name: str, args: dict[str, Any]) -> bool:
    """Tell whether this order wants a typed confirmation: it hurts drivers or is hard to undo."""
    return name == "update_firmware" or (name == "reset" and bool(args.get("hard")))


# --- forms ----------------------------------------------------------------------------------------


def command_form(
    name: str, station: Station | None, data: Any = None, initial: dict[str, Any] | None = None
) -> forms.Form:
    """Return the command's form in the back office's clothes, with the station's own choices."""
    given = None
    if data is not None:
        given = {key: data.get(key) for key in COMMANDS[name].form.base_fields if key in data}
    form = COMMANDS[name].form(data=given, initial=initial)
    if station is not None:
        _offer_choices(form, name, station)
    for field in form.fields.values():
        _dress(field)
    return form


def _offer_choices(form: forms.Form, name: str, station: Station) -> None:
    """Replace free numbers by what the station has: its EVSEs, its running sessions, its keys."""
    if "evse" in form.fields:
        plugs = Connector.objects.filter(station=station).select_related("evse")
        seen: dict[int, str] = {}
        for plug in plugs.order_by("evse__number", "number"):
            seen.setdefault(
                plug.evse.number,
                f"{plug.evse.number} · {plug.get_type_display()} · {plug.get_status_display()}",
            )
        if seen:
            choices: list[tuple[Any, Any]] = list(seen.items())
            if not form.fields["evse"].required:
                choices.insert(0, ("", _("Whole station")))
            form.fields["evse"].widget = forms.Select(choices=choices)
            form.fields["evse"].help_text = ""
    if name == "remote_stop":
        running = Session.objects.filter(station=station, stopped_at=None).select_related(
            "connector__evse"
        )
        choices = [
            (one.ref, f"{one.connector.evse.number if one.connector else '?'} · {one.ref}")
            for one in running.order_by("-started_at")[:20]
        ]
        if choices:
            form.fields["ref"].widget = forms.Select(choices=choices)
            form.fields["ref"].help_text = ""
    if name == "remote_start":
        known = Token.objects.filter(status=Token.Status.ACCEPTED).order_by("-pk")
        _suggest(form, "token_uid", list(known.values_list("uid", flat=True)[:100]))
    if name == "change_configuration":
        _suggest(form, "key", [configuration.text_of(row) for row in station.variables.all()[:500]])


def _suggest(form: forms.Form, field: str, words: list[str]) -> None:
    form.fields[field].widget.attrs["list"] = f"list-{field}"
    form.suggestions = {**getattr(form, "suggestions", {}), f"list-{field}": words}  # type: ignore[attr-defined]


def _dress(field: forms.Field) -> None:
    widget = field.widget
    if isinstance(widget, forms.HiddenInput):
        return
    if isinstance(field, forms.DateTimeField):
        widget.input_type = "datetime-local"
    if isinstance(widget, forms.Textarea):
        widget.attrs.update({"class": " ".join(TEXTAREA_CLASSES), "rows": 4})
    elif isinstance(widget, forms.CheckboxInput):
        widget.attrs["class"] = " ".join(SWITCH_CLASSES)
    elif isinstance(widget, forms.Select):
        widget.attrs["class"] = " ".join(SELECT_CLASSES)
    else:
        widget.attrs["class"] = " ".join(INPUT_CLASSES)


# --- one station ----------------------------------------------------------------------------------


def order_view(request: HttpRequest, object_id: str, name: str) -> HttpResponse:
    """Show a command's dialog for one station; on POST send it and show how it goes."""
    spec = allowed(request).get(name)
    if name not in COMMANDS:
        raise Http404
    if spec is None:
        raise PermissionDenied
    rows = in_scope(Station.objects.select_related("site"), request, "site")
    station = get_object_or_404(rows, pk=object_id)
    if request.method == "POST":
        form = command_form(name, station, request.POST)
        command = _send_one(request, station, name, form)
        if command is not None:
            response = render(request, "admin/stations/command/sent.html", panel(command))
            response["HX-Retarget"], response["HX-Reselect"] = "#dialog", "#dialog"
            response["HX-Reswap"] = "outerHTML"
            return response
    else:
        form = command_form(name, station, initial=request.GET.dict())
    return render(
        request,
        "admin/stations/command/dialog.html",
        {
            "station": station,
            "form": form,
            "name": name,
            "spec": spec,
            "confirm_hard": name == "reset",
            "confirm_always": name == "update_firmware",
        },
    )


def _send_one(
    request: HttpRequest, station: Station, name: str, form: forms.Form
) -> Command | None:
    if not form.is_valid():
        return None
    args = commands_args(form)
    if must_type(name, args) and request.POST.get("confirm", "").strip() != station.identity:
        form.add_error(
            None, ValidationError(_("Type %(name)s to confirm.") % {"name": station.identity})
        )
        return None
    user: Any = request.user
    try:
        with transaction.atomic():
            command = commands.send(station, name, by=user, **args)
            if name == "change_configuration":
                configuration.want(station, args["key"], args.get("value") or "")
    except (commands.CommandError, configuration.BadKey) as error:
        form.add_error(None, ValidationError(str(error)))
        return None
    return command


def commands_args(form: forms.Form) -> dict[str, Any]:
    """Return a bound form's data as `commands.send` takes it: what was typed, empty fields out."""
    return {
        key: value
        for key, value in form.cleaned_data.items()
        if value not in (None, "", []) or (key == "value" and value == "")
    }


def panel(command: Command) -> dict[str, Any]:
    """Return what the live panel of a command shows."""
    status = Command.Status(command.status)
    ended = status in Command.Status.terminal()
    return {
        "command": command,
        "station": command.station,
        "spec": COMMANDS.get(command.name),
        "chip": command_chip(command),
        "ended": ended,
        "was_sent": command.sent_at is not None,
    }


# --- many stations --------------------------------------------------------------------------------


class BulkForm(forms.Form):
    """Which command for the chosen stations."""

    command = forms.ChoiceField(label=gettext_lazy("Command"))

    def __init__(self, specs: dict[str, Spec], *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["command"].choices = [  # type: ignore[attr-defined]
            (group.label, [(name, spec.label) for name, spec in mine])
            for group, mine in grouped(specs)
        ]
        _dress(self.fields["command"])
        self.fields["command"].widget.attrs["data-submits"] = ""  # shows that command's own form


def bulk_view(request: HttpRequest, site: admin.AdminSite) -> HttpResponse:
    """Confirm one command for many stations; on POST send it to each and show the batch."""
    specs = {name: spec for name, spec in allowed(request).items() if not spec.one_station}
    if not specs or request.method != "POST":
        raise PermissionDenied
    ids = [int(one) for one in request.POST.getlist("station") if one.isdigit()][:MAX_BULK]
    stations = list(in_scope(Station.objects.filter(pk__in=ids), request, "site"))
    name = request.POST.get("command") or next(iter(specs))
    if name not in specs:
        raise PermissionDenied
    sending = "_send" in request.POST
    form = command_form(name, None, request.POST if sending else None)
    if sending and form.is_valid():
        args = commands_args(form)
        if must_type(name, args) and request.POST.get("confirm", "") != str(len(stations)):
            form.add_error(
                None,
                ValidationError(_("Type %(n)s, the number of stations.") % {"n": len(stations)}),
            )
        else:
            batch = send_batch(request, stations, name, args)
            return HttpResponseRedirect(
                reverse("admin:stations_commandbatch_change", args=[batch.pk])
            )
    return render(
        request,
        "admin/stations/command/bulk.html",
        {
            **site.each_context(request),
            "title": _("Send a command to %(n)d stations") % {"n": len(stations)},
            "stations": stations,
            "offline": sum(not one.connected for one in stations),
            "choose": BulkForm(specs, initial={"command": name}),
            "form": form,
            "name": name,
            "spec": specs[name],
            "confirm_hard": name == "reset",
            "confirm_always": name == "update_firmware",
            "word": str(len(stations)),
        },
    )


def send_batch(
    request: HttpRequest, stations: list[Station], name: str, args: dict[str, Any]
) -> CommandBatch:
    """Send one command to many stations under one batch, all or none."""
    user: Any = request.user
    with transaction.atomic():
        batch = CommandBatch.objects.create(
            name=name, args=commands.shown(name, commands.check(name, args)), created_by=user
        )
        for station in stations:
            commands.send(station, name, by=user, batch=batch, **args)
    return batch


# --- the rows ------------------------------------------------------------------------------------


@admin.register(Command)
class CommandAdmin(Facts, StaffAdmin):
    """Every order and its answer."""

    site_path = "station__site"
    list_display = ("label", "station", "status_chip", "created", "by", "answer", "reason")
    list_display_links = ("label",)
    list_filter = ("status", "name")
    list_select_related = ("station", "created_by")
    search_fields = ("station__identity", "station__name", "subject", "message_id")
    search_help_text = gettext_lazy("Station, subject or message id")
    export_fields = (
        "id", "station__identity", "name", "args", "status", "created_at", "sent_at",
        "answered_at", "created_by__email", "subject", "response", "error",
    )  # fmt: skip
    live = "fleet"
    empty_title = gettext_lazy("No command was sent yet")
    empty_text = gettext_lazy("Open a station and choose Actions to send one.")

    def get_urls(self) -> list[URLPattern]:
        """Add the live panel."""
        view = self.admin_site.admin_view(self.panel_view)
        return [
            path("<int:pk>/panel/", view, name="stations_command_panel"),
            *super().get_urls(),
        ]

    def panel_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Return one command's live panel."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        command = get_object_or_404(self.get_queryset(request).select_related("station"), pk=pk)
        return render(request, "admin/stations/command/panel.html", panel(command))

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        """Show one command: the order, what was sent, the answer."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        rows = self.get_queryset(request).select_related("station", "created_by", "batch")
        command = get_object_or_404(rows, pk=object_id)
        context = {
            **self.admin_site.each_context(request),
            **panel(command),
            "title": command.station.identity,
            "opts": self.opts,
        }
        return render(request, "admin/stations/command/page.html", context)

    @described(gettext_lazy("command"), order="name")
    def label(self, command: Command) -> str:
        """The command in words."""
        spec = COMMANDS.get(command.name)
        return str(spec.label) if spec else command.name

    @described(gettext_lazy("status"), order="status")
    def status_chip(self, command: Command) -> str:
        """Where it is."""
        return command_chip(command)

    @described(gettext_lazy("ordered"), order="created_at")
    def created(self, command: Command) -> str:
        """When."""
        return ago(command.created_at)

    @described(gettext_lazy("by"))
    def by(self, command: Command) -> str:
        """Who, or what ordered it."""
        if command.created_by is not None:
            return str(command.created_by)
        return str(ORDERED_BY.get(command.subject.partition("-")[0], gettext_lazy("the system")))

    @described(gettext_lazy("answered"), order="answered_at")
    def answer(self, command: Command) -> str:
        """When the charger answered."""
        return moment(command.answered_at, "smart")

    @described(gettext_lazy("reason"))
    def reason(self, command: Command) -> str:
        """Why it failed."""
        return command.error[:80]


@admin.register(CommandBatch)
class CommandBatchAdmin(Facts, StaffAdmin):
    """Orders to many stations."""

    list_display = ("label", "created", "created_by")
    list_select_related = ("created_by",)
    empty_title = gettext_lazy("No bulk command was sent yet")
    empty_text = gettext_lazy("Choose stations in their list, then “Send a command”.")

    def get_queryset(self, request: HttpRequest) -> Any:
        """Batches with at least one order at the person's sites."""
        mine = in_scope(Command.objects.filter(batch=OuterRef("pk")), request, "station__site")
        rows: Any = super().get_queryset(request)
        return rows if chosen_sites(request) is None else rows.filter(Exists(mine))

    @described(gettext_lazy("command"), order="name")
    def label(self, batch: CommandBatch) -> str:
        """The command in words."""
        spec = COMMANDS.get(batch.name)
        return str(spec.label) if spec else batch.name

    @described(gettext_lazy("ordered"), order="created_at")
    def created(self, batch: CommandBatch) -> str:
        """When."""
        return moment(batch.created_at)

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        """Show the batch: how many are where, and each station's answer, live."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        batch = get_object_or_404(self.get_queryset(request), pk=object_id)
        rows = in_scope(batch.commands.select_related("station"), request, "station__site")
        orders = list(rows.order_by("station__identity"))
        counts: dict[str, int] = {}
        for one in orders:
            counts[one.status] = counts.get(one.status, 0) + 1
        spec = COMMANDS.get(batch.name)
        context = {
            **self.admin_site.each_context(request),
            "title": spec.label if spec else batch.name,
            "opts": self.opts,
            "batch": batch,
            "spec": spec,
            "orders": [(one, command_chip(one)) for one in orders],
            "counts": [
                (status.label, counts[status], status) for status in Command.Status
                if status in counts
            ],
            "open": counts.get("queued", 0) + counts.get("sent", 0),
        }  # fmt: skip
        return render(request, "admin/stations/command/batch.html", context)
