"""How the timeline tells charges, payments and documents."""

from collections.abc import Callable
from typing import Any

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from billing.alarms import ALARMS
from billing.models import Charge, Payment, Refund
from billing.money import from_minor
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


for given in Refund.State:
    sentence(f"refund.{given}", icon="undo")(_state(gettext_lazy("Refund"), given.label))


@sentence("refund.requested", icon="undo")
def _refund(news: Entry) -> str:
    return _("Refund asked for")


@sentence("payment.alerted", icon="credit_card", tone="amber")
def _alerted(news: Entry) -> str:
    code = str(news.data.get("code", "")).partition(":")[0]
    return _(ALARMS[code][1]) if code in ALARMS else _("Payment: %(code)s") % {"code": code}


@sentence("payment.event_received", icon="webhook")
def _event(news: Entry) -> str:
    return _("The payment provider told: %(type)s") % {
        "type": str(news.data.get("type", "")).replace("_", " ").replace(".", " ")
    }


@sentence("charge.repriced", icon="receipt")
def _repriced(news: Entry) -> str:
    return _("Bill priced again")


@sentence("charge.differs", icon="receipt", tone="amber")
def _differs(news: Entry) -> str:
    return _("More was used than was billed; what is billed stays")


@sentence("ledger.posted", icon="menu_book")
def _posted(news: Entry) -> str:
    return _("Posted to the ledger: %(reason)s") % {
        "reason": str(news.data.get("reason", "")).replace("_", " ")
    }


@sentence("mail.sent", icon="mail")
def _mailed(news: Entry) -> str:
    return _("Mail sent: %(kind)s") % {"kind": _mail_kind(news)}


@sentence("mail.failed", icon="mail", tone="red")
def _unmailed(news: Entry) -> str:
    return _("Mail failed: %(kind)s. %(error)s") % {
        "kind": _mail_kind(news),
        "error": news.data.get("error", ""),
    }


def _mail_kind(news: Entry) -> str:
    return str(news.data.get("kind", "")).replace("_", " ")


@sentence("tariff.published", icon="sell")
def _published(news: Entry) -> str:
    return _("Tariff %(key)s, version %(version)s published") % {
        "key": news.data.get("key", ""),
        "version": news.data.get("version", "?"),
    }


@sentence("tariff.assigned", icon="sell")
def _assigned(news: Entry) -> str:
    return _("Tariff %(key)s is in force here") % {"key": news.data.get("key", "")}


@sentence("invoice.issued", icon="description", tone="green")
def _issued(news: Entry) -> str:
    return _("Document %(number)s issued") % {"number": news.data.get("number", "")}


@sentence("tariff.not_told", icon="sell", tone="amber")
def _not_told(news: Entry) -> str:
    return _("The station's display does not get the tariff: %(why)s") % {
        "why": news.data.get("why", "")
    }


@sentence("charge.rebilled", icon="receipt", tone="amber")
def _rebilled(news: Entry) -> str:
    return _("Billed anew after a correction")


@sentence("books.checked", icon="menu_book")
def _checked(news: Entry) -> str:
    return _("The books were checked: %(n)s findings") % {"n": news.data.get("findings", "?")}


@sentence("payment.written_off_in_books", icon="credit_card", tone="amber")
def _lost(news: Entry) -> str:
    return _("Lost by a dispute: written off in the books")


def _wallet(label: Any) -> Callable[[Entry], str]:
    def tell(news: Entry) -> str:
        minor, currency = int(news.data.get("amount_minor", 0)), str(news.data.get("currency", ""))
        return f"{label}: {from_minor(minor, currency)} {currency}"

    return tell


for moved, label in {
    "wallet.topped_up": gettext_lazy("Balance paid in"),
    "wallet.paid_out": gettext_lazy("Balance paid out"),
    "wallet.spent": gettext_lazy("Bill paid from the balance"),
    "wallet.given_back": gettext_lazy("Given back to the balance"),
    "voucher.redeemed": gettext_lazy("Voucher redeemed"),
}.items():
    sentence(moved, icon="wallet")(_wallet(label))


@sentence("invoice.reminded", icon="mail", tone="amber")
def _reminded(news: Entry) -> str:
    return _("Reminder %(level)s sent") % {"level": news.data.get("level", "")}


@sentence("invoice.paid_by_transfer", icon="account_balance", tone="green")
def _transferred(news: Entry) -> str:
    return _("A transfer for the invoice arrived")
