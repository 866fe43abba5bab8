"""What every page of the back office shares: site scope, read-only facts, live lists, exports.

@admin.register(Thing)
class ThingAdmin(Facts, StaffAdmin):          # Facts: nobody edits or deletes these rows
    site_path = "station__site"               # staff with chosen sites see only theirs
    live = "fleet"                            # the list refreshes when this topic is touched
    list_display = ["state_chip", "at"]
    export_fields = ["id", "station__identity", "at"]
"""

import csv
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from datetime import datetime
from functools import cached_property
from io import BytesIO
from itertools import islice
from typing import Any

from asgiref.sync import sync_to_async
from django.core.exceptions import PermissionDenied
from django.core.handlers.asgi import ASGIRequest
from django.core.paginator import Paginator
from django.db import models, transaction
from django.http import HttpRequest, HttpResponse, HttpResponseBase, StreamingHttpResponse
from django.urls import URLPattern, path
from django.utils import timezone
from django.utils.safestring import SafeString
from django.utils.text import slugify
from openpyxl import Workbook
from openpyxl.cell import WriteOnlyCell
from openpyxl.styles import Font
from unfold.admin import ModelAdmin

from stations import journal
from stations.looks import ago, chip, duration, kw, kwh, moment
from stations.models import Site, Station

__all__ = [
    "Facts", "StaffAdmin", "ago", "chip", "described", "duration", "in_scope", "kw", "kwh",
    "moment", "section", "sections",
]  # fmt: skip

COUNT_CAP = 10_000  # a list says at most this many rows; counting further is not worth the wait
XLSX_ROWS = 1_048_575

Row = models.Model


def chosen_sites(request: HttpRequest) -> frozenset[int] | None:
    """Return the ids of the sites the signed-in person is limited to; None: no limit."""
    kept: frozenset[int] | None
    if not hasattr(request, "_chosen_sites"):
        user: Any = request.user
        kept = frozenset(user.sites.values_list("pk", flat=True)) if user.pk else frozenset()
        request._chosen_sites = kept or None  # type: ignore[attr-defined]
    return request._chosen_sites  # type: ignore[attr-defined,no-any-return]


def in_scope(
    rows: "models.QuerySet[Any]", request: HttpRequest, site_path: str
) -> "models.QuerySet[Any]":
    """Return the rows at the person's sites. `site_path` leads to Site; `pk` is Site itself.

    Several paths, comma-separated: any of them leads there.
    """
    sites = chosen_sites(request)
    if sites is None:
        return rows
    reach = models.Q()
    for one in site_path.split(","):
        reach |= models.Q(**{f"{one}__in": sites})
    return rows.filter(reach)


# --- sections other apps add to a page ----------------------------------------------------------

Section = Callable[[HttpRequest, Any], SafeString | str]
SECTIONS: dict[str, list[Section]] = {}


def section(page: str) -> Callable[[Section], Section]:
    """Register a function that returns a card's HTML for a page (`station`, `session`), or ''.

    Lower apps own the page, higher ones add to it: billing puts the price on the session's page.
    """

    def register(function: Section) -> Section:
        SECTIONS.setdefault(page, []).append(function)
        return function

    return register


def sections(page: str, request: HttpRequest, thing: Any) -> list[SafeString | str]:
    """Return what the other apps show on a page of `thing`."""
    return [html for function in SECTIONS.get(page, ()) if (html := function(request, thing))]


# --- lists ----------------------------------------------------------------------------------------


class CappedPaginator(Paginator):  # type: ignore[type-arg]
    """Counts no further than COUNT_CAP: a list of a million rows opens as fast as a short one."""

    @cached_property
    def count(self) -> int:
        """Number of rows, at most COUNT_CAP."""
        rows: Any = self.object_list
        return len(rows) if isinstance(rows, list) else rows.order_by()[:COUNT_CAP].count()


class StaffAdmin(ModelAdmin):  # type: ignore[misc]  # unfold ships no types
    """A list and a page for staff: fast, scoped by site, exported as filtered."""

    site_path: str = ""  # ORM path to Site for `visible_to`; empty: everybody with permission
    live: str = ""  # topics, comma-separated, on which the open list refreshes itself
    live_every_s: int = 3  # at most this often
    export_fields: Iterable[str] = ()  # ORM paths; () is the list's own model fields

    change_list_template = "admin/staff_change_list.html"
    paginator = CappedPaginator
    show_full_result_count = False
    list_per_page = 50
    list_fullwidth = True
    list_filter_submit = True
    list_filter_sheet = True
    compressed_fields = True
    warn_unsaved_form = True

    def get_queryset(self, request: HttpRequest) -> "models.QuerySet[Any]":
        """Return the rows this person may see."""
        rows: models.QuerySet[Any] = super().get_queryset(request)
        return in_scope(rows, request, self.site_path) if self.site_path else rows

    def formfield_for_foreignkey(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        """Offer only sites and stations this person may see."""
        to = db_field.related_model
        if to in (Site, Station) and "queryset" not in kwargs:
            rows = to._default_manager.all()
            kwargs["queryset"] = in_scope(rows, request, "pk" if to is Site else "site")
        return super().formfield_for_foreignkey(db_field, request, **kwargs)

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Show the list; tell the template what keeps it alive."""
        response: Any = super().changelist_view(
            request,
            {"live": self.live, "live_every_s": self.live_every_s} | (extra_context or {}),
        )
        shown = (getattr(response, "context_data", None) or {}).get("cl")
        if shown is not None and not shown.query and not shown.has_active_filters:
            shown.full_result_count = shown.result_count  # no “(show all)” where all are shown
        return response  # type: ignore[no-any-return]

    # exports

    def get_urls(self) -> list[URLPattern]:
        """Add the exports."""
        name = f"{self.opts.app_label}_{self.opts.model_name}_export"
        view = self.admin_site.admin_view(self.export_view)
        return [path("export/<str:kind>/", view, name=name), *super().get_urls()]

    def export_view(self, request: HttpRequest, kind: str) -> HttpResponseBase:
        """Return the list, with its filters and search, as a CSV or XLSX file."""
        if not self.has_view_or_change_permission(request) or kind not in ("csv", "xlsx"):
            raise PermissionDenied
        rows = self.get_changelist_instance(request).get_queryset(request)
        fields = list(self.export_fields) or self._own_fields(request)
        with transaction.atomic():
            journal.record(
                "list.exported",
                list=self.opts.label_lower,
                kind=kind,
                filters=request.GET.urlencode()[:500],
            )
        stem = f"{slugify(self.opts.verbose_name_plural)}-{timezone.now():%Y%m%d-%H%M}"
        lines = _cells(rows, fields)
        if kind == "csv":
            response: HttpResponseBase = _csv(lines, in_parts=isinstance(request, ASGIRequest))
        else:
            response = _xlsx(lines, str(self.opts.verbose_name))
        response["Content-Disposition"] = f'attachment; filename="{stem}.{kind}"'
        return response

    def _own_fields(self, request: HttpRequest) -> list[str]:
        own = {field.name for field in self.opts.get_fields() if getattr(field, "concrete", False)}
        return [name for name in self.get_list_display(request) if name in own] or ["pk"]


class Facts:
    """Rows that happened: shown, exported, never added, edited or deleted by hand."""

    def has_add_permission(self, request: HttpRequest, obj: Row | None = None) -> bool:
        """Nobody adds facts."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Row | None = None) -> bool:
        """Nobody edits facts."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Row | None = None) -> bool:
        """Nobody deletes facts."""
        return False


def _cells(rows: "models.QuerySet[Any]", fields: list[str]) -> Iterator[list[Any]]:
    yield [field.replace("__", " ").replace("_", " ") for field in fields]
    for values in rows.values_list(*fields).iterator(chunk_size=2000):
        yield [_plain(value) for value in values]


def _plain(value: Any) -> Any:
    """Return a value a spreadsheet keeps: no formula from outside, times in ISO 8601 UTC."""
    if isinstance(value, bool | int | float) or value is None:
        return value
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%dT%H:%M:%SZ")
    text = str(value)
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text


class _Echo:
    """A file whose `write` hands back the line."""

    def write(self, line: str) -> str:
        return line


def _csv(lines: Iterator[list[Any]], *, in_parts: bool) -> StreamingHttpResponse:
    """Return a CSV file as it is read; the asynchronous server needs that said explicitly."""
    writer = csv.writer(_Echo())
    texts: Iterator[str] = (writer.writerow(line) for line in lines)
    return StreamingHttpResponse(
        _in_parts(texts) if in_parts else texts, content_type="text/csv; charset=utf-8"
    )


async def _in_parts(texts: Iterator[str]) -> AsyncIterator[str]:
    """Yield a million rows without holding them: Django would make a list of a plain iterator."""
    read = sync_to_async(lambda: "".join(islice(texts, 2000)))
    while part := await read():
        yield part


def _xlsx(lines: Iterator[list[Any]], title: str) -> HttpResponse:
    book = Workbook(write_only=True)
    sheet: Any = book.create_sheet(title[:31])
    sheet.freeze_panes = "A2"
    for number, line in enumerate(lines):
        if number == 0:
            bold = [WriteOnlyCell(sheet, value=text) for text in line]
            for cell in bold:
                cell.font = Font(bold=True)
            sheet.append(bold)
        elif number <= XLSX_ROWS:
            sheet.append(line)
    out = BytesIO()
    book.save(out)
    return HttpResponse(
        out.getvalue(),
        content_type="application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    )


def described(text: Any, *, order: str = "") -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Name a computed column of a list, and what sorts it."""

    def name(function: Callable[..., Any]) -> Callable[..., Any]:
        function.short_description = text  # type: ignore[attr-defined]
        if order:
            function.admin_order_field = order  # type: ignore[attr-defined]
        return function

    return name
