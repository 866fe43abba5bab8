"""The billing app."""

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class BillingConfig(AppConfig):
    """Prices sessions, collects the money, issues the documents and keeps the books."""

    name = "billing"
    verbose_name = _("Billing")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Refuse to start with payment settings that would lose money or keys."""
        from billing.providers.stripe import configuration

        configuration()
