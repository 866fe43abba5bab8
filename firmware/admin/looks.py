"""The colours of campaigns and updates, and the cockpit's numbers."""

from typing import Any

from django.http import HttpRequest

from firmware import failures
from firmware.models import (
    ACTIVE,
    BAD,
    WAITING,
    Campaign,
    UpdateJob,
)
from stations.admin.base import in_scope

CAMPAIGN_TONES: dict[str, str] = {
    "draft": "grey",
    "running": "blue",
    "baking": "violet",
    "paused": "amber",
    "stopped": "red",
    "completed": "green",
}


GOOD = (UpdateJob.State.SUCCEEDED, UpdateJob.State.ALREADY_CURRENT)


def job_tone(state: str) -> str:
    """Return the colour of a job's state."""
    if state in BAD:
        return "red"
    if state in ACTIVE:
        return "blue"
    if state in GOOD:
        return "green"
    return "amber" if state == UpdateJob.State.RETRY_WAIT else "grey"


def cockpit(campaign: Campaign, request: HttpRequest) -> dict[str, Any]:
    """Return what the cockpit shows: waves with their counts, and each station's evidence."""
    jobs = list(
        in_scope(campaign.jobs.all(), request, "station__site")
        .select_related("station__site", "image")
        .prefetch_related("events")
        .order_by("wave", "station__identity")
    )
    waves = []
    for number, size in enumerate(campaign.waves):
        mine = [job for job in jobs if job.wave == number]
        good = sum(job_tone(job.state) == "green" for job in mine)
        bad = sum(job.state in BAD for job in mine)
        active = sum(job.state in ACTIVE for job in mine)
        total = len(mine) or 1
        waves.append(
            {
                "number": number + 1,
                "size": size,
                "stations": len(mine),
                "good": good,
                "bad": bad,
                "active": active,
                "waiting": sum(job.state in WAITING for job in mine),
                "shares": [
                    ("green", 100 * good / total),
                    ("red", 100 * bad / total),
                    ("blue", 100 * active / total),
                ],
                "before_active": 100 * (good + bad) / total,
                "open": number == campaign.wave and campaign.state not in ("draft", "completed"),
            }
        )
    rows = [
        {
            "job": job,
            "tone": job_tone(job.state),
            "share": min(100, 100 * job.bytes_sent // job.image.size) if job.image.size else 0,
            "events": list(job.events.all()),
            "failure": failures.words(job.failure) if job.state not in GOOD else "",
        }
        for job in jobs
    ]
    return {
        "campaign": campaign,
        "tone": CAMPAIGN_TONES[campaign.state],
        "waves": waves,
        "rows": rows,
        "updated": sum(row["tone"] == "green" for row in rows),
    }
