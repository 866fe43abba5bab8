"""From a closed session to a document: who pays, what is held, what is let go."""

from datetime import timedelta
from decimal import Decimal

import pytest
from django.db import transaction
from django.utils import timezone

from billing import invoicing, ledger, settlement, tariffs
from billing.models import Charge, Invoice
from billing.models.ledger import AccountKind
from billing.usage import from_json, to_json, usage_of
from monitoring.models import Session
from stations import journal
from tests import make

pytestmark = pytest.mark.django_db


def settle(session: Session) -> Charge:
    charge = settlement.settle(session.pk)
    assert charge is not None
    return charge


def test_a_drivers_token_is_priced_and_invoiced() -> None:
    make.tariff()
    make.seller()
    driver = make.user(language="de", name="Erika Muster")
    session = make.session(make.station(site=make.site()), token=make.token(user=driver))
    charge = settle(session)
    assert charge.state == Charge.State.INVOICED
    # 10 kWh at 0.40 and a start of 1.00, 19 % on top
    assert (charge.net.amount, charge.vat.amount, charge.gross.amount) == (
        Decimal("5.000"),
        Decimal("0.950"),
        Decimal("5.950"),
    )
    invoice = charge.invoice
    year = invoice.issued_at.year
    assert (invoice.number, invoice.gross_minor) == (f"R-{year}-000001", 595)
    assert invoice.language == "de"
    assert invoice.snapshot["customer"]["name"] == "Erika Muster"
    assert [line["dimension"] for line in invoice.snapshot["lines"]] == ["FLAT", "ENERGY"]
    assert ledger.balance(kind=AccountKind.RECEIVABLE, owner=f"driver:{driver.pk}") == {"EUR": 595}
    assert ledger.balance(kind=AccountKind.REVENUE) == {"EUR": -500}
    assert ledger.balance(kind=AccountKind.VAT, owner="DE 19") == {"EUR": -95}


def test_settling_again_changes_nothing() -> None:
    make.tariff()
    make.seller()
    session = make.session(make.station(), token=make.token(user=make.user()))
    first = settle(session)
    again = settle(session)
    assert (again.pk, again.version, Invoice.objects.count()) == (first.pk, first.version, 1)


def test_the_price_is_the_one_in_force_when_the_session_began() -> None:
    make.seller()
    old = make.tariff(id="park")
    session = make.session(
        make.station(),
        token=make.token(user=make.user()),
        state=Session.State.ACTIVE,
        stopped_at=None,
        closed_at=None,
    )
    charge = settlement.open_charge(session)
    new = make.ocpi_tariff({"type": "ENERGY", "price": 9.99}, id="park")
    tariffs.publish(new)
    Session.objects.filter(pk=session.pk).update(
        state=Session.State.CLOSED,
        stopped_at=timezone.now(),
        closed_at=timezone.now(),
    )
    charge = settle(session)
    assert charge.tariff == old
    assert charge.gross_minor == 595


def test_a_session_nobody_answers_for_is_held() -> None:
    make.tariff()
    make.seller()
    charge = settle(make.session(make.station(), token_uid="STRANGER"))
    assert (charge.state, charge.hold_reason) == (Charge.State.HELD, Charge.Hold.NO_PAYER)
    assert Invoice.objects.count() == 0


def test_a_held_session_goes_on_when_its_token_has_an_owner() -> None:
    make.tariff()
    make.seller()
    charge = settle(make.session(make.station(), token_uid="STRANGER"))
    assert settlement.resume(charge).state == Charge.State.HELD
    make.token(uid="stranger", user=make.user())
    charge.refresh_from_db()
    assert settlement.resume(charge).state == Charge.State.INVOICED


def test_a_session_without_a_tariff_is_held_never_free() -> None:
    make.seller()
    charge = settle(make.session(make.station(), token=make.token(user=make.user())))
    assert (charge.state, charge.hold_reason) == (Charge.State.HELD, Charge.Hold.NO_TARIFF)
    charge = settlement.resume(charge, tariff=make.tariff())
    assert (charge.state, charge.gross_minor) == (Charge.State.INVOICED, 595)


def test_a_doubtful_session_is_held_until_a_person_decides() -> None:
    make.tariff()
    make.seller()
    session = make.session(make.station(), token=make.token(user=make.user()), review="orphan-stop")
    charge = settle(session)
    assert (charge.state, charge.hold_reason, charge.note) == (
        Charge.State.HELD,
        Charge.Hold.DOUBTFUL,
        "orphan-stop",
    )
    Session.objects.filter(pk=session.pk).update(review="")
    assert settlement.resume(charge).state == Charge.State.INVOICED


def test_a_start_that_came_to_nothing_costs_nothing() -> None:
    make.tariff()
    make.seller()
    now = timezone.now()
    session = make.session(
        make.station(),
        token=make.token(user=make.user()),
        started_at=now - timedelta(minutes=3),
        stopped_at=now - timedelta(minutes=1),
        closed_at=now,
        energy_wh=20,
    )
    charge = settle(session)
    assert (charge.state, charge.gross_minor) == (Charge.State.WAIVED, 0)


def test_a_short_session_whose_register_cannot_be_read_is_held_never_free() -> None:
    make.tariff()
    make.seller()
    now = timezone.now()
    session = make.session(
        make.station(),
        token=make.token(user=make.user()),
        started_at=now - timedelta(minutes=3),
        stopped_at=now - timedelta(minutes=1),
        closed_at=now,
        energy_wh=0,
        energy_source="",
        flags=["bad-value"],
    )
    charge = settle(session)
    assert (charge.state, charge.hold_reason) == (Charge.State.HELD, Charge.Hold.NO_ENERGY)


def test_a_house_account_is_invoiced_for_its_month_once() -> None:
    make.tariff()
    make.seller()
    token = make.token()
    account = make.house_account(token, language="de")
    station = make.station(site=make.site())
    sessions = [make.session(station, token=token) for _ in range(3)]
    assert {settle(session).state for session in sessions} == {Charge.State.UNPAID}
    this = timezone.now()
    (invoice,) = invoicing.invoice_month(account, this.year, this.month)
    assert (invoice.gross_minor, len(invoice.snapshot["sessions"])) == (3 * 595, 3)
    assert invoicing.invoice_month(account, this.year, this.month) == []
    assert set(Charge.objects.values_list("state", "invoice")) == {("invoiced", invoice.pk)}
    assert ledger.balance(owner=f"house:{account.pk}") == {"EUR": 1785}


def test_the_news_of_a_closed_session_settles_it(settings) -> None:
    make.tariff()
    make.seller()
    session = make.session(make.station(), token=make.token(user=make.user()))
    with journal.transaction.atomic():
        journal.record("session.closed", session)
    journal.catch_up()
    charge = Charge.objects.get(session=session)
    assert charge.state == Charge.State.INVOICED
    assert set(charge.invoice.files.values_list("format", flat=True)) == {"pdf", "xml"}
    assert [mail.state for mail in charge.invoice.mails.all()] == ["sent"]


# --- usage --------------------------------------------------------------------------------------


def said(session: Session, minutes: float, status: str) -> None:
    at = session.started_at + timedelta(minutes=minutes)
    with journal.transaction.atomic():
        journal.record(
            "connector.status_changed",
            session.connector,
            status=status,
            at=at.isoformat(),
        )


def timeline(session: Session) -> list[tuple[int, int, str]]:
    rows = []
    for period in usage_of(session).periods:
        kind = "charging" if period.charging_s else "parking" if period.parking_s else "paused"
        minutes = (period.end - period.start).total_seconds() / 60
        rows.append((round(minutes), period.wh, kind))
    return rows


def test_energy_follows_the_readings_and_sums_to_the_session() -> None:
    session = make.session(make.station())  # 60 min, 10 kWh, then gone
    for minutes, wh in [(15, 4000.4), (30, 7000.9), (20, 6000), (45, 6500), (50, 12_000)]:
        make.reading(session, minutes, wh)
    # 45 min fell behind, 50 min is above the result: both are passed over.
    assert timeline(session) == [
        (15, 4000, "charging"),
        (5, 2000, "charging"),
        (10, 1000, "charging"),
        (30, 3000, "charging"),
    ]


def test_parking_is_when_the_vehicle_asks_for_nothing() -> None:
    session = make.session(make.station())
    said(session, 0, "Charging")
    said(session, 20, "SuspendedEVSE")
    said(session, 30, "Charging")
    said(session, 40, "SuspendedEV")
    assert timeline(session) == [
        (20, 3333, "charging"),
        (10, 1667, "paused"),
        (10, 1667, "charging"),
        (20, 3333, "parking"),
    ]


def test_after_the_stop_the_vehicle_is_parked_until_the_bay_is_free() -> None:
    session = make.session(make.station())
    Session.objects.filter(pk=session.pk).update(
        stopped_at=session.started_at + timedelta(minutes=30)
    )
    session.refresh_from_db()
    assert timeline(session) == [(30, 10_000, "charging"), (30, 0, "parking")]


def test_what_the_connector_said_before_the_session_is_not_its_parking() -> None:
    session = make.session(make.station())
    said(session, -30, "Finishing")
    said(session, -1, "Preparing")
    assert timeline(session) == [(60, 10_000, "charging")]


def test_the_order_in_which_readings_arrive_changes_nothing() -> None:
    first, second = (make.session(make.station()) for _ in range(2))
    Session.objects.filter(pk=second.pk).update(started_at=first.started_at)
    second.refresh_from_db()
    marks = [(10, 2000), (20, 3500), (40, 9000)]
    for minutes, wh in marks:
        make.reading(first, minutes, wh)
    for minutes, wh in reversed(marks):
        make.reading(second, minutes, wh)
    assert [p[1] for p in timeline(first)] == [p[1] for p in timeline(second)]


def test_usage_survives_being_kept() -> None:
    session = make.session(make.station())
    make.reading(session, 10, 2000, current_l1_a=16.0, current_l2_a=15.9, current_l3_a=16.1)
    usage = usage_of(session)
    assert from_json(to_json(usage)) == usage


# --- corrections --------------------------------------------------------------------------------


def corrected(session: Session, wh: int) -> None:
    """A late stop says another energy."""
    Session.objects.filter(pk=session.pk).update(energy_wh=wh)
    with journal.transaction.atomic():
        journal.record("session.corrected", session, energy_wh=wh, previous_wh=session.energy_wh)
    journal.catch_up()


def test_less_energy_after_the_invoice_is_a_credit_note_and_a_new_invoice() -> None:
    make.tariff()
    make.seller()
    session = make.session(make.station(), token=make.token(user=make.user()))
    charge = settle(session)
    corrected(session, 8_000)
    corrected(session, 8_000)
    (note,) = charge.invoice.corrections.all()
    assert note.gross_minor == -595
    charge.refresh_from_db()
    assert charge.invoice.gross_minor == 500  # 2 kWh at 0.40 and 19 % less
    assert ledger.balance(kind=AccountKind.RECEIVABLE) == {"EUR": 500}
    parts = {line["dimension"]: line["gross_minor"] for line in note.snapshot["lines"]}
    assert parts == {"ENERGY": -476, "FLAT": -119}


def test_more_energy_after_the_invoice_is_not_billed() -> None:
    make.tariff()
    make.seller()
    session = make.session(make.station(), token=make.token(user=make.user()))
    charge = settle(session)
    corrected(session, 12_000)
    assert charge.invoice.corrections.count() == 0
    news = journal.Entry.objects.get(kind="charge.differs")
    assert (news.data["billed_minor"], news.data["right_minor"]) == (595, 690)


def test_a_correction_before_the_month_is_invoiced_changes_the_price_itself() -> None:
    make.tariff()
    make.seller()
    token = make.token()
    make.house_account(token)
    session = make.session(make.station(), token=token)
    assert settle(session).gross_minor == 595
    corrected(session, 12_000)
    assert Charge.objects.get().gross_minor == 690


@pytest.mark.parametrize(("fee", "state"), [(False, "closed"), (True, "stopped")])
def test_a_stopped_session_closes_at_once_unless_occupancy_costs(fee: bool, state: str) -> None:
    energy = {"type": "ENERGY", "price": 0.4, "vat": 19.0, "step_size": 1}
    parking = {"type": "PARKING_TIME", "price": 6.0, "vat": 19.0, "step_size": 1}
    make.tariff(energy, *([parking] if fee else []))
    session = make.session(make.station(), state="stopped", closed_at=None)
    with transaction.atomic():
        journal.record("session.stopped", session, energy_wh=session.energy_wh)
    journal.catch_up()
    session.refresh_from_db()
    assert session.state == state
    assert (session.closed_at == session.stopped_at) is not fee
