"""A station's own list of tokens, for when it is offline."""

from django.db import models
from django.utils.translation import gettext_lazy as _

from stations.models.assets import Station


class LocalList(models.Model):
    """What a station's own list of tokens is, as far as it has told us; made by `locallist.py`."""

    station = models.OneToOneField(
        Station,
        models.CASCADE,
        primary_key=True,
        related_name="local_list",
        verbose_name=_("station"),
    )
    wanted = models.BooleanField(
        _("keep tokens on the station"),
        default=True,
        help_text=_("Off: the list on the station is emptied and then left alone."),
    )
    version = models.PositiveIntegerField(
        _("list version"), null=True, editable=False, help_text=_("Empty: not known.")
    )
    held = models.JSONField(default=dict, editable=False)  # uid → what the station knows of it
    digest = models.CharField(max_length=32, blank=True, editable=False)  # of what was wanted
    entries = models.PositiveIntegerField(_("tokens held"), default=0, editable=False)
    left_out = models.PositiveIntegerField(
        _("left out"),
        default=0,
        editable=False,
        help_text=_("Tokens that the station has no room for, or cannot name."),
    )
    synced_at = models.DateTimeField(_("complete since"), null=True, editable=False)
    error = models.CharField(_("last refusal"), max_length=200, blank=True, editable=False)
    taken = models.BigIntegerField(  # the newest order whose end is taken into account
        default=0, editable=False
    )
    retry_at = models.DateTimeField(null=True, editable=False)

    class Meta:
        verbose_name = _("local token list")
        verbose_name_plural = _("local token lists")
        ordering = ["station"]

    def __str__(self) -> str:
        return str(self.station)
