"""A bill explained: stretches that sum to it, and documents that can be computed again."""

import json
from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from billing import corrections, invoicing, replays, settlement, timeline
from billing.models import Charge, Invoice, Payment, PriceInputs
from billing.portal import links
from tests import make, paying

MIXED = (
    {"type": "ENERGY", "price": 0.4117, "vat": 19.0, "step_size": 500},
    {"type": "PARKING_TIME", "price": 6.0, "vat": 19.0, "step_size": 300},
    {"type": "FLAT", "price": 0.35, "vat": 7.0, "step_size": 1},
)


def settled(*components: dict[str, Any], token: Any = None, **tariff: Any) -> Charge:
    """A settled session of an hour's charging, read three times, and 17 minutes of parking."""
    make.tariff(*(components or MIXED), **tariff)
    now = timezone.now().replace(microsecond=0)
    session = make.session(
        make.station(),
        token=token or make.token(user=make.user()),
        started_at=now - timedelta(hours=2),
        stopped_at=now - timedelta(hours=1),
        closed_at=now - timedelta(minutes=43),
        energy_wh=10_007,
    )
    for minute, wh in ((7, 1111), (23, 4003), (41, 7777)):
        make.reading(session, minute, wh)
    charge = settlement.settle(session.pk)
    assert charge is not None
    return charge


@pytest.mark.parametrize("tax", ["NO", "YES"])
def test_the_stretches_and_their_adjustments_sum_to_the_bill_to_the_cent(
    db: None, tax: str
) -> None:
    make.seller()
    charge = settled(tax_included=tax)
    found = timeline.timeline_of(charge)
    assert found.minor == charge.gross_minor == charge.invoice.gross_minor
    assert sum(row.period.wh for row in found.rows) == 10_007
    steps = [a for a in found.adjustments if a.kind == timeline.STEP]
    assert {a.dimension for a in steps} == {"ENERGY", "PARKING_TIME"}  # 500 Wh, 5 minutes
    parts = [part for row in found.rows for part in row.parts]
    assert {part.dimension for part in parts} == {"ENERGY", "PARKING_TIME", "FLAT"}


def test_limits_and_caps_are_rows_of_their_own(db: None) -> None:
    make.seller()
    charge = settled(max_price={"excl_vat": 2.00})
    found = timeline.timeline_of(charge)
    assert found.minor == charge.gross_minor
    assert "LIMIT" in {adjustment.kind for adjustment in found.adjustments}


def test_what_was_waived_is_shown_and_sums_to_nothing(db: None) -> None:
    charge = settled()  # without a seller it waits
    settlement.waive(charge, "Faulty plug")
    charge.refresh_from_db()
    found = timeline.timeline_of(charge)
    assert found.minor == 0
    assert found.adjustments[-1].kind == timeline.WAIVER
    assert found.adjustments[-1].minor == -(charge.gross_minor or 0)


def test_readings_at_the_same_price_are_one_row_to_read(db: None) -> None:
    make.seller()
    found = timeline.timeline_of(settled())
    rows = timeline.in_words(found, "en")["rows"]
    assert len(found.rows) > len(rows)
    assert [row["kind"] for row in rows][-1] == "Occupied after charging"
    merged = timeline.merged(found.rows)
    assert sum(row.minor for row in merged) == sum(row.minor for row in found.rows)


def test_a_session_not_priced_has_no_timeline(db: None) -> None:
    session = make.session(make.station())
    charge = settlement.open_charge(session)
    with pytest.raises(settlement.NotNow):
        timeline.timeline_of(charge)


def paid(box: Any, hold_minor: int = 3000) -> tuple[Payment, Charge]:
    """A session paid by card at the charger, of an hour and 10 kWh."""
    payment = paying.held(box, hold_minor=hold_minor)
    now = timezone.now()
    ended = {"state": "closed", "stopped_at": now, "closed_at": now}
    session = paying.session_of(payment, started_at=now - timedelta(hours=1), **ended)
    charge = settlement.settle(session.pk)
    assert charge is not None
    return payment, charge


# --- the same bytes again -------------------------------------------------------------------------


def explained(invoice: Invoice) -> dict[str, Any]:
    out = StringIO()
    call_command("invoices", "explain", invoice.number, json=True, stdout=out)
    found: dict[str, Any] = json.loads(out.getvalue())
    return found


def test_documents_computed_again_are_the_same_bytes(db: None) -> None:
    make.seller()
    charge = settled()
    note = corrections.credit(charge.invoice, 100, "Goodwill", key="part")
    token = make.token()
    dealer = make.house_account(token, country="NL", vat_id="NL1B01", reverse_charge=True)
    settled(token=token)
    now = timezone.now()
    (monthly,) = invoicing.invoice_month(dealer, now.year, now.month)
    for invoice in (charge.invoice, note, monthly):
        found = explained(invoice)
        assert found["identical"]
        assert found["sha256"] == invoice.sha256
    assert explained(charge.invoice)["sessions"][0]["rows"]


def test_inputs_that_were_changed_are_told(db: None) -> None:
    make.seller()
    invoice = settled().invoice
    kept = PriceInputs.objects.get()
    kept.content["usage"]["periods"].pop()
    kept.save()
    assert any("were changed" in wrong for wrong in replays.replayed(invoice).wrong)
    with pytest.raises(CommandError, match="were changed"):
        call_command("invoices", "explain", invoice.number)


def test_a_bill_taken_back_and_issued_anew_is_computed_again_with_both_usages(db: None) -> None:
    make.seller()
    charge = settled()
    first = charge.invoice
    session = charge.session
    session.energy_wh = 9_000
    session.save()
    settlement.correct(session)
    charge.refresh_from_db()
    assert charge.invoice != first
    documents = [first, *first.corrections.all(), charge.invoice]
    assert len(documents) == 3
    for invoice in documents:
        assert replays.replayed(invoice).wrong == []


def test_a_payment_that_could_not_be_collected_in_full_is_computed_again(
    db: None, box: Any
) -> None:
    make.seller()
    make.tariff()
    _payment, charge = paid(box, 300)
    assert charge.gross_minor == 300
    assert replays.replayed(charge.invoice).wrong == []
    found = timeline.timeline_of(charge)
    assert found.minor == 300
    assert "RESERVED_AMOUNT" in {adjustment.kind for adjustment in found.adjustments}


# --- the pages ------------------------------------------------------------------------------------


def test_staff_see_every_stretch(db: None, client: Any) -> None:
    make.seller()
    charge = settled()
    client.force_login(make.staff())
    page = client.get(f"/admin/billing/charge/{charge.pk}/explained/").content.decode()
    assert "Occupied after charging" in page
    assert "rounded up to the tariff" in page
    assert charge.invoice.number in page


def test_drivers_see_their_own_and_nobody_elses(db: None, client: Any) -> None:
    make.seller()
    driver = make.user()
    charge = settled(token=make.token(user=driver))
    address = f"/account/sessions/{charge.session_id}"
    client.force_login(driver)
    assert "How it adds up" in client.get(address).content.decode()
    client.force_login(make.user())
    assert client.get(address).status_code == 404


def test_who_holds_the_receipt_sees_the_stretches(db: None, box: Any, client: Any) -> None:
    make.seller()
    make.tariff()
    payment, charge = paid(box)
    token = links.receipt_token(payment)
    assert "How it adds up" in client.get(f"/r/{token}/explained").content.decode()
    for form in ("cii", "ubl"):
        answer = client.get(f"/r/{token}/{charge.invoice.number}-{form}.xml")
        assert answer["Content-Type"] == "application/xml"
    assert client.get(f"/r/{token}/{charge.invoice.number}-odt.xml").status_code == 404


def test_a_receipt_without_a_bill_opens_no_document_at_all(db: None, box: Any, client: Any) -> None:
    make.seller()
    strangers = settled().invoice
    token = links.receipt_token(paying.held(box))
    assert client.get(f"/r/{token}/{strangers.number}.pdf").status_code == 404
    assert client.get(f"/r/{token}/{strangers.number}-cii.xml").status_code == 404
