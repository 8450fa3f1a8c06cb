"""Carries one task from step to step, and decides what an interruption or an error means for it."""

import asyncio
import contextlib
import time

from squib.contracts.errors import (
    Conflict,
    GuestUnreachable,
    HostFull,
    LeaseLost,
    SquibError,
    StoreUnavailable,
)
from squib.contracts.event import Draft, EventType
from squib.contracts.guest import CancelRequest
from squib.contracts.task import TaskState
from squib.scheduler import limits, retry
from squib.scheduler.attach import attach, detach, still_there
from squib.scheduler.interrupt import Cancelled, Interrupted, Lost, OutOfTime, Reason
from squib.scheduler.job import Job
from squib.scheduler.parting import GONE, delete_sandbox, lost, lost_while_idle
from squib.scheduler.problems import problem_of
from squib.scheduler.progress import Ending
from squib.scheduler.steps import DONE, STEPS

_GRACE = 2.0  # seconds between SIGTERM and SIGKILL for a cancelled run
_CANCEL_SECONDS = 4.0  # for the guest to end the run; then the sandbox is removed
_CLOSING_SECONDS = 2.0  # for the last events of a cancelled run
_MAX_REDONE = 5
#: Not cut short by the task's own deadline: it has not begun, or the agent's work is done.
_UNHURRIED = frozenset({"provision", "save", "collect", "decide", "idle", "cleanup", "finish"})
_UNHURRIED_SECONDS = 3600.0
#: What came before these must not be done again: the work is safe, or the sandbox is about to go.
_KEPT = frozenset({"collect", "cleanup"})


class PutBack(Exception):
    """The task waits for its next attempt; `delay` is in seconds."""

    def __init__(self, delay: float):
        super().__init__("put back")
        self.delay = delay


async def drive(job: Job) -> None:
    """Return when the task has ended. Raises PutBack, LeaseLost, StoreUnavailable."""
    while job.progress.step != DONE:
        try:
            await _step(job)
        except Interrupted as interrupted:
            await _interrupted(job, interrupted.reason)
        except (LeaseLost, StoreUnavailable):
            raise
        except GuestUnreachable as error:
            if job.redone >= _MAX_REDONE or not await still_there(job):
                await _failed(job, error)
            job.redone += 1
        except Exception as error:
            await _failed(job, error)


async def _step(job: Job) -> None:
    if job.progress.ending is not None:  # decided: nothing interrupts it, each part has its own bounds
        await _take(job)
        return
    wanted = job.task.spec.limits
    end = limits.deadline(wanted, job.started_at)
    if job.progress.step in _UNHURRIED:
        end += _UNHURRIED_SECONDS
    async with job.interrupts.scope(end, OutOfTime("task", wanted.seconds)):
        await _take(job)


async def _take(job: Job) -> None:
    job.progress.step = await STEPS[job.progress.step](job)
    job.redone = 0
    if job.progress.step in _KEPT:
        await job.emit()


async def _interrupted(job: Job, reason: Reason) -> None:
    match reason:
        case Cancelled():
            job.progress.ending = Ending(TaskState.CANCELLED, {"reason": "cancelled on request"})
        case OutOfTime(limit, seconds):
            job.progress.ending = Ending(TaskState.TIMED_OUT, {"limit": limit, "seconds": seconds})
        case Lost(error) if job.task.state is TaskState.IDLE:
            await lost_while_idle(job, error)
            return
        case Lost(error):
            await _failed(job, error)
            return
    job.log.info("cut short", reason=type(reason).__name__)
    job.progress.step = "collect" if job.task.suspended else "save"
    await job.emit()
    if not job.task.suspended:  # else nothing runs, and all is saved
        await _end_run(job)


async def _end_run(job: Job) -> None:
    """End the agent's whole process tree; with the sandbox, where the guest does not do it in time."""
    run_id, sandbox_id = job.progress.run_id, job.task.sandbox_id
    if sandbox_id is None:
        return
    try:
        async with asyncio.timeout(_CANCEL_SECONDS):
            link = await attach(job)
            if run_id is None:
                return
            status = await link.cancel(CancelRequest(run_id, _GRACE))
    except (SquibError, TimeoutError) as error:
        if isinstance(error, LeaseLost | StoreUnavailable):
            raise
        if not isinstance(error, Conflict):
            job.log.warning("the guest did not end the run: its sandbox is removed", error=str(error))
            await delete_sandbox(job, sandbox_id)
        return
    if job.pump is not None:
        job.pump.gate.set()
        await job.pump.wait(status.epoch, status.last_event, _CLOSING_SECONDS)


async def _failed(job: Job, error: Exception) -> None:
    """Retry squib's own trouble in a new sandbox; fail the task for everything else. Raises PutBack."""
    if not isinstance(error, SquibError):
        job.log.exception("unforeseen error", exc_info=error)
    if job.progress.ending is not None:
        await _go_on_ending(job, error)
        return
    if isinstance(error, HostFull) and job.task.suspended:
        raise PutBack(retry.backoff(job.task.attempt))  # its sandbox stays on disk until there is room for it
    sandbox_id, attempt = job.task.sandbox_id, job.task.attempt
    await detach(job)
    job.interrupts.forget_lost()
    worth_it = retry.worth_it(error, named=job.task.spec.sandbox.driver is not None)
    if job.progress.told_of == sandbox_id is not None and worth_it:
        job.pending.append(await lost(job, sandbox_id, error))
    if not worth_it or (attempt >= job.rooms.config.max_attempts and retry.costs_attempt(error)):
        job.log.warning("failed", error=str(error), attempt=attempt)
        job.progress.ending = Ending(TaskState.FAILED, {"error": problem_of(error)})
        job.progress.step = "collect"
        await job.emit()
        return
    await _put_back(job, error, sandbox_id)


async def _put_back(job: Job, error: Exception, sandbox_id: str | None) -> None:
    attempt = job.task.attempt + (1 if retry.costs_attempt(error) else 0)
    delay = retry.backoff(job.task.attempt)
    job.progress.next_attempt()
    if attempt > job.task.attempt:
        job.progress.restore = False  # the one before was lost, and not put away
    columns = {"attempt": attempt, **GONE}
    if job.task.state is TaskState.QUEUED:
        await job.emit(**columns)
    else:
        data = {"attempt": attempt, "reason": str(problem_of(error)["detail"])}
        await job.enter(TaskState.QUEUED, data, not_before=time.time() + delay, **columns)
    job.rooms.metrics.retries.inc()
    job.log.warning("put back for another attempt", error=str(error), attempt=attempt, delay=delay)
    if sandbox_id is not None:
        await delete_sandbox(job, sandbox_id)
    raise PutBack(delay)


async def _go_on_ending(job: Job, error: Exception) -> None:
    """What can't be kept is left; the task ends all the same."""
    job.log.warning("trouble while ending", error=str(error))
    following = {"save": "collect", "collect": "cleanup", "cleanup": "finish"}
    if job.progress.step not in following:
        raise error
    job.progress.step = following[job.progress.step]
    data = {"level": "warning", "message": f"a result could not be kept: {problem_of(error)['detail']}"[:2000]}
    with contextlib.suppress(Conflict):
        await job.emit(Draft(EventType.RUNTIME_LOG, data))
