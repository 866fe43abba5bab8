"""Issuing documents: gapless numbers, everything copied, a hash chained per series.

`issue` is one short transaction that locks the series' counter: number, snapshot, hash and ledger
postings stand or fall together. PDF and mail follow, from the frozen snapshot (`documents`,
`mail`). Corrections are documents of their own (`corrections`).
"""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Sequence
from typing import Any
from zoneinfo import ZoneInfo

from django.db import transaction
from django.db.models import F
from django.utils import timezone

from monitoring import signed
from monitoring.models import Session
from stations import journal, live

from . import inputs, ledger, vat
from .models import Charge, HouseAccount, Invoice, Seller, Series
from .models.charges import ChargeState
from .models.invoices import DocumentKind
from .models.tariffs import canonical
from .money import money
from .totals import rates_of

SNAPSHOT_VERSION = 1
SELLER_FIELDS = (
    *("name", "legal_name", "street", "postcode", "city", "country", "vat_id", "tax_number"),
    *("register", "email", "phone", "website", "iban", "bic", "time_zone", "colour"),
)
MARKS = {DocumentKind.INVOICE: "", DocumentKind.CREDIT_NOTE: "C", DocumentKind.RECEIPT: "Q"}


class NoSeller(RuntimeError):
    """No default seller is set up; documents cannot be issued."""


def issue(
    kind: DocumentKind,
    content: dict[str, Any],
    *,
    key: str,
    seller: Seller,
    customer: str,
    house_account: HouseAccount | None = None,
    corrects: Invoice | None = None,
) -> Invoice:
    """Issue one document from `content`; the same `key` again returns the document there is.

    `content` has lines, rates, net_minor, vat_minor, gross_minor, currency, language and what the
    document shows. `customer` owns the receivable account. Joins the caller's transaction, if any.
    """
    with transaction.atomic():
        now = timezone.now()
        series = _locked_series(seller, now, kind)
        existing = Invoice.objects.filter(idempotency_key=key).first()
        if existing is not None:
            return existing
        sequence = series.last_number + 1
        number = f"{seller.series_prefix}{MARKS[kind]}-{series.year}-{sequence:06d}"
        snapshot = content | {
            "version": SNAPSHOT_VERSION,
            "kind": str(kind),
            "number": number,
            "issued_at": now.isoformat(),
            "seller": seller_snapshot(seller),
            "corrects": None
            if corrects is None
            else {"number": corrects.number, "issued_at": corrects.issued_at.isoformat()},
        }
        digest = document_hash(snapshot, series.last_hash)
        currency = content["currency"]
        invoice = Invoice.objects.create(
            seller=seller,
            series=series,
            kind=kind,
            sequence=sequence,
            number=number,
            issued_at=now,
            language=content["language"],
            customer_name=content["customer"].get("name", "")[:200],
            house_account=house_account,
            corrects=corrects,
            idempotency_key=key,
            currency=currency,
            **{name: money(content[f"{name}_minor"], currency) for name in ("net", "vat", "gross")},
            gross_minor=content["gross_minor"],
            snapshot=snapshot,
            previous_hash=series.last_hash,
            sha256=digest,
        )
        Series.objects.filter(pk=series.pk).update(last_number=sequence, last_hash=digest)
        ledger.document_issued(invoice, customer)
        journal.record("invoice.issued", invoice, number=number, document=str(kind))
    return invoice


def _locked_series(seller: Seller, now: dt.datetime, kind: DocumentKind) -> Series:
    """The series with its row locked until the transaction ends: numbers wait for each other."""
    year = now.astimezone(ZoneInfo(seller.time_zone)).year
    rows = Series.objects.select_for_update()
    return rows.get_or_create(seller=seller, year=year, kind=kind)[0]


def document_hash(snapshot: dict[str, Any], previous: str) -> str:
    """SHA-256 over the snapshot's canonical JSON and the hash of the document before it."""
    return hashlib.sha256(previous.encode() + b"\n" + canonical(snapshot)).hexdigest()


def broken_links() -> list[str]:
    """Numbers of documents whose hash or place in their series is not what it must be."""
    wrong = []
    last: dict[int, tuple[int, str]] = {}
    rows = Invoice.objects.order_by("series", "sequence").iterator()
    for invoice in rows:
        sequence, previous = last.get(invoice.series_id, (0, ""))
        digest = document_hash(invoice.snapshot, previous)
        if (invoice.sequence, invoice.previous_hash, invoice.sha256) != (
            sequence + 1,
            previous,
            digest,
        ):
            wrong.append(invoice.number)
        last[invoice.series_id] = (invoice.sequence, invoice.sha256)
    return wrong


def seller_snapshot(seller: Seller) -> dict[str, Any]:
    """Everything a document says about its seller."""
    return {name: getattr(seller, name) for name in SELLER_FIELDS} | {"id": seller.pk}


def default_seller() -> Seller:
    """The seller documents are issued by; raises `NoSeller`."""
    seller = Seller.objects.filter(is_default=True).first()
    if seller is None:
        raise NoSeller("Add a seller in the back office before invoices can be issued.")
    return seller


# --- what a document says -------------------------------------------------------------------------


def session_content(session: Session, charge: Charge) -> dict[str, Any]:
    """What a document says about one session: where, when, how much, from which registers."""
    site, connector = session.station.site, session.connector
    whose = _whose(session, charge)
    snapshot = charge.tariff_snapshot or {}
    return {
        "id": session.pk,
        "ref": session.ref,
        "station": session.station.identity,
        "station_name": str(session.station),
        "evse": None if connector is None else connector.evse.number,
        "site": None
        if site is None
        else {
            "name": site.name,
            "address": site.address,
            "postal_code": site.postal_code,
            "city": site.city,
            "country": site.country,
        },
        "time_zone": session.station.zone.key,
        "started_at": session.started_at.isoformat(),
        "stopped_at": (session.stopped_at or session.started_at).isoformat(),
        "closed_at": (session.closed_at or session.started_at).isoformat(),
        "energy_wh": session.energy_wh,
        "energy_source": session.energy_source,
        "meter_start_mwh": session.meter_start_mwh,
        "meter_stop_mwh": session.meter_stop_mwh,
        "tariff": {name: snapshot.get(name) for name in ("key", "version", "name", "sha256")},
        "tax_included": str(snapshot.get("ocpi", {}).get("tax_included") or "NO") == "YES",
        "doubts": list(charge.doubts),
        "flags": list(session.flags),
        "inputs": inputs.keep(charge),
        "signed": [_signed(found) for found in signed.checked_of(session)],
        **whose,
    }


def _signed(found: signed.Checked) -> dict[str, Any]:
    """A signed record as the document shows it; the record itself stays with the reading."""
    digest = hashlib.sha256(found.key.encode()).hexdigest() if found.key else ""
    return {
        "verdict": str(found.verdict),
        "pinned": found.pinned,
        "format": found.record.format,
        "meter": found.meter,
        "pagination": found.pagination,
        "readings": found.readings,
        "key_sha256": digest,
        "record_sha256": hashlib.sha256(found.record.text.encode()).hexdigest(),
    }


def _whose(session: Session, charge: Charge) -> dict[str, str]:
    """With which card of a house account, and where that books it."""
    token, account = session.token, charge.house_account_id
    if token is None or account is None:
        return {}
    centres = [c.name for c in token.cost_centres.all() if c.account_id == account]
    return {"card": token.label or token.uid, "cost_centre": next(iter(centres), "")}


def customer_content(charge: Charge) -> dict[str, Any]:
    """Who the document is for: the house account, what the driver gave, or nobody by name."""
    account, payment, driver = charge.house_account, charge.payment, charge.driver
    if account is not None:
        return {
            "name": account.legal_name or account.name,
            "street": account.street,
            "postcode": account.postcode,
            "city": account.city,
            "country": account.country,
            "vat_id": account.vat_id,
            "reference": account.reference,
            "order_number": account.order_number,
            "email": account.email,
        }
    details = dict(payment.billing_details) if payment is not None else {}
    email = (payment.email if payment is not None else "") or (driver.email if driver else "")
    name = details.get("company") or details.get("name") or (driver.name if driver else "")
    return details | {"name": name, "email": email}


def language_of(charge: Charge) -> str:
    """The customer's language."""
    if charge.house_account is not None:
        return charge.house_account.language
    if charge.payment is not None and charge.payment.language:
        return charge.payment.language
    return charge.driver.language if charge.driver is not None else "en"


def invoice_charge(charge: Charge) -> Invoice | None:
    """Issue the invoice of one charge and move it to invoiced, in one transaction.

    None when somebody else did meanwhile.
    """
    seller = default_seller()
    with transaction.atomic():
        session = charge.session
        moved = Charge.objects.filter(
            pk=charge.pk,
            version=charge.version,
            state__in=ChargeState.before(ChargeState.INVOICED),
        ).update(version=F("version") + 1)
        if not moved:
            return None
        invoice = issue(
            DocumentKind.INVOICE,
            _content(charge, seller),
            key=f"charge:{charge.pk}",
            seller=seller,
            customer=ledger.customer_of(charge),
        )
        Charge.objects.filter(pk=charge.pk).update(state=ChargeState.INVOICED, invoice=invoice)
        journal.record("charge.invoiced", charge, station_id=session.station_id)
        live.touch(f"session-{session.pk}", f"charge-{charge.pk}")
    return invoice


def _content(charge: Charge, seller: Seller) -> dict[str, Any]:
    """What the document of one charge says."""
    session = charge.session
    sessions = [session_content(session, charge)]
    kind = vat.kind_of(charge.house_account, seller, sessions, charge.currency)
    lines = vat.lines_as(kind, [line | {"session": session.pk} for line in charge.lines])
    return kind | {
        "lines": lines,
        "rates": rates_of(lines),
        "sessions": sessions,
        "customer": customer_content(charge),
        "language": language_of(charge),
        "supply_country": country_of(session, seller),
        "payment": _payment_content(charge),
        **sums_of(lines),
    }


def bill_again(charge: Charge, priced: dict[str, Any], old: Invoice) -> Invoice:
    """The document that takes the place of `old`, credited before; in the caller's transaction."""
    for name, value in priced.items():
        setattr(charge, name, value)
    content = _content(charge, old.seller) | {"replaces": old.number}
    if content["payment"] is not None:
        content["payment"] |= {"paid_minor": min(charge.paid_minor, priced["gross_minor"])}
    if charge.house_account is not None:
        content["due_days"] = charge.house_account.payment_days
    earlier = Invoice.objects.filter(idempotency_key__startswith=f"charge:{charge.pk}:").count()
    return issue(
        DocumentKind.INVOICE,
        content,
        key=f"charge:{charge.pk}:{earlier + 2}",
        seller=old.seller,
        customer=ledger.customer_of(charge),
        house_account=old.house_account,
    )


def country_of(session: Session, seller: Seller) -> str:
    """Whose VAT applies: charging is a supply of goods where the station stands (C-60/23)."""
    site = session.station.site
    return (site.country if site is not None else "") or seller.country


def _payment_content(charge: Charge) -> dict[str, Any] | None:
    payment = charge.payment
    if payment is None and charge.paid_minor:
        return {"provider": "wallet", "ref": None, "paid_minor": charge.paid_minor}
    if payment is None or not charge.paid_minor:
        return None
    return {
        "provider": payment.provider,
        "ref": payment.provider_ref,
        "paid_minor": charge.paid_minor,
        "hold_minor": payment.hold_minor,
    }


def sums_of(lines: Sequence[dict[str, Any]]) -> dict[str, int]:
    return {
        name: sum(line[name] for line in lines)
        for name in ("net_minor", "vat_minor", "gross_minor")
    }


# --- monthly invoices of house accounts -----------------------------------------------------------


def invoice_month(account: HouseAccount, year: int, month: int) -> list[Invoice]:
    """One invoice a currency and country for the sessions that ended in the month, or earlier.

    The month is the seller's local one; late sessions go to the next run, nothing is reopened.
    """
    seller = default_seller()
    zone = ZoneInfo(seller.time_zone)
    until = dt.datetime(year + month // 12, month % 12 + 1, 1, tzinfo=zone)
    with transaction.atomic():
        # Two runs at once must not bill a session twice: the account's row is the lock.
        account = HouseAccount.objects.select_for_update().get(pk=account.pk)
        waiting = (
            Charge.objects.filter(
                house_account=account, state=ChargeState.UNPAID, session__closed_at__lt=until
            )
            .select_related(
                *("session__station__site", "session__connector__evse"),
                *("session__token", "house_account"),
            )
            .prefetch_related("session__token__cost_centres")
            .order_by("session__closed_at", "pk")
        )
        groups: dict[tuple[str, str], list[Charge]] = {}
        for charge in waiting:
            group = (charge.currency, country_of(charge.session, seller))
            groups.setdefault(group, []).append(charge)
        return [
            _collective(account, seller, charges, country, f"{year}-{month:02}")
            for (_, country), charges in groups.items()
        ]


def _collective(
    account: HouseAccount, seller: Seller, charges: list[Charge], country: str, period: str
) -> Invoice:
    lines = [line | {"session": c.session_id} for c in charges for line in c.lines]
    sessions = [session_content(c.session, c) for c in charges]
    kind = vat.kind_of(account, seller, sessions, charges[0].currency)
    lines = vat.lines_as(kind, lines)
    content = kind | {
        "lines": lines,
        "rates": rates_of(lines),
        "sessions": sessions,
        "customer": customer_content(charges[0]),
        "language": account.language,
        "supply_country": country,
        "payment": None,
        "period": period,
        "due_days": account.payment_days,
        **sums_of(lines),
    }
    invoice = issue(
        DocumentKind.INVOICE,
        content,
        key=f"house:{account.pk}:{period}:{charges[-1].pk}",
        seller=seller,
        customer=f"house:{account.pk}",
        house_account=account,
    )
    for charge in charges:
        Charge.objects.filter(pk=charge.pk, state=ChargeState.UNPAID).update(
            state=ChargeState.INVOICED, invoice=invoice, version=F("version") + 1
        )
        journal.record("charge.invoiced", charge, station_id=charge.session.station_id)
    return invoice
