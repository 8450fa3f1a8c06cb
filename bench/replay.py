"""List and replay while the store grows from 10,000 to 1,000,000 events."""

import contextlib
import statistics
import time

from bench import databases, floors
from bench.harness import Bench, Target
from squib.contracts.event import Draft
from squib.store import Store

EARLY_TASKS, EARLY = 50, 200  # 10,000 events; these tasks are listed and replayed both times
LATE_TASKS, LATE = 990, 1_000  # 990,000 more
TIMES = 50


async def run(bench: Bench) -> None:
    """For each database, how much slower it got."""
    with floors.scratch() as directory, databases.urls(directory) as found:
        for name, url in found:
            async with databases.store(url, directory) as store:
                tasks = [await _fill(store, EARLY) for _ in range(EARLY_TASKS)]
                lists, replays = await _list(store), await _replay(store, tasks)
                started = time.perf_counter()
                for _ in range(LATE_TASKS):
                    await _fill(store, LATE)
                filled = LATE_TASKS * LATE / (time.perf_counter() - started)
                bench.add(f"{name}: events appended while filling", "/s", [filled], rate=True)
                late_lists, late_replays = await _list(store), await _replay(store, tasks)
            for what, early, late in (("list 50 tasks", lists, late_lists), ("replay 200", replays, late_replays)):
                title = f"{name}: {what}, 1,000,000 events stored"
                bench.add(title, "ms", late, floor=early, floor_of="the same with 10,000")
                ratio = [statistics.median(late) / statistics.median(early)]
                bench.add(f"{title}: against 10,000", "×", ratio, target=Target(median=1.5))


async def _fill(store: Store, count: int) -> str:
    """A task with so many events: the one of its creation, and output."""
    task_id = await databases.task(store)
    draft = Draft("agent.output", {"id": "call", "text": "x" * 60}, "agent")
    await store.events.append(task_id, [draft] * (count - 1))
    return task_id


async def _list(store: Store) -> list[float]:
    return await floors.timed(TIMES, lambda: store.tasks.page(owner=databases.OWNER, limit=50))


async def _replay(store: Store, tasks: list[str]) -> list[float]:
    samples = []
    for i in range(TIMES):
        started = time.perf_counter()
        async with contextlib.aclosing(store.events.follow(tasks[(i * 7) % len(tasks)])) as stream:
            async for frames in stream:
                if frames.last == EARLY:
                    break
        samples.append((time.perf_counter() - started) * 1000)
    return samples
