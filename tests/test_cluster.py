"""The production shape, for real: nginx, two gateways, web, worker, beat, PostgreSQL and Redis."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import websockets

from deploy import servers
from stations.simulator.model import Status
from tests.charger import Charger
from tests.conftest import missing
from tests.running import ROOT

pytestmark = [pytest.mark.services, pytest.mark.timeout(480)]
PORTS = 6  # nginx, two gateways, web, PostgreSQL, Redis


def free_ports() -> int:
    """Return the first of six neighbouring ports that are all free."""
    for base in range(20_000 + os.getpid() % 10_000, 60_000, PORTS):
        try:
            for port in range(base, base + PORTS):
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", port))
        except OSError:
            continue
        return base
    raise RuntimeError("no six free ports in a row")


@dataclass
class Cluster:
    """A running `python -m deploy.cluster`."""

    process: subprocess.Popen[str]
    directory: Path
    port: int

    def part(self, *words: str) -> psutil.Process:
        """Return the process of a role (and port)."""
        for child in psutil.Process(self.process.pid).children(recursive=True):
            if set(words) <= set(child.cmdline()) and "manage.py" in child.cmdline():
                return child
        raise AssertionError(f"no process {words}")

    def gateway(self, number: int) -> psutil.Process:
        """Return the process of the first or second gateway."""
        return self.part("gateway", str(self.port + number))

    def manage(self, *arguments: str) -> Any:
        """Run an operator command beside the cluster; return its JSON."""
        done = subprocess.run(
            [sys.executable, "manage.py", *arguments, "--json"],
            cwd=ROOT,
            env={**os.environ, "ENV_FILE": str(self.directory / "cluster" / "env")},
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    @property
    def ocpp_url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/ocpp/"

    @property
    def output(self) -> str:
        return (self.directory / "output.log").read_text()

    def wait_for(self, path: str, seconds: float = 240) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                if httpx.get(f"http://127.0.0.1:{self.port}{path}", timeout=5).status_code == 200:
                    return
            except httpx.HTTPError:
                time.sleep(0.2)
        raise AssertionError(f"the cluster did not answer {path}:\n{self.output[-3000:]}")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """The cluster, in a directory that PostgreSQL's user may reach."""
    try:
        servers.require("postgres", "redis-server", "nginx")
    except servers.MissingServerError as error:
        missing(str(error))
    with tempfile.TemporaryDirectory(prefix="csms-cluster-") as name:
        directory = Path(name)
        directory.chmod(0o755)
        port = free_ports()
        # Any charger may come: adding each from the command line would only take time.
        own = {key: value for key, value in os.environ.items() if not key.endswith("_URL")}
        with (directory / "output.log").open("w") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "deploy.cluster"],
                cwd=ROOT,
                env={
                    **own,
                    "PORT": str(port),
                    "VAR_DIR": name,
                    "ENV_FILE": os.devnull,
                    "OCPP_UNKNOWN_STATIONS": "accept",
                },
                stdout=log,
                stderr=log,
                text=True,
                start_new_session=True,
            )
        running = Cluster(process, directory, port)
        try:
            running.wait_for("/readyz")
            yield running
        finally:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)


async def reset(cluster: Cluster, identity: str) -> str:
    """Send a Reset from a process of its own and return how it ended."""
    answer = await asyncio.to_thread(
        cluster.manage, "commands", "send", identity, "reset", '{"hard": false}', "--wait", "20"
    )
    return str(answer["status"])


async def gateways_used(cluster: Cluster) -> list[int]:
    """Return how many chargers' sockets each gateway holds."""
    return [
        sum(
            one.status == "ESTABLISHED" and one.laddr.port == cluster.port + number
            for one in cluster.gateway(number).net_connections("tcp")
        )
        for number in (1, 2)
    ]


async def test_orders_reach_chargers_whichever_gateway_holds_them(cluster: Cluster) -> None:
    names = [f"CP-{number}" for number in range(8)]
    chargers = [
        Charger(cluster.ocpp_url, name, version)
        for name, version in zip(names, ["1.6", "2.0.1", "2.1", "1.6"] * 2, strict=True)
    ]
    for charger in chargers:
        await charger.connect()
        assert (await charger.boot())["status"] == "Accepted"
    assert min(await gateways_used(cluster)) > 0
    assert sum(await gateways_used(cluster)) == len(chargers)
    answers = await asyncio.gather(*[reset(cluster, name) for name in names[:4]])
    assert answers == ["accepted"] * 4
    for charger in chargers:
        await charger.close()


async def test_a_killed_gateway_is_replaced_and_its_chargers_carry_on(cluster: Cluster) -> None:
    async with Charger(cluster.ocpp_url, "PHOENIX", "2.0.1") as charger:
        assert (await charger.boot())["status"] == "Accepted"
        before = await gateways_used(cluster)
        holder = 1 if before[0] else 2
        killed, lost = cluster.gateway(holder), charger.station.link
        killed.kill()
        async with asyncio.timeout(60):
            while charger.station.link in (None, lost):  # noqa: ASYNC110
                await asyncio.sleep(0.1)
        assert "currentTime" in await charger.heartbeat()
        assert await reset(cluster, "PHOENIX") == "accepted"
    async with asyncio.timeout(60):
        while cluster.output.count(f"gateway{holder} ended with -9: starting it again") != 1:  # noqa: ASYNC110
            await asyncio.sleep(0.2)
    assert cluster.gateway(holder).pid != killed.pid


async def test_a_killed_worker_is_replaced_and_loses_no_news(cluster: Cluster) -> None:
    killed = cluster.part("worker")
    for child in killed.children(recursive=True):
        child.kill()
    killed.kill()
    news = (
        "from datetime import timedelta; from django.utils.timezone import now;"
        "from stations.models import Entry;"
        "Entry.objects.create(at=now() - timedelta(hours=1), kind='test.happened', pending=True)"
    )
    state = "from stations.models import Entry;"
    state += "print(Entry.objects.filter(kind='test.happened', pending=False).count())"
    await asyncio.to_thread(shell, cluster, news)
    async with asyncio.timeout(90):
        while await asyncio.to_thread(shell, cluster, state) != "1":  # noqa: ASYNC110
            await asyncio.sleep(0.5)
    assert cluster.part("worker").pid != killed.pid


def shell(cluster: Cluster, code: str) -> str:
    """Run Python code in the cluster's environment and return what it printed."""
    done = subprocess.run(
        [sys.executable, "manage.py", "shell", "-v0", "-c", code],
        cwd=ROOT,
        env={**os.environ, "ENV_FILE": str(cluster.directory / "cluster" / "env")},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stdout.strip()


def server_of(cluster: Cluster, word: str) -> psutil.Process:
    """Return the server process whose command line begins with a program of that name."""
    for child in psutil.Process(cluster.process.pid).children():
        if Path(child.cmdline()[0]).name.startswith(word):
            return child
    raise AssertionError(f"no process {word}")


async def test_without_redis_for_a_while_orders_are_late_but_not_lost(cluster: Cluster) -> None:
    async with Charger(cluster.ocpp_url, "NO-REDIS", "1.6") as charger:
        await charger.boot()
        server_of(cluster, "redis-server").kill()
        assert "currentTime" in await charger.heartbeat()
        assert await reset(cluster, "NO-REDIS") == "accepted"
        async with asyncio.timeout(60):
            while cluster.output.count("Redis runs") + cluster.output.count("Redis ended") < 2:  # noqa: ASYNC110
                await asyncio.sleep(0.2)
        assert await reset(cluster, "NO-REDIS") == "accepted"


async def test_when_postgresql_is_back_everything_answers_again(cluster: Cluster) -> None:
    async with Charger(cluster.ocpp_url, "NO-DATABASE", "2.0.1") as charger:
        await charger.boot()
        server_of(cluster, "postgres").send_signal(signal.SIGQUIT)  # its immediate stop
        async with asyncio.timeout(60):
            while "PostgreSQL ended" not in cluster.output:  # noqa: ASYNC110
                await asyncio.sleep(0.2)
        await asyncio.to_thread(cluster.wait_for, "/readyz")
        for _ in range(6):  # what was being answered when the database went is said again
            with contextlib.suppress(TimeoutError):
                await charger.status(1, Status.CHARGING)
                break
        assert await reset(cluster, "NO-DATABASE") == "accepted"


async def test_ctrl_c_closes_every_socket_with_1012_and_leaves_nothing(cluster: Cluster) -> None:
    protocol: Any = "ocpp1.6"
    async with websockets.connect(f"{cluster.ocpp_url}LAST", subprotocols=[protocol]) as link:
        processes = psutil.Process(cluster.process.pid).children(recursive=True)
        assert len(processes) > 8
        cluster.process.send_signal(signal.SIGINT)
        with pytest.raises(websockets.ConnectionClosed) as closed:
            async with asyncio.timeout(10):
                await link.recv()
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1012
    assert await asyncio.to_thread(cluster.process.wait, 20) == 0
    assert [one for one in processes if one.is_running() and one.status() != "zombie"] == []
