"""The load client's own arithmetic, and its scenarios against the real server without an error."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from io import StringIO

import pytest
from django.core.management import CommandError, call_command

from bench import echo
from bench.installation import TAG, Installation, installed
from bench.load import measure, percentile
from bench.report import table


@pytest.fixture(scope="module")
def server() -> Iterator[Installation]:
    with installed("sqlite") as one:
        yield one


def test_a_percentile_is_the_value_at_its_rank() -> None:
    values = [float(n) for n in range(100)]
    assert percentile(values, 0.5) == 50
    assert percentile(values, 0.99) == 99
    assert percentile(values, 1.0) == 99
    assert percentile([], 0.5) == 0


def test_a_table_puts_words_left_and_figures_right() -> None:
    assert table(["what", "n"], [["echo", "1"], ["meter", "20"]]) == (
        "| what  |  n |\n| ----- | -: |\n| echo  |  1 |\n| meter | 20 |"
    )


@pytest.mark.slow
@pytest.mark.parametrize("version", ["1.6", "2.0.1"])
@pytest.mark.parametrize("scenario", ["heartbeat", "meter", "session"])
def test_every_scenario_runs_without_an_error(
    server: Installation, scenario: str, version: str
) -> None:
    result = measure(
        server.url, version=version, scenario=scenario, count=5, seconds=1, warmup=0.2, tag=TAG
    )
    assert result.errors == {}
    assert result.connected == 5
    assert result.messages > 20


@pytest.mark.slow
def test_the_echo_beside_it_answers() -> None:
    with echo.running() as url:
        result = measure(url, scenario="echo", count=2, seconds=0.5, warmup=0.2)
    assert result.errors == {}
    assert result.messages > 100


@pytest.mark.slow
def test_simulate_runs_a_fleet_from_the_command_line(server: Installation) -> None:
    done = subprocess.run(
        [
            *(sys.executable, "manage.py", "simulate", "--url", server.url, "--count", "3"),
            *("--seconds", "4", "--scenario", "quiet"),
        ],
        env={**os.environ, **server.running.environment},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert "0 of 3 connected" in done.stdout  # all said goodbye at the end
    stations = server.running.manage("stations", "list")
    seen = {row["identity"]: row["version"] for row in stations if row["identity"][:3] == "SIM"}
    assert seen == {"SIM-001": "1.6", "SIM-002": "2.0.1", "SIM-003": "2.1"}


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--url", "http://h"], "--url must begin with ws:// or wss://."),
        (
            ["--url", "ws://h", "--version", "3"],
            "--version must be one of 1.6, 2.0.1, 2.1 or mixed.",
        ),
        (["--url", "ws://h", "--scenario", "x"], "--scenario must be one of quiet, charging, busy"),
        (["--url", "ws://h", "--count", "0"], "--count and --connectors must be at least 1"),
    ],
)
def test_simulate_says_what_is_wrong(arguments: list[str], sentence: str) -> None:
    with pytest.raises(CommandError) as told:
        call_command("simulate", *arguments, stdout=StringIO())
    assert sentence in str(told.value)
