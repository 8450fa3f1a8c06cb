"""Appends until killed, and prints what has been acknowledged: `TASK SEQ`, a line each."""

import asyncio
import json
import sys
from itertools import count
from pathlib import Path

from squib.contracts.event import Draft, GuestEvent
from squib.store import Lease, Store


async def main(url: str, files: str, tasks: list[tuple[str, int]]) -> None:
    async with Store.open(url, files=Path(files)) as store, asyncio.TaskGroup() as group:
        for task_id, token in tasks:
            group.create_task(write(store, Lease(task_id, token, "wrk-1", 0.0)))


async def write(store: Store, lease: Lease) -> None:
    """As many events of a guest as of our own: both kinds move the same numbers on."""
    for n in count(0):
        batch = [GuestEvent("ep-1", n * 5 + i, "agent.log", 1.0, "agent", {"n": n * 5 + i}) for i in range(1, 6)]
        both = (
            store.events.append(lease.task_id, [Draft("agent.log", {"n": n})] * 5, lease=lease),
            store.events.append_guest(lease, batch),
        )
        sys.stdout.write(f"{lease.task_id} {max(await asyncio.gather(*both))}\n")
        sys.stdout.flush()


asyncio.run(main(sys.argv[1], sys.argv[2], json.loads(sys.argv[3])))
