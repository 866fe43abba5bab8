"""What a campaign does next, as pure facts."""

from datetime import UTC, datetime, time, timedelta

import pytest
from django.core.exceptions import ValidationError

from firmware import planning
from firmware.models import Campaign, UpdateJob, check_waves
from firmware.planning import Decision, JobFacts

S = UpdateJob.State
NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def campaign(state: str = "running", **fields: object) -> Campaign:
    return Campaign(**{"name": "c", "state": state, "bake_s": 60, "concurrency": 5} | fields)


def job(n: int, state: S = S.QUEUED, **fields: object) -> JobFacts:
    return JobFacts(**{"id": n, "wave": 0, "state": state, "site_id": n} | fields)


def test_an_idle_online_station_in_its_window_is_dispatched() -> None:
    assert planning.plan(campaign(), [job(1)], NOW) == [Decision(S.DISPATCHING, job_id=1)]


@pytest.mark.parametrize("doubt", ["online", "idle", "in_window"])
def test_a_station_that_is_offline_busy_or_out_of_its_window_waits(doubt: str) -> None:
    assert planning.plan(campaign(), [job(1, **{doubt: False})], NOW) == []


def test_a_station_another_campaign_is_updating_waits() -> None:
    assert planning.plan(campaign(), [job(1, taken=True)], NOW) == []


def test_no_more_than_the_allowed_number_run_at_once_and_per_site() -> None:
    jobs = [job(1, site_id=7), job(2, site_id=7), job(3), job(4)]
    decided = planning.plan(campaign(concurrency=2), jobs, NOW)
    assert [one.job_id for one in decided] == [1, 3]


def test_a_later_wave_stays_closed() -> None:
    assert planning.plan(campaign(), [job(1, S.PENDING, wave=1), job(2)], NOW) == [
        Decision(S.DISPATCHING, job_id=2)
    ]


def test_a_finished_wave_is_watched_and_then_the_next_opens() -> None:
    jobs = [job(1, S.SUCCEEDED), job(2, S.PENDING, wave=1)]
    (bake,) = planning.plan(campaign(), jobs, NOW)
    assert (bake.to, bake.job_id) == (Campaign.State.BAKING, None)
    watched = campaign("baking", baking_until=NOW)
    assert planning.plan(watched, jobs, NOW - timedelta(seconds=1)) == []
    (opened,) = planning.plan(watched, jobs, NOW)
    assert opened.to == Campaign.State.RUNNING
    assert opened.why == (
        "Wave 1: 1 of 1 updated, 0 failed. The true failure rate is below 95.0% with 95 % "
        "confidence; not statistically proven."
    )


def test_the_last_wave_completes_the_campaign() -> None:
    (done,) = planning.plan(campaign(), [job(1, S.SUCCEEDED), job(2, S.ALREADY_CURRENT)], NOW)
    assert done.to == Campaign.State.COMPLETED


def test_one_failure_in_a_small_wave_pauses() -> None:
    (pause,) = planning.plan(campaign(), [job(1, S.FAILED), job(2)], NOW)
    assert (pause.to, pause.why) == (
        "paused", "Wave 1: a station failed, and in a wave of 2 stations none may."
    )  # fmt: skip


def test_a_tolerated_share_of_failures_does_not_pause() -> None:
    jobs = [job(1, S.FAILED), *(job(n, S.SUCCEEDED) for n in range(2, 6))]
    assert planning.plan(campaign(max_failures_percent=20), jobs, NOW)[0].to == "completed"
    assert planning.plan(campaign(max_failures_percent=19), jobs, NOW)[0].to == "paused"


def test_what_somebody_accepted_does_not_pause_again_but_the_next_failure_does() -> None:
    resumed = campaign(failures_accepted=1)
    jobs = [job(1, S.FAILED), job(2, S.SUCCEEDED)]
    assert planning.plan(resumed, jobs, NOW)[0].to == "completed"
    (pause,) = planning.plan(resumed, [job(1, S.FAILED), job(2, S.FAILED)], NOW)
    assert pause.to == "paused"
    silent = [job(1, S.QUARANTINED), job(2, S.SUCCEEDED)]
    assert planning.plan(resumed, silent, NOW)[0].to == "completed"


def test_a_pause_names_what_a_wave_may_bear() -> None:
    jobs = [*(job(n, S.FAILED) for n in range(3)), *(job(n) for n in range(3, 21))]
    (pause,) = planning.plan(campaign(), jobs, NOW)
    assert pause.why == "Wave 1: more of its 21 stations failed than the 1 that may."


def test_one_suspected_brick_in_an_early_wave_pauses_whatever_is_tolerated() -> None:
    (pause,) = planning.plan(campaign(max_failures_percent=100), [job(1, S.QUARANTINED)], NOW)
    assert "suspected brick" in pause.why


@pytest.mark.parametrize(
    ("state", "facts", "ends"),
    [
        (S.DISPATCHING, {"attempt": 1}, S.RETRY_WAIT),
        (S.DISPATCHING, {"attempt": 3}, S.FAILED),
        (S.ACCEPTED, {"attempt": 1}, S.RETRY_WAIT),
        (S.DOWNLOADING, {"attempt": 3}, S.FAILED),
        (S.DOWNLOADED, {}, S.FAILED),
        (S.INSTALLING, {"online": True}, S.FAILED),
        (S.REBOOTING, {"online": False}, S.QUARANTINED),
        (S.VERIFYING, {}, S.FAILED),
        (S.PROBATION, {}, S.SUCCEEDED),
        (S.PROBATION, {"healthy": False}, S.FAILED),
        (S.PROBATION, {"online": False}, S.QUARANTINED),
    ],
)
def test_every_active_state_ends_at_its_deadline(state: S, facts: dict, ends: S) -> None:
    late = job(1, state, deadline_at=NOW, **facts)
    for of in ("running", "paused", "stopped"):
        assert planning.plan(campaign(of), [late], NOW)[0].to == ends
    assert planning.plan(campaign("paused"), [late], NOW - timedelta(seconds=1)) == []


def test_offline_stations_do_not_hold_up_a_wave_but_an_empty_one_waits() -> None:
    offline = job(2, online=False)
    later = job(3, S.PENDING, wave=1)
    assert planning.plan(campaign(), [job(1, S.SUCCEEDED), offline, later], NOW)[0].to == "baking"
    assert planning.plan(campaign(), [offline, later], NOW) == []


def test_time_is_up() -> None:
    jobs = [job(1, S.SUCCEEDED), job(2, online=False)]
    decided = planning.plan(campaign(expires_at=NOW), jobs, NOW)
    assert [one.to for one in decided] == [S.CANCELED, Campaign.State.COMPLETED]


@pytest.mark.parametrize(
    ("n", "bound"), [(5, 0.451), (10, 0.259), (20, 0.139), (30, 0.095), (59, 0.050), (300, 0.010)]
)
def test_what_n_clean_stations_prove(n: int, bound: float) -> None:
    assert round(planning.upper_bound(0, n), 3) == bound


@pytest.mark.parametrize(
    ("size", "percent", "allowed"),
    [(19, None, 0), (20, None, 1), (59, None, 1), (100, None, 9), (10, 20, 2), (9, 20, 1)],
)
def test_failures_allowed(size: int, percent: int | None, allowed: int) -> None:
    assert planning.failures_allowed(size, percent) == allowed


def test_waves_count_stations_or_a_cumulative_share() -> None:
    assert planning.wave_of(["1", "25%", "100%"], 8) == [0, 1, 2, 2, 2, 2, 2, 2]
    assert planning.wave_of(["2", "2"], 5) == [0, 0, 1, 1, 1]
    assert planning.wave_of(["5"], 2) == [0, 0]


@pytest.mark.parametrize("waves", [[], ["0"], ["x"], ["101%"], "1", ["-1"]])
def test_a_wave_that_is_none_is_refused(waves: object) -> None:
    with pytest.raises(ValidationError):
        check_waves(waves)


def test_a_window_over_midnight_wraps() -> None:
    night = (time(22), time(5))
    assert [planning.within(night, time(h)) for h in (21, 22, 0, 4, 5)] == [
        False,
        True,
        True,
        True,
        False,
    ]
    assert planning.within((None, None), time(3))
