"""Doubt favours the driver: each rule with the bill it makes, and the words on it."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from billing import corrections, documents, invoicing, ledger, settlement, tariffs
from billing.models import Charge, Entry, Invoice
from billing.models.ledger import AccountKind
from billing.usage import clock_of
from monitoring import evidence
from monitoring.models import Session
from stations import journal
from tests import make

pytestmark = pytest.mark.django_db

START = datetime(2026, 3, 3, 19, 0, tzinfo=UTC)  # a Tuesday, 20:00 in Berlin
NIGHT = [
    {
        "price_components": [{"type": "ENERGY", "price": 0.20, "vat": 19.0, "step_size": 1}],
        "restrictions": {"start_time": "22:00", "end_time": "06:00"},
    },
    {"price_components": [{"type": "ENERGY", "price": 0.50, "vat": 19.0, "step_size": 1}]},
]


def night_tariff(**fields: Any) -> None:
    tariffs.assign(
        tariffs.publish(
            make.ocpi_tariff(elements=NIGHT, id="night", **fields),
            valid_from=START - timedelta(days=365),
        ).key,
        None,
    )


def session(hours: float = 4, **fields: Any) -> Session:
    """10 kWh from 20:00 to midnight in Berlin; the night price begins at 22:00."""
    end = START + timedelta(hours=hours)
    times = {"started_at": START, "started_received_at": START, "stopped_at": end}
    station = make.station(site=make.site(time_zone="Europe/Berlin"))
    owner = make.token(user=make.user())
    return make.session(station, **{"token": owner, "closed_at": end, **times} | fields)


def settled(one: Session) -> Charge:
    charge = settlement.settle(one.pk)
    assert charge is not None
    return charge


def test_energy_in_a_long_gap_is_priced_at_the_cheapest_of_it() -> None:
    night_tariff()
    make.seller()
    one = session()
    make.reading(one, 15, 1_000)  # then nothing for almost four hours
    charge = settled(one)
    # 1 kWh at 0.50 until 20:15, 9 kWh at 0.20: 2.30 and 19 %
    assert (charge.gross_minor, charge.doubts) == (274, ["reading_gap"])


def test_with_readings_every_half_hour_each_price_takes_its_own_energy() -> None:
    night_tariff()
    make.seller()
    one = session()
    for n in range(1, 8):
        make.reading(one, 30 * n, 1250 * n)
    charge = settled(one)
    assert (charge.gross_minor, charge.doubts) == (417, [])  # 5 kWh at each price


@pytest.mark.parametrize(
    ("waited_s", "ahead_s", "flags", "expected"),
    [
        (30, None, [], (0, True)),  # a live start, clock right
        (0, -7200.0, [], (0, True)),  # the clock was right then, whatever it is now
        (7200, -7200.0, [], (7200, True)),  # live, and the clock two hours behind
        (-3600, 3600.0, [], (-3600, True)),  # an hour ahead
        (7200, 2.0, [], (0, True)),  # clock right: it waited in the charger
        (7200, None, [], (0, False)),  # nobody knows
        (7200, -600.0, [], (0, False)),  # neither live nor explained
        (-3600, 0.0, [], (0, False)),  # from the future with a clock that was right
        (0, None, ["clock"], (0, False)),  # 1970
    ],
)
def test_a_clock_is_corrected_where_it_is_known_and_doubted_where_not(
    waited_s: int, ahead_s: float | None, flags: list[str], expected: tuple[int, bool]
) -> None:
    one = session(started_received_at=START + timedelta(seconds=waited_s), flags=flags)
    one.station.clock_offset_s = ahead_s
    assert clock_of(one) == expected


def test_a_clock_two_hours_behind_is_corrected_before_the_price_is_looked_up() -> None:
    night_tariff()
    make.seller()
    one = session(hours=1, started_received_at=START + timedelta(hours=2, seconds=3))
    one.station.clock_offset_s = -7200.0
    one.station.save()
    charge = settled(one)
    assert (charge.gross_minor, charge.doubts) == (238, ["clock_corrected"])  # all at 22:00
    assert charge.segments[0]["from"] == "2026-03-03T21:00:00+00:00"


def test_an_unverified_clock_is_billed_at_the_cheapest_time_of_the_week() -> None:
    night_tariff()
    make.seller()
    charge = settled(session(hours=1, flags=["clock"]))
    assert (charge.gross_minor, charge.doubts) == (238, ["clock_unverified"])
    assert settlement.replay(charge)[1].doubts == ["clock_unverified"]


def test_authorised_offline_the_lower_of_the_two_prices_counts() -> None:
    night_tariff()
    make.seller()
    cheaper = make.ocpi_tariff(
        {"type": "ENERGY", "price": 0.10, "vat": 19.0, "step_size": 1}, id="night"
    )
    tariffs.publish(cheaper, valid_from=START + timedelta(hours=2))
    one = session(hours=1, offline=True, started_received_at=START + timedelta(hours=3))
    one.station.clock_offset_s = 0.0
    one.station.save()
    charge = settled(one)
    assert (charge.gross_minor, charge.doubts) == (119, ["offline_price"])
    assert charge.tariff is not None
    assert charge.tariff.version == 2


# --- provisional, corrected -----------------------------------------------------------------------


def late_stop(one: Session, wh: int) -> Charge:
    """The stop that was missing arrives: another energy, from registers."""
    flags = [flag for flag in one.flags if flag != "no-stop"]
    Session.objects.filter(pk=one.pk).update(energy_wh=wh, energy_source="registers", flags=flags)
    with journal.transaction.atomic():
        journal.record("session.corrected", one, energy_wh=wh, previous_wh=one.energy_wh)
    journal.catch_up()
    return Charge.objects.get(session=one)


def provisional(**fields: Any) -> Session:
    make.tariff()
    make.seller()
    given = {"token": make.token(user=make.user()), "meter_stop_mwh": None} | fields
    return make.session(make.station(), energy_source="provisional", flags=["no-stop"], **given)


def test_a_provisional_bill_says_so_and_rises_by_a_late_stop() -> None:
    one = provisional()
    first = settled(one).invoice
    assert first is not None
    (said,) = documents.present(first)["sessions"]
    assert "The end of charging was not reported." in said["doubts"][0]
    charge = late_stop(one, 12_000)
    kinds = [(d.kind, d.gross_minor) for d in corrections.documents_of(charge)]
    assert kinds == [("invoice", 595), ("credit_note", -595), ("invoice", 690)]
    assert charge.invoice is not None
    assert (charge.gross_minor, charge.invoice.snapshot["replaces"]) == (690, first.number)
    assert charge.doubts == []
    late_stop(one, 12_000)
    assert Invoice.objects.count() == 3
    assert ledger.balance(kind=AccountKind.RECEIVABLE) == {"EUR": 690}


def test_after_thirty_days_a_provisional_bill_is_final(time_machine: Any) -> None:
    one = provisional()
    settled(one)
    time_machine.move_to(timezone.now() + timedelta(days=31))
    charge = late_stop(one, 12_000)
    assert charge.gross_minor == 595
    assert Entry.objects.count() == 1


def test_a_collective_invoice_is_corrected_by_the_lines_of_its_session_alone() -> None:
    token = make.token()
    one = provisional(token=token)
    account = make.house_account(token)
    other = make.session(make.station(), token=token)
    settled(one)
    settled(other)
    now = timezone.now() + timedelta(days=1)
    (bill,) = invoicing.invoice_month(account, now.year, now.month)
    assert bill.gross_minor == 2 * 595
    charge = late_stop(one, 8_000)
    assert [d.gross_minor for d in corrections.documents_of(charge)] == [1190, -595, 500]
    assert ledger.balance(kind=AccountKind.RECEIVABLE) == {"EUR": 595 + 500}


def test_nothing_after_all_leaves_a_credit_note_alone() -> None:
    one = provisional()
    charge = settled(one)
    Session.objects.filter(pk=one.pk).update(stopped_at=one.started_at + timedelta(minutes=1))
    charge = late_stop(one, 0)
    assert [d.gross_minor for d in corrections.documents_of(charge)] == [595, -595]
    assert charge.gross_minor == 0


def test_a_correction_that_contradicts_itself_waits_for_a_person() -> None:
    one = provisional()
    settled(one)
    Session.objects.filter(pk=one.pk).update(review="meter-mismatch")
    assert late_stop(one, 8_000).gross_minor == 595
    Session.objects.filter(pk=one.pk).update(review="")
    with journal.transaction.atomic():
        journal.record("session.reviewed", one, reason="meter-mismatch")
    journal.catch_up()
    assert Charge.objects.get().gross_minor == 500


# --- the review queue -----------------------------------------------------------------------------


def test_what_each_source_says_stands_side_by_side(client: Client) -> None:
    one = make.session(
        make.station(),
        review="meter-mismatch",
        energy_wh=10_000,
        streak_start_mwh=1_000_000,
        last_register_mwh=12_000_000,
    )
    make.reading(one, 0, 0, power_w=11_000.0)
    make.reading(one, 30, 5_500, power_w=11_000.0)
    said = {w.name: (w.wh, w.differs_wh, w.billed, w.agrees) for w in evidence.witnesses(one)}
    assert said == {
        "registers": (10_000, 0, True, True),
        "readings": (11_000, 1_000, False, False),
        "power": (5_500, -4_500, False, False),
    }
    client.force_login(make.staff())
    page = client.get(f"/admin/monitoring/session/{one.pk}/change/").content.decode()
    assert "Evidence, side by side" in page
    assert "11000 Wh" in page
