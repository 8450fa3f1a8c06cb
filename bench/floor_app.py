"""The least that uvicorn can do of the same work: no store, no sandbox, no authentication. An ASGI application."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
PACE = "import time\nfor _ in range({count}): time.sleep(0.01); print(time.time(), flush=True)"
_woken: list[asyncio.Event] = []


async def app(scope: Message, receive: Receive, send: Send) -> None:
    """POST /spawn starts a process; GET /paced streams one's lines; GET /wait waits for POST /wake."""
    if scope["type"] != "http":
        return
    kind = b"text/event-stream" if scope["method"] == "GET" else b"application/json"
    if scope["path"] == "/spawn":
        process = await asyncio.create_subprocess_exec("sh", "-c", "sleep 0.1")
        answer = json.dumps({"time": time.time()}).encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", kind)]})
    match scope["path"]:
        case "/spawn":
            await send({"type": "http.response.body", "body": answer})
            await process.wait()
            return
        case "/paced":
            await _paced(send, scope["query_string"].decode())
        case "/wait":
            woken = asyncio.Event()
            _woken.append(woken)
            await send({"type": "http.response.body", "body": b": hello\n\n", "more_body": True})
            await woken.wait()
            await send({"type": "http.response.body", "body": b"id: 1\n\n", "more_body": True})
        case "/wake":
            for woken in _woken:
                woken.set()
    await send({"type": "http.response.body", "body": b""})


async def _paced(send: Send, count: str) -> None:
    script = PACE.format(count=int(count))
    process = await asyncio.create_subprocess_exec("python3", "-c", script, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    async for line in process.stdout:
        await send({"type": "http.response.body", "body": b"data: %s\n\n" % line.strip(), "more_body": True})
    await process.wait()
