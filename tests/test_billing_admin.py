"""Billing's back office as staff use it."""

import json

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from billing import settlement, tariffs
from billing.models import Charge, Invoice, Mail, Tariff, TariffAssignment
from tests import make

pytestmark = pytest.mark.django_db


@pytest.fixture
def staff() -> Client:
    client = Client()
    client.force_login(make.staff())
    return client


@pytest.fixture
def bill() -> Charge:
    make.tariff()
    make.seller()
    driver = make.user(name="Erika Muster")
    session = make.session(make.station(site=make.site()), token=make.token(user=driver))
    charge = settlement.settle(session.pk)
    assert charge is not None
    return charge


def text(client: Client, name: str, *args: object) -> str:
    response = client.get(reverse(f"admin:{name}", args=args))
    assert response.status_code == 200
    return response.content.decode()


MODELS = (
    "tariff", "tariffassignment", "charge", "invoice", "seller", "series", "mail",
    "houseaccount", "entry", "account", "posting", "movement", "drivergroup", "wallet", "voucher",
)  # fmt: skip


@pytest.mark.parametrize("model", MODELS)
def test_every_list_opens_and_its_queries_do_not_grow(
    staff: Client, bill: Charge, model: str, django_assert_max_num_queries
) -> None:
    make.house_account()
    text(staff, f"billing_{model}_changelist")  # once for what is cached
    with django_assert_max_num_queries(16) as few:
        text(staff, f"billing_{model}_changelist")
    for _ in range(4):
        station = make.station(site=make.site())
        settlement.settle(make.session(station, token=make.token(user=make.user())).pk)
        tariffs.assign(bill.tariff.key, station)
        make.house_account()
    with django_assert_max_num_queries(len(few.captured_queries)):
        text(staff, f"billing_{model}_changelist")


def test_the_lists_can_be_exported(staff: Client, bill: Charge) -> None:
    for model in ("charge", "invoice", "entry", "tariff"):
        address = reverse(f"admin:billing_{model}_export", args=["csv"])
        response = staff.get(address)
        assert response.status_code == 200
        assert len(b"".join(response).splitlines()) > 1


def test_a_tariff_is_made_of_a_few_prices_and_read_back_in_words(staff: Client) -> None:
    response = staff.post(
        reverse("admin:billing_tariff_add"),
        {
            "name": "City AC",
            "valid_from_0": "2026-01-01",
            "valid_from_1": "00:00:00",
            "currency": "EUR",
            "kwh": "0.49",
            "start": "0.35",
            "minute": "0.10",
            "free_minutes": "240",
            "vat": "19",
            "includes_vat": "on",
            "ocpi": "",
        },
    )
    assert response.status_code == 302, response.context["adminform"].form.errors
    tariff = Tariff.objects.get()
    assert (tariff.key, tariff.version, tariff.currency) == ("city-ac", 1, "EUR")
    page = text(staff, "billing_tariff_change", tariff.pk)
    for words in (
        "€0.49 per kWh",
        "€0.10 per minute of occupancy after charging, after 4 h",
        "€0.35 per session",
        "20 kWh in 45 min: <b>€10.15</b>",
    ):
        assert words in page


def test_a_wrong_tariff_is_refused_with_every_reason(staff: Client) -> None:
    wrong = {"currency": "EUR", "elements": [{"price_components": [{"type": "KWH", "price": 1}]}]}
    response = staff.post(
        reverse("admin:billing_tariff_add"),
        {
            "name": "X",
            "valid_from_0": "2026-01-01",
            "valid_from_1": "00:00:00",
            "ocpi": json.dumps(wrong),
        },
    )
    assert "must be ENERGY, TIME, PARKING_TIME or FLAT" in response.content.decode()
    assert Tariff.objects.count() == 0


def test_a_used_version_is_frozen_and_the_next_one_follows_it(staff: Client, bill: Charge) -> None:
    tariff = bill.tariff
    page = text(staff, "billing_tariff_change", tariff.pk)
    assert 'name="ocpi"' not in page
    assert f"?version_of={tariff.pk}" in page
    again = staff.get(reverse("admin:billing_tariff_add"), {"version_of": tariff.pk})
    assert "ENERGY" in again.content.decode()
    ocpi = tariff.ocpi | {"max_price": {"before_taxes": 20.0}}
    staff.post(
        reverse("admin:billing_tariff_add"),
        {
            "name": tariff.name,
            "valid_from_0": f"{timezone.now():%Y-%m-%d}",
            "valid_from_1": "00:00:00",
            "ocpi": json.dumps(ocpi),
        },
    )
    versions = list(Tariff.objects.order_by("version").values_list("key", "version"))
    assert versions == [(tariff.key, 1), (tariff.key, 2)]


def test_an_assignment_has_exactly_one_target(staff: Client, bill: Charge) -> None:
    key = bill.tariff.key
    site = make.site()
    address = reverse("admin:billing_tariffassignment_add")
    response = staff.post(address, {"key": key})
    assert "Choose exactly one" in response.content.decode()
    assert staff.post(address, {"key": key, "site": site.pk}).status_code == 302
    assert TariffAssignment.objects.filter(site=site).exists()


def test_the_story_of_a_bill_is_on_one_page(staff: Client, bill: Charge) -> None:
    page = text(staff, "billing_charge_change", bill.pk)
    for words in ("€5.95", "Electricity", "10 kWh", bill.invoice.number, "revenue:energy:EUR"):
        assert words in page
    listed = text(staff, "billing_tariffassignment_changelist")
    assert "€0.476 per kWh" in listed


def test_a_held_charge_is_released_with_a_tariff(staff: Client) -> None:
    make.seller()
    charge = settlement.settle(make.session(make.station(), token=make.token(user=make.user())).pk)
    assert "no tariff was in force" in text(staff, "billing_charge_change", charge.pk)
    tariff = make.tariff()
    staff.post(reverse("admin:billing_charge_release", args=[charge.pk]), {"tariff": tariff.pk})
    charge.refresh_from_db()
    assert charge.state == Charge.State.INVOICED


def test_held_charges_are_released_from_the_list(staff: Client) -> None:
    make.seller()
    driver = make.user()
    charges = [
        settlement.settle(make.session(make.station(), token=make.token(user=driver)).pk)
        for _ in range(2)
    ]
    make.tariff()
    staff.post(
        reverse("admin:billing_charge_changelist"),
        {"action": "release_selected", "_selected_action": [charge.pk for charge in charges]},
    )
    assert set(Charge.objects.values_list("state", flat=True)) == {"invoiced"}


def test_a_held_charge_is_waived_with_a_reason_only(staff: Client) -> None:
    make.tariff()
    charge = settlement.settle(make.session(make.station()).pk)
    address = reverse("admin:billing_charge_waive", args=[charge.pk])
    staff.post(address, {"note": " "})
    charge.refresh_from_db()
    assert charge.state == Charge.State.HELD
    staff.post(address, {"note": "Fire brigade"})
    charge.refresh_from_db()
    assert (charge.state, charge.note) == (Charge.State.WAIVED, "Fire brigade")


def test_finance_previews_sends_again_and_credits_a_document(client: Client, bill: Charge) -> None:
    client.force_login(make.member("Finance"))
    staff, invoice = client, bill.invoice
    assert "As the customer sees it" in text(staff, "billing_invoice_change", invoice.pk)
    pdf = staff.get(reverse("admin:billing_invoice_pdf", args=[invoice.pk]))
    assert pdf.content.startswith(b"%PDF-")
    staff.post(
        reverse("admin:billing_invoice_send", args=[invoice.pk]), {"to": "other@example.com"}
    )
    assert Mail.objects.filter(invoice=invoice, to="other@example.com").count() == 1
    credit = reverse("admin:billing_invoice_credit", args=[invoice.pk])
    for _ in range(2):  # pressed twice
        staff.post(credit, {"amount": "1.00", "reason": "Goodwill", "once": "7"})
    (note,) = Invoice.objects.filter(kind=Invoice.Kind.CREDIT_NOTE)
    assert note.gross_minor == -100
    response = staff.post(credit, {"amount": "99", "reason": "x", "once": "8"}, follow=True)
    assert "At most 4.95 EUR" in response.content.decode()


def test_nobody_edits_documents_charges_or_the_ledger(staff: Client, bill: Charge) -> None:
    for model in ("invoice", "charge", "entry", "posting", "series"):
        assert staff.get(reverse(f"admin:billing_{model}_add")).status_code == 403


def test_staff_of_other_sites_do_not_see_a_charge(bill: Charge) -> None:
    other = make.staff()
    other.is_superuser = False
    other.save()
    from django.contrib.auth.models import Permission

    other.user_permissions.set(Permission.objects.filter(codename__endswith="charge"))
    other.sites.add(make.site())
    client = Client()
    client.force_login(other)
    assert client.get(reverse("admin:billing_charge_change", args=[bill.pk])).status_code == 404
