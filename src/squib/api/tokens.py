"""The caller's tokens: make, list, revoke. And who the caller is."""

import asyncio
from typing import Annotated

from fastapi import APIRouter, Depends, Path
from starlette.responses import Response

from squib.api.auth import User
from squib.api.bodies import json_body
from squib.api.docs import json_request, problems
from squib.api.replies import reply
from squib.api.services import Deps
from squib.contracts.api import Info, Me, NewToken, Token, TokenList, TokenRequest
from squib.contracts.errors import NotFound
from squib.contracts.ids import is_id

_TOKEN_ID = "^tok-[0-9a-hjkmnp-tv-z]{26}$"
router = APIRouter(prefix="/api/v1", tags=["account"])


@router.post(
    "/tokens",
    operation_id="create_token",
    summary="Make a token",
    status_code=201,
    response_model=NewToken,
    responses=problems(401, 413, 415, 422, 503),
    openapi_extra=json_request(TokenRequest, {"for a machine": {"name": "ci"}}),
)
async def create_token(
    user: User, services: Deps, body: Annotated[TokenRequest, Depends(json_body(TokenRequest))]
) -> Response:
    """One more token of the caller's own user. Its `secret` is shown this once; only its hash is kept."""
    token_id, secret = await services.store.users.create_token(user, body.name)
    return reply(NewToken(token_id, body.name, secret), 201)


@router.get(
    "/tokens",
    operation_id="list_tokens",
    summary="List your tokens",
    response_model=TokenList,
    responses=problems(401, 503),
)
async def list_tokens(user: User, services: Deps) -> Response:
    """All that are not revoked, without their secrets."""
    tokens = await services.store.users.list_tokens(user)
    return reply(TokenList([Token(t.id, t.name, t.created_at, t.last_used) for t in tokens]))


@router.delete(
    "/tokens/{token_id}",
    operation_id="revoke_token",
    summary="Revoke a token",
    status_code=204,
    responses=problems(401, 404, 503),
)
async def revoke_token(
    user: User,
    services: Deps,
    token_id: Annotated[str, Path(description="Not its secret", json_schema_extra={"pattern": _TOKEN_ID})],
) -> Response:
    """It is refused from now on, also where it is the very token that asks."""
    if not is_id(token_id, "tok"):
        raise NotFound("there is no such token")
    await services.store.users.revoke(token_id, user)
    return Response(status_code=204)


@router.get("/me", operation_id="get_me", summary="Show who you are", response_model=Me, responses=problems(401, 503))
async def get_me(user: User) -> Response:
    """The user whose token it is."""
    return reply(Me(user))


@router.get(
    "/info",
    operation_id="get_info",
    summary="Show what this installation offers",
    response_model=Info,
    responses=problems(401, 503),
)
async def get_info(_: User, services: Deps) -> Response:
    """Its version, and the agents, drivers and images that a task may name."""
    config = services.config
    images = await asyncio.to_thread(config.images.names) if config.images is not None else []
    return reply(Info(config.version, config.default_agent, list(config.agents), list(config.drivers), images))
