"""Twenty sandboxes asked for at once on a host without a pool."""

import asyncio
import time
from pathlib import Path

from bench import floors, memory, node
from bench.harness import Bench, Target

COUNT = 20


async def run(bench: Bench) -> None:
    """Both rows: until all have answered, and what they hold together."""
    seconds, megabytes, floor_seconds, floor_megabytes = [], [], [], []
    with floors.scratch() as directory:
        async with node.host(directory / "state") as host:
            for _ in range(5):
                started = time.perf_counter()
                machines = await asyncio.gather(*(node.ready(host) for _ in range(COUNT)))
                seconds.append(time.perf_counter() - started)
                megabytes.append(sum(memory.proportional(m.pid) for m in machines if m.pid))
                await node.clean(host, list(machines))
                bare_seconds, bare_megabytes = await _bare(directory)
                floor_seconds.append(bare_seconds)
                floor_megabytes.append(bare_megabytes)
    bare = "bubblewrap and a bare HTTP server"
    target = Target(median=1)
    bench.add("20 sandboxes at once, cold", "s", seconds, floor=floor_seconds, floor_of=bare, target=target)
    target = Target(median=300)
    bench.add("20 sandboxes: PSS together", "MB", megabytes, floor=floor_megabytes, floor_of=bare, target=target)


async def _bare(directory: Path) -> tuple[float, float]:
    done = asyncio.Event()
    pids: list[int] = []
    started = time.perf_counter()

    async def one(ready: asyncio.Future[float]) -> None:
        async with floors.sandbox(directory) as (_, pid):
            pids.append(pid)
            ready.set_result(time.perf_counter())
            await done.wait()

    async with asyncio.TaskGroup() as group:
        readies = [asyncio.get_running_loop().create_future() for _ in range(COUNT)]
        for ready in readies:
            group.create_task(one(ready))
        last = max(await asyncio.gather(*readies))
        held = sum(map(memory.proportional, pids))
        done.set()
    return last - started, held
