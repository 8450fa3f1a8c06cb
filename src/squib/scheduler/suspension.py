"""An idle task's sandbox is put to disk: its memory where its driver can, else its work alone, and it goes.

Its work is saved outside before in both cases. What goes on from memory has its processes, the agent's session and
all files; what goes on from the work is a new sandbox, and event and prompt say what is gone.
"""

from collections.abc import Awaitable
from dataclasses import replace
from typing import Any, TypeVar

from squib.contracts.errors import (
    GuestUnreachable,
    InfrastructureError,
    LeaseLost,
    SandboxLost,
    SquibError,
    StoreUnavailable,
)
from squib.contracts.event import Draft, EventType
from squib.contracts.sandbox import SandboxPhase
from squib.scheduler.attach import attach, detach, whole
from squib.scheduler.job import Job
from squib.scheduler.parting import GONE, delete_sandbox, lost_while_idle
from squib.scheduler.saving import save

T = TypeVar("T")
MEMORY, WORKSPACE = "memory", "workspace"
_LAST_EVENTS = 5.0  # seconds for the guest's last events to be stored


def awake(job: Job) -> bool:
    """Whether there is a sandbox that runs."""
    return job.task.sandbox_id is not None and job.task.suspended is None


async def suspend(job: Job, *, put_away: bool) -> bool:
    """Do it now; with `put_away`, by keeping its work alone where its memory can't be kept.

    False where it could not be done: its driver can't, something runs in the background that it can't freeze, or
    squib has trouble of its own. A sandbox found lost is told of, and that is that. Raises LeaseLost and
    StoreUnavailable alone.
    """
    done = await _or_lost(job, _suspend(job, put_away))
    return bool(done) or job.task.sandbox_id is None


async def wake(job: Job) -> None:
    """Let a sandbox that is suspended with its memory go on, for someone who reaches into it. Raises as `suspend`."""
    if job.task.suspended == MEMORY:
        await _or_lost(job, attach(job))


async def _or_lost(job: Job, work: Awaitable[T]) -> T | None:
    """The outcome; None after squib's own trouble, of which the task is told where it has cost the sandbox."""
    try:
        return await work
    except StoreUnavailable:
        raise
    except InfrastructureError as error:
        job.log.warning("an idle sandbox could not be suspended or resumed", error=str(error))
        if isinstance(error, SandboxLost) or await _gone(job):
            await lost_while_idle(job, error)
        return None


async def _gone(job: Job) -> bool:
    sandbox_id = job.task.sandbox_id
    found = await job.rooms.orchestrator.get(sandbox_id) if sandbox_id is not None else None
    return found is None or found.phase is SandboxPhase.LOST


async def _suspend(job: Job, put_away: bool) -> bool:
    async with job.rooms.throttle.turn():
        await attach(job)
    if (sandbox := job.sandbox) is None:
        raise SandboxLost("the sandbox is gone")
    saved = await _saved(job)
    await _all_stored(job)
    await detach(job)  # nobody may be connected to a guest that is frozen
    if await whole(job.rooms.orchestrator.suspend(sandbox.id)):
        await _note(job, MEMORY, sandbox=replace(sandbox, phase=SandboxPhase.SUSPENDED))
        return True
    if put_away and saved:
        job.progress.restore = True
        await _note(job, WORKSPACE, **GONE)
        await delete_sandbox(job, sandbox.id)
        return True
    await attach(job)
    return False


async def _saved(job: Job) -> bool:
    """The last save; a sandbox whose work is refused (too large, not sound) is not put away."""
    try:
        await save(job)
    except (InfrastructureError, LeaseLost):
        raise
    except SquibError as error:
        job.log.warning("an idle sandbox's work can't be saved", error=str(error))
        return False
    return True


async def _all_stored(job: Job) -> None:
    """Wait until the store has what the guest has said: once it goes on, it counts its events anew."""
    if job.link is None or job.pump is None:
        raise GuestUnreachable("the guest is not connected")
    health = await job.link.health()
    await job.pump.wait(health.epoch, health.last_event, _LAST_EVENTS)


async def _note(job: Job, how: str, **columns: Any) -> None:
    told = Draft(EventType.SANDBOX_SUSPENDED, {"sandbox_id": job.task.sandbox_id, "how": how})
    await job.emit(told, **{**columns, "suspended": how})
    job.rooms.metrics.suspended.labels(how).inc()
