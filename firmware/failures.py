"""Why a station's update did not end well: the codes of `UpdateJob.failure` in sentences."""

from typing import Any

from django.utils.translation import gettext_lazy

WORDS: dict[str, Any] = {
    "no-answer": gettext_lazy("The station did not answer the order."),
    "rejected": gettext_lazy("The station rejected the order."),
    "refused": gettext_lazy("The station answered the order with an error."),
    "not-supported": gettext_lazy("The station knows no updates over OCPP."),
    "variant": gettext_lazy("The station knows no signed updates."),
    "no-download": gettext_lazy("The station never fetched the file."),
    "download-stalled": gettext_lazy("The download stood still."),
    "download-failed": gettext_lazy("The download failed."),
    "invalid-signature": gettext_lazy("The station found the signature to be wrong."),
    "invalid-certificate": gettext_lazy("The station does not accept the certificate."),
    "revoked-certificate": gettext_lazy("The certificate has been revoked."),
    "verification-failed": gettext_lazy("The station could not verify what it installed."),
    "installation-failed": gettext_lazy("The station could not install it."),
    "not-installed": gettext_lazy("Downloaded, but never installed."),
    "no-boot": gettext_lazy("It never restarted with the new version."),
    "version-mismatch": gettext_lazy("It says installed, but never reported the new version."),
    "reverted": gettext_lazy("It came back with the old version."),
    "boot-loop": gettext_lazy("It restarts again and again."),
    "new-fault": gettext_lazy("A new fault since the update."),
    "silent": gettext_lazy("Silent since the update."),
}


def words(code: str) -> str:
    """Return a job's failure as a sentence."""
    return str(WORDS.get(code) or code.replace("-", " ").capitalize())
