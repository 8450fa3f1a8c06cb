"""A task by the id in the path, if it is the caller's; to a stranger it does not exist."""

from typing import Annotated

from fastapi import Depends, Path

from squib.api.auth import User
from squib.api.services import Deps
from squib.contracts.errors import NotFound
from squib.contracts.ids import is_id
from squib.contracts.task import Task

TASK_ID = "^task-[0-9a-hjkmnp-tv-z]{26}$"
TaskId = Annotated[str, Path(description="The task's id", json_schema_extra={"pattern": TASK_ID})]


async def owned_task(task_id: TaskId, user: User, services: Deps) -> Task:
    """The task. Raises NotFound where there is none of this id, or it is another's."""
    if not is_id(task_id, "task"):
        raise NotFound("there is no such task")
    return await services.store.tasks.get(task_id, owner=user)


OwnedTask = Annotated[Task, Depends(owned_task)]
