"""The admin's title, colours, navigation, badges and search, for django-unfold."""

from collections.abc import Callable
from typing import Any

from django.http import HttpRequest
from django.templatetags.static import static
from django.urls import NoReverseMatch, reverse, reverse_lazy
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

Item = tuple[str | Promise, str, str, str]  # title, icon, model (app.model) or URL name, query

# What staff see at the left: group → (title, icon, what, badge). A model shows to those who may
# view it; a part of the product that is not installed is left out.
NAVIGATION: tuple[tuple[str | Promise, tuple[Item, ...]], ...] = (
    (
        "",
        (
            (_("Start"), "space_dashboard", "admin:index", ""),
            (_("Stations"), "ev_station", "stations.station", "pending"),
            (_("Sessions"), "bolt", "monitoring.session", "review"),
            (_("Incidents"), "warning", "monitoring.incident", "incidents"),
        ),
    ),
    (
        _("Operation"),
        (
            (_("Sites"), "location_on", "stations.site", ""),
            (_("Commands"), "send", "stations.command", ""),
            (_("Bulk commands"), "dynamic_feed", "stations.commandbatch", ""),
            (_("Reservations"), "event_available", "stations.reservation", ""),
            (_("Charging profiles"), "speed", "monitoring.chargingprofile", ""),
            (_("Certificates"), "workspace_premium", "stations.certificate", ""),
            (_("Authorities"), "verified", "stations.authority", ""),
            (_("Meter keys"), "key", "monitoring.meterkey", ""),
            (_("OCPP frames"), "cable", "stations.message", ""),
            (_("Configuration"), "tune", "stations.variable", ""),
            (_("Templates"), "rule_settings", "stations.configurationtemplate", ""),
            (_("On the stations"), "developer_board", "stations.holding", ""),
            (_("Quirk profiles"), "extension", "stations.quirkprofile", ""),
            (_("Local token lists"), "playlist_add_check", "stations.locallist", ""),
        ),
    ),
    (
        _("Firmware"),
        (
            (_("Campaigns"), "rocket_launch", "firmware.campaign", "campaigns"),
            (_("Releases"), "deployed_code", "firmware.firmwareimage", ""),
            (_("Updates"), "system_update", "firmware.updatejob", ""),
        ),
    ),
    (
        _("Drivers"),
        (
            (_("People"), "group", "stations.user", ""),
            (_("Tokens"), "contactless", "stations.token", ""),
        ),
    ),
    (
        _("Money"),
        (
            (_("Tariffs"), "sell", "billing.tariff", ""),
            (_("Tariff assignments"), "assignment", "billing.tariffassignment", ""),
            (_("Driver groups"), "groups", "billing.drivergroup", ""),
            (_("Charges"), "receipt", "billing.charge", ""),
            (_("Payments"), "credit_card", "billing.payment", ""),
            (_("Documents"), "description", "billing.invoice", ""),
            (_("House accounts"), "account_balance", "billing.houseaccount", ""),
            (_("Wallets"), "wallet", "billing.wallet", ""),
            (_("Vouchers"), "redeem", "billing.voucher", ""),
            (_("Sellers"), "storefront", "billing.seller", ""),
            (_("Mails"), "mail", "billing.mail", ""),
            (_("Number series"), "tag", "billing.series", ""),
            (_("Ledger"), "menu_book", "billing.entry", ""),
            (_("Accounts"), "account_tree", "billing.account", ""),
            (_("Provider's statement"), "account_balance_wallet", "billing.movement", ""),
        ),
    ),
    (
        _("Monitoring"),
        (
            (_("Alerts"), "notifications", "monitoring.alert", ""),
            (_("Rules"), "rule", "monitoring.rulesetting", ""),
            (_("Playbooks"), "healing", "monitoring.playbooksetting", ""),
            (_("Playbook runs"), "history_toggle_off", "monitoring.playbookrun", ""),
            (_("Fault codes"), "bug_report", "monitoring.faultcode", ""),
            (_("Contacts"), "contact_mail", "monitoring.contact", ""),
            (_("Silences"), "notifications_off", "monitoring.silence", ""),
            (_("Maintenance"), "engineering", "monitoring.maintenancewindow", ""),
            (_("Exclusions"), "event_busy", "monitoring.exclusion", ""),
            (_("Notices"), "outgoing_mail", "monitoring.notice", ""),
        ),
    ),
    (
        _("System"),
        (
            (_("Health"), "monitor_heart", "admin:health", ""),
            (_("Journal"), "history", "stations.entry", ""),
            (_("Roles"), "badge", "auth.group", ""),
        ),
    ),
)


def navigation(request: HttpRequest) -> list[dict[str, Any]]:
    """Return the sidebar for unfold."""
    return [
        {
            "title": title,
            "separator": bool(title),
            "collapsible": False,
            "items": [found for item in items if (found := _item(request, item))],
        }
        for title, items in NAVIGATION
    ]


def _item(request: HttpRequest, item: Item) -> dict[str, Any] | None:
    title, icon, what, badge = item
    user: Any = request.user
    app, dot, model = what.partition(".")
    try:
        link = reverse(f"admin:{app}_{model}_changelist" if dot else what)
    except NoReverseMatch:
        return None
    permission = {
        "stations.message": "stations.view_frames", "admin:health": "stations.view_health"
    }.get(what, f"{app}.view_{model}")  # fmt: skip
    if (dot or what == "admin:health") and not user.has_perm(permission):
        return None
    shown: dict[str, Any] = {"title": title, "icon": icon, "link": link}
    if badge:
        shown |= {"badge": f"config.backoffice.{badge}", "badge_variant": "warning"}
    return shown


# --- badges: what waits for somebody -------------------------------------------------------------


def pending(request: HttpRequest) -> int | None:
    """Stations that wait for approval."""
    from stations.admin.base import in_scope
    from stations.models import Station

    rows = Station.objects.filter(state=Station.State.PENDING)
    return in_scope(rows, request, "site").count() or None


def review(request: HttpRequest) -> int | None:
    """Sessions that wait for a person."""
    from monitoring.models import Session
    from stations.admin.base import in_scope

    return in_scope(Session.objects.exclude(review=""), request, "station__site").count() or None


def incidents(request: HttpRequest) -> int | None:
    """Open incidents nobody has acknowledged."""
    from monitoring.models import Incident
    from stations.admin.base import in_scope

    rows = Incident.objects.filter(state=Incident.State.OPEN)
    return in_scope(rows, request, "site").count() or None


def campaigns(request: HttpRequest) -> int | None:
    """Campaigns that are paused and wait for a decision."""
    from firmware.models import Campaign

    return Campaign.objects.filter(state="paused").count() or None


# --- search by anything ---------------------------------------------------------------------------

SEARCH_EACH = 6


def search(request: HttpRequest, term: str) -> list[Any]:
    """Return what the palette finds: by identity, serial, token, transaction, number, e-mail.

    Each kind is asked only of those who may view it, within their sites, by indexed columns where
    tables are large.
    """
    from config import palette

    return palette.search(request, term, SEARCH_EACH)


def _static(name: str) -> Callable[[HttpRequest], str]:
    return lambda request: static(f"stations/{name}")


UNFOLD: dict[str, Any] = {
    "SITE_TITLE": _("Charging"),
    "SITE_HEADER": _("Charging"),
    "SITE_SUBHEADER": _("Back office"),
    "SITE_SYMBOL": "ev_station",
    "SITE_URL": "/",
    "SITE_FAVICONS": [
        {"rel": "icon", "type": "image/svg+xml", "href": _static("favicon.svg")},
    ],
    "SHOW_HISTORY": False,  # the journal tells it better
    "SHOW_VIEW_ON_SITE": False,
    "BORDER_RADIUS": "6px",
    "COLORS": {
        "primary": {  # teal: none of the status colours
            "50": "oklch(98.4% .014 180.72)",
            "100": "oklch(95.3% .051 180.801)",
            "200": "oklch(91% .096 180.426)",
            "300": "oklch(85.5% .138 181.071)",
            "400": "oklch(77.7% .152 181.912)",
            "500": "oklch(70.4% .14 182.503)",
            "600": "oklch(56% .105 184.704)",
            "700": "oklch(49% .091 186.391)",
            "800": "oklch(43.7% .078 188.216)",
            "900": "oklch(38.6% .063 188.416)",
            "950": "oklch(27.7% .046 192.524)",
        },
    },
    "STYLES": [_static("admin.css")],
    "SCRIPTS": [_static("vendor/idiomorph.js"), _static("live.js")],
    "SITE_VIEWS": [("health/", "health", "config.health.HealthView")],
    "DASHBOARD_CALLBACK": "config.startpage.callback",
    "SIDEBAR": {"show_search": False, "navigation": navigation},
    "ACCOUNT": {
        "navigation": [{"title": _("Second factor"), "link": reverse_lazy("mfa_index")}],
    },
    "COMMAND": {"search_callback": search, "search_models": False},
}
