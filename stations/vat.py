"""VAT numbers: whether one can be one, by its country's form. No register is asked."""

import re

# VAT numbers by their country's prefix, without spaces (EU: Commission's VIES formats).
FORMATS = {
    "AT": r"U\d{8}", "BE": r"[01]\d{9}", "BG": r"\d{9,10}", "CY": r"\d{8}[A-Z]", "CZ": r"\d{8,10}",
    "DE": r"\d{9}", "DK": r"\d{8}", "EE": r"\d{9}", "EL": r"\d{9}", "ES": r"[A-Z0-9]\d{7}[A-Z0-9]",
    "FI": r"\d{8}", "FR": r"[A-HJ-NP-Z0-9]{2}\d{9}", "HR": r"\d{11}", "HU": r"\d{8}",
    "IE": r"\d[A-Z0-9+*]\d{5}[A-Z]{1,2}", "IT": r"\d{11}", "LT": r"(\d{9}|\d{12})",
    "LU": r"\d{8}", "LV": r"\d{11}", "MT": r"\d{8}", "NL": r"[A-Z0-9+*]{12}", "PL": r"\d{10}",
    "PT": r"\d{9}", "RO": r"\d{2,10}", "SE": r"\d{12}", "SI": r"\d{8}", "SK": r"\d{10}",
    "XI": r"(\d{9}|\d{12}|GD\d{3}|HA\d{3})", "GB": r"(\d{9}|\d{12}|GD\d{3}|HA\d{3})",
    "CHE": r"\d{9}(MWST|TVA|IVA)?", "NO": r"\d{9}(MVA)?", "LI": r"\d{5}",
}  # fmt: skip


def number_in(text: str) -> str:
    """Return a VAT number without spaces, or "" where its form is impossible."""
    number = re.sub(r"[\s.-]", "", text).upper()
    for prefix, form in FORMATS.items():
        if number.startswith(prefix):
            return number if re.fullmatch(form, number.removeprefix(prefix)) else ""
    return ""
