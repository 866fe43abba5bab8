"""The palette's search (Ctrl K): one box that finds anything by what people have in hand."""

from collections.abc import Callable, Iterable
from typing import Any

from django.db.models import Q
from django.http import HttpRequest
from django.urls import reverse
from unfold.dataclasses import SearchResult

from billing.models import Invoice, Payment
from monitoring.models import Session
from stations.admin.base import in_scope
from stations.models import Command, Site, Station, Token, User

Finder = Callable[[str], Q]


def _station(term: str) -> Q:
    return Q(identity__icontains=term) | Q(name__icontains=term) | Q(serial__icontains=term)


def _session(term: str) -> Q:
    return Q(ref=term) | Q(token_uid=term) | Q(token_uid=term.upper())


# model, permission, icon, path to Site ('' none), what finds it
KINDS: tuple[tuple[Any, str, str, str, Finder], ...] = (
    (Station, "stations.view_station", "ev_station", "site", _station),
    (Site, "stations.view_site", "location_on", "pk",
     lambda term: Q(name__icontains=term) | Q(city__icontains=term)),
    (Session, "monitoring.view_session", "bolt", "station__site", _session),
    (Token, "stations.view_token", "contactless", "",
     lambda term: Q(uid__istartswith=term) | Q(label__icontains=term)),
    (User, "stations.view_user", "person", "",
     lambda term: Q(email__icontains=term) | Q(name__icontains=term)),
    (Invoice, "billing.view_invoice", "description", "", lambda term: Q(number__iexact=term)),
    (Payment, "billing.view_payment", "credit_card", "connector__station__site",
     lambda term: Q(provider_ref=term) | Q(email__iexact=term)),
    (Command, "stations.view_command", "send", "station__site",
     lambda term: Q(subject=term)),
)  # fmt: skip


def search(request: HttpRequest, term: str, each: int) -> list[SearchResult]:
    """Return at most `each` results a kind."""
    term = term.strip()
    if len(term) < 2:
        return []
    user: Any = request.user
    found: list[SearchResult] = []
    for model, permission, icon, site_path, finder in KINDS:
        if not user.has_perm(permission):
            continue
        rows = model._default_manager.filter(finder(term)).order_by("-pk")
        if site_path:
            rows = in_scope(rows, request, site_path)
        found += _results(rows[:each], icon)
    return found


def _results(rows: Iterable[Any], icon: str) -> list[SearchResult]:
    return [
        SearchResult(
            title=_title(row),
            description=str(row._meta.verbose_name),
            link=_link(row),
            icon=icon,
        )
        for row in rows
    ]


def _title(row: Any) -> str:
    if isinstance(row, Station):
        return f"{row.identity} {row.name}".strip()
    if isinstance(row, Session):
        return f"{row.ref} · {row.started_at:%Y-%m-%d %H:%M}"
    if isinstance(row, Token):
        return row.uid
    return str(row)


def _link(row: Any) -> str:
    return reverse("admin:index") + f"{row._meta.app_label}/{row._meta.model_name}/{row.pk}/change/"
