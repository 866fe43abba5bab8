"""The billing app."""

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class BillingConfig(AppConfig):
    """Prices sessions, collects the money, issues the documents and keeps the books."""

    name = "billing"
    verbose_name = _("Billing")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Let guests hear what an unguessable code or token opens (see stations/live.py)."""
        from billing.portal import links
        from stations import live

        live.RESOLVERS |= {
            "c": links.topic_of_code,
            "s": links.topic_of_live,
            "ss": links.topic_of_session,
        }
