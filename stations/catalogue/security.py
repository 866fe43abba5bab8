"""Passwords and certificates of stations (1.6 security extension, 2.x blocks A and M)."""

from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.utils.translation import gettext_lazy as _

from stations import certificates, security
from stations.catalogue.fields import ChoicesField, hidden_number, one_of
from stations.catalogue.spec import Group, Spec, in_2x, in_16, in_all

ROOTS = [
    ("CSMSRootCertificate", _("root of this server")),
    ("ManufacturerRootCertificate", _("root of the manufacturer")),
    ("V2GRootCertificate", _("root of ISO 15118")),
    ("MORootCertificate", _("root of mobility operators")),
    ("OEMRootCertificate", _("root of car makers (2.1)")),
]


class RotatePassword(forms.Form):
    """A new password (AuthorizationKey, BasicAuthPassword), made here: nobody gets to read it."""

    value = forms.CharField(min_length=16, max_length=40, required=False, widget=forms.HiddenInput)

    def clean_value(self) -> str:
        """Make one where none is given."""
        return self.cleaned_data["value"] or security.new_password()


class InstallCertificate(forms.Form):
    """InstallCertificate."""

    use = one_of(_("Use"), ROOTS, required=True)
    certificate = forms.CharField(
        label=_("Certificate (PEM)"), max_length=10_000, widget=forms.Textarea
    )

    def clean_certificate(self) -> str:
        """Refuse what is no certificate before a station has to."""
        text: str = self.cleaned_data["certificate"].strip() + "\n"
        try:
            certificates.read(text)
        except certificates.CertificateError as error:
            raise ValidationError(str(error)) from None
        return text


class DeleteCertificate(forms.Form):
    """DeleteCertificate: by the hash data the station told (or the certificate's row gave)."""

    hash_algorithm = one_of(_("Algorithm"), ("SHA256", "SHA384", "SHA512"), required=True)
    issuer_name_hash = forms.CharField(label=_("Hash of the issuer's name"), max_length=128)
    issuer_key_hash = forms.CharField(label=_("Hash of the issuer's key"), max_length=128)
    serial_number = forms.CharField(label=_("Serial number"), max_length=40)


class GetInstalledCertificates(forms.Form):
    """GetInstalledCertificateIds: 1.6 asks for one use, 2.x for several or all."""

    uses = ChoicesField(
        label=_("Uses"),
        choices=[*ROOTS, ("V2GCertificateChain", _("chain towards cars"))],
        required=False,
    )


class CertificateSigned(forms.Form):
    """CertificateSigned: what our authority made of the station's request."""

    chain = forms.CharField(label=_("Chain (PEM)"), max_length=10_000, widget=forms.Textarea)
    use = one_of(
        _("Use"),
        (
            ("ChargingStationCertificate", _("the station's own")),
            ("V2GCertificate", _("towards cars (ISO 15118)")),
        ),
        required=True,
    )
    certificate_id = hidden_number()
    request_id = hidden_number()

    def clean(self) -> dict[str, Any]:
        """Refuse what is no certificate."""
        cleaned = super().clean() or {}
        if "chain" in cleaned:
            try:
                certificates.read(cleaned["chain"])
            except certificates.CertificateError as error:
                self.add_error("chain", str(error))
        return cleaned


COMMANDS: dict[str, Spec] = {
    "rotate_password": Spec(
        _("Change the password"), "password", RotatePassword,
        "stations.configure_station",
        group=Group.SECURITY, says={**in_16("ChangeConfiguration"), **in_2x("SetVariables")},
    ),
    "install_certificate": Spec(
        _("Install a certificate"), "add_moderator", InstallCertificate,
        "stations.configure_station", ttl_s=86_400,
        group=Group.SECURITY, says=in_all("InstallCertificate"),
    ),
    "delete_certificate": Spec(
        _("Delete a certificate"), "remove_moderator", DeleteCertificate,
        "stations.configure_station", danger=True,
        group=Group.SECURITY, says=in_all("DeleteCertificate"),
    ),
    "get_installed_certificates": Spec(
        _("Read installed certificates"), "verified_user", GetInstalledCertificates,
        "stations.configure_station",
        group=Group.SECURITY, says=in_all("GetInstalledCertificateIds"),
    ),
    "certificate_signed": Spec(
        _("Deliver a signed certificate"), "workspace_premium", CertificateSigned,
        "stations.configure_station", ttl_s=86_400,
        group=Group.SECURITY, says=in_all("CertificateSigned"), one_station=True,
    ),
}  # fmt: skip
