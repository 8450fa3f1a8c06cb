"""Tasks: create, show, list, cancel, retry, and one more turn."""

import asyncio
import dataclasses
import re
from typing import Annotated

import structlog
from fastapi import APIRouter, Depends, Header, Query
from starlette.responses import Response

from squib.api.auth import User
from squib.api.bodies import json_body
from squib.api.config import Images
from squib.api.docs import HEADERS, json_request, problems
from squib.api.owned import TASK_ID, OwnedTask
from squib.api.replies import reply
from squib.api.services import Deps, Services
from squib.contracts.api import CancelBody, TaskPage
from squib.contracts.errors import Conflict, InfrastructureError, InvalidRequest, NotFound
from squib.contracts.ids import is_id
from squib.contracts.task import Message, MessageRequest, Task, TaskSpec, TaskState

router = APIRouter(prefix="/api/v1/tasks", tags=["tasks"])
_log = structlog.get_logger("squib.api")
_KEY = re.compile(r"[!-~]{1,255}")
IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        description="The same key with the same body gives the same task, once: send it and a retry is safe.",
        json_schema_extra={"pattern": "^[!-~]{1,255}$"},
    ),
]


def _refuse(field: str, message: str) -> InvalidRequest:
    return InvalidRequest(f"{field}: {message}", fields={field: message})


def check_key(key: str | None) -> str | None:
    """The Idempotency-Key, if it is one. Raises InvalidRequest."""
    if key is not None and _KEY.fullmatch(key) is None:
        raise _refuse("Idempotency-Key", "must be 1 to 255 visible ASCII characters")
    return key


async def complete(spec: TaskSpec, services: Services, user: str) -> TaskSpec:
    """The spec with its defaults filled in, once all that it names is known here and the caller's to use."""
    config = services.config
    spec = dataclasses.replace(spec, agent=spec.agent or config.default_agent)
    if config.agents and spec.agent not in config.agents:
        raise _refuse("agent", f"is not known here; known: {', '.join(config.agents)}")
    driver = spec.sandbox.driver
    if driver is not None and config.drivers and driver not in config.drivers:
        raise _refuse("sandbox.driver", f"is not known here; known: {', '.join(config.drivers)}")
    if spec.image is not None and config.images is not None:
        await _check_image(spec.image, config.images)
    upload = spec.repository.upload if spec.repository else None
    if upload is not None:
        await _check_upload(upload, services, user)
    return spec


async def _check_image(image: str, images: Images) -> None:
    if await asyncio.to_thread(images.has, image):
        return
    known = await asyncio.to_thread(images.names)
    message = f"is not here; here are: {', '.join(known) or 'none'}"
    raise InvalidRequest(
        f"image: {message}",
        advice=f"Name one of those, or make it: 'squib image build {image}', 'squib image import'.",
        fields={"image": message},
    )


async def _check_upload(upload: str, services: Services, user: str) -> None:
    try:
        if not is_id(upload, "upl"):
            raise NotFound("the id has not the form of one")
        await services.store.uploads.open(upload, user)
    except NotFound as error:
        message = "there is no such upload of yours"
        raise NotFound(
            f"repository.upload: {message}",
            advice="Send the bundle with POST /api/v1/uploads and use the id that it answers.",
            fields={"repository.upload": message},
        ) from error


async def _start(spec: TaskSpec, services: Services, user: str, key: str | None, retry_of: str | None) -> Response:
    task, made = await services.store.tasks.create(spec, owner=user, idempotency_key=key, retry_of=retry_of)
    if made:
        try:
            await services.queue.put(task.id)
        except InfrastructureError as error:
            # The task is stored, which is what counts: the scheduler's sweep finds it a little later.
            _log.warning("queue did not take the task", task_id=task.id, detail=error.detail)
    headers = {"Location": f"/api/v1/tasks/{task.id}"}
    return reply(task, 202, headers if made else headers | {"Idempotency-Replayed": "true"})


@router.post(
    "",
    operation_id="create_task",
    summary="Submit a task",
    status_code=202,
    response_model=Task,
    responses={202: {"headers": HEADERS["accepted"]}, **problems(401, 404, 413, 415, 422, 503)},
    openapi_extra=json_request(
        TaskSpec,
        {
            "smallest": {"prompt": "Add a --version option to the command line."},
            "with a repository": {
                "prompt": "Make the tests pass.",
                "repository": {"url": "https://example.org/project.git", "ref": "main"},
                "image": "python",
                "limits": {"seconds": 1800},
                "test_command": "python -m pytest -q",
                "labels": {"team": "core"},
            },
        },
    ),
)
async def create_task(
    user: User, services: Deps, spec: Annotated[TaskSpec, Depends(json_body(TaskSpec))], key: IdempotencyKey = None
) -> Response:
    """Accept a task. It is stored before this answers; follow `…/events` for what becomes of it."""
    checked = check_key(key)
    return await _start(await complete(spec, services, user), services, user, checked, None)


def _labels(pairs: list[str]) -> dict[str, str] | None:
    """The labels asked for; None where one key is to have two values, as no task's has."""
    labels: dict[str, str] = {}
    for pair in pairs:
        match = re.fullmatch(r"([^:=]{1,63})[:=](.{0,255})", pair, re.DOTALL)
        if match is None:
            raise _refuse("label", "must be key=value (or key:value): a key of 1 to 63, a value to 255 characters")
        if labels.setdefault(match[1], match[2]) != match[2]:
            return None
    return labels


@router.get(
    "",
    operation_id="list_tasks",
    summary="List your tasks, newest first",
    response_model=TaskPage,
    responses=problems(401, 422, 503),
)
async def list_tasks(
    user: User,
    services: Deps,
    state: Annotated[list[TaskState] | None, Query(description="Only those in one of these states")] = None,
    label: Annotated[
        list[Annotated[str, Query(pattern=r"^[^:=\x00]{1,63}[:=][^\x00]{0,255}$")]] | None,
        Query(max_length=64, description="Only those with all of these labels: `key=value`, or `key:value`"),
    ] = None,
    cursor: Annotated[
        str | None, Query(description="The `next` of the page before", json_schema_extra={"pattern": TASK_ID})
    ] = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
) -> Response:
    """A page of the caller's tasks; `next` is null on the last."""
    if cursor is not None and not is_id(cursor, "task"):
        raise _refuse("cursor", "must be the `next` of a page")
    labels = _labels(label or [])
    if labels is None:
        return reply(TaskPage([]))
    tasks, following = await services.store.tasks.page(
        owner=user, states=tuple(state or ()), labels=labels, cursor=cursor, limit=limit
    )
    return reply(TaskPage(tasks, following))


@router.get(
    "/{task_id}",
    operation_id="get_task",
    summary="Show a task",
    response_model=Task,
    responses=problems(401, 404, 503),
)
async def get_task(task: OwnedTask) -> Response:
    """The task as it stands."""
    return reply(task)


@router.post(
    "/{task_id}/cancel",
    operation_id="cancel_task",
    summary="Cancel a task",
    status_code=202,
    response_model=Task,
    responses=problems(401, 404, 409, 413, 415, 422, 503),
    openapi_extra=json_request(CancelBody, {"with a reason": {"reason": "no longer needed"}}, required=False),
)
async def cancel_task(
    user: User,
    task: OwnedTask,
    services: Deps,
    body: Annotated[CancelBody, Depends(json_body(CancelBody, optional=True))],
) -> Response:
    """Ask for the end of the task and of all its processes. Asking again changes nothing; an ended task is 409."""
    reason = body.reason or "cancelled by its owner"
    return reply(await services.store.tasks.request_cancel(task.id, owner=user, reason=reason), 202)


@router.post(
    "/{task_id}/retry",
    operation_id="retry_task",
    summary="Start an ended task again",
    status_code=202,
    response_model=Task,
    responses={202: {"headers": HEADERS["accepted"]}, **problems(401, 404, 409, 422, 503)},
)
async def retry_task(user: User, task: OwnedTask, services: Deps, key: IdempotencyKey = None) -> Response:
    """A new task of the same spec, in a fresh sandbox; its `retry_of` names this one."""
    checked = check_key(key)
    if not task.state.terminal:
        raise Conflict(f"the task is {task.state.value}, not ended", advice="Wait for its end, or cancel it first.")
    return await _start(await complete(task.spec, services, user), services, user, checked, task.id)


@router.post(
    "/{task_id}/messages",
    operation_id="send_message",
    summary="Send one more prompt",
    status_code=202,
    response_model=Message,
    responses=problems(401, 404, 409, 413, 415, 422, 503),
    openapi_extra=json_request(MessageRequest, {"follow-up": {"prompt": "Now add a test for it."}}),
)
async def send_message(
    user: User,
    task: OwnedTask,
    services: Deps,
    body: Annotated[MessageRequest, Depends(json_body(MessageRequest))],
) -> Response:
    """One more turn in the same sandbox, once the present turn is over. An ended task is 409: retry it instead."""
    return reply(await services.store.messages.add(task.id, owner=user, prompt=body.prompt), 202)
