"""`manage.py run`: start the product, everything in one process or one role of it."""

import os
import secrets
import socket
import subprocess
import sys
from typing import Any

from django.conf import settings
from django.core.management import BaseCommand, CommandError, CommandParser, call_command

from config import serve
from stations.models import User


class Command(BaseCommand):
    """Prepare the database, print where everything is, and serve until told to stop."""

    help = "Run web, OCPP, tasks and schedule in one process, or one role of them."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--role", choices=serve.ROLES, default="all")
        parser.add_argument("--host", default=os.environ.get("HOST", "127.0.0.1"))
        parser.add_argument("--port", type=int, default=settings.PORT)
        parser.add_argument(
            "--processes", type=int, default=os.cpu_count() or 2, help="of the role worker"
        )
        parser.add_argument(
            "--prepare",
            action="store_true",
            help="migrate, collect static files, create the first login, and stop there",
        )
        parser.add_argument(
            "--demo", action="store_true", help="with a small living network of simulated stations"
        )
        parser.add_argument("--days", type=int, default=30, help="length of the demo's past")

    def handle(self, *args: Any, **options: Any) -> None:
        role = options["role"]
        if options["prepare"]:
            self._prepare(options["host"], options["port"])
            return
        try:
            serve.check_role(role)
            if role == "worker":
                serve.work(options["processes"])
            elif role == "beat":
                serve.schedule()
            else:
                sock = serve.listen(options["host"], options["port"])
                self._serve(role, sock, options)
        except serve.NotStarted as error:
            raise CommandError(str(error)) from error

    def _serve(self, role: str, sock: socket.socket, options: dict[str, Any]) -> None:
        if role == "all":
            self._prepare(options["host"], options["port"])
            if options["demo"]:
                call_command("demo", prepare=True, days=options["days"], stdout=self.stdout)
                demo_network(sock.getsockname()[1])
        serve.serve(sock, with_tasks=role == "all")

    def _prepare(self, host: str, port: int) -> None:
        call_command("migrate", interactive=False, verbosity=0)
        if not settings.DEBUG:
            call_command("collectstatic", interactive=False, verbosity=0)
        self._welcome(host, port, first_login())

    def _welcome(self, host: str, port: int, login: tuple[str, str] | None) -> None:
        shown = "127.0.0.1" if host in ("0.0.0.0", "::") else host  # noqa: S104  # compared only
        if ":" in shown:
            shown = f"[{shown}]"
        lines = [
            "",
            f"  Back office    http://{shown}:{port}/admin/",
            f"  Driver portal  http://{shown}:{port}/",
            f"  Chargers       ws://{shown}:{port}/ocpp/<identity>",
        ]
        if login:
            lines += [f"  First login    {login[0]}   password  {login[1]}   (shown once)"]
        lines += ["", "  Ctrl-C stops everything.", ""]
        self.stdout.write("\n".join(lines))
        self.stdout.flush()


def demo_network(port: int) -> None:
    """Start the demo's stations in a process of their own, which ends when this one is gone."""
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, sys.argv[0], "demo", "--url", url, "--parent", str(os.getpid())]
    subprocess.Popen(command, stdin=subprocess.DEVNULL)  # noqa: S603  our own command


def first_login() -> tuple[str, str] | None:
    """Create the first staff user where there is none; return what to show of the login.

    `ADMIN_EMAIL` and `ADMIN_PASSWORD` name it; without a password one is made up.
    """
    if User.objects.filter(is_superuser=True).exists():
        return None
    email = os.environ.get("ADMIN_EMAIL", "admin@example.com")
    password = os.environ.get("ADMIN_PASSWORD", "")
    shown = "from ADMIN_PASSWORD" if password else (password := secrets.token_urlsafe(9))
    User.objects.create_superuser(email, password)
    return email, shown
