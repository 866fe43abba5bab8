"""What the database of an installation holds, as JSON: run with that installation's environment."""

from __future__ import annotations

import json
import os
import sys

import django


def main() -> None:
    """Print every session with its energy and the registers of its periodic readings."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    django.setup()
    from monitoring.models import Reading, Session

    registers: dict[int, list[float]] = {}
    readings = Reading.objects.filter(context="Sample.Periodic").order_by("session_id", "at", "n")
    for session_id, mwh in readings.values_list("session_id", "register_mwh").iterator():
        registers.setdefault(session_id, []).append(mwh / 1000)
    sessions = [
        {
            "station": station,
            "ref": ref,
            "start_wh": (start or 0) / 1000,
            "energy_wh": energy,
            "stopped": stopped is not None,
            "registers_wh": registers.get(pk, []),
        }
        for pk, station, ref, start, energy, stopped in Session.objects.values_list(
            "pk", "station__identity", "ref", "meter_start_mwh", "energy_wh", "stopped_at"
        )
    ]
    json.dump(sessions, sys.stdout)


if __name__ == "__main__":
    main()
