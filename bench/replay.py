"""List and replay while the store grows from 10,000 to 1,000,000 events."""

import statistics
import time

from bench import databases, floors
from bench.harness import Bench, Target
from squib.contracts.event import Draft
from squib.store import Store

EACH = 1_000  # events of one task
SMALL, LARGE = 10, 1_000  # tasks
DRAFTS = [Draft("agent.output", {"id": "call", "text": "x" * 60}, "agent") for _ in range(EACH - 1)]
TIMES = 30


async def run(bench: Bench) -> None:
    """For each database, how much slower it got."""
    with floors.scratch() as directory, databases.urls(directory) as found:
        for name, url in found:
            async with databases.store(url, directory) as store:
                tasks = [await _fill(store) for _ in range(SMALL)]
                lists, replays = await _list(store), await _replay(store, tasks)
                started = time.perf_counter()
                tasks += [await _fill(store) for _ in range(LARGE - SMALL)]
                filled = (LARGE - SMALL) * EACH / (time.perf_counter() - started)
                bench.add(f"{name}: events appended while filling", "/s", [filled], rate=True)
                late_lists, late_replays = await _list(store), await _replay(store, tasks)
            for what, early, late in (("list 50 tasks", lists, late_lists), ("replay 1,000", replays, late_replays)):
                title = f"{name}: {what}, 1,000,000 events stored"
                bench.add(title, "ms", late, floor=early, floor_of="the same with 10,000")
                ratio = [statistics.median(late) / statistics.median(early)]
                bench.add(f"{title}: against 10,000", "×", ratio, target=Target(median=1.5))


async def _fill(store: Store) -> str:
    task_id = await databases.task(store)
    await store.events.append(task_id, DRAFTS)
    return task_id


async def _list(store: Store) -> list[float]:
    return await floors.timed(TIMES, lambda: store.tasks.page(owner=databases.OWNER, limit=50))


async def _replay(store: Store, tasks: list[str]) -> list[float]:
    samples = []
    for i in range(TIMES):
        started, last = time.perf_counter(), 0
        async for frames in store.events.follow(tasks[(i * 7) % len(tasks)]):
            last = frames.last
            if last == EACH:
                break
        samples.append((time.perf_counter() - started) * 1000)
    return samples
