"""`manage.py tokens`: what drivers identify with, from the command line."""

from typing import Any

from django.core.management.base import CommandError

from stations.console import OperatorCommand, moment
from stations.models import Token, User


class Command(OperatorCommand):
    """Add tokens; list them."""

    help = "add and list tokens (RFID cards and the like)"

    def verbs(self, add: Any) -> None:
        """Declare add and list."""
        one = add(
            "add", self.add, help="a token; one that a charger reported as unknown is enrolled"
        )
        one.add_argument("uid", metavar="UID")
        one.add_argument("--driver", metavar="EMAIL", help="whose it is, made when new")
        one.add_argument("--status", choices=["accepted", "blocked"], default="accepted")
        one.add_argument("--expires", metavar="ISO", help="e.g. 2027-01-01T00:00:00Z")
        add("list", self.list, help="all tokens")

    def add(self, uid: str, driver: str | None, status: str, expires: str | None) -> None:
        """Add one token, or enrol one that waits for it."""
        if not uid.strip() or len(uid) > 255 or not uid.isprintable():
            raise CommandError("A token has 1 to 255 printable characters.")
        known = Token.objects.filter(uid__iexact=uid).first()
        if known is not None and known.status != Token.Status.UNKNOWN:
            raise CommandError(f"There is a token {known.uid} already; change it in the admin.")
        token = known or Token(uid=uid)
        token.status = Token.Status(status)
        token.expires_at = moment(expires) if expires else None
        if driver is not None:
            if "@" not in driver:
                raise CommandError(f"{driver} is no e-mail address.")
            user = User.objects.filter(email__iexact=driver).first()
            token.user = user or User.objects.create_user(driver)
        token.save()
        self.show(described(token), f"{token.uid} is {token.get_status_display().lower()}.")

    def list(self) -> None:
        """Show every token."""
        tokens = Token.objects.select_related("user").order_by("uid")
        self.show([described(token) for token in tokens])


def described(token: Token) -> dict[str, Any]:
    """Return a token as `tokens list` shows it."""
    return {
        "uid": token.uid,
        "type": token.type,
        "status": token.status,
        "expires": token.expires_at.isoformat() if token.expires_at else None,
        "driver": token.user.email if token.user else None,
        "group": token.group,
    }
