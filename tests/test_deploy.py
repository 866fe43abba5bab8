"""What is shipped for running in production fits the code and each other."""

import ast
import os
import re
import shutil
import subprocess
import sys
import tempfile
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
import yaml

from config.serve import ROLES
from deploy.cluster import environment, parts
from tests.conftest import missing
from tests.running import ROOT

DEPLOY = ROOT / "deploy"
ROLE = re.compile(r"--role[ ,]+\"?(\w+)")


def names_read_by(*sources: str) -> set[str]:
    """Return the environment variables that these files read."""
    text = "".join((ROOT / source).read_text() for source in sources)
    found = re.findall(r"(?:env\.\w+|_number)\(\s*\"([A-Z_]+)\"", text)
    return set(found + re.findall(r"environ\.get\(\"([A-Z_]+)\"", text))


def test_every_setting_is_in_the_operations_manual() -> None:
    read = names_read_by("config/settings.py", "config/management/commands/run.py")
    manual = (ROOT / "docs" / "operations.md").read_text()
    table = set(re.findall(r"`([A-Z_]+)`", manual)) | {"ENV_FILE"}
    assert read - {"TEST_SQLITE"} - table == set()
    assert {"DATABASE_URL", "REDIS_URL", "PORT"} <= read


def test_the_example_environment_names_only_what_is_read() -> None:
    read = names_read_by("config/settings.py", "config/management/commands/run.py")
    lines = (ROOT / ".env.example").read_text().splitlines()
    named = {match[1] for line in lines if (match := re.match(r"#?([A-Z_]+)=", line))}
    assert named - read == set()
    assert {"SECRET_KEY", "PUBLIC_URL", "DATABASE_URL"} <= named


def test_containers_units_and_the_procfile_run_the_same_roles(tmp_path: Path) -> None:
    separate = set(ROLES) - {"all"}
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    in_containers = {
        service["command"][1]
        for service in compose["services"].values()
        if service.get("command", [""])[0] == "--role"
    }
    units = "".join(file.read_text() for file in (DEPLOY / "systemd").glob("*.service"))
    procfile = {part.command[3] for part in parts(environment(tmp_path, 9000))}
    assert in_containers == separate
    assert set(ROLE.findall(units)) == separate
    assert procfile == separate


def test_the_target_starts_every_unit() -> None:
    target = (DEPLOY / "systemd" / "csms.target").read_text()
    units = {file.name for file in (DEPLOY / "systemd").glob("*.service")} - {"csms.service"}
    assert {name for name in units if name.replace("@", "@8001") in target} == units


def packages_of(*files: str) -> set[str]:
    """Return the packages that requirement files name, as PyPI spells them."""
    lines = [line for file in files for line in (ROOT / file).read_text().splitlines()]
    return {normal(re.split(r"[\[=]", line)[0]) for line in lines if re.match(r"\w", line)}


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_every_library_that_is_imported_is_required_by_name() -> None:
    comes_with = {
        "asgiref": "django",
        "jsonschema": "ocpp",
        "moneyed": "django-money",
        "openpyxl": "tablib",
        "psycopg_pool": "psycopg",
    }
    own = {"config", "stations", "monitoring", "firmware", "billing", "deploy", "tests", "bench"}
    distributions = packages_distributions()
    undeclared = set()
    for folder in own:
        required = packages_of("requirements.txt")
        if folder in ("tests", "bench"):
            required |= packages_of("requirements-dev.txt")
        for file in (ROOT / folder).rglob("*.py"):
            for name in imported_by(file) - own - set(sys.stdlib_module_names):
                packages = {normal(one) for one in distributions.get(name, [name])}
                if not required & (packages | {comes_with.get(name, "")}):
                    undeclared.add(f"{file.relative_to(ROOT)}: {name}")
    assert undeclared == set()


def imported_by(file: Path) -> set[str]:
    """Return the top-level names that a module imports, anywhere in it."""
    names = []
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.append(node.module)
    return {name.split(".")[0] for name in names}


@pytest.mark.services
@pytest.mark.parametrize("name", ["csms.conf", "compose.conf"])
def test_nginx_accepts_the_shipped_configuration(name: str) -> None:
    nginx = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
    openssl = shutil.which("openssl")
    if nginx is None or openssl is None:
        missing("nginx or openssl is missing: sudo apt-get install nginx openssl")
    with tempfile.TemporaryDirectory() as directory:
        key, certificate = f"{directory}/key.pem", f"{directory}/cert.pem"
        request = f"{openssl} req -x509 -newkey rsa:2048 -nodes -subj /CN=x -days 1"
        command = f"{request} -keyout {key} -out {certificate}".split()
        subprocess.run(command, check=True, capture_output=True)
        text = (DEPLOY / "nginx" / name).read_text()
        text = re.sub(r"ssl_certificate_key .*;", f"ssl_certificate_key {key};", text)
        text = re.sub(r"ssl_certificate .*;", f"ssl_certificate {certificate};", text)
        text = re.sub(r"include .*locations.conf;", f"include {DEPLOY}/nginx/locations.conf;", text)
        text = re.sub(r"server (gateway\d|web):8000", "server 127.0.0.1:8000", text)
        text = re.sub(r"listen (80|443)", r"listen 127.0.0.1:20\1", text)
        Path(directory, "nginx.conf").write_text(
            f"pid {directory}/pid; events {{}} http {{ access_log off;\n{text}\n}}"
        )
        done = subprocess.run(
            [nginx, "-t", "-e", "stderr", "-p", directory, "-c", f"{directory}/nginx.conf"],
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    assert "test is successful" in done.stderr
