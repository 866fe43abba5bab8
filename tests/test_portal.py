"""The driver's portal: what a stranger sees, may do, and cannot do."""

import re
from datetime import timedelta
from typing import Any

import pytest
from django.core.cache import cache
from django.test import Client, RequestFactory
from django.utils import timezone, translation

from billing import payments, start
from billing.models import Charge, Payment, Tariff
from billing.portal import limits, links, prices
from billing.sandbox.engine import Sandbox
from monitoring.models import Session
from stations import live
from stations.models import Command, Connector
from tests import make, paying
from tests.test_paid_sessions import close

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def priced() -> None:
    cache.clear()  # attempts are counted there
    make.tariff()
    make.seller()


def page(client: Client, url: str, status: int = 200, **extra: Any) -> str:
    answer = client.get(url, **extra)
    assert answer.status_code == status, answer.content[:300]
    return answer.content.decode()


def press_pay(client: Client, connector: Connector, cap: int = 3000, **form: Any) -> Any:
    sent = {"cap": cap, "tariff": Tariff.objects.get().sha256} | form
    return client.post(f"/c/{connector.code}/pay", sent)


# --- map and list ---------------------------------------------------------------------------------


def test_the_list_shows_public_stations_in_service_only(client: Client) -> None:
    site = make.site(name="Harbour")
    shown = make.station(public=True, site=site, connected=True, name="Quay 1")
    make.station(public=False, site=site, name="Staff only")
    make.station(public=True, site=site, state="pending", name="Not yet")
    Connector.objects.filter(station=shown).update(status="Available")
    text = page(client, "/")
    assert "Quay 1" in text
    assert "of 1 free" in text
    assert "Staff only" not in text
    assert "Not yet" not in text
    assert "Nothing found for “mountain”" in page(client, "/?q=mountain")


def test_without_stations_the_list_says_so(client: Client) -> None:
    assert "No public stations yet" in page(client, "/")


def test_the_list_takes_the_same_queries_however_many_stations(
    client: Client, django_assert_num_queries: Any
) -> None:
    site = make.site()
    for _ in range(5):
        make.station(connectors=2, public=True, site=site)
    client.get("/")
    with django_assert_num_queries(4):
        client.get("/")


# --- the page behind the QR code ------------------------------------------------------------------


def test_the_price_stands_on_the_page_before_anything_is_paid(client: Client, box: Sandbox) -> None:
    connector = paying.connector()
    text = page(client, f"/c/{connector.code}")
    table = prices.price_table(Tariff.objects.get().ocpi)
    assert all(row.amount in text for row in table.rows)
    assert "For example 20 kWh at 22 kW, which takes 55 min" in text
    assert "Pay and start charging" in text
    assert Payment.objects.count() == 0


def test_codes_are_read_in_either_case_and_unknown_ones_are_not_found(client: Client) -> None:
    connector = paying.connector()
    page(client, f"/c/{connector.code.lower()}")
    assert "no charging point with this code" in page(client, "/c/NOPE", 404)


@pytest.mark.parametrize(
    ("station", "connector", "words"),
    [
        ({"public": False}, {}, "not open to everybody"),
        ({"connected": False}, {}, "offline"),
        ({}, {"status": "Faulted"}, "has a fault"),
        ({}, {"status": "Unavailable"}, "switched off"),
        ({}, {"status": "Reserved"}, "reserved for somebody else"),
        ({}, {"status": "Charging"}, "Somebody is charging here"),
    ],
)
def test_where_nobody_can_start_the_page_says_why_and_takes_no_money(
    client: Client, box: Sandbox, station: dict, connector: dict, words: str
) -> None:
    row = paying.connector()
    type(row.station).objects.filter(pk=row.station_id).update(**station)
    Connector.objects.filter(pk=row.pk).update(**connector)
    text = page(client, f"/c/{row.code}")
    assert words in text
    assert "Pay and start charging" not in text
    answer = press_pay(client, row)
    assert (answer.status_code, Payment.objects.count()) == (409, 0)
    assert words in answer.json()["error"]


def test_without_a_price_nobody_can_pay(client: Client) -> None:
    connector = paying.connector()
    Tariff.objects.update(valid_until=timezone.now())
    assert "has no price yet" in page(client, f"/c/{connector.code}")


def test_without_a_payment_service_paying_is_off_and_says_so(client: Client, settings: Any) -> None:
    settings.PAYMENT_SANDBOX, settings.STRIPE_API_KEY = False, ""
    connector = paying.connector()
    assert "not set up here yet" in page(client, f"/c/{connector.code}")


# --- paying ---------------------------------------------------------------------------------------


def test_pressing_pay_reserves_and_answers_the_secret_and_the_way_back(
    client: Client, box: Sandbox
) -> None:
    connector = paying.connector()
    answer = press_pay(client, connector, email="a@example.com")
    payment = Payment.objects.get()
    assert answer.status_code == 200
    assert answer.json()["client_secret"].startswith(payment.provider_ref)
    assert (payment.hold_minor, payment.email) == (3000, "a@example.com")
    cookie = answer.cookies[f"session-{connector.code}"]
    assert cookie["httponly"]
    token, _dot, key = cookie.value.partition(".")
    assert answer.json()["return_url"].endswith(f"/s/{token}?key={key}")
    assert payments.by_live_token(token) == payment


@pytest.mark.parametrize("cap", [1, 2999, 999_999])
def test_only_an_offered_amount_can_be_reserved(client: Client, box: Sandbox, cap: int) -> None:
    answer = press_pay(client, paying.connector(), cap=cap)
    assert (answer.status_code, Payment.objects.count()) == (400, 0)


def test_a_price_that_changed_under_the_drivers_eyes_is_not_paid(
    client: Client, box: Sandbox
) -> None:
    answer = press_pay(client, paying.connector(), tariff="0" * 64)
    assert answer.status_code == 409
    assert "price has just changed" in answer.json()["error"]


def test_pressing_twice_is_one_reservation_and_another_driver_is_told(
    client: Client, box: Sandbox
) -> None:
    connector = paying.connector()
    first, second = press_pay(client, connector), press_pay(client, connector)
    assert first.json() == second.json()
    stranger = press_pay(Client(), connector)
    assert (stranger.status_code, Payment.objects.count()) == (409, 1)
    assert "Somebody else is paying" in stranger.json()["error"]


def test_another_amount_replaces_the_unpaid_reservation(client: Client, box: Sandbox) -> None:
    connector = paying.connector()
    press_pay(client, connector)
    assert press_pay(client, connector, cap=4500).status_code == 200
    states = dict(Payment.objects.values_list("hold_minor", "state"))
    assert states == {3000: "canceled", 4500: "authorizing"}


def test_many_attempts_from_one_address_are_paused(client: Client, box: Sandbox) -> None:
    connector = paying.connector()
    caps = [3000, 4500] * 6  # another amount is another reservation
    answers = [press_pay(client, connector, cap=cap).status_code for cap in caps[:11]]
    assert answers[9:] == [200, 429]


def test_mistyped_forms_are_no_attempts(client: Client, box: Sandbox) -> None:
    connector = paying.connector()
    wrong = [press_pay(client, connector, email="nobody").status_code for _ in range(15)]
    assert set(wrong) == {400}
    assert press_pay(client, connector).status_code == 200


@pytest.mark.parametrize(
    ("peer", "counted"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("", ""),
    ],
)
def test_attempts_are_counted_by_the_peers_address(peer: str, counted: str) -> None:
    request = RequestFactory().get("/", REMOTE_ADDR=peer, HTTP_X_FORWARDED_FOR="198.51.100.1")
    assert limits.address_of(request) == counted


# --- the session ----------------------------------------------------------------------------------


def paid(client: Client, box: Sandbox) -> tuple[Payment, str]:
    """Press pay and pass the card; returns the payment and its live page."""
    answer = press_pay(client, paying.connector())
    payment = Payment.objects.get()
    paying.control.pay(box, paying.intent_of(payment))
    url = answer.json()["return_url"].partition("?")[0]
    return payment, url[url.index("/s/") :]


def test_the_live_page_goes_from_starting_to_the_receipt(client: Client, box: Sandbox) -> None:
    payment, url = paid(client, box)
    answer = client.get(url + "?payment_intent=pi_x")
    assert (answer.status_code, answer["Location"]) == (302, url)
    assert "Starting…" in page(client, url)
    now = timezone.now()
    session = paying.session_of(payment, started_at=now - timedelta(hours=1), energy_wh=5000)
    Session.objects.update(power_w=11_000, last_reading_at=now)
    text = page(client, url)
    assert "Charging" in text
    assert "<b>5.00</b> kWh" in text
    assert "<b>11.0</b> kW" in text
    close(session, 10_000)
    text = page(client, url)
    assert "Thank you" in text
    assert "Show the receipt" in text
    charge = Charge.objects.get()
    receipt = page(client, f"/r/{links.receipt_token(payment)}")
    assert charge.invoice is not None
    assert charge.invoice.number in receipt


def test_stop_orders_the_station_once(client: Client, box: Sandbox) -> None:
    payment, url = paid(client, box)
    page(client, url)
    paying.session_of(payment)
    assert "Stop charging" in page(client, url)
    for _ in range(2):
        assert client.post(url + "/stop").status_code == 302
    assert Command.objects.filter(name="remote_stop").count() == 1


def test_cancel_releases_the_reservation(client: Client, box: Sandbox) -> None:
    payment, url = paid(client, box)
    page(client, url)
    client.post(url + "/cancel")
    payment.refresh_from_db()
    assert payment.state == "canceled"
    text = page(client, url)
    assert "are released" in text
    assert "The station did not start" not in text  # the driver cancelled: no fault of its


def test_scanning_again_leads_back_to_the_running_session(client: Client, box: Sandbox) -> None:
    payment, url = paid(client, box)
    page(client, url)
    again = client.get(f"/c/{payment.connector.code}")
    assert (again.status_code, again["Location"]) == (302, url)
    refreshed = client.get(f"/c/{payment.connector.code}", headers={"X-Refresh": "1"})
    assert refreshed.status_code == 200
    assert Client().get(f"/c/{payment.connector.code}").status_code == 200


def test_a_link_that_is_wrong_or_old_opens_nothing(client: Client, box: Sandbox) -> None:
    payment, url = paid(client, box)
    page(client, "/s/" + "x" * 32, 404)
    page(client, "/r/" + "x" * 32, 404)
    assert client.post("/s/wrong/stop").status_code == 404
    Payment.objects.update(live_until=timezone.now() - timedelta(seconds=1))
    page(client, url, 404)
    links.receipt_token(payment)
    Payment.objects.update(receipt_until=timezone.now() - timedelta(seconds=1))
    page(client, f"/r/{links.receipt_token(payment)}", 404)


def test_one_receipts_link_opens_no_other_invoice(client: Client, box: Sandbox) -> None:
    payment, url = paid(client, box)
    page(client, url)
    close(paying.session_of(payment, started_at=timezone.now() - timedelta(hours=1)), 10_000)
    number = Charge.objects.get().invoice.number
    token = links.receipt_token(payment)
    answer = client.get(f"/r/{token}/{number}.pdf")
    assert (answer["Content-Type"], answer.content[:5]) == ("application/pdf", b"%PDF-")
    page(client, f"/r/{token}/OTHER-1.pdf", 404)


# --- what every page carries ----------------------------------------------------------------------


def test_pages_carry_a_strict_policy_and_keep_their_link_to_themselves(
    client: Client, box: Sandbox
) -> None:
    connector = paying.connector()
    answer = client.get(f"/c/{connector.code}")
    policy = answer["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert answer["Referrer-Policy"] == "same-origin"
    assert answer["X-Robots-Tag"] == "noindex"
    assert "no-store" in answer["Cache-Control"]
    assert "<script>" not in answer.content.decode()
    assert "style=" not in answer.content.decode()
    assert "Sandbox: try everything, no real money moves." in answer.content.decode()


def test_with_a_real_key_only_stripes_own_script_is_let_in(settings: Any) -> None:
    from billing.portal.policy import policy

    settings.PAYMENT_SANDBOX = False
    assert policy(stripe=True)["script-src"][1:] == [
        "https://js.stripe.com",
        "https://*.js.stripe.com",
    ]
    assert len(policy()["script-src"]) == 1


def test_guests_hear_only_what_their_code_or_token_opens(client: Client, box: Sandbox) -> None:
    payment, url = paid(client, box)
    token = url.removeprefix("/s/")
    assert live.RESOLVERS["c"](payment.connector.code) == f"connector-{payment.connector_id}"
    assert live.RESOLVERS["s"](token) == f"payment-{payment.pk}"
    assert live.RESOLVERS["s"]("wrong") is None
    page(client, url)
    session = paying.session_of(payment)
    assert live.RESOLVERS["ss"](token) == f"session-{session.pk}"
    assert client.get("/live/?topics=fleet,station-1").status_code == 403


def test_without_the_script_the_pay_button_cannot_be_pressed(client: Client) -> None:
    text = page(client, f"/c/{paying.connector().code}")
    assert "data-submit disabled>" in text


# --- the account ----------------------------------------------------------------------------------


def test_an_account_shows_its_own_sessions_and_nobody_elses(client: Client) -> None:
    driver, other = make.user(), make.user()
    mine = make.session(make.station(name="Mine"), token=make.token(user=driver))
    make.session(make.station(name="Theirs"), token=make.token(user=other))
    assert client.get("/account/").status_code == 302
    client.force_login(driver)
    text = page(client, "/account/")
    assert str(mine.station) in text
    assert "<b>10.00 kWh</b>" in text
    assert "Theirs" not in text
    page(client, "/account/invoices/R-2026-000001.pdf", 404)


def test_sign_in_is_by_a_mailed_code(client: Client) -> None:
    driver = make.user()
    from django.core import mail

    client.post("/account/login/code/", {"email": driver.email})
    (sent,) = mail.outbox
    code = re.search(r"^[A-Z0-9]{3,4}-?[A-Z0-9]{3,4}$", sent.body, re.MULTILINE)
    assert code, sent.body
    assert sent.to == [driver.email]
    client.post("/account/login/code/confirm/", {"code": code[0]})
    page(client, "/account/")
    assert len(mail.outbox) == 1  # the code has shown that the address is theirs: no second one


def test_signing_up_for_an_address_opens_nothing_before_its_code_is_typed(client: Client) -> None:
    from django.core import mail

    client.post("/account/signup/", {"email": "somebody@example.com"})
    assert client.get("/account/").status_code == 302
    (sent,) = mail.outbox
    assert sent.to == ["somebody@example.com"]
    # an address that has an account already is answered alike: nobody learns who is a customer
    known = make.user()
    fresh = Client().post("/account/signup/", {"email": "another@example.com"})
    taken = Client().post("/account/signup/", {"email": known.email})
    assert (fresh.status_code, fresh["Location"]) == (taken.status_code, taken["Location"])


def test_the_code_from_the_mail_opens_the_new_account(client: Client) -> None:
    from django.core import mail

    answer = client.post("/account/signup/", {"email": "new@example.com"})
    (sent,) = mail.outbox
    code = re.search(r"^[A-Z0-9]{3,4}-?[A-Z0-9]{3,4}$", sent.body, re.MULTILINE)
    assert code, sent.body
    client.post(answer["Location"], {"code": code[0]})
    page(client, "/account/")


def test_staff_sign_in_with_a_password_alone_needs_no_mailed_code(client: Client) -> None:
    from django.core import mail

    boss = make.staff()
    client.post("/admin/login/", {"username": boss.email, "password": "secret"})
    assert client.get("/admin/password_change/").status_code == 200
    assert mail.outbox == []


def test_german_pages_speak_german_prices(client: Client) -> None:
    connector = paying.connector()
    text = page(client, f"/c/{connector.code}", headers={"Accept-Language": "de"})
    assert '<html lang="de">' in text
    with translation.override("de"):
        (row, *_rest) = prices.price_table(Tariff.objects.get().ocpi).rows
    assert "," in row.amount
    assert row.amount in text


def test_the_payments_own_start_is_what_the_station_is_ordered(
    client: Client, box: Sandbox
) -> None:
    payment, url = paid(client, box)
    page(client, url)
    command = Command.objects.get(name="remote_start")
    assert command.args["token_uid"] == start.token_uid(payment.pk)
    assert payments.by_live_token(url.removeprefix("/s/")) == Payment.objects.get()
