"""Fixtures: real servers, a real browser and the real runner; plain data comes from `make.py`.

Where a server or the browser is not installed, its tests are skipped with the reason; with
`CI=true` they fail, because a skipped proof is none.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NoReturn

import hypothesis
import psycopg
import pytest
from django.conf import settings
from django.utils import translation

from tests import servers
from tests.running import Running, run

# No test is timed: a busy machine is slow, and that proves nothing.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")

IN_CI = os.environ.get("CI", "").lower() == "true"
DATABASE_FIXTURES = {
    "db",
    "transactional_db",
    "django_db_reset_sequences",
    "django_db_serialized_rollback",
    "live_server",
}
CHROMIUM = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-default-apps",
    "--disable-dev-shm-usage",
]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--only-database`: what `make test` runs a second time, on PostgreSQL."""
    parser.addoption(
        "--only-database",
        action="store_true",
        help="only tests that use the database (run them again on PostgreSQL)",
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Under `--only-database`, deselect the tests that never touch the database."""
    if not config.getoption("--only-database"):
        return
    touching, rest = [], []
    for item in items:
        uses = DATABASE_FIXTURES.intersection(getattr(item, "fixturenames", ()))
        (touching if uses or item.get_closest_marker("django_db") else rest).append(item)
    items[:] = touching
    config.hook.pytest_deselected(items=rest)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """In CI a skipped test fails, except where it reads the vectors that only lie beside CI."""
    report = yield
    skipped = report.skipped and not hasattr(report, "wasxfail")
    if IN_CI and skipped and "vectors" not in str(report.longrepr):
        report.outcome = "failed"
        report.longrepr = f"skipped, which CI=true does not allow: {report.longrepr}"
    return report


def missing(reason: str) -> NoReturn:
    """Skip the test with the reason, or fail in CI."""
    if IN_CI:
        pytest.fail(f"{reason} (with CI=true nothing may be skipped)")
    pytest.skip(reason)


@pytest.fixture(scope="session")
def django_db_modify_db_settings(django_db_modify_db_settings: None) -> Iterator[None]:
    """Keep the SQLite test database in a file: threads get connections of their own, as in life."""
    if not settings.IS_SQLITE:
        yield
        return
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="csms-test-", dir=memory) as directory:
        settings.DATABASES["default"]["TEST"]["NAME"] = str(Path(directory) / "test.sqlite3")
        yield


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None) -> Iterator[None]:
    """Let go of the test database before it is dropped: the writer's thread holds a connection."""
    yield
    from django.db import connection

    from stations import writer

    writer.stop()
    if not settings.IS_SQLITE:
        connection.close_pool()
        with psycopg.connect(**_address(), autocommit=True) as other:
            other.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s",
                [settings.DATABASES["default"]["NAME"]],
            )


def _address() -> dict[str, Any]:
    """Return how to reach PostgreSQL's own database, from where others may be ended."""
    own = settings.DATABASES["default"]
    return {"host": own["HOST"], "port": own["PORT"], "user": own["USER"], "dbname": "postgres"}


@pytest.fixture(autouse=True)
def default_language() -> None:
    """Every test begins in the default language, whatever the one before it spoke."""
    translation.deactivate()


@pytest.fixture(autouse=True)
def flushable(request: pytest.FixtureRequest) -> Iterator[None]:
    """Let a transactional test's flush empty SQLite's tables: issued documents refuse DELETE.

    (PostgreSQL flushes by TRUNCATE, which no row trigger sees.)
    """
    marker = request.node.get_closest_marker("django_db")
    if not settings.IS_SQLITE or not (
        "transactional_db" in request.fixturenames or (marker and marker.kwargs.get("transaction"))
    ):
        yield
        return
    request.getfixturevalue("transactional_db")  # so that its teardown comes after ours
    from tests import guards

    guards.protect()
    yield
    guards.unprotect()


# --- servers ------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def postgresql() -> Iterator[servers.PostgreSQL]:
    """A real PostgreSQL server of this session; `postgresql.create("name")` makes a database."""
    with ExitStack() as stack:
        try:
            server = stack.enter_context(servers.postgresql())
        except servers.MissingServerError as error:
            missing(str(error))
        yield server


@pytest.fixture(scope="session")
def redis_server() -> Iterator[servers.Redis]:
    """A real Redis server of this session."""
    with ExitStack() as stack:
        try:
            server = stack.enter_context(servers.redis_server())
        except servers.MissingServerError as error:
            missing(str(error))
        yield server


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Running]]:
    """Start the real runner: `start(DEBUG="true", …)` is `manage.py run` on a fresh SQLite file.

    Arguments are `role` (default all) and environment variables; everything is stopped at the end.
    """
    with ExitStack() as stack:

        def start_one(role: str = "all", **environment: str) -> Running:
            directory = tmp_path / f"var-{len(os.listdir(tmp_path))}"  # noqa: PTH208
            return stack.enter_context(run(directory, role, environment))

        yield start_one


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """One running installation (`manage.py run`, SQLite, everything embedded) for a test module."""
    with run(tmp_path_factory.mktemp("running") / "var", "all", {}) as server:
        yield server


# --- browser ------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Debian's Chromium, driven by playwright."""
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        missing("Chromium is missing: sudo apt-get install chromium")
    from playwright.sync_api import sync_playwright

    # Playwright's loop runs in this thread; the ORM calls of the tests around it are synchronous.
    os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "true"
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=program, args=CHROMIUM)
        yield chromium
        chromium.close()
    del os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"]


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    """A page of a fresh profile; the test fails when a script on it failed."""
    context = browser.new_context(locale="en-GB", timezone_id="Europe/Berlin")
    context.set_default_timeout(15_000)
    page = context.new_page()
    failures: list[str] = []
    page.on("pageerror", lambda error: failures.append(str(error)))
    yield page
    context.close()
    assert not failures, f"scripts failed on the page: {failures}"


@pytest.fixture
def phone(browser: Any) -> Iterator[Any]:
    """A page with a small phone's screen and touch."""
    context = browser.new_context(
        locale="en-GB",
        viewport={"width": 360, "height": 740},
        device_scale_factor=2,
        is_mobile=True,
        has_touch=True,
    )
    context.set_default_timeout(15_000)
    yield context.new_page()
    context.close()


# --- payments -----------------------------------------------------------------------------------


@pytest.fixture
def box(tmp_path: Path, settings: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The payment sandbox on a port of its own; the official SDK talks to it. No webhooks leave
    by themselves: `tests.paying.deliver(box, client)` brings them."""
    from billing.providers import stripe as provider
    from billing.sandbox.engine import Sandbox
    from billing.sandbox.server import serving

    settings.STRIPE_API_KEY = ""
    settings.PAYMENT_SANDBOX = True
    monkeypatch.setattr(provider, "NETWORK_RETRIES", 0)
    conf = provider.configuration()
    assert conf is not None
    sandbox = Sandbox(tmp_path / "sandbox.sqlite3", webhook_secret=conf.webhook_secrets[0], seed=7)
    with serving(sandbox) as base:
        settings.STRIPE_API_BASE = base
        yield sandbox
    sandbox.close()
