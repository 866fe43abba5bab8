"""Campaigns in the back office: the list with progress, the form, the cockpit with its buttons."""

from typing import Any, ClassVar

from django import forms
from django.contrib import admin, messages
from django.db.models import Count, Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from unfold.decorators import action
from unfold.enums import ActionVariant
from unfold.forms import BaseDialogForm
from unfold.widgets import (
    UnfoldAdminTextInputWidget,
)

from firmware import campaigns
from firmware.admin.campaign_form import CampaignForm
from firmware.admin.looks import CAMPAIGN_TONES, cockpit
from firmware.models import (
    BAD,
    Campaign,
    FirmwareImage,
    UpdateJob,
)
from stations.admin.base import StaffAdmin, ago, chip, described, in_scope
from stations.state import NotAllowed


class ReasonForm(BaseDialogForm):  # type: ignore[misc]
    """Why somebody stops a campaign."""

    reason = forms.CharField(
        label=gettext_lazy("Reason"), required=False, widget=UnfoldAdminTextInputWidget
    )


def _verb(name: str, label: Any, text: Any, icon: str, variant: str, *, ask: bool = False) -> Any:
    """Return a detail action that does `campaigns.<name>` after a dialog."""

    def run(
        self: "CampaignAdmin", request: HttpRequest, form: BaseDialogForm, object_id: int
    ) -> HttpResponse:
        return self._do(request, name, object_id, form.cleaned_data.get("reason", ""))

    run.__name__ = name
    run.__doc__ = str(text)
    return action(
        description=label,
        permissions=[name],
        icon=icon,
        variant=ActionVariant(variant),
        # The live page tells its buttons apart by it: the pressed one keeps the focus.
        attrs={"id": f"campaign-{name}"},
        dialog={
            "title": label,
            "description": text,
            "form_submit_text": label,
            "form_class": ReasonForm if ask else None,
        },
    )(run)


@admin.register(Campaign)
class CampaignAdmin(StaffAdmin):
    """Campaigns: the list with progress, the form for a new one, the cockpit."""

    form = CampaignForm
    live = "fleet"
    change_form_template = "admin/firmware/campaign.html"

    class Media:
        css: ClassVar[dict[str, list[str]]] = {"all": ["firmware/campaign.css"]}

    list_display = ("name", "image", "state_chip", "progress", "reason", "started")
    list_filter = ("state", "image__vendor")
    search_fields = ("name", "image__version", "jobs__station__identity")
    list_select_related = ("image",)
    export_fields = ("name", "image__version", "state", "reason", "started_at", "finished_at")
    conditional_fields: ClassVar[dict[str, str]] = {
        "site": "target == 'site'",
        "chosen": "target == 'chosen'",
    }
    actions_detail = ("start", "resume", "pause", "brake", "stop", "reverse")

    start = _verb(
        "start", gettext_lazy("Start"), gettext_lazy("Wave 1 opens."), "play_arrow", "success"
    )
    resume = _verb(
        "resume",
        gettext_lazy("Resume"),
        gettext_lazy(
            "Go on with the open wave. Its failures so far are accepted; the next holds it again."
        ),
        "play_arrow",
        "success",
        ask=True,
    )
    pause = _verb(
        "pause",
        gettext_lazy("Hold"),
        gettext_lazy("No new station begins. Updates under way go on."),
        "pause",
        "default",
        ask=True,
    )
    brake = _verb(
        "brake",
        gettext_lazy("Brake"),
        gettext_lazy("Hold, and cut off every station that has not finished its download."),
        "front_hand",
        "warning",
        ask=True,
    )
    stop = _verb(
        "stop",
        gettext_lazy("Stop"),
        gettext_lazy("Brake, and call off every station that waits. It cannot be resumed."),
        "stop",
        "danger",
        ask=True,
    )
    reverse = _verb(
        "reverse",
        gettext_lazy("Reverse"),
        gettext_lazy("Stop, and take every updated station back to the release it ran before."),
        "undo",
        "danger",
    )

    def get_queryset(self, request: HttpRequest) -> "QuerySet[Any]":
        """Campaigns with at least one station the person may see, with their counts."""
        rows: QuerySet[Any] = super().get_queryset(request)
        mine = in_scope(UpdateJob.objects.all(), request, "station__site")
        state = UpdateJob.State
        seen: QuerySet[Any] = rows.filter(Q(jobs__in=mine) | Q(jobs=None)).annotate(
            n=Count("jobs", distinct=True),
            done=Count(
                "jobs",
                Q(jobs__state__in=(state.SUCCEEDED, state.ALREADY_CURRENT)),
                distinct=True,
            ),
            bad=Count("jobs", Q(jobs__state__in=BAD), distinct=True),
        )
        return seen

    # what may be done when

    def _may(self, request: HttpRequest, object_id: Any, *states: str) -> bool:
        if not request.user.has_perm("firmware.run_campaign"):
            return False
        return object_id is None or Campaign.objects.filter(pk=object_id, state__in=states).exists()

    def has_start_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        """A draft can start."""
        return self._may(request, object_id, "draft")

    def has_resume_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        """What is paused can go on."""
        return self._may(request, object_id, "paused")

    def has_pause_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        """What runs can be held."""
        return self._may(request, object_id, "running", "baking")

    has_brake_permission = has_pause_permission

    def has_stop_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        """What has not ended can be stopped."""
        return self._may(request, object_id, "draft", "running", "baking", "paused")

    def has_reverse_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        """What has updated stations can be reversed."""
        return self._may(request, object_id, "paused", "stopped", "completed")

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """A campaign is steered by its buttons, not edited."""
        return obj is None and super().has_change_permission(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Campaigns are history."""
        return False

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Those who may run one may make one."""
        return super().has_add_permission(request) and request.user.has_perm(
            "firmware.run_campaign"
        )

    def _do(self, request: HttpRequest, verb: str, object_id: Any, reason: str) -> HttpResponse:
        campaign = self.get_object(request, object_id)
        there = campaign
        try:
            if verb in ("pause", "resume", "brake", "stop"):
                getattr(campaigns, verb)(campaign, reason)
            elif verb == "reverse":
                there = campaigns.reverse(campaign, by=request.user)  # type: ignore[arg-type]
            else:
                getattr(campaigns, verb)(campaign)
        except (campaigns.CampaignError, NotAllowed) as error:
            messages.error(request, str(error))
        else:
            if there == campaign:  # the open cockpit shows it by itself, and goes on being true
                return HttpResponse('<div id="dialog-form" x-init="openModal = false"></div>')
        response = HttpResponse()
        response["HX-Redirect"] = reverse("admin:firmware_campaign_change", args=[there.pk])
        return response

    # a new one

    def get_form(self, request: HttpRequest, obj: Any = None, **kwargs: Any) -> Any:
        """Give the form the request: it offers only what the person may see."""
        form = super().get_form(request, obj, **kwargs)
        return type("StaffCampaignForm", (form,), {"staff": request}) if obj is None else form

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        """Ask what and how; the cockpit replaces the form afterwards."""
        if obj:
            return []
        return [
            (None, {"fields": ["name", "image", "target", "site", "chosen", "approve"]}),
            (
                _("How carefully"),
                {"fields": ["waves_text", "max_failures_percent", "bake_s", "probation_s"]},
            ),
            (
                _("When and how many"),
                {
                    "fields": [
                        ("window_from", "window_to"),
                        ("concurrency", "site_concurrency"),
                        ("max_attempts", "retry_s"),
                        "expires_at",
                    ]
                },
            ),
        ]

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        """Propose a name and the release's stations behind."""
        initial: dict[str, Any] = super().get_changeform_initial_data(request)
        image = FirmwareImage.objects.filter(pk=initial.get("image") or 0).first()
        if image:
            initial.setdefault("name", f"{image} rollout")
        return {"target": "behind"} | initial

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        """Make the campaign with its jobs; start it where wanted."""
        given = form.cleaned_data
        fields = {name: given[name] for name in CampaignForm.Meta.fields if name in given}
        name, image = fields.pop("name"), fields.pop("image")
        made = campaigns.create(
            name,
            image,
            given["stations"],
            by=request.user,  # type: ignore[arg-type]
            waves=obj.waves,
            **fields,
        )
        if given["approve"]:
            try:
                campaigns.start(made)
            except campaigns.CampaignError as error:
                messages.error(request, str(error))
        obj.__dict__.update(made.__dict__)

    # the cockpit

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        """Show the cockpit, its buttons in it: what may be done changes while one looks."""
        campaign = self.get_object(request, object_id)
        seen = cockpit(campaign, request) if campaign else {}
        context = seen | (extra_context or {})
        response: HttpResponse = super().change_view(request, object_id, form_url, context)
        if isinstance(response, TemplateResponse) and response.context_data is not None:
            response.context_data["buttons"] = response.context_data.pop("actions_detail", [])
        return response

    @described(gettext_lazy("state"), order="state")
    def state_chip(self, campaign: Campaign) -> SafeString:
        """State in colour and words."""
        return chip(campaign.get_state_display(), CAMPAIGN_TONES[campaign.state])

    @described(gettext_lazy("progress"))
    def progress(self, campaign: Any) -> SafeString:
        """Updated of all, and failed."""
        failed = format_html(", {} {}", campaign.bad, _("failed")) if campaign.bad else ""
        return format_html(
            '<progress value="{}" max="{}"></progress> {} / {}{}',
            campaign.done,
            campaign.n,
            campaign.done,
            campaign.n,
            failed,
        )

    @described(gettext_lazy("started"), order="started_at")
    def started(self, campaign: Campaign) -> SafeString:
        """When it started."""
        return ago(campaign.started_at)
