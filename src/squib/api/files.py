"""Files of a task's live sandbox, and what has changed there."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated

from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from squib.api.bodies import check_plain, chunks
from squib.api.docs import bytes_answer, bytes_request, problems
from squib.api.owned import OwnedTask
from squib.api.replies import reply
from squib.api.sandbox import LiveSandbox
from squib.api.services import Deps
from squib.contracts.guest import EMPTY_TREE, FileEntry, FileList
from squib.link import GuestLink

router = APIRouter(prefix="/api/v1/tasks", tags=["sandbox"])
_BYTES = "application/octet-stream"
FilePath = Annotated[
    str,
    Query(
        min_length=1, max_length=4096, pattern=r"^[^\x00]*$", description="Relative to the workspace, confined to it"
    ),
]


@router.get(
    "/{task_id}/files",
    operation_id="list_files",
    summary="List files of the live sandbox",
    response_model=FileList,
    responses=problems(400, 401, 404, 409, 422, 503),
)
async def list_files(
    link: LiveSandbox, path: FilePath = ".", depth: Annotated[int, Query(ge=1, le=32)] = 1
) -> Response:
    """Entries below a directory, `depth` levels of them, in order of path; links are shown and never followed."""
    check_plain(path, "path")
    return reply(await link.list(path, depth))


@router.get(
    "/{task_id}/files/content",
    operation_id="read_file",
    summary="Read a file of the live sandbox",
    response_class=Response,
    responses={200: bytes_answer(_BYTES, "The file's bytes"), **problems(400, 401, 404, 409, 422, 503)},
)
async def read_file(link: LiveSandbox, path: FilePath) -> Response:
    """The bytes as they are, always as a download. A connection that ends without the last chunk is a failure."""
    check_plain(path, "path")
    content = link.read_stream(path)
    first = await anext(content, b"")  # so that an error is answered as one
    return _Download(first, content)


class _Download(StreamingResponse):
    """Bytes as they come from the guest, whose connection is let go of with the client's."""

    def __init__(self, first: bytes, rest: AsyncGenerator[bytes, None]) -> None:
        super().__init__(self._all(first), media_type=_BYTES, headers={"Content-Disposition": "attachment"})
        self._rest = rest

    async def _all(self, first: bytes) -> AsyncGenerator[bytes, None]:
        yield first
        async for chunk in self._rest:
            yield chunk

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        async with aclosing(self._rest):
            await super().__call__(scope, receive, send)


@router.put(
    "/{task_id}/files/content",
    operation_id="write_file",
    summary="Write a file in the live sandbox",
    response_model=FileEntry,
    responses=problems(400, 401, 404, 409, 413, 422, 503),
    openapi_extra=bytes_request(_BYTES, "The file's bytes; whatever the Content-Type says"),
)
async def write_file(request: Request, link: LiveSandbox, services: Deps, path: FilePath) -> Response:
    """Replaces the file, or makes it and its parents."""
    check_plain(path, "path")
    content = chunks(request, services.config.max_file_bytes, setting="the API's max_file_bytes")
    return reply(await link.write(path, content))


@router.get(
    "/{task_id}/diff",
    operation_id="get_diff",
    summary="Show what has changed in the live sandbox",
    response_class=Response,
    responses={200: bytes_answer("text/x-diff", "A patch as git makes it"), **problems(401, 404, 409, 413, 503)},
)
async def get_diff(task: OwnedTask, link: LiveSandbox) -> Response:
    """The work tree, untracked files included, against the commit that the task began from, or against nothing.

    Once the task has ended, the artifact `patch` is its last diff.
    """
    return await _diff(task.base_commit or EMPTY_TREE, link)


async def _diff(base: str, link: GuestLink) -> Response:
    patch = await link.diff(base)
    return Response(patch, media_type="text/x-diff", headers={"Content-Disposition": "attachment"})
