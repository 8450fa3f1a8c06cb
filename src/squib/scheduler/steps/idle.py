"""Wait for the next message. Meanwhile the sandbox is put to disk once nobody has used it for a while."""

import asyncio
import contextlib
import time

from squib.scheduler import suspension
from squib.scheduler.job import Job
from squib.scheduler.steps.turns import end, next_turn


async def idle(job: Job) -> str:
    """Wait without counting against the bound of tasks at work. A sandbox lost meanwhile is made anew when needed.

    A message, or someone who reaches into a suspended sandbox, lets that go on.
    """
    until, used = job.progress.idle_until or time.time(), time.time()
    async with job.resting():
        while time.time() < until:
            job.control.clear()
            if await job.rooms.store.messages.get(job.id, job.progress.turn + 1) is not None:
                break
            if await _wanted(job):
                used = time.time()
                await suspension.wake(job)
            due = suspension.due(job, used)
            if due is not None and due <= time.time():
                if not await suspension.suspend(job):
                    used = time.time()
                continue
            await _wait(job, until if due is None else min(due, until))
    if await next_turn(job):
        return job.progress.step
    return end(job)


async def _wanted(job: Job) -> bool:
    """Whether someone has reached into the sandbox since the last look."""
    before = job.progress.wanted_at
    job.progress.wanted_at = await job.rooms.store.tasks.wanted_at(job.id)
    return job.progress.wanted_at != before


async def _wait(job: Job, until: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(max(0.0, until - time.time())):
            await job.control.wait()
