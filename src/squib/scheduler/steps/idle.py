"""Wait for the next message. Meanwhile the sandbox is put to disk once nobody has used it for a while."""

import asyncio
import contextlib
import time
from dataclasses import dataclass

from squib.scheduler import suspension
from squib.scheduler.config import SchedulerConfig
from squib.scheduler.job import Job
from squib.scheduler.steps.turns import end, next_turn


@dataclass(slots=True)
class _Quiet:
    """Since when nobody has used the sandbox, and when it is tried next to put it to disk: less and less often."""

    config: SchedulerConfig
    used: float
    tried: float
    pause: float

    @classmethod
    def begin(cls, config: SchedulerConfig) -> "_Quiet":
        """From now on."""
        now = time.time()
        return cls(config, now, now, config.suspend_seconds)

    @property
    def away(self) -> float:
        """From when on the sandbox is worth no more than its work."""
        return self.used + self.config.put_away_seconds

    @property
    def due(self) -> float:
        """When to try."""
        return min(self.tried + self.pause, self.away)

    def failed(self, now: float) -> None:
        """It could not be done at `now`."""
        self.tried, self.pause = now, self.pause * 2
        if self.away <= now:
            self.used = now


async def idle(job: Job) -> str:
    """Wait without counting against the bound of tasks at work. A sandbox lost meanwhile is made anew when needed.

    A message, or someone who reaches into a suspended sandbox, lets that go on.
    """
    until, quiet = job.progress.idle_until or time.time(), _Quiet.begin(job.rooms.config)
    async with job.resting():
        while time.time() < until:
            job.control.clear()
            if await job.rooms.store.messages.get(job.id, job.progress.turn + 1) is not None:
                break
            if await _wanted(job):
                quiet = _Quiet.begin(job.rooms.config)
                await suspension.wake(job)
            await _wait(job, min(until, await _look_after(job, quiet)))
    if await next_turn(job):
        return job.progress.step
    return end(job)


async def _look_after(job: Job, quiet: _Quiet) -> float:
    """Put the sandbox to disk if it is time to; when to look again."""
    if not suspension.awake(job):
        return float("inf")
    now = time.time()
    if quiet.due <= now and not await suspension.suspend(job, put_away=quiet.away <= now):
        quiet.failed(time.time())
    return quiet.due


async def _wanted(job: Job) -> bool:
    """Whether someone has reached into the sandbox since the last look."""
    before = job.progress.wanted_at
    job.progress.wanted_at = await job.rooms.store.tasks.wanted_at(job.id)
    return job.progress.wanted_at != before


async def _wait(job: Job, until: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(max(0.0, until - time.time())):
            await job.control.wait()
