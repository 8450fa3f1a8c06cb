"""uvicorn as this API needs it."""

from typing import Any

import uvicorn
from starlette.types import ASGIApp


def server_config(app: ASGIApp, **options: Any) -> uvicorn.Config:
    """A uvicorn.Config for `create_app`'s application; `options` (host, port, uds, fd, ssl_…) are added.

    uvicorn's own request lines are off, as they hold query strings, and a WebSocket's may hold a token: the
    application writes its own. WebSockets are spoken by wsproto (with the others uvicorn calls each one that is
    refused an error of ours in the log), without compression, and a message is at most 1 MiB. Give it a socket made
    for IPPROTO_TCP: on one of protocol 0 asyncio leaves Nagle's algorithm on, which costs 40 ms an answer.
    """
    return uvicorn.Config(
        app,
        http="h11",
        ws="wsproto",
        ws_max_size=1024 * 1024,
        ws_per_message_deflate=False,
        lifespan="off",
        access_log=False,
        log_config=None,
        log_level="warning",
        server_header=False,
        **options,
    )
