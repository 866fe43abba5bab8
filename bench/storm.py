"""`make bench-storm`: two thousand chargers connect and boot at once, then the same again after a
restart of the server; and what an idle connection holds of memory."""

from __future__ import annotations

import argparse
import asyncio
import time

import uvloop

from bench import report
from bench.installation import DATABASES, TAG, Installation, installed
from bench.load import Load, Result

HEAD = ["database", "storm", "chargers", "connected", "all connected s", "all booted s",
        "KB a connection", "errors"]  # fmt: skip


async def hold(server: Installation, count: int) -> tuple[Result, float]:
    """Connect and boot `count` chargers at once; the result and the memory each holds in KB."""
    before, held = server.rss_kb(), 0.0
    load = Load(server.url, "1.6", count, "idle", TAG, "STORM")

    def weigh() -> None:
        nonlocal held
        held = (server.rss_kb() - before) / max(1, len(load.chargers))

    load.before_leaving = weigh
    result = await load.run(seconds=3, warmup=1)
    await asyncio.sleep(1)
    return result, held


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--databases", default=",".join(DATABASES))
    parser.add_argument("--keep", action="store_true", help="print only, leave the page alone")
    options = parser.parse_args()
    rows = []
    for database in options.databases.split(","):
        with installed(database) as server:
            for name in ("new chargers", "known chargers", "after a restart"):
                if name == "after a restart":
                    server.running.stop()
                    server.running.start()
                    time.sleep(1)
                with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                    result, held = runner.run(hold(server, options.count))
                errors = ", ".join(f"{n} {what}" for what, n in result.errors.items())
                rows.append(
                    [database, name, str(result.count), str(result.connected),
                     f"{result.connect_s:.1f}", f"{result.boot_s:.1f}", f"{held:.0f}",
                     errors or "0"]
                )  # fmt: skip
                print("  ".join(rows[-1]), flush=True)
    text = f"{report.conditions()}\n\n{report.table(HEAD, rows)}"
    if options.keep:
        print(text)
    else:
        report.write("storm", text)


if __name__ == "__main__":
    main()
