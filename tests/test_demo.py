"""The demo: its past is what the product itself makes of it, and a second start changes nothing."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import time_machine
from django.core.management import call_command
from django.db.models import Count, Sum

from billing import einvoice, replays
from billing.models import Charge, Invoice, Payment, Posting
from config.demo import guests, history, places, seed
from config.demo.history import Past
from monitoring.models import Reading, Session
from stations.models import Entry, Site, Station, Token
from tests import schematron

NOW = datetime(2026, 11, 4, 12, tzinfo=UTC)


@pytest.fixture
def played(tmp_path: Path, settings: Any, monkeypatch: pytest.MonkeyPatch) -> int:
    """Ten days of past around the end of a month; how many things happened."""
    settings.VAR_DIR = tmp_path
    settings.STRIPE_API_KEY = ""
    settings.PAYMENT_SANDBOX = True
    monkeypatch.setattr(history, "GUESTS", 0.4)
    monkeypatch.setattr(history, "REFUND_EVERY", 3)
    since = NOW - timedelta(days=10)
    with time_machine.travel(since, tick=False):
        seed.seed(since)
    with guests.till() as box:
        return Past(NOW, 10, 1, box).play()


@pytest.mark.slow
@pytest.mark.django_db(transaction=True)
def test_the_past_is_whole_and_its_books_agree(played: int) -> None:
    assert Site.objects.count() == 3
    assert set(Site.objects.values_list("time_zone", flat=True)) == {
        "Europe/Berlin", "Europe/Lisbon", "Europe/Helsinki",
    }  # fmt: skip
    versions = Station.objects.values_list("version").annotate(Count("pk"))
    assert dict(versions) == {"1.6": 4, "2.0.1": 4, "2.1": 4}
    assert played > 100
    sessions = Session.objects.count()
    assert sessions > 20
    assert Session.objects.exclude(state=Session.State.CLOSED).count() == 0
    assert Session.objects.exclude(review="").count() == 0
    assert Session.objects.filter(flags=[]).count() == sessions
    assert Reading.objects.values("session_id").distinct().count() == sessions
    assert Charge.objects.count() == sessions
    states = set(Charge.objects.values_list("state", flat=True))
    assert states <= {Charge.State.INVOICED, Charge.State.UNPAID}
    assert set(Payment.objects.values_list("state", flat=True)) == {"captured", "refunded"}
    billed = Invoice.objects.exclude(house_account=None).values("house_account").distinct()
    assert billed.count() == 2
    assert Invoice.objects.filter(kind="credit_note").exists()
    assert Posting.objects.aggregate(all=Sum("amount_minor"))["all"] == 0
    assert Entry.objects.filter(at__gt=NOW).count() == 0
    assert set(Entry.objects.filter(pending=True).values_list("kind", flat=True)) == {
        "invoice.issued"
    }
    assert not Station.objects.filter(connected=True).exists()
    assert Invoice.objects.filter(kind="invoice").count() > 10
    for invoice in Invoice.objects.all():
        assert replays.replayed(invoice).wrong == [], invoice.number
    documents = {
        f"{invoice.number} {make.__name__}": make(invoice)
        for invoice in Invoice.objects.order_by("-gross_minor")
        for make in (einvoice.cii_of, einvoice.ubl_of)
    }
    assert schematron.failures(documents) == {name: [] for name in documents}


@pytest.mark.django_db
def test_a_second_start_changes_nothing(settings: Any) -> None:
    settings.DEBUG = True
    seed.seed(NOW)
    before = (Station.objects.count(), Token.objects.count(), Entry.objects.count())
    assert seed.done()
    call_command("demo", prepare=True)
    assert (Station.objects.count(), Token.objects.count(), Entry.objects.count()) == before
    assert before[:2] == (len(places.POSTS), len(places.DRIVERS) + 1)
