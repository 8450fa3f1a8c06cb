"""The way into a task's live sandbox, for the caller who owns the task."""

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import Depends

from squib.api.owned import OwnedTask
from squib.api.services import Deps
from squib.contracts.errors import Conflict
from squib.contracts.task import Task
from squib.link import GuestLink, guest_token


def _no_sandbox(task: Task) -> Conflict:
    if task.state.terminal:
        advice = f"Its results are kept: GET /api/v1/tasks/{task.id}/artifacts. To go on, retry the task."
    else:
        advice = "Wait until the task runs: its event sandbox.created tells."
    return Conflict(f"the task is {task.state.value} and has no sandbox now", advice=advice)


async def live_sandbox(task: OwnedTask, services: Deps) -> AsyncIterator[GuestLink]:
    """A link to the guest, closed with the request. Raises Conflict where the task has no sandbox now."""
    sandbox = None if task.state.terminal else await services.store.tasks.sandbox(task.id)
    if sandbox is None:
        raise _no_sandbox(task)
    token = guest_token(services.config.key, sandbox.machine_id)
    async with GuestLink(sandbox.endpoint, token) as link:
        yield link


LiveSandbox = Annotated[GuestLink, Depends(live_sandbox)]
