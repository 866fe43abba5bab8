"""How the timeline tells charges, payments and documents."""

from collections.abc import Callable
from typing import Any

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from billing.models import Charge, Payment
from stations.admin.timeline import sentence
from stations.models import Entry


def _state(subject: Any, label: Any) -> Callable[[Entry], str]:
    def tell(news: Entry) -> str:
        why = str(news.data.get("reason") or news.data.get("event") or "")
        text = f"{subject}: {label}"
        return f"{text} ({why})" if why else text

    return tell


# The states of a charge and a payment are told in the words their own pages use for them.
for state in Charge.State:
    sentence(f"charge.{state}", icon="receipt")(_state(gettext_lazy("Bill"), state.label))
for step in Payment.State:
    sentence(f"payment.{step}", icon="credit_card")(_state(gettext_lazy("Payment"), step.label))


@sentence("charge.opened", icon="receipt")
def _opened(news: Entry) -> str:
    return _("Bill opened")


@sentence("payment.created", icon="credit_card")
def _created(news: Entry) -> str:
    return _("Payment begun")


@sentence("invoice.issued", icon="description", tone="green")
def _issued(news: Entry) -> str:
    return _("Document %(number)s issued") % {"number": news.data.get("number", "")}
