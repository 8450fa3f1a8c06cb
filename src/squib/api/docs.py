"""Pieces of the OpenAPI document that the routes share: problem answers, JSON bodies, headers."""

from typing import Any

from squib.api.problems import PROBLEM
from squib.contracts.api import Problem

_MEANINGS = {
    400: "A path would leave the workspace, or the request is not HTTP",
    401: "No token, or one that is not known",
    403: "A page of another site, using a browser's cookie",
    404: "There is none, or it is another's",
    405: "This method is not allowed here",
    409: "The present state does not allow it",
    413: "The body is over the bound that the message names",
    415: "The body has the wrong Content-Type",
    416: "The Range begins beyond the end",
    421: "The Host header names a host that is not ours",
    422: "The input is wrong; `fields` names what",
    429: "Too many at once",
    501: "The sandbox's driver cannot do this",
    503: "The database or the sandbox does not answer now; try again",
}
HEADERS: dict[str, Any] = {
    "accepted": {
        "Location": {"description": "The task's path", "schema": {"type": "string"}},
        "Idempotency-Replayed": {
            "description": "`true` where this Idempotency-Key had made the task before",
            "schema": {"type": "string", "enum": ["true"]},
        },
    }
}


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The documented answers of an operation for these statuses, and for any other above 400."""
    content = {PROBLEM: {"schema": {"$ref": "#/components/schemas/Problem"}, "example": Problem.example()}}
    answers: dict[int | str, dict[str, Any]] = {
        status: {"description": _MEANINGS[status], "content": content} for status in sorted({*statuses, 421})
    }
    answers["default"] = {"description": "Any other error, always a problem document", "content": content}
    return answers


def json_request(kind: type, examples: dict[str, Any], *, required: bool = True) -> dict[str, Any]:
    """The `requestBody` of an operation whose JSON body is this contract."""
    media = {
        "schema": {"$ref": f"#/components/schemas/{kind.__name__}"},
        "examples": {name: {"value": value} for name, value in examples.items()},
    }
    return {"requestBody": {"required": required, "content": {"application/json": media}}}


def bytes_request(media_type: str, description: str) -> dict[str, Any]:
    """The `requestBody` of an operation that takes bytes."""
    schema = {"type": "string", "format": "binary"}
    return {
        "requestBody": {"required": True, "description": description, "content": {media_type: {"schema": schema}}}
    }


def bytes_answer(media_type: str, description: str) -> dict[str, Any]:
    """An answer that is bytes of this media type."""
    return {"description": description, "content": {media_type: {"schema": {"type": "string", "format": "binary"}}}}
