"""Run one turn of the agent, and judge how it went by what the guest says."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Coroutine
from dataclasses import replace
from typing import Any

from squib.contracts.errors import GuestUnreachable, SandboxLost
from squib.contracts.guest import RunRequest, RunState, RunStatus
from squib.contracts.ids import new_id
from squib.contracts.task import TaskState, Usage
from squib.scheduler import limits
from squib.scheduler.attach import attach
from squib.scheduler.interrupt import OutOfTime
from squib.scheduler.job import Job
from squib.scheduler.problems import AgentFailed
from squib.scheduler.progress import Ending
from squib.scheduler.prompt import restored_prompt
from squib.scheduler.pump import Pump
from squib.scheduler.saving import saving

_POLL = 5.0  # seconds after which a run is asked after, should its closing event not come
_STALLED = 10.0  # seconds without an event stored, while some are due
_MAX_RESULT = 40_000  # characters: within an event's bound, however they are escaped
_MAX_REASON, _MAX_SESSION = 4000, 256  # characters


async def run(job: Job) -> str:
    """POST /run is idempotent by the run's id, which is kept before the call: done again, it finds the run."""
    progress = job.progress
    kept = progress.run_id is not None
    if not kept:
        progress.run_id = new_id("run")
    progress.run_since = progress.run_since or time.time()
    request = await _request(job, progress.run_id or "")
    link = await attach(job)
    pump = job.pump
    if pump is None:
        raise SandboxLost("the sandbox is gone")
    closed = pump.closed
    async with _begun(job, link.run(request) if kept else None) as posted:
        await _say_running(job, kept)
        status = await (posted if posted is not None else link.run(request))
    async with saving(job), _turn_limit(job):
        status = await _over(job, pump, status, closed)
    return await _judge(job, status)


async def _request(job: Job, run_id: str) -> RunRequest:
    messages, turn = job.rooms.store.messages, job.progress.turn
    prompt, earlier = job.task.spec.prompt, []
    if turn > 1:
        found = [await messages.get(job.id, number) for number in range(1, turn + 1)]
        prompts = [message.prompt for message in found if message is not None]
        prompt, earlier = prompts[-1], prompts[:-1]
    return RunRequest(
        run_id=run_id,
        agent=job.agent,
        prompt=restored_prompt(prompt, job.progress.restored, earlier),
        model=job.task.spec.model,
        session_id=job.progress.session_id,
        seconds=limits.run_seconds(job.task.spec.limits, job.started_at, time.time()),
    )


@contextlib.asynccontextmanager
async def _begun(
    job: Job, call: Coroutine[Any, Any, RunStatus] | None
) -> AsyncIterator[asyncio.Future[RunStatus] | None]:
    """Let the call run beside the block, where there is one; its error is for whoever awaits it."""
    if call is None:
        yield None
        return
    task = asyncio.ensure_future(call)
    await asyncio.sleep(0)  # its request is on the way before anything else is done
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _say_running(job: Job, kept: bool) -> None:
    columns: dict[str, Any] = {"turn": job.progress.turn, "started_at": job.started_at}
    if job.sandbox is not None:
        columns |= {"sandbox": job.sandbox, "driver": job.sandbox.driver, "image": job.sandbox.image}
    if job.task.state is not TaskState.RUNNING:
        await job.enter(TaskState.RUNNING, {"turn": job.progress.turn}, **columns)
    elif not kept or job.pending:
        await job.emit(**columns)


@contextlib.asynccontextmanager
async def _turn_limit(job: Job) -> AsyncIterator[None]:
    """The scheduler's own watch over the turn, should the guest not keep to its limit."""
    wanted = job.task.spec.limits
    left = limits.turn_deadline(wanted, job.progress.run_since or time.time()) - time.time()
    loop = asyncio.get_running_loop()
    timer = loop.call_later(max(0.0, left), job.interrupts.cut, OutOfTime("turn", wanted.turn_seconds))
    try:
        yield
    finally:
        timer.cancel()


async def _over(job: Job, pump: Pump, status: RunStatus, closed: int) -> RunStatus:
    """Wait until the run is over and the store holds all of its events."""
    while status.state is RunState.RUNNING:
        _check(job, status)
        await pump.wait_closed(closed, _POLL)
        closed = pump.closed
        try:
            found = await job.link.run_status() if job.link is not None else None
        except GuestUnreachable:
            await asyncio.sleep(0.1)  # the pump finds out whether the sandbox is lost
            continue
        if found is None:
            raise SandboxLost("the guest knows nothing of the run")
        status = found
    _check(job, status)
    await _drained(pump, status)
    return status


def _check(job: Job, status: RunStatus) -> None:
    if status.run_id != job.progress.run_id:
        raise SandboxLost("the guest answers for another run")


async def _drained(pump: Pump, status: RunStatus) -> None:
    """As long as events come there may be more; one that never comes must not hold the task up for ever."""
    while not await pump.wait(status.epoch, status.last_event, _STALLED):
        if pump.idle_for() > _STALLED:
            raise SandboxLost("the guest's events ended before those of its run")


async def _judge(job: Job, status: RunStatus) -> str:
    progress = job.progress
    if status.session_id and len(status.session_id) <= _MAX_SESSION:
        progress.session_id = status.session_id
    usage = _sum(progress.usage, status)
    result = _short(status.result, _MAX_RESULT)
    if status.state is RunState.SUCCEEDED:
        progress.result = result
        progress.step = "tests"
    else:
        progress.ending = _ending(job, status)
        progress.step = "save"
    await job.emit(usage=usage, **({"result": result} if result is not None else {}))
    return progress.step


def _ending(job: Job, status: RunStatus) -> Ending:
    wanted = job.task.spec.limits
    if status.state is RunState.TIMED_OUT:
        whole = (
            limits.run_seconds(wanted, job.started_at, job.progress.run_since or time.time()) < wanted.turn_seconds
        )
        data = (
            {"limit": "task", "seconds": wanted.seconds}
            if whole
            else {"limit": "turn", "seconds": wanted.turn_seconds}
        )
        return Ending(TaskState.TIMED_OUT, data)
    reason = _short(status.reason, _MAX_REASON) or f"the agent ended with exit status {status.exit_code}"
    if status.state is RunState.CANCELLED:
        reason = "the run was cancelled inside its sandbox"
    return Ending(TaskState.FAILED, {"error": AgentFailed(reason).problem()})


def _sum(before: Usage, status: RunStatus) -> Usage:
    return replace(
        before,
        input_tokens=before.input_tokens + max(0, status.input_tokens),
        output_tokens=before.output_tokens + max(0, status.output_tokens),
        cache_read_tokens=before.cache_read_tokens + max(0, status.cache_read_tokens),
        cache_write_tokens=before.cache_write_tokens + max(0, status.cache_write_tokens),
        cost_usd=before.cost_usd + max(0.0, status.cost_usd),
    )


def _short(text: str | None, limit: int) -> str | None:
    return text if text is None or len(text) <= limit else text[:limit] + " […]"
