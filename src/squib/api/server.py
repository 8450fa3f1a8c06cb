"""uvicorn as this API needs it."""

from typing import Any

import uvicorn
from starlette.types import ASGIApp


def server_config(app: ASGIApp, **options: Any) -> uvicorn.Config:
    """A uvicorn.Config for `create_app`'s application; `options` (host, port, uds, fd, ssl_…) are added.

    uvicorn's own request lines are off, as they hold query strings, and a WebSocket's may hold a token: the
    application writes its own. The websockets protocol runs sans-IO and without compression, which would cost each
    terminal memory for nothing; a frame is at most 1 MiB.
    """
    return uvicorn.Config(
        app,
        http="h11",
        ws="websockets-sansio",
        ws_max_size=1024 * 1024,
        ws_per_message_deflate=False,
        lifespan="off",
        access_log=False,
        log_config=None,
        log_level="warning",
        server_header=False,
        **options,
    )
