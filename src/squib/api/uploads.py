"""Local repositories that are sent in as git bundles."""

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import Response

from squib.api.auth import User
from squib.api.bodies import chunks, media_type
from squib.api.docs import bytes_request, problems
from squib.api.problems import UnsupportedMediaType
from squib.api.refs import COMMIT, REF, is_ref
from squib.api.replies import reply
from squib.api.services import Deps
from squib.contracts.errors import InvalidRequest
from squib.contracts.guest import BUNDLE
from squib.contracts.task import Upload

router = APIRouter(prefix="/api/v1/uploads", tags=["uploads"])
_MEDIA = frozenset({BUNDLE, "application/octet-stream"})
_SIGNATURES = (b"# v2 git bundle\n", b"# v3 git bundle\n")
_HEAD = len(_SIGNATURES[0])


async def _bundle(body: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The body as it is, if it begins as a git bundle does. Raises InvalidRequest."""
    head = b""
    async for chunk in body:
        head += chunk
        if len(head) >= _HEAD:
            break
    if not head.startswith(_SIGNATURES):
        raise InvalidRequest("the body is no git bundle", fields={"body": "must be what 'git bundle create' writes"})
    yield head
    async for chunk in body:
        yield chunk


def _branch(name: str | None) -> str | None:
    if name is not None and not is_ref(name):
        message = "is not a valid branch name"
        raise InvalidRequest(f"branch: {message}", fields={"branch": message})
    return name


@router.post(
    "",
    operation_id="create_upload",
    summary="Send in a local repository",
    status_code=201,
    response_model=Upload,
    responses=problems(401, 413, 415, 422, 503),
    openapi_extra=bytes_request(BUNDLE, "What `git bundle create` writes"),
)
async def create_upload(
    request: Request,
    user: User,
    services: Deps,
    commit: Annotated[str, Query(pattern=COMMIT, description="Checked out first; may hold uncommitted changes too")],
    base: Annotated[
        str | None, Query(pattern=COMMIT, description="The branch's real tip, where `commit` was made for this")
    ] = None,
    branch: Annotated[str | None, Query(max_length=255, json_schema_extra={"pattern": REF})] = None,
) -> Response:
    """Keep a git bundle; a task's `repository.upload` then names it. Nothing is unpacked or run here."""
    named = _branch(branch)
    kind = media_type(request)
    if kind not in _MEDIA:
        raise UnsupportedMediaType(f"the body must be sent as {BUNDLE}, not as {kind[:100] or 'nothing named'}")
    bound = services.config.max_upload_bytes
    upload = await services.store.uploads.put(
        user,
        commit=commit,
        base=base,
        branch=named,
        chunks=_bundle(chunks(request, bound, setting="the API's max_upload_bytes")),
        max_bytes=bound,
    )
    return reply(upload, 201)
