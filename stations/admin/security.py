"""Certificates and authorities in the back office."""

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.urls import URLPattern, path
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from stations import certificates
from stations.admin.base import Facts, StaffAdmin, chip, described, moment
from stations.admin.filters import StationSiteFilter
from stations.models import Authority, Certificate

TONES = {"active": "green", "issued": "amber", "refused": "red", "revoked": "red"}


@admin.register(Certificate)
class CertificateAdmin(Facts, StaffAdmin):
    """What we issued to stations and what they have installed; by command, on a station's page."""

    site_path = "station__site"
    list_display = ("station", "use", "state_chip", "subject", "serial", "until", "since")
    list_filter = ("use", "state", StationSiteFilter)
    list_select_related = ("station",)
    search_fields = ("station__identity", "subject", "serial", "fingerprint")
    export_fields = ("station__identity", "use", "state", "subject", "issuer", "serial",
                     "fingerprint", "not_before", "not_after", "at")  # fmt: skip
    actions = ("revoke_selected",)
    empty_title = gettext_lazy("No station has a certificate that we know of")
    empty_text = gettext_lazy(
        "Create a certificate authority, then ask a station for a new certificate: Actions, “Ask "
        "for a message”, SignChargingStationCertificate."
    )

    @admin.action(description=gettext_lazy("Revoke"), permissions=["revoke"])
    def revoke_selected(self, request: HttpRequest, queryset: "QuerySet[Any]") -> None:
        """Trust the chosen certificates no more."""
        done = sum(certificates.revoke(row) for row in queryset)
        messages.success(request, _("%(n)d certificates are revoked.") % {"n": done})

    def has_revoke_permission(self, request: HttpRequest) -> bool:
        """Whoever may configure stations may."""
        user: Any = request.user
        return bool(user.has_perm("stations.configure_station"))

    @described(gettext_lazy("state"), order="state")
    def state_chip(self, row: Certificate) -> str:
        """Where it is."""
        return chip(row.get_state_display(), TONES.get(row.state, ""))

    @described(gettext_lazy("valid until"), order="not_after")
    def until(self, row: Certificate) -> str:
        """How long."""
        return moment(row.not_after)

    @described(gettext_lazy("since"), order="at")
    def since(self, row: Certificate) -> str:
        """Since when."""
        return moment(row.at)


class AuthorityForm(forms.ModelForm):  # type: ignore[type-arg]
    """A new authority needs a name; its key is made and kept here."""

    class Meta:
        model = Authority
        fields = ("name",)


@admin.register(Authority)
class AuthorityAdmin(StaffAdmin):
    """Our certificate authorities: the newest signs, all are trusted."""

    form = AuthorityForm
    list_display = ("name", "until", "created_at")
    readonly_fields = ("pem", "not_after", "created_at")
    empty_title = gettext_lazy("No certificate authority yet")
    empty_text = gettext_lazy("Add one: it signs the certificates stations ask for (profile 3).")

    @described(gettext_lazy("valid until"), order="not_after")
    def until(self, row: Authority) -> str:
        """How long."""
        return moment(row.not_after)

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        """Ask for the name; show the certificate once there is one."""
        return ("name", "not_after", "pem") if obj else ("name",)

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        """An authority never changes."""
        return ("name", "not_after", "pem") if obj else ()

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        """Make key and certificate."""
        if not change:
            obj.pk = certificates.create_authority(obj.name).pk
            obj.refresh_from_db()

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Certificates stand on it."""
        return False

    def get_urls(self) -> list[URLPattern]:
        """Add the file that nginx trusts chargers by."""
        view = self.admin_site.admin_view(self.bundle_view)
        return [path("bundle.pem", view, name="stations_authority_bundle"), *super().get_urls()]

    def bundle_view(self, request: HttpRequest) -> HttpResponse:
        """Return the certificates of all authorities (they are public)."""
        return HttpResponse(
            certificates.trusted_pem(),
            content_type="application/x-pem-file",
            headers={"Content-Disposition": 'attachment; filename="charger-ca.pem"'},
        )
