"""`manage.py firmware add FILE …`: take in a release."""

from argparse import ArgumentParser
from collections.abc import Callable
from pathlib import Path

from django.core.files import File
from django.core.management.base import CommandError

from firmware import images
from firmware.models import FirmwareImage
from stations.console import OperatorCommand


def row(image: FirmwareImage) -> dict[str, object]:
    """Return a release as the documented JSON."""
    return {
        "id": image.pk,
        "vendor": image.vendor,
        "model": image.model,
        "version": image.version,
        "sha256": image.sha256,
        "size": image.size,
        "signature_scheme": image.signature_scheme or None,
    }


class Command(OperatorCommand):
    """Firmware releases."""

    help = "Firmware releases: add a file, list what is there."

    def verbs(self, add: Callable[..., ArgumentParser]) -> None:
        """Declare add and list."""
        one = add("add", self.add, help="take in a release; prints its id")
        one.add_argument("file", type=Path)
        one.add_argument("--vendor", required=True)
        one.add_argument("--model", default="", help="empty: every model of the vendor")
        one.add_argument("--version", required=True, help="as stations report it after the update")
        one.add_argument("--signature", type=Path, help="file with the signature, base64 or binary")
        one.add_argument("--certificate", type=Path, help="PEM file of the signing certificate")
        add("list", self.list, help="every release")

    def add(
        self,
        file: Path,
        vendor: str,
        model: str,
        version: str,
        signature: Path | None,
        certificate: Path | None,
    ) -> None:
        """Take in a release."""
        try:
            with file.open("rb") as stream:
                image = images.add(
                    File(stream, name=file.name),
                    vendor=vendor,
                    model=model,
                    version=version,
                    signature=images.read_signature(signature.read_bytes()) if signature else "",
                    certificate=certificate.read_text() if certificate else "",
                )
        except (OSError, UnicodeDecodeError) as error:
            raise CommandError(f"Cannot read {error}.") from error
        except images.ImageError as error:
            raise CommandError(str(error)) from error
        self.show(row(image), f"Release {image.pk}: {image}, {image.size} bytes.")

    def list(self) -> None:
        """List the releases."""
        self.show([row(image) for image in FirmwareImage.objects.all()])
