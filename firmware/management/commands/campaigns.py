"""`manage.py campaigns start|list|show|pause|resume|stop|brake|reverse`."""

import re
from argparse import ArgumentParser
from collections.abc import Callable
from datetime import time
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import CommandError

from firmware import campaigns
from firmware.models import Campaign, FirmwareImage
from stations.console import OperatorCommand
from stations.models import Site, Station
from stations.state import NotAllowed


def summary(campaign: Campaign) -> dict[str, Any]:
    """Return a campaign as the documented JSON."""
    jobs = list(
        campaign.jobs.select_related("station", "image").prefetch_related("events").order_by("pk")
    )
    return {
        "name": campaign.name,
        "state": campaign.state,
        "reason": campaign.reason,
        "wave": campaign.wave + 1,
        "waves": [
            {
                "size": size,
                "stations": sum(job.wave == number for job in jobs),
                "updated": sum(job.wave == number and job.state == "succeeded" for job in jobs),
            }
            for number, size in enumerate(campaign.waves)
        ],
        "jobs": [
            {
                "station": job.station.identity,
                "wave": job.wave + 1,
                "state": job.state,
                "failure": job.failure,
                "version": job.station.firmware,
                "target": job.image.version,
                "attempt": job.attempt,
                "evidence": [
                    {"at": event.at.isoformat(), "source": event.source, "text": event.text}
                    for event in job.events.all()
                ],
            }
            for job in jobs
        ],
    }


def _window(text: str) -> tuple[time, time]:
    found = re.fullmatch(r"(\d{2}:\d{2})-(\d{2}:\d{2})", text)
    try:
        if found:
            return time.fromisoformat(found[1]), time.fromisoformat(found[2])
    except ValueError:
        pass
    raise CommandError("Write the window as 22:00-05:00.")


class Command(OperatorCommand):
    """Firmware campaigns."""

    help = "Firmware campaigns: start one, watch it, pause, resume, stop, brake or reverse it."

    def verbs(self, add: Callable[..., ArgumentParser]) -> None:
        """Declare the verbs."""
        start = add("start", self.start, help="make a campaign; --approve lets it run")
        start.add_argument("name")
        start.add_argument("--image", type=int, required=True, help="id of the release")
        target = start.add_mutually_exclusive_group(required=True)
        target.add_argument("--stations", help="ID,ID,…")
        target.add_argument("--site")
        target.add_argument("--all", action="store_true", dest="everywhere")
        start.add_argument("--waves", default="1,25%,100%")
        start.add_argument("--bake", type=int, metavar="SECONDS", help="watch a finished wave")
        start.add_argument("--probation", type=int, metavar="SECONDS", help="watch a station")
        start.add_argument("--max-failures", type=int, metavar="PERCENT")
        start.add_argument("--window", metavar="HH:MM-HH:MM", help="local time of each site")
        start.add_argument("--concurrency", type=int, help="stations at once")
        start.add_argument("--retry", type=int, metavar="SECONDS", help="wait before a new try")
        start.add_argument("--approve", action="store_true")
        add("list", self.list, help="every campaign")
        for verb, words in {
            "show": "state, reason, and each station's evidence",
            "pause": "no new station begins",
            "resume": "go on",
            "stop": "brake, and call off every station that waits",
            "brake": "pause, and cut off every unfinished download",
            "reverse": "stop, and take updated stations back to what they ran before",
        }.items():
            run = self.show_campaign if verb == "show" else getattr(self, verb)
            add(verb, run, help=words).add_argument("name")

    def start(
        self,
        name: str,
        image: int,
        stations: str | None,
        site: str | None,
        everywhere: bool,
        approve: bool,
        waves: str,
        window: str | None,
        **given: int | None,
    ) -> None:
        """Make a campaign, and start it with --approve."""
        release = FirmwareImage.objects.filter(pk=image).first()
        if release is None:
            raise CommandError(f"There is no release {image}. `firmware list` shows them.")
        names = {
            "bake": "bake_s",
            "probation": "probation_s",
            "max_failures": "max_failures_percent",
            "concurrency": "concurrency",
            "retry": "retry_s",
        }
        settings: dict[str, Any] = {
            names[key]: value for key, value in given.items() if value is not None
        }
        if "bake_s" in settings:  # whoever shortens the one has no time for the other
            settings.setdefault("probation_s", min(settings["bake_s"], 600))
        if window:
            settings["window_from"], settings["window_to"] = _window(window)
        settings["waves"] = [wave.strip() for wave in waves.split(",") if wave.strip()]
        try:
            campaign = campaigns.create(
                name, release, _targets(stations, site, everywhere=everywhere), **settings
            )
            if approve:
                campaigns.start(campaign)
        except ValidationError as error:
            raise CommandError(" ".join(error.messages)) from error
        except (campaigns.CampaignError, NotAllowed) as error:
            raise CommandError(str(error)) from error
        self._tell(campaign)

    def list(self) -> None:
        """List the campaigns."""
        self.show(
            [
                {
                    "name": one.name,
                    "release": str(one.image),
                    "state": one.state,
                    "reason": one.reason,
                }
                for one in Campaign.objects.select_related("image")
            ]
        )

    def show_campaign(self, name: str) -> None:
        """Show one campaign with its evidence."""
        self._tell(_named(name))

    def pause(self, name: str) -> None:
        """Hold."""
        self._do(name, campaigns.pause)

    def resume(self, name: str) -> None:
        """Go on."""
        self._do(name, campaigns.resume)

    def stop(self, name: str) -> None:
        """End it."""
        self._do(name, campaigns.stop)

    def brake(self, name: str) -> None:
        """Hold and cut off downloads."""
        self._do(name, campaigns.brake)

    def reverse(self, name: str) -> None:
        """Go back."""
        try:
            self._tell(campaigns.reverse(_named(name)))
        except (campaigns.CampaignError, NotAllowed) as error:
            raise CommandError(str(error)) from error

    def _do(self, name: str, verb: Callable[[Campaign], object]) -> None:
        campaign = _named(name)
        try:
            verb(campaign)
        except (campaigns.CampaignError, NotAllowed) as error:
            raise CommandError(f"{campaign.name} is {campaign.state}: {error}") from error
        campaign.refresh_from_db()
        self._tell(campaign)

    def _tell(self, campaign: Campaign) -> None:
        data = summary(campaign)
        lines = [f"{data['name']}: {data['state']}. {data['reason']}".strip()]
        lines += [
            f"  wave {job['wave']}  {job['station']}  {job['state']} {job['failure']}"
            f"  {job['version']} → {job['target']}"
            for job in data["jobs"]
        ]
        self.show(data, "\n".join(lines))


def _named(name: str) -> Campaign:
    campaign = Campaign.objects.select_related("image").filter(name=name).first()
    if campaign is None:
        raise CommandError(f"There is no campaign “{name}”. `campaigns list` shows them.")
    return campaign


def _targets(stations: str | None, site: str | None, *, everywhere: bool) -> list[Station]:
    rows = Station.objects.filter(state=Station.State.ACCEPTED)
    if everywhere:
        return list(rows)
    if site is not None:
        if not Site.objects.filter(name=site).exists():
            raise CommandError(f"There is no site “{site}”.")
        return list(rows.filter(site__name=site))
    wanted = [one.strip() for one in (stations or "").split(",") if one.strip()]
    found = list(rows.filter(identity__in=wanted))
    if missing := sorted(set(wanted) - {one.identity for one in found}):
        raise CommandError(f"No such station in service: {', '.join(missing)}.")
    return found
