"""People: users (staff and drivers, by e-mail) and the tokens that drivers charge with."""

from typing import Any, ClassVar

from django.contrib.auth.models import AbstractUser, BaseUserManager
from django.db import models
from django.db.models.functions import Upper
from django.utils.translation import gettext_lazy as _


class UserManager(BaseUserManager["User"]):
    """Makes users by e-mail."""

    def create_user(self, email: str, password: str | None = None, **fields: Any) -> "User":
        """Return a saved user. Without a password the user signs in by a mailed code."""
        user = self.model(email=self.normalize_email(email).lower(), **fields)
        user.set_password(password)
        user.save(using=self._db)
        return user

    def create_superuser(self, email: str, password: str | None = None, **fields: Any) -> "User":
        """Return a saved user who may do everything."""
        return self.create_user(email, password, is_staff=True, is_superuser=True, **fields)


class User(AbstractUser):
    """A person: staff, driver or both. Signs in by e-mail."""

    username = None  # type: ignore[assignment]
    email = models.EmailField(_("e-mail"), unique=True)
    name = models.CharField(_("name"), max_length=120, blank=True)
    language = models.CharField(_("language"), max_length=8, default="en")
    sites = models.ManyToManyField(
        "stations.Site",
        verbose_name=_("sites"),
        blank=True,
        related_name="staff",
        help_text=_("Staff see only these sites. None chosen: all."),
    )

    USERNAME_FIELD = "email"
    REQUIRED_FIELDS: ClassVar[list[str]] = []
    objects: ClassVar[UserManager] = UserManager()  # type: ignore[assignment]

    class Meta:
        verbose_name = _("person")
        verbose_name_plural = _("people")

    def __str__(self) -> str:
        return self.name or self.email


class Token(models.Model):
    """What a driver identifies with: RFID card, app, eMAID. Compared without case."""

    class Status(models.TextChoices):
        ACCEPTED = "accepted", _("Accepted")
        BLOCKED = "blocked", _("Blocked")
        UNKNOWN = "unknown", _("Unknown, waiting to be enrolled")

    class Type(models.TextChoices):
        """OCPP 2.0.1 IdTokenEnumType (2.1 allows any text)."""

        ISO14443 = "ISO14443", "ISO14443 (RFID)"
        ISO15693 = "ISO15693", "ISO15693"
        EMAID = "eMAID", "eMAID"
        CENTRAL = "Central", _("Central (payment or app)")
        KEYCODE = "KeyCode", _("Key code")
        LOCAL = "Local", _("Local")
        MAC = "MacAddress", _("Vehicle (MAC address)")

    uid = models.CharField(_("identifier"), max_length=255)
    type = models.CharField(_("type"), max_length=20, choices=Type, default=Type.ISO14443)
    status = models.CharField(_("status"), max_length=10, choices=Status, default=Status.ACCEPTED)
    expires_at = models.DateTimeField(_("expires"), null=True, blank=True)
    user = models.ForeignKey(
        User,
        models.SET_NULL,
        null=True,
        blank=True,
        related_name="tokens",
        verbose_name=_("driver"),
    )
    group = models.CharField(
        _("group"), max_length=36, blank=True, help_text=_("Parent idTag / groupIdToken.")
    )
    label = models.CharField(_("label"), max_length=80, blank=True)
    max_sessions = models.PositiveSmallIntegerField(
        _("sessions at once"), null=True, blank=True, help_text=_("Empty: no limit.")
    )
    created_at = models.DateTimeField(_("created"), auto_now_add=True)

    class Meta:
        verbose_name = _("token")
        verbose_name_plural = _("tokens")
        ordering = ["uid"]
        constraints = [models.UniqueConstraint(Upper("uid"), name="token_uid_any_case")]

    def __str__(self) -> str:
        return self.label or self.uid
