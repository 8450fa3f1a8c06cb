"""The least that uvicorn can do of the same work: no store, no sandbox, no authentication. An ASGI application."""

import asyncio
import json
import os
import tempfile
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
PACE = "import time\nfor _ in range({count}): time.sleep(0.01); print(time.time(), flush=True)"
_woken: list[asyncio.Event] = []


async def app(scope: Message, receive: Receive, send: Send) -> None:
    """POST /spawn starts an agent; GET /paced streams a process's lines; GET /wait waits for POST /wake."""
    if scope["type"] != "http":
        return
    if scope["path"] == "/spawn":
        await _spawn(receive, send)
        return
    kind = b"text/event-stream" if scope["method"] == "GET" else b"application/json"
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", kind)]})
    match scope["path"]:
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


async def _spawn(receive: Receive, send: Send) -> None:
    """Answer once the agent, with the body as its prompt, runs; the answer ends with it."""
    prompt = (await receive())["body"]
    with tempfile.TemporaryDirectory() as directory:
        process = await asyncio.create_subprocess_exec(
            *json.loads(os.environ["FLOOR_AGENT"]),
            cwd=directory,
            env=os.environ | {"SQUIB_MOCK_HOME": directory},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.DEVNULL,
        )
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"%r" % time.time(), "more_body": True})
        await process.communicate(prompt)
        await send({"type": "http.response.body", "body": b""})


async def _paced(send: Send, count: str) -> None:
    script = PACE.format(count=int(count))
    process = await asyncio.create_subprocess_exec("python3", "-c", script, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    async for line in process.stdout:
        await send({"type": "http.response.body", "body": b"data: %s\n\n" % line.strip(), "more_body": True})
    await process.wait()
