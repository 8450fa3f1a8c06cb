"""After a turn: the next one, or waiting for it in an idle sandbox, or the end."""

import asyncio
import contextlib
import time

from squib.contracts.task import TaskState
from squib.scheduler import limits
from squib.scheduler.job import Job
from squib.scheduler.problems import TestsFailed
from squib.scheduler.progress import Ending


async def decide(job: Job) -> str:
    """A message that came meanwhile is the next turn."""
    if await next_turn(job):
        return job.progress.step
    wanted = job.task.spec.limits
    if wanted.idle_seconds > 0:
        until = limits.idle_until(wanted, job.started_at, time.time())
        job.progress.step, job.progress.idle_until = "idle", until
        await job.enter(TaskState.IDLE, {"turn": job.progress.turn, "until": until})
        return "idle"
    return end(job)


async def idle(job: Job) -> str:
    """Wait without counting against the bound of tasks at work. A sandbox lost meanwhile is made anew when needed."""
    until = job.progress.idle_until or time.time()
    async with job.resting():
        while time.time() < until:
            job.control.clear()
            if await job.rooms.store.messages.get(job.id, job.progress.turn + 1) is not None:
                break
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, until - time.time())):
                    await job.control.wait()
    if await next_turn(job):
        return job.progress.step
    return end(job)


async def next_turn(job: Job) -> bool:
    """Take up the next prompt if there is one: in the same sandbox, or a new one where it was lost."""
    progress = job.progress
    if await job.rooms.store.messages.get(job.id, progress.turn + 1) is None:
        return False
    progress.usage = job.task.usage
    progress.next_turn()
    if job.task.sandbox_id is None:
        progress.next_attempt()
        reason = "the sandbox was lost while it waited for this message"
        attempt = job.task.attempt + 1
        await job.enter(TaskState.QUEUED, {"attempt": attempt, "reason": reason}, attempt=attempt)
    return True


def end(job: Job) -> str:
    """All turns are done."""
    if job.progress.tests_passed is False:
        error = TestsFailed("the task's test command did not pass").problem()
        job.progress.ending = Ending(TaskState.FAILED, {"error": error})
    else:
        job.progress.ending = Ending(TaskState.SUCCEEDED, {"result": job.progress.result})
    return "cleanup"
