"""`make check`: everything that can be said about the code without running it.

Prints one line a step; a step that fails prints what it said. Steps run two at a time.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
MANAGE = [sys.executable, "manage.py"]
PRODUCTION = {
    "DEBUG": "false",
    "SECRET_KEY": "check-" + "k" * 60,
    "PUBLIC_URL": "https://charge.example",
    "DATABASE_URL": "postgresql://csms@127.0.0.1/csms",
    "REDIS_URL": "redis://127.0.0.1/0",
    "EMAIL_URL": "smtp://localhost:25",
}
# A page of docs/ that is generated names its generator here; `--check` fails when it is stale.
GENERATED_DOCS: list[list[str]] = [["states"], ["ocpp"]]

# The slow one first: the rest runs beside it.
STEPS: list[tuple[str, list[str], dict[str, str]]] = [
    ("types (mypy)", [str(BIN / "mypy")], {}),
    ("lint (ruff check)", [str(BIN / "ruff"), "check", "."], {}),
    ("format (ruff format)", [str(BIN / "ruff"), "format", "--check", "."], {}),
    ("arrows (import-linter)", [str(BIN / "lint-imports"), "--no-cache"], {}),
    ("migrations", [*MANAGE, "makemigrations", "--check", "--dry-run"], {}),
    ("deployment", [*MANAGE, "check", "--deploy", "--fail-level", "WARNING"], PRODUCTION),
    *[
        (f"docs ({' '.join(command)})", [*MANAGE, *command, "--check"], {})
        for command in GENERATED_DOCS
    ],
]


def check(step: tuple[str, list[str], dict[str, str]], var_dir: str) -> bool:
    """Run one step, print its line (and its output when it failed) and tell whether it passed."""
    name, command, environment = step
    own = {key: value for key, value in os.environ.items() if key not in PRODUCTION}
    began = time.monotonic()
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={**own, "VAR_DIR": var_dir, **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    passed = done.returncode == 0
    line = f"{'ok  ' if passed else 'FAIL'} {name:28} {time.monotonic() - began:5.1f} s\n"
    sys.stdout.write(line if passed else f"{line}{done.stdout}\n$ {' '.join(command)}\n")
    sys.stdout.flush()
    return passed


def main() -> int:
    """Run every step; return 0 when all passed."""
    with tempfile.TemporaryDirectory() as var_dir, ThreadPoolExecutor(2) as pool:
        results = list(pool.map(lambda step: check(step, var_dir), STEPS))
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
