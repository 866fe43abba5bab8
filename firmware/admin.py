"""The back office of firmware: releases, campaigns with their cockpit, updates."""

from typing import Any, ClassVar

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.db.models import Count, Q, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from unfold.decorators import action
from unfold.enums import ActionVariant
from unfold.forms import BaseDialogForm
from unfold.widgets import (
    UnfoldAdminSelectWidget,
    UnfoldAdminTextareaWidget,
    UnfoldAdminTextInputWidget,
)

from firmware import campaigns, images
from firmware.models import (
    ACTIVE,
    BAD,
    WAITING,
    Campaign,
    FirmwareImage,
    UpdateJob,
)
from stations.admin.base import Facts, StaffAdmin, ago, chip, described, in_scope
from stations.models import Site, Station
from stations.state import NotAllowed

CAMPAIGN_TONES: dict[str, str] = {
    "draft": "grey",
    "running": "blue",
    "baking": "violet",
    "paused": "amber",
    "stopped": "red",
    "completed": "green",
}


def job_tone(state: str) -> str:
    """Return the colour of a job's state."""
    if state in BAD:
        return "red"
    if state in ACTIVE:
        return "blue"
    if state in (UpdateJob.State.SUCCEEDED, UpdateJob.State.ALREADY_CURRENT):
        return "green"
    return "amber" if state == UpdateJob.State.RETRY_WAIT else "grey"


# --- releases -------------------------------------------------------------------------------------


class ImageForm(forms.ModelForm):  # type: ignore[type-arg]
    """Upload of a release: the file is hashed and its signature checked before it is kept."""

    class Meta:
        model = FirmwareImage
        fields = (
            "vendor",
            "model",
            "version",
            "also_reported_as",
            "file",
            "signature",
            "certificate",
            "notes",
            "withdrawn",
        )

    def clean(self) -> dict[str, Any]:
        """Check the signature now, so that its error stands in the form."""
        cleaned = super().clean() or {}
        file = cleaned.get("file")
        if self.instance.pk or not file:
            return cleaned
        try:
            images.verify(file, cleaned.get("signature", ""), cleaned.get("certificate", ""))
        except images.ImageError as error:
            raise ValidationError(str(error)) from error
        return cleaned


@admin.register(FirmwareImage)
class FirmwareImageAdmin(StaffAdmin):
    """Releases: upload, see who is behind, start a campaign."""

    form = ImageForm
    list_display = ("release", "version", "size_mb", "signed", "behind", "withdrawn", "created_at")
    list_filter = ("vendor", "withdrawn")
    search_fields = ("vendor", "model", "version", "sha256")
    readonly_fields = ("sha256", "md5", "size", "signature_scheme", "created_at", "created_by")
    export_fields = ("id", "vendor", "model", "version", "size", "sha256", "created_at")
    actions_row = ("campaign_for",)

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        """Ask for little on upload; show what was found out afterwards."""
        sets: list[Any] = [
            (None, {"fields": ["vendor", "model", "version", "also_reported_as", "file", "notes"]}),
            (_("Signature"), {"fields": ["signature", "certificate"]}),
        ]
        if obj:
            sets[0][1]["fields"].append("withdrawn")
            sets.append((_("Found out at upload"), {"fields": list(self.readonly_fields)}))
        return sets

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        """A release's file never changes; upload a new version."""
        fixed = ("vendor", "model", "version", "file", "signature", "certificate")
        return (*self.readonly_fields, *fixed) if obj else self.readonly_fields

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        """Take the file in through `images.add`, the one door."""
        if change:
            super().save_model(request, obj, form, change)
            return
        given = form.cleaned_data
        try:
            made = images.add(
                given["file"],
                vendor=given["vendor"],
                model=given["model"],
                version=given["version"],
                signature=given["signature"],
                certificate=given["certificate"],
                notes=given["notes"],
                also_reported_as=given["also_reported_as"] or [],
                by=request.user,  # type: ignore[arg-type]
            )
        except images.ImageError as error:  # another upload was faster
            raise ValidationError(str(error)) from error
        obj.__dict__.update(made.__dict__)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """A release stations have run stays; withdraw it instead."""
        return super().has_delete_permission(request, obj) and not (
            obj and (obj.jobs.exists() or obj.campaigns.exists())
        )

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Look up once who is behind."""
        self._behind = {image.pk: len(rows) for image, rows in images.behind().items()}
        return super().changelist_view(request, extra_context)

    @described(gettext_lazy("release"), order="vendor")
    def release(self, image: FirmwareImage) -> str:
        """Vendor and model."""
        return f"{image.vendor} {image.model or _('(every model)')}"

    @described(gettext_lazy("size"), order="size")
    def size_mb(self, image: FirmwareImage) -> str:
        """Size in MB."""
        return f"{image.size / 1_000_000:.1f} MB"

    @described(gettext_lazy("signature"))
    def signed(self, image: FirmwareImage) -> SafeString:
        """The signature's scheme."""
        if image.signature_scheme:
            return chip(image.get_signature_scheme_display(), "green")
        return chip(_("unsigned"))

    @described(gettext_lazy("stations behind"))
    def behind(self, image: FirmwareImage) -> SafeString | str:
        """How many stations this newest release would update; a link to do it."""
        count = self._behind.get(image.pk, 0)
        if not count:
            return "–"
        href = reverse("admin:firmware_campaign_add") + f"?image={image.pk}&target=behind"
        return chip(_("%(n)d behind") % {"n": count}, "amber", href=href)

    @action(  # type: ignore[untyped-decorator]
        description=gettext_lazy("Start a campaign"), icon="rocket_launch"
    )
    def campaign_for(self, request: HttpRequest, object_id: int) -> HttpResponse:
        """Open the campaign form with this release; changes nothing yet."""
        query = f"?image={object_id}&target=behind"
        return HttpResponseRedirect(reverse("admin:firmware_campaign_add") + query)


# --- campaigns ------------------------------------------------------------------------------------


class CampaignForm(forms.ModelForm):  # type: ignore[type-arg]
    """What a new campaign updates, and how carefully."""

    TARGETS = (
        ("behind", gettext_lazy("Every station behind this release")),
        ("site", gettext_lazy("The stations of one site")),
        ("chosen", gettext_lazy("The stations named below")),
    )
    target = forms.ChoiceField(
        label=gettext_lazy("Update"), choices=TARGETS, widget=UnfoldAdminSelectWidget
    )
    site = forms.ModelChoiceField(
        Site.objects.all(),
        label=gettext_lazy("Site"),
        required=False,
        widget=UnfoldAdminSelectWidget,
    )
    chosen = forms.CharField(
        label=gettext_lazy("Stations"),
        required=False,
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 3}),
        help_text=gettext_lazy("Identities, one a line or separated by commas."),
    )
    waves_text = forms.CharField(
        label=gettext_lazy("Waves"),
        initial="1, 25%, 100%",
        widget=UnfoldAdminTextInputWidget,
        help_text=gettext_lazy("A number of stations, or a share of all reached so far."),
    )
    approve = forms.BooleanField(
        label=gettext_lazy("Start now"),
        required=False,
        initial=True,
        help_text=gettext_lazy("Otherwise it waits as a draft for somebody's approval."),
    )

    class Meta:
        model = Campaign
        fields = (
            "name",
            "image",
            "concurrency",
            "site_concurrency",
            "max_failures_percent",
            "bake_s",
            "probation_s",
            "window_from",
            "window_to",
            "max_attempts",
            "retry_s",
            "expires_at",
        )

    staff: HttpRequest  # set by the admin: whose sites may be updated

    def clean(self) -> dict[str, Any]:
        """Find the stations; say how many fit."""
        cleaned = super().clean() or {}
        self.instance.waves = [
            one.strip() for one in cleaned.get("waves_text", "").split(",") if one.strip()
        ]
        image = cleaned.get("image")
        if image:
            cleaned["stations"] = fitting = self._stations(cleaned, image)
            if not fitting:
                raise ValidationError(
                    _("None of these stations is behind %(image)s and fits it.") % {"image": image}
                )
        return cleaned

    def _stations(self, cleaned: dict[str, Any], image: FirmwareImage) -> list[Station]:
        rows = in_scope(
            Station.objects.filter(state=Station.State.ACCEPTED), self.staff, "site"
        ).select_related("site")
        if cleaned.get("target") == "site":
            rows = rows.filter(site=cleaned.get("site"))
        elif cleaned.get("target") == "chosen":
            names = [one for one in cleaned["chosen"].replace(",", " ").split() if one]
            rows = rows.filter(identity__in=names)
            if missing := sorted(set(names) - {one.identity for one in rows}):
                raise ValidationError(
                    {"chosen": _("No such station: %(names)s.") % {"names": ", ".join(missing)}}
                )
        return [
            one
            for one in rows
            if images.fits(image, one) and not images.is_version(image, one.firmware)
        ]


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
        gettext_lazy("Go on with the open wave."),
        "play_arrow",
        "success",
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
            if verb in ("pause", "brake", "stop"):
                getattr(campaigns, verb)(campaign, reason)
            elif verb == "reverse":
                there = campaigns.reverse(campaign, by=request.user)  # type: ignore[arg-type]
            else:
                getattr(campaigns, verb)(campaign)
        except (campaigns.CampaignError, NotAllowed) as error:
            messages.error(request, str(error))
        else:
            there.refresh_from_db()
            messages.success(request, f"{there}: {there.get_state_display()}.")
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
        """Show the cockpit."""
        campaign = self.get_object(request, object_id)
        cockpit = _cockpit(campaign, request) if campaign else {}
        return super().change_view(  # type: ignore[no-any-return]
            request, object_id, form_url, cockpit | (extra_context or {})
        )

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


def _cockpit(campaign: Campaign, request: HttpRequest) -> dict[str, Any]:
    """Return what the cockpit shows: waves with their counts, and each station's evidence."""
    jobs = list(
        in_scope(campaign.jobs.all(), request, "station__site")
        .select_related("station__site", "image")
        .prefetch_related("events")
        .order_by("wave", "station__identity")
    )
    waves = []
    for number, size in enumerate(campaign.waves):
        mine = [job for job in jobs if job.wave == number]
        good = sum(job_tone(job.state) == "green" for job in mine)
        bad = sum(job.state in BAD for job in mine)
        active = sum(job.state in ACTIVE for job in mine)
        total = len(mine) or 1
        waves.append(
            {
                "number": number + 1,
                "size": size,
                "stations": len(mine),
                "good": good,
                "bad": bad,
                "active": active,
                "waiting": sum(job.state in WAITING for job in mine),
                "shares": [
                    ("green", 100 * good / total),
                    ("red", 100 * bad / total),
                    ("blue", 100 * active / total),
                ],
                "before_active": 100 * (good + bad) / total,
                "open": number == campaign.wave and campaign.state not in ("draft", "completed"),
            }
        )
    rows = [
        {
            "job": job,
            "tone": job_tone(job.state),
            "share": min(100, 100 * job.bytes_sent // job.image.size) if job.image.size else 0,
            "events": list(job.events.all()),
        }
        for job in jobs
    ]
    return {
        "campaign": campaign,
        "tone": CAMPAIGN_TONES[campaign.state],
        "waves": waves,
        "rows": rows,
        "updated": sum(row["tone"] == "green" for row in rows),
    }


@admin.register(UpdateJob)
class UpdateJobAdmin(Facts, StaffAdmin):
    """Every station's updates, over all campaigns."""

    site_path = "station__site"
    live = "fleet"
    list_display = ("station", "campaign", "state_chip", "version_before", "target", "finished")
    list_filter = ("state", "campaign")
    search_fields = ("station__identity", "campaign__name")
    list_select_related = ("station", "campaign", "image")
    export_fields = (
        "station__identity",
        "campaign__name",
        "state",
        "failure",
        "version_before",
        "image__version",
        "attempt",
        "finished_at",
    )

    @described(gettext_lazy("state"), order="state")
    def state_chip(self, job: UpdateJob) -> SafeString:
        """State in colour and words."""
        return chip(job.get_state_display(), job_tone(job.state), title=job.failure)

    @described(gettext_lazy("target"), order="image__version")
    def target(self, job: UpdateJob) -> str:
        """The version it goes to."""
        return job.image.version

    @described(gettext_lazy("finished"), order="finished_at")
    def finished(self, job: UpdateJob) -> SafeString:
        """When it ended."""
        return ago(job.finished_at)
