"""One command in a task's live sandbox."""

import asyncio
import math
from collections.abc import Coroutine
from typing import Annotated

from fastapi import APIRouter, Depends
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from squib.api.bodies import json_body
from squib.api.docs import json_request, problems
from squib.api.replies import reply
from squib.api.sandbox import LiveSandbox
from squib.contracts.errors import InvalidRequest
from squib.contracts.guest import TerminalRequest, TerminalResult

router = APIRouter(prefix="/api/v1/tasks", tags=["sandbox"])
MAX_SECONDS = 3600
MAX_OUTPUT_BYTES = 8 * 1024 * 1024


def _require(condition: bool, field: str, message: str) -> None:
    if not condition:
        raise InvalidRequest(f"{field}: {message}", fields={field: message})


def check(body: TerminalRequest) -> None:
    """Bound what a command may ask for. Raises InvalidRequest."""
    seconds, most = body.timeout_seconds, body.max_output_bytes
    _require(bool(body.command) and bool(body.command[0]), "command", "must not be empty")
    _require(
        math.isfinite(seconds) and 0 < seconds <= MAX_SECONDS, "timeout_seconds", f"must be in (0, {MAX_SECONDS}]"
    )
    _require(
        most is None or 0 <= most <= MAX_OUTPUT_BYTES, "max_output_bytes", f"must be between 0 and {MAX_OUTPUT_BYTES}"
    )
    _require(all(name and "=" not in name for name in body.env), "env", "names must not be empty nor hold '='")


@router.post(
    "/{task_id}/terminal",
    operation_id="run_command",
    summary="Run a command in the live sandbox",
    response_model=TerminalResult,
    responses=problems(400, 401, 404, 409, 413, 415, 422, 503),
    openapi_extra=json_request(
        TerminalRequest,
        {"a shell line": {"command": "git log --oneline | head -5"}, "a program": {"command": ["python3", "-V"]}},
    ),
)
async def run_command(
    request: Request, link: LiveSandbox, body: Annotated[TerminalRequest, Depends(json_body(TerminalRequest))]
) -> Response:
    """Runs beside the agent, in its workspace, and waits for the end. A string goes to `sh -c`, a list as it is.
    Closing the connection ends the command.

    Interactive: the WebSocket `/api/v1/tasks/{task_id}/terminal/pty?cols&rows&command`. Binary frames are what is
    typed and what is shown; a text frame `{"cols": 80, "rows": 24}` resizes; the last text frame
    `{"exit_code": 0, "signal": null}` tells the end. A browser, which can send no header there, is known by its
    session cookie or by `?token=`.
    """
    check(body)
    return reply(await _while_wanted(request, link.terminal(body)))


async def _while_wanted(request: Request, command: Coroutine[None, None, TerminalResult]) -> TerminalResult:
    """Wait for the command, or end it where the client goes first. Raises ClientDisconnect then."""
    running = asyncio.create_task(command)
    gone = asyncio.create_task(_gone(request))
    try:
        await asyncio.wait((running, gone), return_when=asyncio.FIRST_COMPLETED)
        if not running.done():
            raise ClientDisconnect
        return running.result()
    finally:
        running.cancel()
        gone.cancel()
        await asyncio.wait((running, gone))


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
