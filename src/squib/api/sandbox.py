"""The way into a task's live sandbox, for the caller who owns the task."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import Depends

from squib.api.owned import OwnedTask
from squib.api.services import Deps, Services
from squib.contracts.errors import Conflict, InfrastructureError, StoreUnavailable
from squib.contracts.sandbox import Sandbox, SandboxPhase
from squib.contracts.task import Task, TaskState
from squib.link import GuestLink, guest_token

_RESUME_SECONDS = 30.0  # for a suspended sandbox to go on
_USED_SECONDS = 10.0  # how often whoever stays in a sandbox says so, to keep it from being suspended


def _no_sandbox(task: Task) -> Conflict:
    if task.state.terminal:
        advice = f"Its results are kept: GET /api/v1/tasks/{task.id}/artifacts. To go on, retry the task."
    elif task.state is TaskState.IDLE:
        advice = (
            "Its work is saved, and its sandbox is gone: the next message gets a new one with the work in it. "
            f"What is kept: GET /api/v1/tasks/{task.id}/artifacts."
        )
    else:
        advice = "Wait until the task runs: its event sandbox.created tells."
    return Conflict(f"the task is {task.state.value} and has no sandbox now", advice=advice)


async def live_sandbox(task: OwnedTask, services: Deps) -> AsyncIterator[GuestLink]:
    """A link to the guest, closed with the request; a suspended sandbox goes on first, and stays awake meanwhile.

    Raises Conflict where the task has no sandbox now, InfrastructureError where it does not go on.
    """
    sandbox = await _awake(task, services)
    token = guest_token(services.config.key, sandbox.machine_id)
    async with GuestLink(sandbox.endpoint, token) as link, _in_use(task, services):
        yield link


async def _awake(task: Task, services: Services) -> Sandbox:
    if task.state is TaskState.IDLE:  # said first: whom its worker may then still suspend is seen below
        await services.store.tasks.want(task.id)
    sandbox = None if task.state.terminal else await services.store.tasks.sandbox(task.id)
    if sandbox is None:
        raise _no_sandbox(task)
    return sandbox if sandbox.phase is not SandboxPhase.SUSPENDED else await _resumed(task, services)


async def _resumed(task: Task, services: Services) -> Sandbox:
    """Wait until the task's worker, which has been told, has let the sandbox go on."""
    tasks, events = services.store.tasks, services.store.events
    with contextlib.suppress(TimeoutError):
        async with (
            asyncio.timeout(_RESUME_SECONDS),
            contextlib.aclosing(events.follow(task.id, after=task.last_seq)) as stream,
        ):
            async for _ in stream:
                if (sandbox := await tasks.sandbox(task.id)) is None:
                    raise _no_sandbox(await tasks.get(task.id))
                if sandbox.phase is not SandboxPhase.SUSPENDED:
                    return sandbox
    raise InfrastructureError(
        f"the sandbox is suspended, and has not gone on within {_RESUME_SECONDS:g} seconds",
        advice="Try again in a moment. If it stays, see whether a scheduler runs.",
    )


@contextlib.asynccontextmanager
async def _in_use(task: Task, services: Services) -> AsyncIterator[None]:
    """For as long as the block lasts, say so from time to time."""

    async def say() -> None:
        while True:
            await asyncio.sleep(_USED_SECONDS)
            with contextlib.suppress(StoreUnavailable):
                await services.store.tasks.want(task.id)

    saying = asyncio.create_task(say())
    try:
        yield
    finally:
        saying.cancel()
        await asyncio.wait([saying])


LiveSandbox = Annotated[GuestLink, Depends(live_sandbox)]
