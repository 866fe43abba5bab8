"""Signed meter values: what a charger sent, byte for byte, and whether its signature holds.

OCMF is verified (`pyocmf`) over the payload as it was sent; a record is never rebuilt. Everything
else (EDL, ISA-EDL, RSA …) is kept, shown and exported for the S.A.F.E. transparency software, and
never called verified. A key that comes with the data proves nothing alone: verified means against
the key that is pinned for the meter (`MeterKey`).
"""

from __future__ import annotations

import base64
import binascii
import datetime as dt
import json
import warnings
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any
from xml.etree import ElementTree

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring
from pyocmf import OCMF, PublicKey
from pyocmf.exceptions import PyOCMFError

from monitoring.models import MeterKey, Reading, Session

OCMF_MARK = "OCMF|"
ELSEWHERE = "This format is not verified here: use the S.A.F.E. transparency software."


class Verdict(StrEnum):
    """What became of a check."""

    VALID = "valid"
    INVALID = "invalid"
    NO_KEY = "no-key"
    UNSUPPORTED = "unsupported"


@dataclass(frozen=True, slots=True)
class Record:
    """A signed record as it was sent. `key`: what came with it, DER as hex or base64, or ''."""

    text: str
    format: str = "OCMF"
    key: str = ""
    context: str = ""


@dataclass(slots=True)
class Checked:
    """A record and its verdict. `pinned`: checked against the key known for the meter."""

    record: Record
    verdict: Verdict
    reason: str = ""
    meter: str = ""
    pagination: str = ""
    readings: list[dict[str, str]] = field(default_factory=list)
    key: str = ""
    pinned: bool = False


# --- reading records ------------------------------------------------------------------------------


def records_in(text: str) -> list[Record]:
    """The records of a file: OCMF lines, or the transparency software's XML; each once.

    Raises ValueError for anything else.
    """
    if text.lstrip("\ufeff \n\r\t").startswith("<"):
        found = _of_xml(text)
    else:
        found = [Record(line.strip()) for line in text.splitlines() if line.strip()]
        if not found or not all(_is_ocmf(record.text) for record in found):
            raise ValueError("This is neither OCMF nor the XML of the transparency software.")
    if not found:
        raise ValueError("There is no signed record in this file.")
    return list({record.text: record for record in reversed(found)}.values())[::-1]


def _of_xml(text: str) -> list[Record]:
    try:
        root = fromstring(text.lstrip("\ufeff \n\r\t"), forbid_dtd=True)
    except (ElementTree.ParseError, DefusedXmlException) as error:
        raise ValueError(f"This XML cannot be read: {error}") from error
    found = []
    for value in root.iter("value"):
        data = value.find("signedData")
        data = value.find("encodedData") if data is None else data
        if data is None or not data.text:
            continue
        key = "".join((value.findtext("publicKey") or "").split())
        raw = data.text.strip()
        content = _plain(raw)
        name = data.get("format") or "unknown"
        if content.startswith(OCMF_MARK):
            name = "OCMF"
        elif name == "OCMF":
            name = "OCMF (CMS)"  # wrapped, as with RSA: shown, not verified here
        found.append(Record(content, name, key, (value.get("context") or "").strip()))
    return found


def record_of(signed: str) -> Record:
    """The record in a reading: JSON of SignedMeterValueType (OCA note 1.0), or OCMF as it is."""
    text = signed.strip()
    if text.startswith("{"):
        try:
            sent = json.loads(text)
        except ValueError:
            return Record(signed, "unknown")
        data = str(sent.get("signedMeterData") or "")
        content = _plain(data)
        named = str(sent.get("encodingMethod") or "unknown")
        name = "OCMF" if content.startswith(OCMF_MARK) else named
        return Record(content if name == "OCMF" else data, name, _key(sent.get("publicKey")))
    if _is_ocmf(text):
        return Record(_plain(text))
    return Record(signed, "unknown")


def _is_ocmf(text: str) -> bool:
    return _plain(text).startswith(OCMF_MARK)


def _plain(text: str) -> str:
    """OCMF text that may have come as hex or base64; anything else as it is."""
    if text.startswith(OCMF_MARK):
        return text
    for decode in (bytes.fromhex, lambda t: base64.b64decode(t, validate=True)):
        try:
            decoded = decode(text).decode()
        except (ValueError, binascii.Error):
            continue
        if decoded.startswith(OCMF_MARK):
            return decoded
    return text


def _key(sent: Any) -> str:
    """A key as DER in hex or base64; OCA's `oca:base16:asn1:KEY`, in base64, is unpacked."""
    text = "".join(str(sent or "").split())
    try:
        decoded = base64.b64decode(text, validate=True).decode("ascii")
    except (ValueError, binascii.Error):
        decoded = text
    if decoded.startswith("oca:"):
        return decoded.rpartition(":")[2]
    return text


# --- checking -------------------------------------------------------------------------------------


def check(record: Record, pinned: str = "") -> Checked:
    """The verdict on one record: with the `pinned` key, else the one that came with it."""
    if record.format != "OCMF":
        return Checked(record, Verdict.UNSUPPORTED, ELSEWHERE, key=record.key)
    header = _sections(record.text)
    found = Checked(record, Verdict.INVALID, key=pinned or record.key, pinned=bool(pinned))
    found.meter = str(header.get("MS") or "")
    found.pagination = str(header.get("PG") or "")
    found.readings = _readings(header)
    algorithm = str(_sections(record.text, 2).get("SA") or "")
    if algorithm.upper().startswith("RSA") or "-RSA" in algorithm.upper():
        found.verdict, found.reason = Verdict.UNSUPPORTED, ELSEWHERE
        return found
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ocmf = OCMF.from_string(record.text)
            found.key = found.key or ocmf.embedded_public_key or ""
            key = _readable(found.key)
            if key is None:
                found.verdict, found.reason = Verdict.NO_KEY, "There is no key to check it with."
                return found
            held = ocmf.verify_signature(key)
    except (PyOCMFError, ValueError) as error:
        found.reason = f"It cannot be checked: {error}"
        return found
    found.verdict = Verdict.VALID if held else Verdict.INVALID
    found.reason = "" if held else "The signature does not belong to this content and key."
    return found


def _readable(key: str) -> PublicKey | None:
    """The key, or None where it is none that can be read."""
    try:
        return PublicKey.from_string(key) if key else None
    except (PyOCMFError, ValueError):
        return None


def _sections(text: str, n: int = 1) -> dict[str, Any]:
    """The payload (1) or the signature (2) of an OCMF record as JSON; empty where it is none."""
    parts = text.split("|", 3)
    try:
        found = json.loads(parts[n])
    except (IndexError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _readings(payload: dict[str, Any]) -> list[dict[str, str]]:
    """Time, kind (B begin, E end …), value, unit and OBIS code of every reading."""
    rows: list[dict[str, str]] = []
    last: dict[str, Any] = {}
    for row in payload.get("RD") or []:
        if not isinstance(row, dict):
            continue
        last = {**last, **row}  # what a reading leaves out is as in the one before it
        names = {"at": "TM", "kind": "TX", "value": "RV", "unit": "RU", "obis": "RI"}
        rows.append({name: str(last.get(code, "")) for name, code in names.items()})
    return rows


def checked_of(session: Session) -> list[Checked]:
    """Every signed record of a session with its verdict, in time order."""
    rows = Reading.objects.filter(session=session).exclude(signed="").order_by("at", "n")
    keys = list(MeterKey.objects.filter(station=session.station_id))
    found: dict[str, Checked] = {}
    for reading in rows:
        record = record_of(reading.signed)
        serial = str(_sections(record.text).get("MS") or "")
        found.setdefault(record.text, check(record, _pinned(keys, serial, reading.at)))
    return list(found.values())


def _pinned(keys: Iterable[MeterKey], serial: str, at: dt.datetime) -> str:
    """The key known for a meter at a time; with no serial in the record, the station's only one."""
    valid = [key for key in keys if key.holds_at(at)]
    named = [key for key in valid if serial and key.serial.casefold() == serial.casefold()]
    if not named and not serial and len(valid) == 1:
        named = valid
    return named[0].public_key if named else ""


def transparency_xml(records: Iterable[Checked]) -> bytes:
    """The records as the S.A.F.E. transparency software reads them, with the keys they need."""
    root = ElementTree.Element("values")
    for n, found in enumerate(records, start=1):
        record = found.record
        value = ElementTree.SubElement(root, "value", transactionId=str(n))
        if record.context:
            value.set("context", record.context)
        if found.key:
            key = ElementTree.SubElement(value, "publicKey", encoding=_encoding(found.key))
            key.text = found.key
        plain = "plain" if record.format == "OCMF" else _encoding(record.text)
        data = ElementTree.SubElement(value, "signedData", format=record.format, encoding=plain)
        data.text = record.text
    return bytes(ElementTree.tostring(root, encoding="utf-8", xml_declaration=True))


def _encoding(text: str) -> str:
    try:
        bytes.fromhex(text)
    except ValueError:
        return "base64"
    return "hex"
