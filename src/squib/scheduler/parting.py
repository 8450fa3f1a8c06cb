"""A sandbox that goes, wanted or not: its removal, and what the log and the task are told of one that is lost."""

import asyncio

from squib.contracts.errors import InfrastructureError, SquibError, StoreUnavailable
from squib.contracts.event import Draft, EventType
from squib.scheduler.attach import detach
from squib.scheduler.job import Job
from squib.scheduler.problems import problem_of

_DELETE_SECONDS = 20.0
#: The columns of a task without a sandbox.
GONE: dict[str, None] = {"sandbox_id": None, "sandbox": None, "suspended": None}


async def delete_sandbox(job: Job, sandbox_id: str) -> bool:
    """Try, within bounds; whether nothing is left of it."""
    try:
        async with asyncio.timeout(_DELETE_SECONDS):
            await job.rooms.orchestrator.delete(sandbox_id)
    except (InfrastructureError, OSError, TimeoutError) as error:
        if isinstance(error, StoreUnavailable):
            raise
        job.log.warning("the sandbox could not be removed yet", sandbox_id=sandbox_id, error=str(error))
        return False
    return True


async def lost(job: Job, sandbox_id: str | None, error: Exception) -> Draft:
    """The host's own reason comes first: it knows of a limit or a lifetime that ended the machine."""
    found = await job.rooms.orchestrator.get(sandbox_id) if sandbox_id else None
    detail = (found.detail if found else None) or str(problem_of(error)["detail"])
    return Draft(EventType.SANDBOX_LOST, {"sandbox_id": sandbox_id, "detail": detail})


async def lost_while_idle(job: Job, error: SquibError) -> None:
    """Nothing runs, so nothing is retried: the next message will get a new sandbox."""
    sandbox_id = job.task.sandbox_id
    await detach(job)
    told = await lost(job, sandbox_id, error)
    await job.emit(**GONE)  # stands before the event tells of it
    await job.emit(told)
    if sandbox_id is not None:
        await delete_sandbox(job, sandbox_id)
