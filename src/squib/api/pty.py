"""A terminal in a task's live sandbox: a WebSocket relayed, bytes both ways."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

from fastapi import APIRouter, Query
from starlette.websockets import WebSocket, WebSocketDisconnect

from squib.api.bodies import check_plain, decode_json
from squib.api.owned import OwnedTask
from squib.api.replies import dumps
from squib.api.sandbox import LiveSandbox
from squib.api.services import Deps, Services
from squib.contracts.errors import GuestUnreachable, InvalidRequest, TooManyRequests
from squib.contracts.guest import PtyControl
from squib.link import Pty

router = APIRouter(prefix="/api/v1/tasks")
_MAX_SIDE = 1000
_POLICY, _SANDBOX_GONE = 1008, 1011  # close codes of RFC 6455
Side = Annotated[int, Query(ge=1, le=_MAX_SIDE)]


@contextmanager
def _counted(services: Services, task_id: str) -> Iterator[None]:
    open_now, bound = services.terminals, services.config.max_terminals
    if open_now[task_id] >= bound:
        raise TooManyRequests(f"the task has {bound} terminals open", advice="Close one of them first.")
    open_now[task_id] += 1
    try:
        with services.metrics.terminals.track_inprogress():
            yield
    finally:
        open_now[task_id] -= 1
        if not open_now[task_id]:
            del open_now[task_id]


@router.websocket("/{task_id}/terminal/pty")
async def terminal(
    websocket: WebSocket,
    task: OwnedTask,
    link: LiveSandbox,
    services: Deps,
    cols: Side = 80,
    rows: Side = 24,
    command: Annotated[str | None, Query(max_length=10_000)] = None,
) -> None:
    """Open a terminal; until it is accepted, errors are answered as HTTP. It ends when either side goes."""
    check_plain(command, "command")
    with _counted(services, task.id):
        async with link.pty(cols=cols, rows=rows, command=command or None) as pty:
            await websocket.accept()
            await _relay(websocket, pty)


async def _relay(websocket: WebSocket, pty: Pty) -> None:
    """Carry bytes both ways; whichever side ends first ends the other."""
    code: int | None = 1000
    reason = ""
    try:
        async with asyncio.TaskGroup() as group:
            typing = group.create_task(_type(websocket, pty))
            async for data in pty:
                await websocket.send_bytes(data)
            typing.cancel()
    except* WebSocketDisconnect:
        code = None  # nobody is left to be told
    except* InvalidRequest as group_:
        code, reason = _POLICY, str(group_.exceptions[0])
    except* GuestUnreachable:
        code, reason = _SANDBOX_GONE, "the sandbox is gone"
    if code is None:
        return
    if pty.exit is not None and code == 1000:
        await websocket.send_text(dumps(pty.exit).decode())
    await websocket.close(code, reason.encode()[:120].decode("utf-8", "ignore"))


async def _type(websocket: WebSocket, pty: Pty) -> None:
    """Hand on what the client types. Raises WebSocketDisconnect once it is gone."""
    while True:
        message = await websocket.receive()
        if message["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(message.get("code", 1005))
        if (data := message.get("bytes")) is not None:
            await pty.send(data)
        else:
            control = decode_json(PtyControl, (message.get("text") or "").encode("utf-8", "surrogatepass"))
            if not (1 <= control.cols <= _MAX_SIDE and 1 <= control.rows <= _MAX_SIDE):
                raise InvalidRequest(f"cols and rows must be between 1 and {_MAX_SIDE}")
            await pty.resize(control.cols, control.rows)
