"""What the portal promises: who may stop, what a page says first, errors, filters, companies."""

from datetime import timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from django.contrib.auth.models import AnonymousUser
from django.test import Client, RequestFactory
from django.utils import timezone

from billing import payments, tariffs
from billing.models import Charge, Payment, Tariff
from billing.ocpi import read_tariff
from billing.portal import errors, links, places, prices
from billing.portal.forms import check_vat_id
from billing.sandbox.engine import Sandbox
from monitoring.models import Session
from stations.models import Command, Connector, Station
from tests import make, paying
from tests.test_paid_sessions import close
from tests.test_portal import page, paid, press_pay
from tests.test_portal import priced as priced

pytestmark = pytest.mark.django_db


# --- who may do what, and what a page says --------------------------------------------------------


def charging(client: Client, box: Sandbox, **fields: Any) -> tuple[Payment, str]:
    """A paid session that runs, and its live page."""
    payment, url = paid(client, box)
    page(client, url)
    paying.session_of(payment, **fields)
    payment.refresh_from_db()
    return payment, url


def test_a_shared_link_shows_the_session_and_stops_nothing(client: Client, box: Sandbox) -> None:
    payment, url = charging(client, box)
    friend = Client()
    text = page(friend, url)
    assert "You are watching" in text
    assert "Stop charging" not in text
    friend.cookies[links.cookie_name(payment)] = url.removeprefix("/s/")  # all a link tells
    for action in ("/stop", "/cancel"):
        assert "Only the phone that paid" in page_posted(friend, url + action, 403)
    assert not Command.objects.filter(name="remote_stop").exists()
    assert "Stop charging" in page(client, url)


def page_posted(client: Client, url: str, status: int) -> str:
    answer = client.post(url)
    assert answer.status_code == status
    return answer.content.decode()


def test_the_way_back_from_the_bank_brings_the_key_and_takes_it_out_of_the_address(
    client: Client, box: Sandbox
) -> None:
    payment, url = charging(client, box)
    other_browser = Client()
    answer = other_browser.get(f"{url}?key={links.stop_key(payment)}&payment_intent=pi_x")
    assert (answer.status_code, answer["Location"]) == (302, url)
    assert "Stop charging" in page(other_browser, url)
    assert Client().get(f"{url}?key=wrong").cookies == {}


def test_who_paid_while_signed_in_may_stop_from_any_browser(client: Client, box: Sandbox) -> None:
    driver = make.user()
    client.force_login(driver)
    _payment, url = charging(client, box)
    elsewhere, stranger = Client(), Client()
    elsewhere.force_login(driver)
    stranger.force_login(make.user())
    assert "Stop charging" in page(elsewhere, url)
    assert "Stop charging" not in page(stranger, url)


def test_only_who_paid_is_led_to_the_receipt(client: Client, box: Sandbox) -> None:
    payment, url = charging(client, box, started_at=timezone.now() - timedelta(hours=1))
    assert payment.session is not None
    close(payment.session, 10_000)
    assert "Show the receipt" in page(client, url)
    assert "Show the receipt" not in page(Client(), url)


@pytest.mark.parametrize(
    ("status", "word", "text"),
    [
        ("Available", "Free", "No cable is plugged in yet"),
        ("Preparing", "Plugged in", "The cable is plugged in"),
        ("Occupied", "Plugged in", "The cable is plugged in"),
        ("Finishing", "Plugged in", "The last session is over"),
        ("Unknown", "Unknown", "No cable is plugged in yet"),
    ],
)
def test_the_page_says_what_to_do_first_where_paying_is_possible(
    client: Client, box: Sandbox, status: str, word: str, text: str
) -> None:
    row = paying.connector()
    Connector.objects.filter(pk=row.pk).update(status=status)
    shown = page(client, f"/c/{row.code}")
    assert f"</span>{word}</span>" in shown
    assert text in shown
    assert 'data-offer="yes"' in shown
    assert "Pay and start charging" in shown


def test_a_cable_left_from_the_last_session_is_not_taken_for_yours(
    client: Client, box: Sandbox
) -> None:
    row = paying.connector()
    Connector.objects.filter(pk=row.pk).update(status="Occupied")
    make.session(row.station, connector=row, state="stopped", closed_at=None)
    assert "The last session is over" in page(client, f"/c/{row.code}")


@pytest.mark.parametrize(
    ("power_w", "said"),
    [
        (3_700, "20 kWh at 3.7 kW, which takes 5 h 25 min"),
        (11_000, "20 kWh at 11 kW, which takes 1 h 50 min"),
        (150_000, "20 kWh at 150 kW, which takes 8 min"),
    ],
)
def test_the_example_is_a_session_of_this_connectors_power(
    client: Client, box: Sandbox, power_w: int, said: str
) -> None:
    row = paying.connector()
    Connector.objects.filter(pk=row.pk).update(max_power_w=power_w)
    assert said in page(client, f"/c/{row.code}")


def test_the_examples_minutes_are_priced(client: Client, box: Sandbox) -> None:
    plan = read_tariff(per_minute())
    slow, fast = (
        prices.example_of(plan, ZoneInfo("UTC"), timezone.now(), power)
        for power in (11_000, 150_000)
    )
    assert (slow.cost, fast.cost) == ("€110.00", "€8.00")  # 1.00 a minute


def per_minute() -> dict[str, Any]:
    part = {"type": "TIME", "price": 60, "step_size": 60}
    return {
        "country_code": "DE", "party_id": "ABC", "id": "minutes", "currency": "EUR",
        "tax_included": "YES", "last_updated": "2026-01-01T00:00:00Z",
        "elements": [{"price_components": [part]}],
    }  # fmt: skip


# --- pages for what went wrong --------------------------------------------------------------------


@pytest.mark.parametrize("debug", [True, False])
def test_a_mistyped_code_is_answered_by_our_page_also_while_debugging(
    client: Client, settings: Any, debug: bool
) -> None:
    settings.DEBUG = debug
    answer = client.get("/c/NOPE")
    text = answer.content.decode()
    assert answer.status_code == 404
    assert "Type the code once more" in text
    assert 'action="/c/"' in text
    assert "Show all stations" in text
    assert "default-src 'none'" in answer["Content-Security-Policy"]
    assert "Traceback" not in text
    assert "URLconf" not in text


def test_a_code_that_is_typed_leads_to_its_page(client: Client) -> None:
    row = paying.connector()
    assert client.get("/c/", {"code": f" {row.code.lower()} "})["Location"] == f"/c/{row.code}"
    assert client.get("/", {"q": row.code})["Location"] == f"/c/{row.code}"
    assert client.get("/c/")["Location"] == "/"
    assert "no charging point with this code" in page(client, "/c/?code=NOPE", 404)


def test_an_address_that_nothing_answers_is_our_page_while_debugging(
    rf: RequestFactory, settings: Any
) -> None:
    settings.DEBUG = True
    from django.http import HttpResponse

    technical = HttpResponse("Using the URLconf defined in …", status=404)
    middleware = errors.unknown_addresses(lambda request: technical)
    request = rf.get("/nowhere")
    request.user = AnonymousUser()
    assert "There is no such page." in middleware(request).content.decode()  # type: ignore[attr-defined]
    assert middleware(rf.get("/admin/nowhere")) is technical


def test_a_page_that_breaks_says_so_and_reports_it(
    client: Client, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.DEBUG = True
    monkeypatch.setattr(places, "found_sites", lambda want: 1 / 0)
    client.raise_request_exception = False
    text = page(client, "/", 500)
    assert "The fault is ours" in text
    assert "ZeroDivisionError" not in text


def test_a_form_without_its_cookie_says_what_to_do(box: Sandbox) -> None:
    strict = Client(enforce_csrf_checks=True)
    assert "Allow cookies for this site" in page_posted(strict, "/language/", 403)


# --- the list's filters ---------------------------------------------------------------------------


@pytest.fixture
def town() -> None:
    """A slow free charger in Berlin, a fast one in use in Munich."""
    berlin = make.site(name="Alex", city="Berlin", latitude="52.5219", longitude="13.4132")
    munich = make.site(name="Stachus", city="München", latitude="48.1391", longitude="11.5655")
    slow = make.station(public=True, connected=True, site=berlin, name="Slow")
    fast = make.station(public=True, connected=True, site=munich, name="Fast")
    Connector.objects.filter(station=slow).update(status="Available", max_power_w=11_000)
    Connector.objects.filter(station=fast).update(
        status="Charging", max_power_w=150_000, type="IEC_62196_T2_COMBO"
    )


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("", {"Slow", "Fast"}),
        ("type=IEC_62196_T2_COMBO", {"Fast"}),
        ("type=nonsense&kw=x", {"Slow", "Fast"}),
        ("kw=50", {"Fast"}),
        ("kw=11", {"Slow", "Fast"}),
        ("free=1", {"Slow"}),
        ("free=1&kw=50", set()),
        ("q=münchen", {"Fast"}),
    ],
)
def test_the_list_is_filtered_by_connector_power_and_what_is_free(
    client: Client, town: None, query: str, names: set[str]
) -> None:
    text = page(client, f"/?{query}")
    assert {name for name in ("Slow", "Fast") if f"<b>{name}</b>" in text} == names
    if not names:
        assert "No station fits" in text


def test_the_list_is_sorted_by_distance_where_a_position_is_given(
    client: Client, town: None
) -> None:
    near_munich = page(client, "/?at=48.2,11.6")
    assert near_munich.index("<b>Fast</b>") < near_munich.index("<b>Slow</b>")
    assert "7.2 km away" in near_munich
    near_berlin = page(client, "/?at=52.5,13.4")
    assert near_berlin.index("<b>Slow</b>") < near_berlin.index("<b>Fast</b>")
    for nonsense in ("", "x", "1", "91,0", "nan,nan", "0,200"):
        assert "away" not in page(client, f"/?at={nonsense}")


def test_the_list_says_what_electricity_costs(client: Client, town: None) -> None:
    short = prices.price_in_short(Tariff.objects.get().ocpi)
    assert "/ kWh" in short
    assert page(client, "/").count(short) == 2
    assert prices.price_in_short(per_minute()) == "by time or session"
    assert prices.price_in_short({"id": "broken"}) == ""


def test_each_station_is_listed_with_the_tariff_in_force_there(client: Client, town: None) -> None:
    tariffs.publish(per_minute())
    fast = Station.objects.get(name="Fast")
    tariffs.assign("minutes", fast)
    now = timezone.now()
    every = list(Station.objects.all())
    found = tariffs.in_force_at(every, now)
    assert {pk: row.key for pk, row in found.items()} == {
        station.pk: Tariff.objects.all().in_force(station, now).key for station in every
    }
    assert found[fast.pk].key == "minutes"


# --- company details and the receipt --------------------------------------------------------------


def test_a_companys_details_are_on_the_invoice(client: Client, box: Sandbox) -> None:
    given = {"company": "Fleet AG", "vat_id": "de 123 456 789", "street": "Ring 1"}
    given |= {"postcode": "10115", "city": "Berlin", "country": "DE"}
    press_pay(client, paying.connector(), **given)
    payment = Payment.objects.get()
    assert payment.billing_details == given | {"vat_id": "DE123456789"}
    paying.control.pay(box, paying.intent_of(payment))
    payments.returned(payment)
    close(paying.session_of(payment, started_at=timezone.now() - timedelta(hours=1)), 10_000)
    invoice = Charge.objects.get().invoice
    assert invoice is not None
    customer = invoice.snapshot["customer"]
    assert (customer["name"], customer["vat_id"]) == ("Fleet AG", "DE123456789")
    assert (customer["postcode"], customer["country"]) == ("10115", "DE")


@pytest.mark.parametrize(
    ("form", "words"),
    [
        ({"company": "Fleet AG", "vat_id": "DE12345"}, "This is no VAT number"),
        ({"company": "Fleet AG", "vat_id": "123456789"}, "This is no VAT number"),
        ({"vat_id": "DE123456789"}, "company&#x27;s name"),
        ({"street": "Ring 1", "country": "DE"}, "company&#x27;s name"),
    ],
)
def test_company_details_that_cannot_be_right_reserve_nothing(
    client: Client, box: Sandbox, form: dict[str, str], words: str
) -> None:
    answer = press_pay(client, paying.connector(), **form)
    assert (answer.status_code, Payment.objects.count()) == (400, 0)
    assert words.replace("&#x27;", "'") in answer.json()["error"]


@pytest.mark.parametrize(
    "number",
    [
        "ATU12345678",
        "BE0123456789",
        "NL123456789B01",
        "CHE-123.456.789 MWST",
        "EL123456789",
        "FRXX123456789",
    ],
)
def test_vat_numbers_of_other_countries_are_taken(number: str) -> None:
    assert check_vat_id(number)


def test_a_country_alone_asks_for_no_company(client: Client, box: Sandbox) -> None:
    assert press_pay(client, paying.connector(), country="DE").status_code == 200
    assert Payment.objects.get().billing_details == {}


def test_the_receipt_of_a_session_that_cost_nothing_says_why(client: Client, box: Sandbox) -> None:
    payment, _url = charging(client, box, started_at=timezone.now() - timedelta(minutes=3))
    session = payment.session
    assert session is not None
    Session.objects.filter(pk=session.pk).update(stopped_at=timezone.now(), energy_wh=0)
    payments.capture(payment, 0)
    payment.refresh_from_db()
    assert payment.state == "canceled"
    text = page(client, f"/r/{links.receipt_token(payment)}")
    assert "No charge" in text
    assert "No electricity flowed." in text
    assert "€30.00 are released" in text
    assert "<dd>0.00 kWh</dd>" in text
    assert "<dd>3 min</dd>" in text


def test_too_little_to_collect_is_said_with_its_amount(client: Client, box: Sandbox) -> None:
    payment, url = charging(client, box)
    now = timezone.now()
    Session.objects.update(stopped_at=now + timedelta(minutes=9), energy_wh=400)
    payments.capture(payment, 20)
    assert "The session cost €0.20: too little to collect" in page(client, url)


def test_a_session_that_came_to_nothing_is_said_to_have_done_so(
    client: Client, box: Sandbox
) -> None:
    payment, url = charging(client, box)
    Session.objects.update(stopped_at=timezone.now(), energy_wh=90)
    payments.capture(payment, 0)
    assert "ended before it had properly begun" in page(client, url)


def test_signing_in_is_one_form_that_asks_for_an_address_alone(client: Client) -> None:
    for url in ("/account/login/", "/account/login/code/"):
        text = page(client, url)
        assert text.count('type="email"') == 1
        assert 'type="password"' not in text
        assert text.count("Send me a code") == 1


def test_a_lost_connection_is_a_sentence(client: Client) -> None:
    text = page(client, "/")
    assert 'data-lost="No connection to the server: what you see may be old.' in text
    assert 'data-offline="Your phone is offline' in text
