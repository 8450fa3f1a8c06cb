"""After a turn: the next one, or waiting for it in an idle sandbox, or the end."""

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


async def next_turn(job: Job) -> bool:
    """Take up the next prompt if there is one: in the same sandbox, or a new one where it was lost."""
    progress = job.progress
    if await job.rooms.store.messages.get(job.id, progress.turn + 1) is None:
        return False
    progress.usage = job.task.usage
    progress.next_turn()
    if job.task.sandbox_id is None:
        await _in_a_new_sandbox(job)
    return True


async def _in_a_new_sandbox(job: Job) -> None:
    """A sandbox that was put away costs no attempt: nothing has gone wrong."""
    put_away = job.task.suspended is not None
    how, attempt = ("put away", job.task.attempt) if put_away else ("lost", job.task.attempt + 1)
    job.progress.next_attempt()
    job.progress.restore = put_away
    reason = f"the sandbox was {how} while it waited for this message"
    data = {"attempt": attempt, "reason": reason}
    await job.enter(TaskState.QUEUED, data, attempt=attempt, suspended=None)


def end(job: Job) -> str:
    """All turns are done."""
    if job.progress.tests_passed is False:
        error = TestsFailed("the task's test command did not pass").problem()
        job.progress.ending = Ending(TaskState.FAILED, {"error": error})
    else:
        job.progress.ending = Ending(TaskState.SUCCEEDED, {"result": job.progress.result})
    return "cleanup"
