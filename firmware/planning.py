"""What a campaign should do next: pure functions of facts and a clock.

`plan()` reads nothing and writes nothing, so every rule of a campaign can be tested in a line;
`campaigns.tick()` gathers the facts and carries out the decisions.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, time
from math import comb

from firmware.models import ACTIVE, BAD, FINISHED, WAITING, Campaign, UpdateJob

State = UpdateJob.State
TOLERANCE = 0.05  # where nobody chose one, for waves large enough to prove it


@dataclass(frozen=True, slots=True)
class JobFacts:
    """One job and what is true of its station now."""

    id: int
    wave: int
    state: State
    site_id: int | None = None
    online: bool = True
    idle: bool = True  # no session, no cable, no reservation
    in_window: bool = True  # the site's local time allows it
    current: bool = False  # reports the target version already
    healthy: bool = True  # no fault that was not there before
    taken: bool = False  # another campaign is updating the station
    attempt: int = 0
    not_before: datetime | None = None
    deadline_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """One step: a job to a state, or (without a job) the campaign to a state, and why."""

    to: str
    why: str = ""
    job_id: int | None = None
    failure: str = ""


def plan(campaign: Campaign, jobs: Sequence[JobFacts], now: datetime) -> list[Decision]:
    """Return what to do now, in order. `jobs` are all of the campaign's."""
    decisions = [found for job in jobs if (found := _deadline(campaign, job, now))]
    decided = {decision.job_id for decision in decisions}
    rest = [job for job in jobs if job.id not in decided]
    if campaign.state == Campaign.State.RUNNING:
        if campaign.expires_at and now >= campaign.expires_at:
            return [*decisions, *_give_up(rest)]
        if why := _must_pause(campaign, jobs):
            return [*decisions, Decision(Campaign.State.PAUSED, why)]
        decisions += _queue(campaign, rest, now)
        decisions += _dispatch(campaign, rest, now)
        if not decisions:
            decisions += _wave_end(campaign, jobs, now)
    elif campaign.state == Campaign.State.BAKING:
        if why := _must_pause(campaign, jobs):
            return [*decisions, Decision(Campaign.State.PAUSED, why)]
        if campaign.baking_until and now >= campaign.baking_until:
            decisions.append(Decision(Campaign.State.RUNNING, gate_sentence(campaign, jobs)))
    return decisions


def _deadline(campaign: Campaign, job: JobFacts, now: datetime) -> Decision | None:
    """Return how an active job ends whose time is up. Every state has an end."""
    if job.state not in ACTIVE or job.deadline_at is None or now < job.deadline_at:
        return None
    if job.state == State.PROBATION:
        if not job.online:
            return Decision(State.QUARANTINED, "went silent after the update", job.id, "silent")
        if not job.healthy:
            return Decision(State.FAILED, "a new fault since the update", job.id, "new-fault")
        return Decision(State.SUCCEEDED, "runs the new version without new faults", job.id)
    if job.state in (State.INSTALLING, State.REBOOTING):
        if not job.online:
            return Decision(State.QUARANTINED, "silent since installing", job.id, "silent")
        return Decision(State.FAILED, "never restarted with the new version", job.id, "no-boot")
    if job.state == State.VERIFYING:
        why = "says installed, but never reported the new version"
        return Decision(State.FAILED, why, job.id, "version-mismatch")
    if job.state == State.DOWNLOADED:
        return Decision(State.FAILED, "downloaded, but never installed", job.id, "not-installed")
    failure = {
        State.DISPATCHING: "no-answer",
        State.ACCEPTED: "no-download",
        State.DOWNLOADING: "download-stalled",
    }[job.state]
    return retry_or_fail(campaign, job.id, job.attempt, failure)


def retry_or_fail(campaign: Campaign, job_id: int, attempt: int, failure: str) -> Decision:
    """Return another try after a passing failure, or the end when the attempts are used up."""
    words = failure.replace("-", " ")
    if attempt < campaign.max_attempts:
        return Decision(State.RETRY_WAIT, f"{words}; will try again", job_id, failure)
    return Decision(State.FAILED, f"{words}, {attempt} attempts", job_id, failure)


def _queue(campaign: Campaign, jobs: Sequence[JobFacts], now: datetime) -> list[Decision]:
    opened = [j for j in jobs if j.state == State.PENDING and j.wave <= campaign.wave]
    again = [
        j
        for j in jobs
        if j.state == State.RETRY_WAIT and (j.not_before is None or j.not_before <= now)
    ]
    return [Decision(State.QUEUED, job_id=job.id) for job in opened + again]


def _dispatch(campaign: Campaign, jobs: Sequence[JobFacts], now: datetime) -> list[Decision]:
    active = [job for job in jobs if job.state in ACTIVE]
    free = campaign.concurrency - len(active)
    per_site = Counter(job.site_id for job in active)
    decisions = []
    for job in sorted((j for j in jobs if j.state == State.QUEUED), key=lambda j: (j.wave, j.id)):
        if job.current:
            why = "reports the version already"
            decisions.append(Decision(State.ALREADY_CURRENT, why, job.id))
        elif free <= 0 or not (job.online and job.idle and job.in_window) or job.taken:
            continue
        elif job.site_id is None or per_site[job.site_id] < campaign.site_concurrency:
            decisions.append(Decision(State.DISPATCHING, job_id=job.id))
            free -= 1
            per_site[job.site_id] += 1
    return decisions


def _give_up(jobs: Sequence[JobFacts]) -> list[Decision]:
    """Return the end of a campaign whose time is up: what has not begun is called off."""
    late = [j for j in jobs if j.state in WAITING]
    return [
        *(Decision(State.CANCELED, "the campaign's time is up", job.id) for job in late),
        Decision(Campaign.State.COMPLETED, f"Time is up; {len(late)} stations were not reached."),
    ]


def _wave_end(campaign: Campaign, jobs: Sequence[JobFacts], now: datetime) -> list[Decision]:
    """Return what follows when the open wave has its verdicts. Offline stations do not block."""
    opened = [job for job in jobs if job.wave <= campaign.wave]
    waiting = [job for job in opened if job.state in WAITING]
    if any(job.state in ACTIVE for job in opened) or any(job.online for job in waiting):
        return []
    if opened and not any(job.state in FINISHED for job in opened if job.wave == campaign.wave):
        return []
    if campaign.wave < max((job.wave for job in jobs), default=0):
        why = f"Wave {campaign.wave + 1} is done and being watched."
        return [Decision(Campaign.State.BAKING, why)]
    if waiting:
        return []  # latecomers may still connect until the campaign's time is up
    return [Decision(Campaign.State.COMPLETED, gate_sentence(campaign, jobs))]


def _verdicts(campaign: Campaign, jobs: Sequence[JobFacts]) -> tuple[int, int, int]:
    """Return size of the open wave, jobs of it with a verdict, and failures among them."""
    wave = [j for j in jobs if j.wave == campaign.wave and j.state != State.SKIPPED]
    tried = [j for j in wave if j.state in (State.SUCCEEDED, *BAD)]
    return len(wave), len(tried), sum(job.state in BAD for job in tried)


def failures(campaign: Campaign, jobs: Sequence[JobFacts]) -> int:
    """Return how many stations of the open wave have failed."""
    return _verdicts(campaign, jobs)[2]


def _must_pause(campaign: Campaign, jobs: Sequence[JobFacts]) -> str:
    """Return why the campaign must pause now, or "". What somebody accepted is no reason twice."""
    size, _tried, failed = _verdicts(campaign, jobs)
    number = campaign.wave + 1
    if failed <= campaign.failures_accepted:
        return ""
    silent = any(job.state == State.QUARANTINED and job.wave == campaign.wave for job in jobs)
    if silent and campaign.wave <= 1:
        return (
            f"Wave {number}: a station is silent since installing. One suspected brick is enough."
        )
    allowed = failures_allowed(size, campaign.max_failures_percent)
    if failed > max(allowed, campaign.failures_accepted):
        return f"Wave {number}: {_too_many(allowed, size)}"
    return ""


def _too_many(allowed: int, size: int) -> str:
    """Return what broke the gate, in words that stay true while the wave's other verdicts come."""
    stations = "1 station" if size == 1 else f"{size} stations"
    if allowed == 0:
        return f"a station failed, and in a wave of {stations} none may."
    return f"more of its {stations} failed than the {allowed} that may."


def failures_allowed(size: int, percent: int | None) -> int:
    """Return how many failures a wave of `size` stations may have.

    With a percentage: that share, rounded down. Without: none under 20 stations, one under 60;
    from there the most whose 95 % lower bound stays within 5 % (gate arithmetic, A3.3).
    """
    if percent is not None:
        return size * percent // 100
    if size < 20:
        return 0
    if size < 60:
        return 1
    failed = 1
    while lower_bound(failed + 1, size) <= TOLERANCE:
        failed += 1
    return failed


def _tail(failed: int, n: int, rate: float) -> float:
    """Return P(at most `failed` of n fail) at a failure rate."""
    return sum(comb(n, k) * rate**k * (1 - rate) ** (n - k) for k in range(failed + 1))


def _solve(wanted: float, failed: int, n: int) -> float:
    """Return the rate at which P(at most `failed` of n) is `wanted`, by bisection."""
    low, high = 0.0, 1.0
    for _step in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if _tail(failed, n, middle) > wanted else (low, middle)
    return high


def upper_bound(failed: int, n: int) -> float:
    """Return the exact (Clopper–Pearson) one-sided 95 % upper bound of the failure rate."""
    return 1.0 if failed >= n else _solve(0.05, failed, n)


def lower_bound(failed: int, n: int) -> float:
    """Return the exact one-sided 95 % lower bound of the failure rate."""
    return 0.0 if failed == 0 else _solve(0.95, failed - 1, n)


def gate_sentence(campaign: Campaign, jobs: Sequence[JobFacts]) -> str:
    """Return the gate of the open wave in words, with what its size can prove."""
    _size, tried, failed = _verdicts(campaign, jobs)
    text = f"Wave {campaign.wave + 1}: {tried - failed} of {tried} updated, {failed} failed."
    if not tried:
        return text
    bound = upper_bound(failed, tried)
    proof = "" if bound <= TOLERANCE else "; not statistically proven"
    return f"{text} The true failure rate is below {bound:.1%} with 95 % confidence{proof}."


def within(window: tuple[time | None, time | None], local: time) -> bool:
    """Tell whether a local time lies in a window; one over midnight wraps, none is always."""
    start, end = window
    if start is None or end is None or start == end:
        return True
    return start <= local < end if start < end else local >= start or local < end


def wave_of(waves: Sequence[str], total: int) -> list[int]:
    """Return the wave of each of `total` stations in order: "1" counts, "25%" is cumulative.

    Stations beyond the last wave belong to it.
    """
    assigned: list[int] = []
    for number, size in enumerate(waves):
        if size.endswith("%"):
            upto = -(-total * int(size[:-1]) // 100)
        else:
            upto = len(assigned) + int(size)
        assigned += [number] * max(0, min(upto, total) - len(assigned))
    return assigned + [max(len(waves) - 1, 0)] * (total - len(assigned))
