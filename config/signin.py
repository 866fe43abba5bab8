"""Signing in to the back office: password, then the second factor where one is set up.

The page is the admin's; behind it is allauth's road, with its rate limits and its stages, so that
a person with an authenticator app is asked for a code wherever they come in.
"""

from collections.abc import Callable
from typing import Any

from allauth.account.adapter import DefaultAccountAdapter, get_adapter
from allauth.account.authentication import AUTHENTICATION_METHODS_SESSION_KEY
from allauth.account.internal.flows.login import record_authentication
from allauth.account.models import EmailAddress
from allauth.account.utils import perform_login
from allauth.mfa.utils import is_mfa_enabled
from django.conf import settings
from django.contrib.auth.views import LoginView
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.decorators import method_decorator
from django.utils.http import urlencode
from django.utils.translation import gettext_lazy as _
from django.views.decorators.cache import never_cache
from unfold.forms import AuthenticationForm

FREE = ("login", "logout", "jsi18n")  # pages of the admin that ask for no second factor
_PASSED = "second_factor"  # in the session: this user has one


class Accounts(DefaultAccountAdapter):  # type: ignore[misc]  # untyped
    """allauth's ways, for accounts that staff opened too."""

    def pre_login(self, request: HttpRequest, user: Any, **kwargs: Any) -> HttpResponse | None:
        """Note that the address is the user's where a code sent to it has just shown that."""
        if any(
            record["method"] == "code" and record.get("email") == user.email
            for record in request.session.get(AUTHENTICATION_METHODS_SESSION_KEY, [])
        ):
            EmailAddress.objects.get_or_create(
                user=user, email=user.email.lower(), defaults={"verified": True, "primary": True}
            )
        response: HttpResponse | None = super().pre_login(request, user, **kwargs)
        return response


class StaffForm(AuthenticationForm):  # type: ignore[misc]  # unfold ships no types
    """E-mail and password, at most a few wrong ones a minute."""

    def clean(self) -> dict[str, Any]:
        """Check the password through allauth, which counts the failures."""
        email, password = self.cleaned_data.get("username"), self.cleaned_data.get("password")
        if email and password:
            adapter = get_adapter(self.request)
            self.user_cache = adapter.authenticate(
                self.request, email=email.strip().lower(), password=password
            )
            if self.user_cache is None:
                raise self.get_invalid_login_error()
            self.confirm_login_allowed(self.user_cache)
        result: dict[str, Any] = self.cleaned_data
        return result

    def get_invalid_login_error(self) -> ValidationError:
        """Say the same for a wrong password and an unknown address."""
        return ValidationError(_("This e-mail and password do not fit. Try again, or reset it."))


@method_decorator(never_cache, name="dispatch")
class StaffLogin(LoginView):
    """The admin's sign-in page."""

    template_name = "admin/login.html"
    authentication_form = StaffForm

    def get_default_redirect_url(self) -> str:
        """Go to the start page."""
        return reverse("admin:index")

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        """Return what the admin's template wants."""
        from django.contrib import admin

        context = super().get_context_data(**kwargs)
        return {
            **admin.site.each_context(self.request),
            **context,
            "title": _("Sign in"),
            "app_path": self.request.get_full_path(),
        }

    def form_valid(self, form: Any) -> HttpResponse:
        """Go on with allauth: the second factor if there is one, then the page that was asked."""
        user = form.get_user()
        # The password was typed just now: who has no second factor yet may set one up with it.
        fresh = None if is_mfa_enabled(user) else True
        record_authentication(
            self.request, user, method="password", email=user.email, reauthenticated=fresh
        )
        response: HttpResponse = perform_login(
            self.request,
            user,
            email_verification="none",  # staff are made by staff, and have typed a password
            redirect_url=self.get_success_url(),
            email=user.email,
        )
        return response


def login(request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
    """Show the sign-in page, or the start page to staff who are signed in."""
    user: Any = request.user
    if request.method == "GET" and user.is_active and user.is_staff:
        return redirect("admin:index")
    return StaffLogin.as_view()(request)


def second_factor(
    get_response: Callable[[HttpRequest], HttpResponse],
) -> Callable[[HttpRequest], HttpResponse]:
    """Middleware: no back office without a second factor, where `STAFF_SECOND_FACTOR` says so."""

    def middleware(request: HttpRequest) -> HttpResponse:
        if settings.STAFF_SECOND_FACTOR and _must_set_up(request):
            target = reverse("mfa_activate_totp")
            return HttpResponseRedirect(f"{target}?{urlencode({'next': request.path})}")
        return get_response(request)

    return middleware


def _must_set_up(request: HttpRequest) -> bool:
    root = reverse("admin:index")
    user: Any = request.user
    if not request.path.startswith(root) or not (user.is_authenticated and user.is_staff):
        return False
    if request.path.removeprefix(root).partition("/")[0] in FREE:
        return False
    if request.session.get(_PASSED) == user.pk:
        return False
    if not is_mfa_enabled(user):
        return True
    request.session[_PASSED] = user.pk
    return False
