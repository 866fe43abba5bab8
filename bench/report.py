"""Tables on the terminal and in docs/performance.md, with the hardware and the date beside them."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

PAGE = Path(__file__).parent.parent / "docs" / "performance.md"


def table(head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table; words to the left, figures to the right."""
    widths = [max(len(row[n]) for row in [head, *rows]) for n in range(len(head))]
    words = [any(row[n][:1].isalpha() for row in rows) for n in range(len(head))]

    def line(row: list[str]) -> str:
        cells = [
            text.ljust(widths[n]) if words[n] else text.rjust(widths[n])
            for n, text in enumerate(row)
        ]
        return f"| {' | '.join(cells)} |"

    rule = ["-" * width if words[n] else "-" * (width - 1) + ":" for n, width in enumerate(widths)]
    return "\n".join([line(head), line(rule), *(line(row) for row in rows)])


def conditions() -> str:
    """A sentence with date, commit, processor and versions."""
    cpu = next(
        (
            line.split(":", 1)[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    ).stdout.strip()
    load = os.getloadavg()[0]
    return (
        f"{datetime.now(UTC):%Y-%m-%d}, commit {commit or 'unknown'}, {os.cpu_count()} cores of "
        f"{cpu}, {memory:.0f} GB, Linux {platform.release()}, Python {platform.python_version()}, "
        f"uvicorn {version('uvicorn')}, Django {version('django')}; client and databases on the "
        f"same machine; load of the machine at the end {load:.1f}."
    )


def write(section: str, text: str) -> None:
    """Print `text` and put it between the section's markers of docs/performance.md."""
    print(text)
    page = PAGE.read_text()
    begin, end = f"<!-- {section} -->", f"<!-- /{section} -->"
    if begin not in page:
        sys.exit(f"{PAGE} lacks the marker {begin}.")
    pattern = re.compile(re.escape(begin) + ".*?" + re.escape(end), re.DOTALL)
    PAGE.write_text(pattern.sub(lambda _: f"{begin}\n{text}\n{end}", page))
    print(f"\nwritten to {PAGE}")
