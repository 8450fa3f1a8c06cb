"""`python -m bench [GROUP...]`: run, print, write bench/out/results.json. Exits 1 where a group broke."""

import argparse
import asyncio
import importlib
import sys
import time
import traceback

from bench.harness import Bench

GROUPS = {
    "guest": "the guest in bubblewrap: start, memory, commands, floods",
    "cold": "sandboxes at once, cold",
    "drivers": "machines by driver: cold, restored, pooled, bursts, density, forks, suspension",
    "tasks": "POST to a running agent, warm pool, bursts",
    "events": "agent line to SSE client; one guest's flood, stored on the way",
    "idle_clients": "2,000 idle SSE clients",
    "queue": "claims per second",
    "replay": "list and replay with many events stored",
}


def main() -> int:
    """Run the groups named on the command line, each in turn."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("group", nargs="*", help="; ".join(f"{name}: {what}" for name, what in GROUPS.items()))
    names = parser.parse_args().group or list(GROUPS)
    if unknown := set(names) - set(GROUPS):
        parser.error(f"unknown group {', '.join(sorted(unknown))}: choose from {', '.join(GROUPS)}")
    bench, broken, started = Bench(), [], time.monotonic()
    for name in names:
        bench.console.print(f"[bold]{name}[/]: {GROUPS[name]}")
        try:
            asyncio.run(importlib.import_module(f"bench.{name}").run(bench))
        except Exception:  # the other groups still tell something
            traceback.print_exc()
            broken.append(name)
    bench.console.print(bench.table())
    bench.console.print(f"{bench.write()} after {time.monotonic() - started:.0f} s")
    if broken:
        bench.console.print(f"[red]broken:[/] {', '.join(broken)}")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
