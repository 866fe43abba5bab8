#!/usr/bin/env python
"""Django's command line for this project."""

import os
import sys
from pathlib import Path
from typing import NoReturn


def main() -> None:
    """Run the command named on the command line."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    try:
        from django.core.exceptions import ImproperlyConfigured
        from django.core.management import execute_from_command_line
    except ModuleNotFoundError:
        _with_our_own_python()

    try:
        execute_from_command_line(sys.argv)
    except ImproperlyConfigured as error:  # a setting is wrong or missing: the text names it
        sys.exit(f"{error}")


def _with_our_own_python() -> NoReturn:
    """Start again with the Python that `make setup` made; never returns."""
    own = Path(__file__).resolve().parent / ".venv"
    if (own / "bin/python").exists() and Path(sys.prefix) != own:
        os.execv(own / "bin/python", [str(own / "bin/python"), *sys.argv])  # noqa: S606
    sys.exit("What this program needs is not installed. Run: make setup")


if __name__ == "__main__":  # guarded: the PDF pool spawns processes that import this file
    main()
