"""Issued documents computed again from their kept inputs: the same bytes, or a word why not.

What comes out (lines, VAT, totals) is put in the place of what the snapshot says, and the whole is
hashed again. A credit note is computed from the document it corrects.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from . import inputs, vat
from .corrections import credited_lines, taken_back_lines
from .invoicing import document_hash, sums_of
from .models import Invoice
from .models.tariffs import canonical
from .pricing import ENGINE
from .totals import rates_of


@dataclass(slots=True)
class Replay:
    """A document computed again. `wrong` says what differs; empty means identical bytes."""

    snapshot: dict[str, Any]
    sha256: str
    wrong: list[str] = field(default_factory=list)


def replayed(invoice: Invoice) -> Replay:
    """Compute `invoice` again and compare it with what is stored."""
    wrong: list[str] = []
    old = invoice.corrects
    if old is None:
        lines, wrong = _lines(invoice.snapshot)
    elif invoice.idempotency_key.startswith("taken-back:"):
        lines = taken_back_lines(old, invoice.snapshot["sessions"][0]["id"])
    else:
        lines = credited_lines(old, -invoice.gross_minor)
    snapshot = invoice.snapshot | {"lines": lines, "rates": rates_of(lines), **sums_of(lines)}
    digest = document_hash(snapshot, invoice.previous_hash)
    if canonical(snapshot) != canonical(invoice.snapshot):
        wrong.append("The lines computed again differ from the lines of the document.")
    if digest != invoice.sha256:
        wrong.append("The hash computed again differs from the hash of the document.")
    return Replay(snapshot, digest, wrong)


def _lines(snapshot: dict[str, Any]) -> tuple[list[dict[str, Any]], list[str]]:
    """The lines of all sessions, and what could not be computed."""
    lines: list[dict[str, Any]] = []
    wrong: list[str] = []
    for session in snapshot["sessions"]:
        said = session.get("inputs") or {}
        content = inputs.kept(said.get("sha256", ""))
        if content is None:
            wrong.append(f"The inputs of session {session['ref']} are not kept, or were changed.")
            continue
        if said["engine"] != ENGINE:
            wrong.append(f"Session {session['ref']} was priced by engine {said['engine']}.")
        _plan, _bill, totals = inputs.computed(session, content)
        lines += [line | {"session": session["id"]} for line in totals.lines]
    if not snapshot["sessions"]:
        wrong.append("The document is about no session: there is nothing to compute again.")
    return vat.lines_as(snapshot, lines), wrong
