"""The listeners: a unix socket or a TCP port, every connection's task in one group."""

import asyncio
import contextlib
import os
import stat
from types import TracebackType

from squib.contracts.errors import InvalidRequest
from squib.guest.connection import Connection, Handler

MAX_CONNECTIONS = 512


class Server:
    """Listens at `listen` (unix:PATH or tcp:HOST:PORT) within its `async with` block; see also `vanish`."""

    def __init__(self, listen: str, handle: Handler):
        self._listen, self._handle = listen, handle
        self._connections: set[Connection] = set()
        self._group = asyncio.TaskGroup()
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> "Server":
        await self._group.__aenter__()
        loop = asyncio.get_running_loop()
        kind, _, place = self._listen.partition(":")
        if kind == "unix":
            vanish(self._listen)
            mask = os.umask(0o177)
            try:
                self._server = await loop.create_unix_server(self._connection, place, backlog=256)
            finally:
                os.umask(mask)
        elif kind == "tcp":
            host, _, port = place.rpartition(":")
            self._server = await loop.create_server(self._connection, host.strip("[]"), int(port), backlog=256)
        else:
            raise InvalidRequest(f"listen: {self._listen!r} is neither unix:PATH nor tcp:HOST:PORT")
        return self

    def _connection(self) -> Connection:
        return Connection(self._handle, self._group, self._connections, MAX_CONNECTIONS)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._server is not None:
            self._server.close()
        for connection in list(self._connections):
            connection.abort()
        await self._group.__aexit__(None, None, None)


def vanish(listen: str) -> None:
    """Remove a unix socket's file, if there is one. A host takes that for the sign that all is let go of."""
    kind, _, path = listen.partition(":")
    with contextlib.suppress(FileNotFoundError):
        if kind == "unix" and stat.S_ISSOCK(os.lstat(path).st_mode):
            os.unlink(path)  # noqa: PTH108
