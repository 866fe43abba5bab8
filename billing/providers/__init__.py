"""Payment providers: one class each, behind `base.Provider`."""

from billing.providers.account import OnAccount
from billing.providers.base import Provider
from billing.providers.stripe import Stripe

PROVIDERS: dict[str, Provider] = {"stripe": Stripe(), "account": OnAccount()}
