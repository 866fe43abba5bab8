"""Signed meter values: every verdict of the vectors, keys pinned, never billed when broken."""

import base64
import io
import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pikepdf
import pytest
from django.core.management import CommandError, call_command

from billing import documents, files, settlement
from billing.models import Charge
from monitoring import signed
from monitoring.models import MeterKey, Session
from monitoring.signed import Verdict
from tests import make

VECTORS = Path(__file__).parent / "vectors" / "ocmf"
EXPECTED = json.loads((VECTORS / "expected.json").read_text())
WORDS = {True: "valid", False: "invalid", "no-key": "no-key"}
ELSEWHERE = ("edl-40-01.xml", "isa-edl-40p-ok.xml", "test_ocmf_rsa_01.xml")
PAIR = "20211007-device-with-evt-ocmf-sss-ses.xml"


def records(name: str) -> list[signed.Record]:
    return signed.records_in((VECTORS / name).read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_every_record_has_the_verdict_it_should_have(name: str) -> None:
    found = [signed.check(record) for record in records(name)]
    assert [str(row.verdict) for row in found] == [WORDS[r["pyocmf"]] for r in EXPECTED[name]]
    assert [row.meter or None for row in found] == [r["meter"] for r in EXPECTED[name]]
    assert [row.pagination for row in found] == [r["pg"] for r in EXPECTED[name]]


@pytest.mark.parametrize("name", ELSEWHERE)
def test_what_cannot_be_verified_here_is_shown_and_never_called_verified(name: str) -> None:
    for record in records(name):
        found = signed.check(record)
        assert found.verdict == Verdict.UNSUPPORTED
        assert "S.A.F.E." in found.reason


def test_one_changed_byte_breaks_the_signature() -> None:
    (record, *_rest) = records(PAIR)
    for changed in (
        record.text.replace('"PG":"T2"', '"PG":"T3"'),
        record.text.replace(",", ", ", 1),
    ):
        assert signed.check(signed.Record(changed, key=record.key)).verdict == Verdict.INVALID


def test_the_export_is_read_back_with_the_same_bytes_and_verdicts() -> None:
    for name in (PAIR, "measurements.xml", "isa-edl-40p-ok.xml"):
        before = [signed.check(record) for record in records(name)]
        after = [
            signed.check(r) for r in signed.records_in(signed.transparency_xml(before).decode())
        ]
        assert [c.record.text for c in after] == [c.record.text for c in before]
        assert [c.verdict for c in after] == [c.verdict for c in before]


def test_what_chargers_send_is_unpacked_and_the_record_stays_as_it_was() -> None:
    (record, *_rest) = records(PAIR)
    der = base64.b64encode(f"oca:base16:asn1:{record.key}".encode()).decode()
    sent = {
        "signedMeterData": base64.b64encode(record.text.encode()).decode(),
        "signingMethod": "",
        "encodingMethod": "OCMF",
        "publicKey": der,
    }
    for raw in (json.dumps(sent), record.text, record.text.encode().hex()):
        assert signed.record_of(raw).text == record.text
    assert signed.check(signed.record_of(json.dumps(sent))).verdict == Verdict.VALID
    assert signed.check(signed.record_of(record.text)).verdict == Verdict.NO_KEY
    assert signed.record_of('{"broken').format == "unknown"


def test_files_that_are_none_are_refused() -> None:
    for text in ("", "hello", "<values/>", "<values>", '<!DOCTYPE x [<!ENTITY a "b">]><values/>'):
        with pytest.raises(ValueError):
            signed.records_in(text)


def test_the_command_prints_a_verdict_a_record(capsys: Any) -> None:
    call_command("meters", "verify", str(VECTORS / PAIR), "--json")
    rows = json.loads(capsys.readouterr().out)
    assert [row["verdict"] for row in rows] == ["valid", "valid"]
    assert rows[0]["meter"] == "001BZR1521070006"
    with pytest.raises(CommandError, match="neither OCMF nor"):
        call_command("meters", "verify", str(VECTORS / "README.md"))


# --- on a session ---------------------------------------------------------------------------------


@pytest.fixture
def session(db: None) -> Session:
    """A session whose begin and end readings are the two records of a vector, with their key."""
    make.tariff()
    make.seller()
    found = make.session(make.station(), token=make.token(user=make.user(language="de")))
    for minute, record in enumerate(records(PAIR)):
        sent = {"signedMeterData": record.text, "encodingMethod": "OCMF", "publicKey": record.key}
        make.reading(found, minute * 30, minute * 10_000, signed=json.dumps(sent))
    return found


def pin(session: Session, key: str, **fields: Any) -> MeterKey:
    since = session.started_at - timedelta(days=1)
    defaults = {"serial": "001BZR1521070006", "public_key": key, "valid_from": since}
    return MeterKey.objects.create(station=session.station, **defaults | fields)


def test_only_a_pinned_key_makes_it_verified(session: Session) -> None:
    assert [(c.verdict, c.pinned) for c in signed.checked_of(session)] == [("valid", False)] * 2
    key = pin(session, records(PAIR)[0].key)
    assert [(c.verdict, c.pinned) for c in signed.checked_of(session)] == [("valid", True)] * 2
    key.valid_until = session.started_at - timedelta(hours=1)  # the meter was swapped
    key.save()
    assert not any(c.pinned for c in signed.checked_of(session))


def test_verified_readings_are_on_the_invoice_and_the_records_in_its_pdf(session: Session) -> None:
    pin(session, records(PAIR)[0].key)
    charge = settlement.settle(session.pk)
    assert charge is not None
    html = documents.html_of(charge.invoice)
    assert "Signierte Messwerte" in html
    assert "001BZR1521070006" in html
    assert "Signatur geprüft" in html
    with pikepdf.open(io.BytesIO(files.pdf_of(charge.invoice))) as document:
        carried = document.attachments["signed-readings.xml"].get_file().read_bytes()
        assert len(document.Root.AF) == 2
    assert [r.text for r in signed.records_in(carried.decode())] == [r.text for r in records(PAIR)]


def test_a_key_that_is_not_confirmed_is_never_called_verified(session: Session) -> None:
    charge = settlement.settle(session.pk)
    assert charge is not None
    html = documents.html_of(charge.invoice)
    assert "Schlüssel nicht bestätigt" in html
    assert "geprüft" not in html


def test_a_failed_verdict_is_held_and_not_billed_until_the_key_is_right(session: Session) -> None:
    other = records("measurements.xml")[0].key
    wrong = pin(session, other)
    charge = settlement.settle(session.pk)
    assert charge is not None
    assert (charge.state, charge.hold_reason) == (Charge.State.HELD, Charge.Hold.SIGNATURE)
    assert charge.invoice is None
    assert settlement.resume(charge).state == Charge.State.HELD
    wrong.public_key = records(PAIR)[0].key
    wrong.save()
    charge.refresh_from_db()
    assert settlement.resume(charge).state == Charge.State.INVOICED


def test_staff_see_the_records_and_take_them_along(session: Session, client: Any) -> None:
    charge = settlement.settle(session.pk)
    assert charge is not None
    client.force_login(make.staff())
    page = client.get(f"/admin/billing/charge/{charge.pk}/explained/").content.decode()
    assert "intact, key not pinned" in page
    answer = client.get(f"/admin/billing/charge/{charge.pk}/signed.xml")
    assert len(signed.records_in(answer.content.decode())) == 2


def test_a_key_is_one_and_at_one_time(session: Session, client: Any) -> None:
    pin(session, records(PAIR)[0].key)
    client.force_login(make.staff())
    data = {
        "station": session.station_id,
        "serial": "001bzr1521070006",
        "public_key": records(PAIR)[0].key,
        "valid_from_0": "2030-01-01",
        "valid_from_1": "00:00",
        "valid_until_0": "",
        "valid_until_1": "",
        "note": "",
    }
    page = client.post("/admin/monitoring/meterkey/add/", data).content.decode()
    assert "let it end first" in page
    page = client.post("/admin/monitoring/meterkey/add/", data | {"public_key": "zz"})
    assert "This is no public key" in page.content.decode()
    assert MeterKey.objects.count() == 1
