"""Errors as RFC 9457 problem documents: squib's own, the router's, the validator's and the unexpected."""

import json
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError, WebSocketRequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection
from starlette.responses import Response

from squib.contracts.errors import (
    InfrastructureError,
    InvalidRequest,
    NotFound,
    SquibError,
    TooManyRequests,
    Unauthenticated,
)

PROBLEM = "application/problem+json"


class MethodNotAllowed(SquibError):
    """The path is known, the method is not."""

    code, status, title = "method_not_allowed", 405, "Method not allowed"
    default_advice = "Use one of the methods in the Allow header."


class UnsupportedMediaType(SquibError):
    """The body's Content-Type is not one that is read here."""

    code, status, title = "unsupported_media_type", 415, "Unsupported media type"
    default_advice = "Send the body with the Content-Type that the message names."


class RangeNotSatisfiable(SquibError):
    """The Range begins beyond the end."""

    code, status, title = "range_not_satisfiable", 416, "Range not satisfiable"
    default_advice = "Ask for a range within the size that Content-Range names."

    def __init__(self, size: int) -> None:
        super().__init__(f"there are {size} bytes")
        self.size = size


class MisdirectedRequest(SquibError):
    """The Host header names none of the hosts that this API answers for: perhaps DNS rebinding."""

    code, status, title = "misdirected_request", 421, "Unknown host"
    default_advice = "Use a host name that squib is told of in its setting for allowed hosts."


def problem_response(error: SquibError, headers: Mapping[str, str] | None = None) -> Response:
    """The answer for an error, with the headers that its status asks for."""
    extra = dict(headers or {})
    if isinstance(error, Unauthenticated):
        extra.setdefault("WWW-Authenticate", 'Bearer realm="squib"')
    if isinstance(error, InfrastructureError | TooManyRequests) and error.status in (429, 503):
        extra.setdefault("Retry-After", "1")
    if isinstance(error, RangeNotSatisfiable):
        extra["Content-Range"] = f"bytes */{error.size}"
    body = json.dumps(error.problem(), ensure_ascii=False).encode("utf-8", "replace")
    return Response(body, error.status, extra, media_type=PROBLEM)


def unexpected_response() -> Response:
    """The answer where squib itself is at fault. It says nothing of the inside; the log does."""
    return problem_response(SquibError("something unexpected went wrong while answering this request"))


def from_validation(errors: list[dict[str, Any]]) -> InvalidRequest:
    """One InvalidRequest out of the validator's list, each parameter by its name."""
    fields: dict[str, str] = {}
    for error in errors:
        place = [str(part) for part in error.get("loc", ())]
        name = ".".join(place[1:] or place) or "request"
        fields.setdefault(name, str(error.get("msg", "is not valid")))
    name, message = next(iter(fields.items()), ("request", "is not valid"))
    return InvalidRequest(f"{name}: {message}", fields=fields)


async def _on_squib_error(_: HTTPConnection, error: SquibError) -> Response:
    return problem_response(error)


async def _on_validation(
    _: HTTPConnection, error: RequestValidationError | WebSocketRequestValidationError
) -> Response:
    return problem_response(from_validation(list(error.errors())))


async def _on_http_exception(connection: HTTPConnection, error: HTTPException) -> Response:
    """What the router raises: 404 and 405; anything else keeps its status under a general code."""
    if error.status_code == 404:
        return problem_response(NotFound(f"there is nothing at {connection.scope['path'][:200]}"))
    if error.status_code == 405:
        method = connection.scope.get("method", "")
        allow = ", ".join(allowed_methods(connection)) or (error.headers or {}).get("Allow", "")
        return problem_response(MethodNotAllowed(f"{method[:20]} is not allowed here"), {"Allow": allow})
    document = SquibError(str(error.detail)).problem() | {
        "type": "about:blank",
        "status": error.status_code,
        "code": "http_error",
    }
    return Response(json.dumps(document), error.status_code, error.headers, media_type=PROBLEM)


def allowed_methods(connection: HTTPConnection) -> list[str]:
    """All methods of all routes at this path; the router names only those of the first."""
    found: set[str] = set()
    scope = dict(connection.scope)
    for route in connection.app.routes:
        for method in getattr(route, "methods", None) or ():
            scope["method"] = method
            if route.matches(scope)[0].name == "FULL":
                found.add(method)
    return sorted(found)


def install(app: FastAPI) -> None:
    """Register the handlers. The unexpected is answered by `edge`, which also logs it."""
    handlers: dict[Any, Any] = {
        SquibError: _on_squib_error,
        RequestValidationError: _on_validation,
        WebSocketRequestValidationError: _on_validation,
        HTTPException: _on_http_exception,
    }
    for kind, handler in handlers.items():
        app.add_exception_handler(kind, handler)
