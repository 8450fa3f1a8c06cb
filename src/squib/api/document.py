"""The OpenAPI document: made of the routes, the contracts and the rules of `constraints`."""

import json
from collections.abc import Sequence
from typing import Any

from fastapi.openapi.utils import get_openapi
from pydantic import TypeAdapter
from starlette.routing import BaseRoute

from squib.api import constraints
from squib.api.config import ApiConfig
from squib.api.problems import PROBLEM
from squib.contracts.api import CancelBody, Problem, TokenRequest
from squib.contracts.event import Event
from squib.contracts.guest import TerminalRequest
from squib.contracts.task import MessageRequest, TaskSpec

_BODIES = (TaskSpec, MessageRequest, CancelBody, TokenRequest, TerminalRequest, Problem, Event)
_OPEN = frozenset({"healthz", "readyz", "metrics"})
_REF = "#/components/schemas/{model}"
_DESCRIPTION = """\
squib takes a task (a prompt, and usually a repository), gives it an isolated sandbox, runs a coding agent in it,
streams what happens, and keeps the result.

Every request but those under *operations* carries `Authorization: Bearer TOKEN`. Every error is a problem document
(RFC 9457) that says what to do next. What belongs to another user does not exist for you: the answer is 404.
"""
_TAGS = [
    {"name": "tasks", "description": "Submit work and steer it"},
    {"name": "events", "description": "What happens, as it happens"},
    {"name": "artifacts", "description": "What is kept"},
    {"name": "sandbox", "description": "Into a task's sandbox, which goes on if it is suspended; 409 without one"},
    {"name": "uploads", "description": "Local repositories, as git bundles"},
    {"name": "account", "description": "Who you are, and your tokens"},
    {"name": "operations", "description": "For whoever runs squib; needs no token"},
]
_SECURITY = {
    "token": {"type": "http", "scheme": "bearer", "description": "Made by `squib token create`"},
    "session": {
        "type": "apiKey",
        "in": "cookie",
        "name": "squib_8080",
        "description": "For a browser, set by `POST /api/v1/session`; the name ends in the port",
    },
}


def document(routes: Sequence[BaseRoute], config: ApiConfig) -> dict[str, Any]:
    """The document for these routes, with the names that this installation knows."""
    made = get_openapi(
        title="squib",
        version=config.version,
        description=_DESCRIPTION,
        routes=routes,
        tags=_TAGS,
        license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
        separate_input_output_schemas=False,
    )
    components = made.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    for kind in _BODIES:
        schema = TypeAdapter(kind).json_schema(ref_template=_REF)
        schemas.update(schema.pop("$defs", {}))
        schemas[kind.__name__] = schema
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    _require_all(schemas)
    constraints.apply(schemas, config)
    components["securitySchemes"] = _SECURITY
    answers: dict[str, Any] = {}
    components["responses"] = answers
    for operations in made["paths"].values():
        for operation in operations.values():
            operation["security"] = [] if operation["operationId"] in _OPEN else [{"token": []}, {"session": []}]
            _share_problems(operation["responses"], answers)
            for parameter in operation.get("parameters", ()):
                parameter["schema"] = _never_null(parameter["schema"])
    components["schemas"] = dict(sorted(schemas.items()))
    return made


def _share_problems(responses: dict[str, Any], shared: dict[str, Any]) -> None:
    """Write each problem answer once for the whole document."""
    for status, answer in responses.items():
        if PROBLEM in answer.get("content", ()):
            name = f"Problem{status.capitalize()}"
            shared[name] = answer
            responses[status] = {"$ref": f"#/components/responses/{name}"}


def _never_null(schema: dict[str, Any]) -> dict[str, Any]:
    """A parameter's schema without its null: a parameter is left out, it is never null."""
    arms = [arm for arm in schema.get("anyOf", ()) if arm != {"type": "null"}]
    if len(arms) != 1:
        return schema
    return {**arms[0], **{key: value for key, value in schema.items() if key != "anyOf"}}


def _require_all(schemas: dict[str, dict[str, Any]]) -> None:
    """An answer has all its fields, also those that a body may leave out."""
    for name, schema in schemas.items():
        if name not in constraints.RULES and "properties" in schema and name != "Problem":
            schema["required"] = list(schema["properties"])


def render(made: dict[str, Any]) -> str:
    """The document as the text of a file."""
    return json.dumps(made, indent=2, ensure_ascii=False) + "\n"
