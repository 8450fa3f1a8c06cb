"""From POST to the agent's process: one by one on a warm pool, and fifty at once on a pool of fifty."""

import asyncio
import time

import httpx2

from bench import floors, stack
from bench.harness import Bench, Target
from squib.client import AsyncClient
from squib.contracts.event import EventType
from squib.contracts.task import TaskSpec
from squib.guest import bundle

PROMPT = "Measure"
ALONE = 100
BURST = 50
FLOOR = "bare uvicorn that starts the same agent"


async def run(bench: Bench) -> None:
    """Both rows."""
    with floors.scratch() as directory:
        archive = directory / "guest.pyz"
        bundle.build(archive)
        async with stack.bare_uvicorn(floors.PYTHON, str(archive), "mock-agent") as (url, _):
            alone, together = await _floor(url)
        async with stack.up(directory, SANDBOX__POOL_SIZE=4) as squib, squib.client() as client:
            samples = []
            for i in range(ALONE + 5):
                await squib.pool(4)
                sample = await _started(client)
                samples += [sample] if i >= 5 else []
    target = Target(median=12, p99=50)
    name = "POST task → agent process running, warm pool"
    bench.add(name, "ms", samples, floor=alone, floor_of=FLOOR, target=target)
    with floors.scratch() as directory:
        many = {"SANDBOX__POOL_SIZE": BURST, "SANDBOX__MAX_MACHINES": 128, "SCHEDULER__CONCURRENCY": 64}
        async with stack.up(directory, **many) as squib, squib.client() as client:
            samples = []
            for _ in range(4):
                await squib.pool(BURST)
                samples += await asyncio.gather(*(_started(client) for _ in range(BURST)))
    bench.add(
        f"burst of {BURST} tasks, warm pool of {BURST}",
        "ms",
        samples,
        floor=together,
        floor_of=FLOOR,
        target=Target(p99=500),
    )


async def _started(client: AsyncClient) -> float:
    """Submit a task, follow it to its end; milliseconds from before the POST to its agent's start, by one clock."""
    before = time.time()
    task = await client.tasks.create(TaskSpec(prompt=PROMPT, agent="mock"))
    started = 0.0
    async for event in client.tasks.events(task.id):
        if event.type == EventType.AGENT_STARTED:
            started = event.time
        elif event.type == EventType.SANDBOX_CREATED:
            assert event.data["warm"], "the pool was empty"
        elif event.type == EventType.TASK_FAILED:
            raise AssertionError(event.data)
    assert started, f"{task.id}: the agent never started"
    return (started - before) * 1000


async def _floor(url: str) -> tuple[list[float], list[float]]:
    async def one() -> float:
        before = time.time()
        answer = await http.post(f"{url}/spawn", content=PROMPT.encode())
        return (float(answer.text) - before) * 1000

    limits = httpx2.Limits(max_connections=BURST)
    async with httpx2.AsyncClient(limits=limits, timeout=60) as http:
        await one()
        alone = [await one() for _ in range(ALONE // 2)]
        return alone, list(await asyncio.gather(*(one() for _ in range(BURST))))
