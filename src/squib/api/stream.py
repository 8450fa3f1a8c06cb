"""An event stream as an ASGI answer: frames as the store gives them, ready to send.

Starlette's StreamingResponse does the same through an anyio task group of two tasks a client; a server with thousands
of silent clients pays for that in memory, so here one task sends and the request's own waits for the client to go.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import cast

from prometheus_client import Gauge
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from squib.contracts.guest import SSE
from squib.store import Frames

_LAST_WORD_SECONDS = 0.2
HEARTBEAT = b": heartbeat\n\n"


class EventStream(Response):
    """Sends frames until they end or the client goes, whichever is first; then the source is closed."""

    media_type = SSE

    def __init__(self, source: AsyncIterator[Frames], open_streams: Gauge) -> None:
        # An async generator: closing it is what lets go of its subscription.
        self.source = cast(AsyncGenerator[Frames, None], source)
        self.open_streams = open_streams
        self.status_code = 200
        self.background = None
        self.init_headers({"Cache-Control": "no-store", "X-Accel-Buffering": "no"})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        with self.open_streams.track_inprogress():
            try:
                async with asyncio.TaskGroup() as group:
                    sender = group.create_task(self._send_all(send))
                    # After the last chunk the server says `disconnect` as well, so this ends either way.
                    while (await receive())["type"] != "http.disconnect":
                        pass
                    sender.cancel()
            except asyncio.CancelledError:
                # The server is going down, and this is its own task for this request: let the client see an end, by
                # which it knows to come back, unless it does not even read.
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_LAST_WORD_SECONDS):
                        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _send_all(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        # The head must reach the client now, not with the first event.
        await send({"type": "http.response.body", "body": b": open\n\n", "more_body": True})
        async with aclosing(self.source) as source:
            async for frames in source:
                await send({"type": "http.response.body", "body": frames.data or HEARTBEAT, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})
