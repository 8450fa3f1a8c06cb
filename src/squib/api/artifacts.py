"""What is kept of a task's work: list and download."""

import re
from typing import Annotated

from fastapi import APIRouter, Header, Path
from starlette.requests import Request
from starlette.responses import FileResponse, Response

from squib.api.docs import bytes_answer, problems
from squib.api.owned import OwnedTask
from squib.api.problems import RangeNotSatisfiable
from squib.api.replies import reply
from squib.api.services import Deps
from squib.contracts.api import ArtifactList
from squib.contracts.errors import NotFound

router = APIRouter(prefix="/api/v1/tasks", tags=["artifacts"])
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_ENDINGS = {"bundle": ".bundle", "patch": ".patch", "workspace": ".tar.gz", "transcript": ".ndjson"}
_RANGE = re.compile(r"bytes=(?:([0-9]{1,18})-([0-9]{0,18})|-([0-9]{1,18}))")
_DOWNLOAD = bytes_answer("application/octet-stream", "The artifact's bytes, as its `media_type`")
_PART = bytes_answer("application/octet-stream", "The part that `Range` asked for")


@router.get(
    "/{task_id}/artifacts",
    operation_id="list_artifacts",
    summary="List what is kept of a task",
    response_model=ArtifactList,
    responses=problems(401, 404, 503),
)
async def list_artifacts(task: OwnedTask, services: Deps) -> Response:
    """`bundle`, `patch`, `workspace` and `transcript`, once there is something of them, for the retention time."""
    return reply(ArtifactList(await services.store.artifacts.list(task.id)))


def _without_odd_ranges(request: Request, size: int) -> None:
    """Leave a Range header to the answer only where it is one range that can be given.

    A header of another form is ignored, as RFC 9110 asks. Raises RangeNotSatisfiable where it begins beyond the end.
    """
    header = request.headers.get("range")
    if header is None:
        return
    match = _RANGE.fullmatch(header)
    first, last, suffix = match.groups() if match else (None, None, None)
    if suffix is not None and int(suffix) and size:
        return
    if first is not None and not (last and int(last) < int(first)):
        if int(first) < size:
            return
        raise RangeNotSatisfiable(size)
    request.scope["headers"] = [pair for pair in request.scope["headers"] if pair[0] != b"range"]


@router.get(
    "/{task_id}/artifacts/{name}",
    operation_id="download_artifact",
    summary="Download an artifact",
    response_class=Response,
    responses={200: _DOWNLOAD, 206: _PART, 304: {"description": "Unchanged"}, **problems(401, 404, 416, 503)},
)
async def download_artifact(
    request: Request,
    task: OwnedTask,
    services: Deps,
    name: Annotated[str, Path(description="One of the names that the list shows")],
    if_none_match: Annotated[str | None, Header(alias="If-None-Match", include_in_schema=False)] = None,
) -> Response:
    """Always as a download. Its ETag is its SHA-256, so that a broken download can go on with `Range`."""
    if _NAME.fullmatch(name) is None:
        raise NotFound("there is no such artifact")
    artifact, path = await services.store.artifacts.open(task.id, name)
    etag = f'"{artifact.sha256}"'
    headers = {"ETag": etag, "Cache-Control": "private, no-cache"}
    if if_none_match is not None and etag in if_none_match:
        return Response(status_code=304, headers=headers)
    _without_odd_ranges(request, artifact.size)
    filename = f"{task.id}-{name}{_ENDINGS.get(name, '')}"
    return FileResponse(path, headers=headers, media_type=artifact.media_type, filename=filename)
