"""`manage.py simulate`: charge points for trying things out."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import signal
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from stations.simulator import fleet
from stations.simulator.scenarios import SCENARIOS
from stations.simulator.station import DIALECTS


class Command(BaseCommand):
    """Run simulated charge points until Ctrl-C."""

    help = (
        "Simulated charge points over real websockets. Identities are PREFIX-001, -002, …: "
        "add them first (manage.py stations add) or let OCPP_UNKNOWN_STATIONS take them. "
        "Scenarios: " + "; ".join(f"{name}: {s.words}" for name, s in SCENARIOS.items()) + "."
    )
    requires_system_checks: list[str] = []

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:
        """Let `--version` mean OCPP's here, not Django's."""
        return super().create_parser(prog_name, subcommand, conflict_handler="resolve", **kwargs)

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--url", help="websocket URL without the identity")
        parser.add_argument(
            "--version", dest="ocpp", default="mixed", help="1.6, 2.0.1, 2.1 or mixed"
        )
        parser.add_argument("--count", type=int, default=1)
        parser.add_argument("--scenario", default="charging", help=", ".join(SCENARIOS))
        parser.add_argument("--prefix", default="SIM", help="what identities begin with")
        parser.add_argument("--password", help="for basic authentication, the same for all")
        parser.add_argument("--connectors", type=int, default=2)
        parser.add_argument("--dc", action="store_true", help="150 kW DC instead of 22 kW AC")
        parser.add_argument("--speed", type=float, default=1.0, help="60: an hour in a minute")
        parser.add_argument("--seed", type=int, default=0, help="same seed, same day")
        parser.add_argument("--tags", default="", help="tags the drivers hold up, comma-separated")
        parser.add_argument("--spread", type=float, default=1.0, help="seconds to start all in")
        parser.add_argument("--seconds", type=float, help="end after so long")
        parser.add_argument(
            "--json", action="store_true", help="print a summary at the end as JSON"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        url = options["url"] or _own_url()
        if urlsplit(url).scheme not in {"ws", "wss"}:
            raise CommandError("--url must begin with ws:// or wss://.")
        versions = list(DIALECTS) if options["ocpp"] == "mixed" else [options["ocpp"]]
        if options["scenario"] not in SCENARIOS:
            raise CommandError(f"--scenario must be one of {', '.join(SCENARIOS)}.")
        if versions[0] not in DIALECTS:
            raise CommandError(f"--version must be one of {', '.join(DIALECTS)} or mixed.")
        if options["count"] < 1 or options["connectors"] < 1 or options["speed"] <= 0:
            raise CommandError("--count and --connectors must be at least 1, --speed above 0.")
        members = fleet.build(
            url,
            versions=versions,
            count=options["count"],
            scenario=options["scenario"],
            prefix=options["prefix"],
            password=options["password"],
            connectors=options["connectors"],
            dc=options["dc"],
            speed=options["speed"],
            seed=options["seed"],
            tags=[tag for tag in options["tags"].split(",") if tag],
        )
        level = logging.INFO if options["verbosity"] > 1 else logging.WARNING
        logging.getLogger("stations.simulator").setLevel(level)
        asyncio.run(self._run(members, options))
        if options["json"]:
            self.stdout.write(json.dumps([_state(member) for member in members], indent=2))
        else:
            self.stdout.write(fleet.summary(members))

    async def _run(self, members: list[fleet.Member], options: dict[str, Any]) -> None:
        report = None if options["json"] else self.stdout.write
        work = asyncio.ensure_future(fleet.run(members, spread_s=options["spread"], report=report))
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, work.cancel)
        if options["seconds"]:
            loop.call_later(options["seconds"], work.cancel)
        with contextlib.suppress(asyncio.CancelledError):
            await work


def _own_url() -> str:
    """This installation's own OCPP URL."""
    public = urlsplit(settings.PUBLIC_URL)
    return f"{'wss' if public.scheme == 'https' else 'ws'}://{public.netloc}/ocpp"


def _state(member: fleet.Member) -> dict[str, Any]:
    station = member.station
    return {
        "identity": station.identity,
        "version": station.version,
        "firmware": station.firmware,
        "boot": station.boot_answer.get("status"),
        "waiting": len(station.outbox),
        "connectors": [
            {"number": c.number, "state": str(c.status), "register_wh": int(c.register_wh)}
            for c in station.connectors.values()
        ],
    }
