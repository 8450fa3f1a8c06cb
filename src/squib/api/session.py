"""A browser's session: the token in a cookie that scripts cannot read. And the page at `/`."""

import html
from typing import Annotated

from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from squib.api.auth import User, bearer, clear_session, set_session, user_of_secret
from squib.api.docs import problems
from squib.api.services import Deps

router = APIRouter()
_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>squib</title>
<h1>squib {version}</h1>
<p>A self-hosted AI software engineer. This is its API: <a href="/api/v1/openapi.json">/api/v1/openapi.json</a>
describes it, and <code>squib run "…"</code> in a terminal uses it.</p>
"""


@router.post(
    "/api/v1/session",
    tags=["account"],
    operation_id="create_session",
    summary="Let a browser in",
    status_code=204,
    responses=problems(401, 503),
)
async def create_session(request: Request, _: User) -> Response:
    """Sets the token of the Authorization header as a cookie (HttpOnly, SameSite=Strict), for a page of this host."""
    response = Response(status_code=204)
    if (secret := bearer(request)) is not None:
        set_session(response, request, secret)
    return response


@router.delete(
    "/api/v1/session",
    tags=["account"],
    operation_id="delete_session",
    summary="Make a browser forget the token",
    status_code=204,
    responses=problems(401, 403, 503),
)
async def delete_session(request: Request, _: User) -> Response:
    """Clears the cookie; the token itself stays good."""
    response = Response(status_code=204)
    clear_session(response, request)
    return response


@router.get("/", include_in_schema=False)
async def root(request: Request, services: Deps, token: Annotated[str | None, Query()] = None) -> Response:
    """Say what this is. Opened with `?token=`, as `squib up` prints it, let the browser in and hide the token."""
    if token is None:
        return HTMLResponse(_PAGE.format(version=html.escape(services.config.version)))
    await user_of_secret(services, token)
    response = RedirectResponse("/", status_code=303)
    set_session(response, request, token)
    return response
