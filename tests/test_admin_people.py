"""People, roles and signing in."""

from typing import Any

import pytest
from allauth.mfa.adapter import get_adapter
from allauth.mfa.models import Authenticator
from allauth.mfa.totp.internal import auth as totp
from django.apps import apps
from django.contrib.auth.models import Group, Permission
from django.core.cache import cache
from django.test import Client

from stations import roles
from stations.models import Entry, Token, User
from tests import make

pytestmark = [pytest.mark.django_db, pytest.mark.slow]

PEOPLE = "/admin/stations/user/"


@pytest.fixture(autouse=True)
def _fresh_limits() -> None:
    cache.clear()  # failed sign-ins are counted there


@pytest.fixture
def staff(client: Client) -> Client:
    client.force_login(make.staff())
    return client


def sign_in(client: Client, email: str, password: str, onward: str = "") -> Any:
    url = "/admin/login/" + (f"?next={onward}" if onward else "")
    return client.post(url, {"username": email, "password": password})


def authenticator(user: User) -> str:
    """Give the person an authenticator app; return its secret."""
    secret = totp.generate_totp_secret()
    data = {"secret": get_adapter().encrypt(secret)}
    Authenticator.objects.create(user=user, type=Authenticator.Type.TOTP, data=data)
    return secret


def code(secret: str) -> str:
    return totp.format_hotp_value(
        totp.hotp_value(secret, next(totp.yield_hotp_counters_from_time()))
    )


# --- roles --------------------------------------------------------------------------------------


def test_the_four_groups_are_there_and_every_permission_they_name_exists() -> None:
    assert set(Group.objects.values_list("name", flat=True)) == set(roles.ROLES)
    known = {
        f"{app}.{codename}"
        for app, codename in Permission.objects.values_list("content_type__app_label", "codename")
    }
    models = {
        f"{one._meta.app_label}.{prefix}_{one._meta.model_name}"
        for one in apps.get_models()
        for prefix in ("view", "add", "change", "delete")
    } | {
        f"{one._meta.app_label}.{codename}"
        for one in apps.get_models()
        for codename, _name in one._meta.permissions
    }
    for role, named in roles.ROLES.items():
        assert set(named) <= known, role
        assert set(named) <= models, role
        group = Group.objects.get(name=role)
        assert group.permissions.count() == len(set(named))


def test_putting_the_groups_right_again_keeps_what_the_operator_added() -> None:
    group = Group.objects.get(name="Support")
    extra = Permission.objects.get(codename="delete_site")
    lost = Permission.objects.get(codename="operate_station")
    group.permissions.add(extra)
    group.permissions.remove(lost)
    roles.ensure(apps)
    assert extra in group.permissions.all()
    assert lost in group.permissions.all()


@pytest.mark.parametrize("role", roles.ROLES)
def test_each_role_opens_the_start_page_and_what_it_may_see(client: Client, role: str) -> None:
    station = make.station(site=make.site())
    client.force_login(make.member(role))
    for url in ("/admin/", "/admin/stations/station/", "/admin/monitoring/session/",
                f"/admin/stations/station/{station.pk}/change/",
                "/admin/stations/token/", "/admin/stations/site/"):  # fmt: skip
        assert client.get(url).status_code == 200, url


@pytest.mark.parametrize("role", roles.ROLES)
def test_people_journal_and_health_are_for_who_works_here_not_for_readers(
    client: Client, role: str
) -> None:
    driver = make.user(email="mia@example.com")
    client.force_login(make.member(role))
    menu = client.get("/admin/").content.decode()
    for url in (PEOPLE, "/admin/stations/entry/", "/admin/health/"):
        assert client.get(url).status_code == (403 if role == "Read-only" else 200), url
        assert (f'href="{url}"' in menu) == (role != "Read-only"), url
    if role == "Read-only":
        for url in (f"{PEOPLE}{driver.pk}/change/", f"{PEOPLE}export/csv/"):
            assert client.get(url).status_code == 403, url
        assert "mia@example.com" not in client.get("/admin/search/?s=mia@").content.decode()


def test_staff_without_a_role_are_told_whom_to_ask(client: Client) -> None:
    client.force_login(make.user(is_staff=True))
    assert "Ask an administrator" in client.get("/admin/").content.decode()
    assert client.get("/admin/stations/station/").status_code == 403


def test_drivers_do_not_come_in(client: Client) -> None:
    client.force_login(make.user())
    assert client.get("/admin/").status_code == 302


# --- people and tokens --------------------------------------------------------------------------


def test_support_may_edit_drivers_but_nobody_raises_himself(client: Client) -> None:
    me = make.member("Support")
    driver, boss = make.user(name="Mia"), make.staff()
    client.force_login(me)
    form = {"email": driver.email, "name": "Mia M.", "language": "de", "is_active": "on",
            "is_staff": "on", "is_superuser": "on"}  # fmt: skip
    assert client.post(f"{PEOPLE}{driver.pk}/change/", form).status_code == 302
    driver.refresh_from_db()
    assert (driver.name, driver.language) == ("Mia M.", "de")
    assert not driver.is_staff
    assert not driver.is_superuser
    for one in (boss, me):
        assert client.post(f"{PEOPLE}{one.pk}/change/", form).status_code == 403
        assert client.get(f"{PEOPLE}{one.pk}/password/").status_code in (302, 403)


def test_a_new_person_signs_in_by_mailed_code_until_a_password_is_set(staff: Client) -> None:
    form = {"email": "New@Example.com", "name": "New", "language": "en"}
    assert staff.post(f"{PEOPLE}add/", form).status_code == 302
    person = User.objects.get(email="new@example.com")
    assert not person.has_usable_password()


def test_people_are_made_inactive_never_deleted(staff: Client) -> None:
    driver = make.user()
    assert staff.post(f"{PEOPLE}{driver.pk}/delete/", {"post": "yes"}).status_code == 403


def test_chosen_tokens_are_blocked_at_once_and_it_is_journalled(staff: Client) -> None:
    one, two = make.token(), make.token(status=Token.Status.BLOCKED)
    chosen = {"action": "block", "_selected_action": [one.pk, two.pk]}
    staff.post("/admin/stations/token/", chosen)
    one.refresh_from_db()
    assert one.status == Token.Status.BLOCKED
    news = Entry.objects.get(kind="token.changed")
    assert news.data == {"uid": one.uid, "status": "blocked"}


@pytest.mark.parametrize("many", [2, 20])
def test_lists_ask_the_same_number_of_times(
    staff: Client, django_assert_num_queries: Any, many: int
) -> None:
    for _ in range(many):
        make.token(user=make.user())
        make.member("Support")
        make.site()
    for url, queries in {"token": 9, "user": 11, "site": 10, "entry": 9}.items():
        staff.get(f"/admin/stations/{url}/")
        with django_assert_num_queries(queries):
            staff.get(f"/admin/stations/{url}/")


# --- signing in ---------------------------------------------------------------------------------


def test_the_right_password_opens_the_page_that_was_asked_for(client: Client) -> None:
    make.staff(email="ada@example.com")
    page = client.get("/admin/login/").content.decode()
    assert "Password" in page
    assert "do not fit" in sign_in(client, "ada@example.com", "wrong").content.decode()
    answer = sign_in(client, "Ada@Example.com ", "secret", "/admin/stations/station/")
    assert answer["Location"] == "/admin/stations/station/"
    assert client.get("/admin/stations/station/").status_code == 200


def test_an_address_of_another_host_is_not_followed(client: Client) -> None:
    make.staff(email="ada@example.com")
    answer = sign_in(client, "ada@example.com", "secret", "https://evil.example/")
    assert answer["Location"] == "/admin/"


def test_drivers_passwords_do_not_open_the_back_office(client: Client) -> None:
    make.user(email="driver@example.com", password="secret")
    answer = sign_in(client, "driver@example.com", "secret")
    assert answer.status_code == 200
    assert "_auth_user_id" not in client.session


def test_guessing_is_stopped(client: Client) -> None:
    make.staff(email="ada@example.com")
    for _ in range(5):
        sign_in(client, "ada@example.com", "wrong")
    answer = sign_in(client, "ada@example.com", "secret")
    assert answer.status_code == 200
    assert "Too many failed login attempts" in answer.content.decode()


def test_with_an_authenticator_the_password_alone_opens_nothing(client: Client) -> None:
    user = make.staff(email="ada@example.com")
    secret = authenticator(user)
    answer = sign_in(client, "ada@example.com", "secret", "/admin/stations/site/")
    assert answer["Location"] == "/account/2fa/authenticate/"
    assert client.get("/admin/").status_code == 302
    assert client.post(answer["Location"], {"code": "000000"}).status_code == 200
    done = client.post(answer["Location"], {"code": code(secret)})
    assert done["Location"] == "/admin/stations/site/"
    assert client.get("/admin/").status_code == 200


def test_where_it_is_enforced_staff_set_one_up_before_anything_else(
    client: Client, settings: Any
) -> None:
    settings.STAFF_SECOND_FACTOR = True
    user = make.staff(email="ada@example.com")
    sign_in(client, "ada@example.com", "secret")
    for url in ("/admin/", "/admin/stations/station/"):
        answer = client.get(url)
        assert answer["Location"].startswith("/account/2fa/totp/activate/"), url
    assert client.get("/account/2fa/totp/activate/").status_code == 200
    authenticator(user)
    assert client.get("/admin/").status_code == 200


def test_a_card_that_was_tapped_is_enrolled_in_one_click(client) -> None:
    card = make.token(uid="NEW", status=Token.Status.UNKNOWN)
    known = make.token(uid="KNOWN", status=Token.Status.BLOCKED)
    client.force_login(make.staff())
    page = client.get("/admin/stations/token/").content.decode()
    assert f"/admin/stations/token/{card.pk}/enrol/" in page
    assert f"/admin/stations/token/{known.pk}/enrol/" not in page
    assert client.get(f"/admin/stations/token/{card.pk}/enrol/").status_code == 405
    answer = client.post(f"/admin/stations/token/{card.pk}/enrol/")
    assert (answer.status_code, answer.url) == (302, f"/admin/stations/token/{card.pk}/change/")
    client.post(f"/admin/stations/token/{known.pk}/enrol/")
    card.refresh_from_db()
    known.refresh_from_db()
    assert (card.status, known.status) == ("accepted", "blocked")
    client.force_login(make.member("Read-only"))
    other = make.token(uid="OTHER", status=Token.Status.UNKNOWN)
    assert client.post(f"/admin/stations/token/{other.pk}/enrol/").status_code == 403
