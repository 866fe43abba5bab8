"""The runner: starts at once, says what is wrong in one sentence, and leaves nothing behind."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import websockets
from django.contrib.auth import authenticate
from django.test import Client

from config import serve
from config.management.commands.run import first_login
from stations.models import User
from tests.running import ADMIN, ROOT, Running

pytestmark = pytest.mark.slow

Start = Callable[..., Running]


def manage(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `manage.py` and return what it printed."""
    return subprocess.run(
        [sys.executable, "manage.py", *arguments],
        cwd=ROOT,
        env={**os.environ, "ENV_FILE": os.devnull, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_everything_within_three_seconds(start: Start, how: signal.Signals) -> None:
    server = start()
    assert server.process is not None
    children = psutil.Process(server.process.pid).children(recursive=True)
    began = time.monotonic()
    assert server.stop(how) == 0
    assert time.monotonic() - began < 3
    assert [child for child in children if child.is_running()] == []
    assert "Traceback" not in server.output


@pytest.mark.slow
def test_an_open_event_stream_does_not_hold_up_the_end(start: Start) -> None:
    server = start()
    with httpx.Client() as client:
        token = client.get(f"{server.url}/admin/login/").cookies["csrftoken"]
        form = {"username": ADMIN[0], "password": ADMIN[1], "csrfmiddlewaretoken": token}
        assert client.post(f"{server.url}/admin/login/", data=form).status_code == 302
        with client.stream("GET", f"{server.url}/live/?topics=fleet") as stream:
            assert stream.status_code == 200
            assert next(stream.iter_lines()) == "retry: 3000"
            began = time.monotonic()
            assert server.stop() == 0
            assert time.monotonic() - began < 3


@pytest.mark.slow
def test_what_chargers_were_told_is_kept_and_they_are_gone_when_the_process_ends(
    start: Start,
) -> None:
    """Sockets get 1012, then the writer is flushed, then the process leaves: within 3 s."""
    server = start(OCPP_UNKNOWN_STATIONS="accept")

    async def storm() -> tuple[int, set[int], float]:
        sockets = [await connect(f"{server.ocpp_url}CP{n}") for n in range(30)]
        tasks = [asyncio.create_task(talk(socket, n)) for n, socket in enumerate(sockets)]
        await asyncio.sleep(1)
        began = time.monotonic()
        code = await asyncio.to_thread(server.stop)
        took = time.monotonic() - began
        assert code == 0
        answered = await asyncio.gather(*tasks)
        return sum(answered), {socket.close_code for socket in sockets}, took

    answered, codes, took = asyncio.run(storm())
    assert answered > 30
    assert codes == {1012}
    assert took < 3
    with sqlite3.connect(server.log.parent / "csms.sqlite3") as rows:
        kept = rows.execute(
            "SELECT COUNT(*) FROM stations_message WHERE action = 'Heartbeat' AND answer <> ''"
        ).fetchone()[0]
        connected = rows.execute("SELECT COUNT(*) FROM stations_station WHERE connected").fetchone()
    assert kept >= answered
    assert connected == (0,)
    assert "Traceback" not in server.output
    assert "could not be noted" not in server.output


def connect(url: str) -> Any:
    return websockets.connect(url, subprotocols=[websockets.Subprotocol("ocpp1.6")])


async def talk(socket: Any, n: int) -> int:
    """Boot, then Heartbeat without a pause; return how many were answered."""
    boot = {"chargePointVendor": "Vendor", "chargePointModel": "Model"}
    await socket.send(json.dumps([2, "boot", "BootNotification", boot]))
    await socket.recv()
    answered = 0
    with contextlib.suppress(websockets.ConnectionClosed):
        while True:
            await socket.send(json.dumps([2, f"{n}-{answered}", "Heartbeat", {}]))
            while json.loads(await socket.recv())[0] == 2:
                pass  # an order
            answered += 1
    return answered


@pytest.mark.slow
def test_the_second_start_on_the_same_data_is_quick_and_shows_no_password(start: Start) -> None:
    server = start(ADMIN_PASSWORD="")
    assert "password" in server.output
    server.kill()
    server.log.write_text("")
    server.start()
    assert server.process is not None
    times = psutil.Process(server.process.pid).cpu_times()
    assert times.user + times.system < 5  # of the processor, whatever else the machine does
    assert "password" not in server.output


@pytest.mark.slow
def test_tasks_and_schedule_run_in_the_same_process(start: Start) -> None:
    server = start()
    news = (
        "from datetime import timedelta; from django.utils.timezone import now;"
        "from stations.models import Entry;"
        "Entry.objects.create(at=now() - timedelta(hours=1), kind='test.happened', pending=True)"
    )
    assert manage("shell", "-c", news, **server.environment).returncode == 0
    state = "from stations.models import Entry; print('swept', not Entry.objects.get().pending)"
    deadline = time.monotonic() + 20
    while "swept True" not in manage("shell", "-v0", "-c", state, **server.environment).stdout:
        assert time.monotonic() < deadline, server.output
    assert server.stop() == 0


def test_a_taken_port_is_one_sentence(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = manage("run", PORT=str(port), VAR_DIR=str(tmp_path))
    assert done.returncode == 1
    assert done.stderr.strip().splitlines() == [
        f"CommandError: Port {port} is taken: stop what listens there, or choose another one, "
        f"for example  PORT={port + 1} make run"
    ]


def test_a_folder_that_is_not_ours_is_one_sentence() -> None:
    done = manage("run", VAR_DIR="/proc/nothing")
    assert done.returncode == 1
    assert done.stderr.strip() == (
        "No permission to write in /proc/nothing: run as the owner of this folder, "
        "or set VAR_DIR to a folder of your own."
    )


@pytest.mark.parametrize("port", ["abc", "99999", "-1", ""])
def test_a_port_that_is_none_is_one_sentence(tmp_path: Path, port: str) -> None:
    done = manage("run", PORT=port, VAR_DIR=str(tmp_path))
    assert done.returncode == 1
    assert done.stderr.strip() == (f"PORT must be a whole number from 0 to 65535, not “{port}”.")


def test_without_the_installed_packages_the_command_line_says_what_to_do(tmp_path: Path) -> None:
    program = tmp_path / "manage.py"
    program.write_text(Path("manage.py").read_text())
    bare = [sys.executable, "-S", "-I", str(program), "check"]
    done = subprocess.run(bare, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.strip().endswith("Run: make setup")


@pytest.mark.parametrize("role", ["gateway", "web", "worker", "beat"])
def test_a_role_of_its_own_needs_redis_and_postgresql(role: str, settings: Any) -> None:
    settings.REDIS_URL, settings.IS_SQLITE = "", True
    with pytest.raises(serve.NotStarted, match="set REDIS_URL and DATABASE_URL"):
        serve.check_role(role)


@pytest.mark.parametrize(
    ("missing", "environment"),
    [
        ("SECRET_KEY", {"PUBLIC_URL": "https://charge.example"}),
        ("PUBLIC_URL", {"SECRET_KEY": "k" * 60}),
    ],
)
def test_production_names_the_variable_that_is_missing(
    tmp_path: Path, missing: str, environment: dict[str, str]
) -> None:
    done = manage("check", DEBUG="false", VAR_DIR=str(tmp_path), **environment)
    assert done.returncode == 1
    assert done.stderr.startswith(f"{missing} is missing")
    assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.django_db
def test_the_first_staff_user_is_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADMIN_EMAIL", "first@example.com")
    monkeypatch.delenv("ADMIN_PASSWORD", raising=False)
    login = first_login()
    assert login is not None
    email, password = login
    assert email == "first@example.com"
    assert authenticate(username=email, password=password) == User.objects.get()
    assert first_login() is None


def test_a_name_for_the_environment_file_is_honoured(tmp_path: Path) -> None:
    (tmp_path / "other.env").write_text("DEFAULT_CURRENCY=CHF\n")
    script = "import json; from django.conf import settings; "
    script += "print(json.dumps(settings.DEFAULT_CURRENCY))"
    done = manage(
        "shell",
        "-v0",
        "-c",
        script,
        ENV_FILE=str(tmp_path / "other.env"),
        VAR_DIR=str(tmp_path),
    )
    assert json.loads(done.stdout) == "CHF"


@pytest.mark.django_db
def test_health_answers_by_address_and_without_tls(client: Client, settings: Any) -> None:
    settings.ALLOWED_HOSTS, settings.SECURE_SSL_REDIRECT = ["charge.example"], True
    assert client.get("/healthz", HTTP_HOST="10.0.0.7").content == b"ok"
    assert client.get("/readyz", HTTP_HOST="10.0.0.7").json()["database"] == "ok"
    assert client.get("/admin/", HTTP_HOST="10.0.0.7").status_code == 400
    assert client.get("/admin/", HTTP_HOST="charge.example").status_code == 301


DRAWS = """
import psutil, sys
from billing import pdf
if __name__ == "__main__":
    assert pdf.render_apart("<p>Invoice</p>", "").startswith(b"%PDF")
    print(*[child.pid for child in psutil.Process().children()], flush=True)
    sys.stdin.read()
"""


def test_a_killed_runner_leaves_no_pdf_process(tmp_path: Path) -> None:
    (tmp_path / "draws.py").write_text(DRAWS)
    parent = subprocess.Popen(
        [sys.executable, str(tmp_path / "draws.py")],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert parent.stdout is not None
    children = [psutil.Process(int(pid)) for pid in parent.stdout.readline().split()]
    assert len(children) == 1
    parent.kill()
    parent.communicate()
    _, alive = psutil.wait_procs(children, timeout=10)
    assert alive == []
