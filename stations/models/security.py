"""Certificates: our authority, what it issued to stations, and what stations have installed."""

from django.db import models
from django.utils.translation import gettext_lazy as _

from stations.models.assets import Station
from stations.state import Lifecycle


class Authority(models.Model):
    """The operator's own certificate authority. The newest one signs; older ones stay trusted."""

    name = models.CharField(_("name"), max_length=64)
    pem = models.TextField(_("certificate"))
    key = models.TextField(editable=False, help_text=_("Encrypted with a key of SECRET_KEY."))
    not_after = models.DateTimeField(_("valid until"))
    created_at = models.DateTimeField(_("created"), auto_now_add=True)

    class Meta:
        verbose_name = _("certificate authority")
        verbose_name_plural = _("certificate authorities")
        ordering = ["-pk"]

    def __str__(self) -> str:
        return self.name


class Certificate(models.Model):
    """One certificate of one station: issued by us on its request, or installed as a root."""

    class Use(models.TextChoices):
        """2.x's words; 1.6's CentralSystemRootCertificate is CSMSRootCertificate."""

        STATION = "ChargingStationCertificate", _("the station's own")
        V2G = "V2GCertificate", _("towards cars (ISO 15118)")
        V2G_CHAIN = "V2GCertificateChain", _("chain towards cars")
        CSMS_ROOT = "CSMSRootCertificate", _("root of this server")
        MANUFACTURER_ROOT = "ManufacturerRootCertificate", _("root of the manufacturer")
        V2G_ROOT = "V2GRootCertificate", _("root of ISO 15118")
        MO_ROOT = "MORootCertificate", _("root of mobility operators")
        OEM_ROOT = "OEMRootCertificate", _("root of car makers")

    class State(Lifecycle):
        ISSUED = "issued", _("Issued, not yet taken")
        ACTIVE = "active", _("In use")
        REFUSED = "refused", _("Refused by the station")
        REPLACED = "replaced", _("Replaced")
        REVOKED = "revoked", _("Revoked")
        REMOVED = "removed", _("Removed")

    station = models.ForeignKey(Station, models.CASCADE, related_name="certificates")
    use = models.CharField(_("use"), max_length=30, choices=Use)
    state = models.CharField(_("state"), max_length=10, choices=State, default=State.ISSUED)
    pem = models.TextField(_("certificate"), blank=True)
    subject = models.CharField(_("subject"), max_length=300, blank=True)
    issuer = models.CharField(_("issuer"), max_length=300, blank=True)
    fingerprint = models.CharField(_("SHA-256"), max_length=64, blank=True)
    serial = models.CharField(_("serial number"), max_length=64, blank=True)
    not_before = models.DateTimeField(_("valid from"), null=True)
    not_after = models.DateTimeField(_("valid until"), null=True)
    hash_data = models.JSONField(
        default=dict, help_text=_("CertificateHashDataType, as the station told it.")
    )
    at = models.DateTimeField(_("since"))

    class Meta:
        verbose_name = _("certificate")
        verbose_name_plural = _("certificates")
        ordering = ["station", "use", "-at"]
        indexes = [
            models.Index(fields=["fingerprint"], name="certificate_fingerprint"),
            models.Index(fields=["not_after"], name="certificate_expiry"),
        ]

    def __str__(self) -> str:
        return f"{self.get_use_display()} {self.subject}"


Certificate.State.TRANSITIONS = {
    Certificate.State.ISSUED: {
        Certificate.State.ACTIVE,
        Certificate.State.REFUSED,
        Certificate.State.REPLACED,
        Certificate.State.REVOKED,
    },
    Certificate.State.ACTIVE: {
        Certificate.State.REPLACED,
        Certificate.State.REVOKED,
        Certificate.State.REMOVED,
    },
}
