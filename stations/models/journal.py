"""The journal: news, timeline and audit trail in one append-only table."""

from django.conf import settings
from django.db import models
from django.utils.translation import gettext_lazy as _

from stations.models.assets import Station


class Entry(models.Model):
    """Something that happened. Written in the transaction that did it; never changed or deleted.

    `pending` is true until the reactions of `config/reactions.py` were queued and done; `attempts`
    counts the failed ones.
    """

    at = models.DateTimeField(_("at"))
    kind = models.CharField(_("kind"), max_length=60)
    station = models.ForeignKey(
        Station,
        models.SET_NULL,
        null=True,
        blank=True,
        related_name="journal",
        db_constraint=False,
        db_index=False,  # `entry_of_station` begins with it
    )
    subject = models.CharField(_("about"), max_length=60, blank=True, help_text="session-17, …")
    actor = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.SET_NULL, null=True, blank=True, verbose_name=_("by")
    )
    data = models.JSONField(_("details"), default=dict)
    pending = models.BooleanField(default=False, editable=False)
    attempts = models.PositiveSmallIntegerField(default=0, editable=False)
    claimed_at = models.DateTimeField(
        null=True, editable=False, help_text=_("When a worker last took its reactions on.")
    )

    class Meta:
        verbose_name = _("journal entry")
        verbose_name_plural = _("journal")
        ordering = ["-id"]
        indexes = [
            models.Index(fields=["station", "-id"], name="entry_of_station"),
            models.Index(fields=["subject", "-id"], name="entry_of_subject"),
            models.Index(fields=["kind", "-id"], name="entry_of_kind"),
            models.Index(fields=["id"], name="entry_pending", condition=models.Q(pending=True)),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.subject}"
