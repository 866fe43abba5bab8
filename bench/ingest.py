"""`make bench-ingest`: messages a second, everything durable before the answer.

Closed loop, N chargers, three scenarios, 1.6 and 2.0.1, SQLite and PostgreSQL; beside it the same
server as a bare echo, and our own with one commit a message.
"""

from __future__ import annotations

import argparse

from bench import echo, report
from bench.installation import DATABASES, TAG, installed
from bench.load import Result, measure

NUMBERS = (1, 10, 100, 500)
HEAD = ["scenario", "database", "OCPP", "N", "msg/s", "p50 ms", "p95 ms", "p99 ms", "max ms",
        "server cores", "client cores", "errors"]  # fmt: skip


def row(name: str, database: str, result: Result) -> list[str]:
    """A line of the table."""
    return [
        name, database, result.version if name != "echo" else "–", str(result.count),
        f"{result.rate:,.0f}", f"{result.p50_ms:.1f}", f"{result.p95_ms:.1f}",
        f"{result.p99_ms:.1f}", f"{result.max_ms:.0f}",
        f"{result.server_cpu:.2f}" if result.server_cpu else "–", f"{result.own_cpu:.2f}",
        ", ".join(f"{n} {what}" for what, n in result.errors.items()) or "0",
    ]  # fmt: skip


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=6)
    parser.add_argument("--numbers", default=",".join(map(str, NUMBERS)))
    parser.add_argument("--databases", default=",".join(DATABASES))
    parser.add_argument("--versions", default="1.6,2.0.1")
    parser.add_argument("--scenarios", default="heartbeat,meter,session")
    parser.add_argument("--keep", action="store_true", help="print only, leave the page alone")
    options = parser.parse_args()
    numbers = [int(n) for n in options.numbers.split(",")]
    rows = []

    def add(line: list[str]) -> None:
        rows.append(line)
        print("  ".join(line), flush=True)

    with echo.running() as url:
        measure(url, scenario="echo", count=1, seconds=0.5, warmup=0.5)
        for number in numbers:
            result = measure(url, scenario="echo", count=number, seconds=options.seconds / 2)
            add(row("echo", "–", result))
    for database in options.databases.split(","):
        with installed(database) as server:
            for scenario in options.scenarios.split(","):
                for version in options.versions.split(","):
                    for number in numbers:
                        result = measure(
                            server.url, version=version, count=number, scenario=scenario,
                            seconds=options.seconds, tag=TAG, server_cpu_s=server.cpu_s,
                        )  # fmt: skip
                        add(row(scenario, database, result))
        with installed(database, WRITER_MAX_BATCH="1") as server:
            result = measure(
                server.url, count=100, seconds=options.seconds, tag=TAG, server_cpu_s=server.cpu_s
            )
            add(row("meter, one commit a message", database, result))
    text = f"{report.conditions()}\n\n{report.table(HEAD, rows)}"
    if options.keep:
        print(text)
    else:
        report.write("ingest", text)


if __name__ == "__main__":
    main()
