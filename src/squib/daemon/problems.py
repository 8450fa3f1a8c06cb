"""Errors as problem documents, for HTTP and for WebSockets that are refused."""

import json

import structlog
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection
from starlette.responses import Response

from squib.contracts.errors import InfrastructureError, NotFound, SquibError, Unauthenticated

log = structlog.get_logger("squib.daemon")
_BUSY = 503


def response(error: SquibError) -> Response:
    """The answer that tells of an error."""
    headers = {}
    if isinstance(error, Unauthenticated):
        headers["WWW-Authenticate"] = 'Bearer realm="squib host"'
    if isinstance(error, InfrastructureError) and error.status == _BUSY:
        headers["Retry-After"] = "1"
    body = json.dumps(error.problem(), ensure_ascii=False).encode("utf-8", "replace")
    return Response(body, error.status, headers, media_type="application/problem+json")


def of(error: Exception) -> Response:
    """The answer for any error; of an unforeseen one the log has all, the caller nothing."""
    if isinstance(error, SquibError):
        return response(error)
    log.error("unexpected error", exc_info=error)
    return response(SquibError("something unexpected went wrong on the host"))


async def on_http(connection: HTTPConnection, error: Exception) -> Response:
    """What the router raises: an unknown path, or a method that it does not have."""
    if isinstance(error, HTTPException) and error.status_code != NotFound.status:
        document = {"title": error.detail, "status": error.status_code, "code": "http_error", "detail": error.detail}
        return Response(json.dumps(document), error.status_code, error.headers, media_type="application/problem+json")
    return response(NotFound(f"there is nothing at {connection.scope['path'][:200]}"))
