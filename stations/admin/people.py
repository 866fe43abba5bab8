"""People and tokens in the back office."""

from typing import Any

from django import forms
from django.conf import settings
from django.contrib import admin
from django.contrib.auth.admin import GroupAdmin as DjangoGroupAdmin
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.contrib.auth.models import Group
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed
from django.shortcuts import redirect
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from unfold.contrib.filters.admin import ChoicesDropdownFilter, DropdownFilter
from unfold.forms import AdminPasswordChangeForm, UserChangeForm
from unfold.widgets import UnfoldAdminSelectWidget

from stations import journal
from stations.admin.base import StaffAdmin, ago, chip, described
from stations.models import Token, User


class KindFilter(DropdownFilter):  # type: ignore[misc]  # unfold ships no types
    """Staff or drivers."""

    title = gettext_lazy("kind")
    parameter_name = "kind"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        """Return the kinds."""
        return [("staff", gettext_lazy("Staff")), ("driver", gettext_lazy("Drivers"))]

    def queryset(self, request: HttpRequest, rows: "QuerySet[Any]") -> "QuerySet[Any]":
        """Keep staff, or drivers."""
        if self.value() in ("staff", "driver"):
            return rows.filter(is_staff=self.value() == "staff")
        return rows


def _languages(form: forms.BaseForm) -> None:
    """Offer the languages the product speaks."""
    form.fields["language"] = forms.ChoiceField(
        label=gettext_lazy("Language"), choices=settings.LANGUAGES, widget=UnfoldAdminSelectWidget
    )


class PersonForm(UserChangeForm):  # type: ignore[misc]
    """A person's details."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if "language" in self.fields:
            _languages(self)


class NewPersonForm(forms.ModelForm):  # type: ignore[type-arg]
    """A new person: no password is set here; drivers sign in by a mailed code."""

    class Meta:
        model = User
        fields = ("email", "name", "language")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        _languages(self)

    def save(self, commit: bool = True) -> Any:
        """Save with a password nobody knows."""
        person = super().save(commit=False)
        person.email = person.email.lower()
        person.set_unusable_password()
        if commit:
            person.save()
        return person


@admin.register(User)
class UserAdmin(StaffAdmin, DjangoUserAdmin):  # type: ignore[type-arg,misc]
    """Drivers and staff."""

    form = PersonForm
    add_form = NewPersonForm
    change_password_form = AdminPasswordChangeForm
    ordering = ("email",)
    list_display = ("email", "name", "role", "is_active", "seen")
    list_filter = (KindFilter, "is_active", "groups")
    search_fields = ("email", "name", "tokens__uid")
    search_help_text = gettext_lazy("E-mail, name or token")
    filter_horizontal = ("groups", "user_permissions", "sites")
    readonly_fields = ("last_login", "date_joined")
    fieldsets = (
        (None, {"fields": (("email", "name"), ("language", "is_active"), "password")}),
        (
            gettext_lazy("Staff"),
            {
                "fields": (("is_staff", "is_superuser"), "groups", "sites"),
                "description": gettext_lazy("Groups say what staff may do; sites, where."),
            },
        ),
        (gettext_lazy("History"), {"fields": (("last_login", "date_joined"),)}),
    )
    add_fieldsets = ((None, {"fields": ("email", "name", "language")}),)
    export_fields = ("email", "name", "language", "is_staff", "is_active", "date_joined")
    empty_title = gettext_lazy("Nobody here")
    empty_text = gettext_lazy("Drivers appear when they make an account; staff are added here.")

    def get_queryset(self, request: HttpRequest) -> "QuerySet[Any]":
        """Return people with their groups."""
        return super().get_queryset(request).prefetch_related("groups")

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        """Only superusers make superusers and hand out groups."""
        locked = () if self._rules(request) else ("is_staff", "is_superuser", "groups", "sites")
        return (*super().get_readonly_fields(request, obj), *locked)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Nobody changes a superuser, or other staff, without being one who rules."""
        allowed = super().has_change_permission(request, obj)
        return bool(allowed and (obj is None or not obj.is_staff or self._rules(request)))

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """People are made inactive: what they did stays theirs."""
        return False

    def _rules(self, request: HttpRequest) -> bool:
        user: Any = request.user
        return bool(user.is_superuser)

    @described(gettext_lazy("role"))
    def role(self, person: User) -> str:
        """What the person may do."""
        if person.is_superuser:
            return chip(_("Administrator"), "violet")
        if person.is_staff:
            groups = ", ".join(group.name for group in person.groups.all())
            return chip(groups or _("Staff without a role"), "blue" if groups else "amber")
        return chip(_("Driver"))

    @described(gettext_lazy("last signed in"), order="last_login")
    def seen(self, person: User) -> str:
        """When the person was last here."""
        return ago(person.last_login, _("never"))


admin.site.unregister(Group)


@admin.register(Group)
class GroupAdmin(StaffAdmin, DjangoGroupAdmin):  # type: ignore[misc]
    """Roles."""

    filter_horizontal = ("permissions",)


@admin.register(Token)
class TokenAdmin(StaffAdmin):
    """What drivers identify with."""

    list_display = ("uid_shown", "type", "status_chip", "driver", "group", "expires")
    list_display_links = ("uid_shown",)
    list_filter = (("status", ChoicesDropdownFilter), ("type", ChoicesDropdownFilter))
    list_select_related = ("user",)
    search_fields = ("uid", "label", "user__email", "user__name", "group")
    search_help_text = gettext_lazy("Token, label, driver or group")
    autocomplete_fields = ("user",)
    actions = ("block", "accept")
    fieldsets = (
        (None, {"fields": (("uid", "type"), ("status", "expires_at"), ("user", "label"))}),
        (gettext_lazy("Limits"), {"fields": (("group", "max_sessions"),)}),
    )
    export_fields = ("uid", "type", "status", "user__email", "group", "label", "expires_at",
                     "created_at")  # fmt: skip
    empty_title = gettext_lazy("No token yet")
    empty_text = gettext_lazy("Add a driver's card here, or let it be tapped: it waits as unknown.")

    @described(gettext_lazy("token"), order="uid")
    def uid_shown(self, token: Token) -> str:
        """The identifier, and its label."""
        return format_html(
            '<span class="stack"><span class="mono strong">{}</span>{}</span>',
            token.uid,
            format_html('<span class="quiet">{}</span>', token.label) if token.label else "",
        )

    @described(gettext_lazy("status"), order="status")
    def status_chip(self, token: Token) -> str:
        """Whether it may charge."""
        tones = {"accepted": "green", "blocked": "red", "unknown": "amber"}
        shown = chip(token.get_status_display(), tones.get(token.status, "grey"))
        if token.status != Token.Status.UNKNOWN:
            return shown
        return format_html(
            '{} <button type="submit" formmethod="post" formaction="{}"'
            ' class="tool keep-word">{}</button>',
            shown,
            reverse("admin:stations_token_enrol", args=[token.pk]),
            _("Enrol"),
        )

    def get_urls(self) -> list[URLPattern]:
        """Add the one click that enrols a card."""
        enrol = self.admin_site.admin_view(self.enrol)
        own = path("<int:pk>/enrol/", enrol, name="stations_token_enrol")
        return [own, *super().get_urls()]

    def enrol(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Let a card that was tapped somewhere charge from now on; then say whose it is."""
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        if not self.has_change_permission(request):
            raise PermissionDenied
        found = self.get_queryset(request).filter(pk=pk, status=Token.Status.UNKNOWN)
        self._move(request, found, Token.Status.ACCEPTED)
        return redirect("admin:stations_token_change", pk)

    @described(gettext_lazy("driver"), order="user__email")
    def driver(self, token: Token) -> str:
        """Whose it is."""
        return str(token.user) if token.user else "–"

    @described(gettext_lazy("expires"), order="expires_at")
    def expires(self, token: Token) -> str:
        """Until when it may charge."""
        return ago(token.expires_at, _("never"))

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        """Save and journal."""
        with transaction.atomic():
            super().save_model(request, obj, form, change)
            journal.record("token.changed" if change else "token.added", obj, uid=obj.uid,
                           status=obj.status)  # fmt: skip

    @admin.action(description=gettext_lazy("Block"), permissions=["change"])
    def block(self, request: HttpRequest, queryset: "QuerySet[Any]") -> None:
        """Let these tokens charge no more."""
        self._move(request, queryset, Token.Status.BLOCKED)

    @admin.action(description=gettext_lazy("Accept"), permissions=["change"])
    def accept(self, request: HttpRequest, queryset: "QuerySet[Any]") -> None:
        """Let these tokens charge."""
        self._move(request, queryset, Token.Status.ACCEPTED)

    def _move(self, request: HttpRequest, rows: "QuerySet[Any]", status: Token.Status) -> None:
        with transaction.atomic():
            changed = list(rows.exclude(status=status))
            rows.filter(pk__in=[one.pk for one in changed]).update(status=status)
            journal.record_many(
                [journal.entry("token.changed", one, uid=one.uid, status=str(status))
                 for one in changed]
            )  # fmt: skip
        self.message_user(request, _("%(n)d tokens changed.") % {"n": len(changed)})
