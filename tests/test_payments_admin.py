"""Payments in the back office: the list, the story of one, giving money back."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import Permission
from django.test import Client

from billing import payments
from billing.models import Payment, Refund
from billing.sandbox import control
from billing.sandbox.engine import Sandbox
from stations.models import Entry
from tests import make, paying

pytestmark = pytest.mark.django_db
State = Payment.State


@pytest.fixture
def office(client: Client) -> Client:
    client.force_login(make.staff())
    return client


def collected(box: Sandbox) -> Payment:
    """2000 of 3000 collected."""
    payment = paying.held(box)
    paying.session_of(payment)
    return payments.capture(payment, 2000)


def url(payment: Payment, action: str = "change") -> str:
    return f"/admin/billing/payment/{payment.pk}/{action}/"


def test_the_list_needs_the_same_queries_for_one_and_for_many(
    box: Sandbox, office: Client, django_assert_max_num_queries: Any
) -> None:
    for _ in range(3):
        paying.held(box)
    with django_assert_max_num_queries(16):
        page = office.get("/admin/billing/payment/")
    assert page.status_code == 200
    assert page.content.decode().count("€30.00") == 3


def test_the_page_tells_the_whole_story(box: Sandbox, office: Client) -> None:
    payment = collected(box)
    paying.deliver(box)
    page = office.get(url(payment)).content.decode()
    for said in ("session priced", "€20.00", payment.provider_ref or "", "Give money back"):
        assert said in page
    assert "payment_intent.succeeded" in page


def test_money_is_given_back_with_amount_and_reason(box: Sandbox, office: Client) -> None:
    payment = collected(box)
    answer = office.post(url(payment, "refund"), {"amount": "5.50", "reason": "Cable stuck"})
    assert answer.status_code == 302
    refund = Refund.objects.get()
    assert (refund.amount_minor, refund.reason) == (550, "Cable stuck")
    assert refund.requested_by is not None
    assert "€5.50" in office.get(url(payment)).content.decode()
    assert Entry.objects.get(kind="refund.requested").actor == refund.requested_by


@pytest.mark.parametrize("amount", ["20.01", "0", "5.555", "x"])
def test_a_wrong_amount_is_refused_in_words(box: Sandbox, office: Client, amount: str) -> None:
    payment = collected(box)
    answer = office.post(url(payment, "refund"), {"amount": amount, "reason": "no"})
    assert (answer.status_code, Refund.objects.count()) == (302, 0)


def test_only_those_who_may_can_give_money_back(box: Sandbox, client: Client) -> None:
    payment = collected(box)
    reader = make.user(is_staff=True)
    reader.user_permissions.add(Permission.objects.get(codename="view_payment"))
    client.force_login(reader)
    page = client.get(url(payment)).content.decode()
    assert "Give money back" not in page
    assert client.post(url(payment, "refund"), {"amount": "1", "reason": "x"}).status_code == 403
    assert client.post(url(payment, "look")).status_code == 403
    assert client.post(url(payment, "write-off"), {"reason": "x"}).status_code == 403


def test_looking_at_the_provider_brings_a_payment_on(box: Sandbox, office: Client) -> None:
    payment = paying.begin().payment
    control.pay(box, paying.intent_of(payment))
    office.post(url(payment, "look"))
    payment.refresh_from_db()
    assert payment.state == State.AUTHORIZED


def test_what_could_not_be_collected_is_written_off_with_a_reason(
    box: Sandbox, office: Client
) -> None:
    payment = paying.held(box)
    paying.session_of(payment)
    control.expire(box, paying.intent_of(payment))
    payment = payments.returned(payment)
    assert payment.state == State.CAPTURE_EXPIRED
    office.post(url(payment, "write-off"), {"reason": " "})
    payment.refresh_from_db()
    assert payment.state == State.CAPTURE_EXPIRED
    office.post(url(payment, "write-off"), {"reason": "Not worth it"})
    payment.refresh_from_db()
    assert payment.state == State.WRITTEN_OFF


def test_staff_see_the_payments_of_their_sites_only(box: Sandbox, client: Client) -> None:
    payment = paying.held(box)
    here = make.site()
    person = make.staff()
    person.sites.add(here)
    client.force_login(person)
    assert client.get(url(payment)).status_code == 404
    station = payment.connector.station
    station.site = here
    station.save()
    assert client.get(url(payment)).status_code == 200
