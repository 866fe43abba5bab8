"""What drivers read is in every language: complete, with its placeholders, and compiled."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from gettext import GNUTranslations
from pathlib import Path

import pytest
from django.conf import settings
from django.core.cache import cache as django_cache
from django.test import Client
from django.utils import translation
from django.utils.translation.template import templatize

from billing.sandbox.engine import Sandbox
from tests import make, paying

ROOT = Path(settings.BASE_DIR)
CATALOGUES = ("billing", "templates")
LANGUAGES = [code for code, _name in settings.LANGUAGES if code != "en"]
STAFF_ONLY = {
    *("alarms.py", "apps.py", "books.py", "lint.py", "refunds.py", "views.py"),
}  # of billing/, as in the Makefile
PLACEHOLDER = re.compile(r"%\(\w+\)[\d#+-]*\w|%%|</?b>")
QUOTED = re.compile(r"""\b(?:n?gettext|_)\(u?('(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*")""")
MARKS = {"_", "gettext", "gettext_lazy", "gettext_noop", "ngettext"}
BUTTONS = {
    "de": "Zahlungspflichtig laden",
    "fr": "Payer et démarrer la recharge",
    "it": "Paga e avvia la ricarica",
    "nl": "Betalen en laden starten",
    "es": "Pagar y empezar a cargar",
    "pl": "Zapłać i rozpocznij ładowanie",
}

# --- reading the catalogues -----------------------------------------------------------------------


def path_of(catalogue: str, language: str) -> Path:
    return ROOT / catalogue / "locale" / language / "LC_MESSAGES" / "django.po"


@cache
def entries(catalogue: str, language: str) -> dict[str, dict[str, str]]:
    """Return a .po file as msgid → {keyword: text}; keywords as msgid, msgid_plural, msgstr[0]."""
    found: dict[str, dict[str, str]] = {}
    for block in path_of(catalogue, language).read_text(encoding="utf-8").split("\n\n"):
        entry: dict[str, str] = {}
        keyword = ""
        for line in block.splitlines():
            if line.startswith("#") or not line.strip():
                continue
            if not line.startswith('"'):
                keyword, _space, line = line.partition(" ")
            entry[keyword] = entry.get(keyword, "") + ast.literal_eval(line)
        if entry:
            found[entry["msgid"]] = entry
    return found


def placeholders(text: str) -> list[str]:
    return sorted(PLACEHOLDER.findall(text))


# --- reading the sources --------------------------------------------------------------------------


def marked(source: str) -> Iterator[str]:
    """Yield the constant first argument of every call that marks a text."""
    for node in ast.walk(ast.parse(source)):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.args):
            continue
        first = node.args[0]
        if node.func.id in MARKS and isinstance(first, ast.Constant):
            yield str(first.value)


def in_template(source: str) -> Iterator[str]:
    """Yield the texts of a template, as makemessages sees them."""
    for quoted in QUOTED.findall(templatize(source)):
        yield ast.literal_eval(quoted)


def used() -> dict[str, set[str]]:
    """Return what drivers read, by catalogue."""
    modules = [p for p in (ROOT / "billing").glob("*.py") if p.name not in STAFF_ONLY]
    modules += (ROOT / "billing" / "portal").glob("*.py")
    templates = ROOT / "templates"
    globs = ("*.html", "portal/*", "invoice/*.html", "email/invoice.*", "allauth/**/*.html")
    pages = [page for pattern in globs for page in templates.glob(pattern)]
    return {
        "billing": {text for p in modules for text in marked(p.read_text(encoding="utf-8"))},
        "templates": {text for p in pages for text in in_template(p.read_text(encoding="utf-8"))},
    }


# --- complete, right, compiled --------------------------------------------------------------------


def test_everything_drivers_read_is_in_the_catalogues() -> None:
    """`make messages` gathers what is new."""
    for catalogue, texts in used().items():
        assert len(texts) > 60
        for language in LANGUAGES:
            assert texts - entries(catalogue, language).keys() == set()


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("catalogue", CATALOGUES)
def test_every_text_is_translated_with_its_placeholders(catalogue: str, language: str) -> None:
    assert "fuzzy" not in path_of(catalogue, language).read_text(encoding="utf-8")
    head, *rest = entries(catalogue, language).values()
    plurals = re.search(r"nplurals=(\d)", head["msgstr"])
    assert plurals is not None
    for entry in rest:
        forms = [entry[keyword] for keyword in entry if keyword.startswith("msgstr")]
        assert len(forms) == (int(plurals[1]) if "msgid_plural" in entry else 1), entry["msgid"]
        for form in forms:
            assert form.strip(), entry["msgid"]
            assert placeholders(form) == placeholders(entry["msgid"]), form


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("catalogue", CATALOGUES)
def test_the_compiled_catalogue_says_what_the_text_says(catalogue: str, language: str) -> None:
    path = path_of(catalogue, language)
    with path.with_suffix(".mo").open("rb") as file:
        compiled = GNUTranslations(file)
    for entry in entries(catalogue, language).values():
        if "msgid_plural" in entry:
            assert compiled.ngettext(entry["msgid"], entry["msgid_plural"], 1) == entry["msgstr[0]"]
        else:
            assert compiled.gettext(entry["msgid"]) == entry["msgstr"]


@pytest.mark.parametrize("name", ["Receipt", "Free of charge", "E-mail for the receipt (optional)"])
def test_a_text_in_both_catalogues_is_one_translation(name: str) -> None:
    for language in LANGUAGES:
        one, other = (entries(catalogue, language)[name]["msgstr"] for catalogue in CATALOGUES)
        assert one == other


def test_polish_counts_in_its_three_ways() -> None:
    with translation.override("pl"):
        said = [
            translation.ngettext(
                "billed in steps of %(n)s minute", "billed in steps of %(n)s minutes", n
            )
            % {"n": n}
            for n in (1, 3, 5, 22)
        ]
    assert [text.rsplit(" ", 1)[1] for text in said] == ["minutę", "minuty", "minut", "minuty"]


# --- pages ----------------------------------------------------------------------------------------


@pytest.fixture
def address(box: Sandbox) -> str:
    """Return the page of a connector where paying works."""
    django_cache.clear()
    make.tariff()
    make.seller()
    return f"/c/{paying.connector().code}"


@pytest.mark.django_db
@pytest.mark.parametrize("language", LANGUAGES)
def test_the_pay_page_speaks_the_browsers_language(
    client: Client, address: str, language: str
) -> None:
    text = client.get(address, headers={"Accept-Language": language}).content.decode()
    assert f'<html lang="{language}">' in text
    assert f'data-locale="{language}"' in text
    assert BUTTONS[language] in text
    page = (ROOT / "templates" / "portal" / "connector.html").read_text(encoding="utf-8")
    sentences = [sentence for sentence in in_template(page) if sentence.endswith(".")]
    assert len(sentences) >= 5
    assert [sentence for sentence in sentences if sentence in text] == []


@pytest.mark.django_db
def test_the_language_chosen_in_the_footer_stays(address: str) -> None:
    client = Client(enforce_csrf_checks=True, headers={"Accept-Language": "de"})
    text = client.get(address).content.decode()
    token = re.search(r'class="languages"><input[^>]*value="(\w+)"', text)
    assert token is not None
    assert '<option value="it" lang="it">Italiano</option>' in text
    answer = client.post(
        "/language/",
        {"language": "it", "csrfmiddlewaretoken": token[1]},
        headers={"Referer": f"http://testserver{address}"},
    )
    assert (answer.status_code, answer.headers["Location"]) == (302, f"http://testserver{address}")
    assert BUTTONS["it"] in client.get(address).content.decode()
    assert '<html lang="it">' in client.get("/").content.decode()


@pytest.mark.django_db
def test_the_back_office_speaks_one_language_whatever_the_browser_asks_for(client: Client) -> None:
    client.force_login(make.staff())
    page = client.get("/admin/stations/token/", headers={"Accept-Language": "de"})
    text = page.content.decode()
    assert '<html lang="en"' in text
    assert "Sitzungen" not in text
