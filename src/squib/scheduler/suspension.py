"""An idle task's sandbox is put to disk: its memory where its driver can, else its work alone, and it goes.

Its work is saved outside before in both cases. What goes on from memory has its processes, the agent's session and
all files; what goes on from the work is a new sandbox, and event and prompt say what is gone.
"""

from collections.abc import Awaitable
from dataclasses import replace
from typing import TypeVar

from squib.contracts.errors import (
    GuestUnreachable,
    InfrastructureError,
    LeaseLost,
    SandboxLost,
    SquibError,
    StoreUnavailable,
)
from squib.contracts.event import Draft, EventType
from squib.contracts.sandbox import Sandbox, SandboxPhase
from squib.scheduler.attach import attach, detach, whole
from squib.scheduler.job import Job
from squib.scheduler.parting import GONE, delete_sandbox, lost_while_idle
from squib.scheduler.saving import save

T = TypeVar("T")
MEMORY, WORKSPACE = "memory", "workspace"
_LAST_EVENTS = 5.0  # seconds for the guest's last events to be stored


def due(job: Job, used: float) -> float | None:
    """When that is, for a sandbox that was used last at `used` (seconds since 1970); None: there is nothing to do."""
    if job.task.sandbox_id is None or job.task.suspended is not None:
        return None
    config = job.rooms.config
    return used + (config.suspend_seconds if job.freezes else config.put_away_seconds)


async def suspend(job: Job) -> bool:
    """Do it now; False where it has to be tried again after as long a time.

    Where the driver can't freeze a machine, that is noted: it is put away later. A sandbox found lost is told of.
    Raises LeaseLost and StoreUnavailable alone.
    """
    return bool(await _or_lost(job, _suspend(job)))


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


async def _suspend(job: Job) -> bool:
    async with job.rooms.throttle.turn():
        await attach(job)
    if (sandbox := job.sandbox) is None:
        raise SandboxLost("the sandbox is gone")
    saved = await _saved(job)
    await _all_stored(job)
    if not job.freezes:
        if saved:
            await _put_away(job, sandbox)
        return saved
    await detach(job)
    if await whole(job.rooms.orchestrator.suspend(sandbox.id)):
        frozen = replace(sandbox, phase=SandboxPhase.SUSPENDED)
        await job.emit(_told(sandbox, MEMORY), sandbox=frozen, suspended=MEMORY)
        job.rooms.metrics.suspended.labels(MEMORY).inc()
    else:
        job.freezes = False
        await attach(job)
    return True


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


async def _put_away(job: Job, sandbox: Sandbox) -> None:
    await detach(job)
    job.progress.restore = True
    job.pending.append(_told(sandbox, WORKSPACE))
    await job.emit(**{**GONE, "suspended": WORKSPACE})
    job.rooms.metrics.suspended.labels(WORKSPACE).inc()
    await delete_sandbox(job, sandbox.id)


def _told(sandbox: Sandbox, how: str) -> Draft:
    return Draft(EventType.SANDBOX_SUSPENDED, {"sandbox_id": sandbox.id, "how": how})
